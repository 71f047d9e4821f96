from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from llmbuilder.documents.document import Document, Unreadable
from llmbuilder.documents.readers import read_document
from llmbuilder.documents.reading import DocumentReader
from llmbuilder.errors import DataError
from tests.documents.office_files.written import archive

PAGE = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>no</title></head><body>{}</body></html>'


def epub(path: Path, chapters: Mapping[str, str], more: Mapping[str, str | bytes] | None = None) -> Path:
    items = "".join(
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(chapters)
    )
    order = "".join(f'<itemref idref="i{n}"/>' for n in range(len(chapters)))
    return archive(path, {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
        "OEBPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>A book</dc:title></metadata><manifest>{items}</manifest><spine>{order}</spine></package>",
        **{f"OEBPS/{name.replace('%20', ' ')}": PAGE.format(body) for name, body in chapters.items()}, **(more or {}),
    })  # fmt: skip


def test_chapters_in_the_order_of_the_spine(tmp_path: Path) -> None:
    path = epub(tmp_path / "a.epub", {
        "cover.xhtml": '<img src="cover.jpg" alt="Cover"/>', "z%20two.xhtml": "<h1>Two &amp; more</h1><p>R&amp;D</p>",
        "a.xhtml": "<p>Last</p>",
    })  # fmt: skip
    document = read_document(path)
    assert (document.title, document.text) == ("A book", "# Two & more\n\nR&D\n\nLast")


def test_an_encrypted_book_is_named(tmp_path: Path) -> None:
    secret = "<encryption><CipherReference URI='OEBPS/a.xhtml'/></encryption>"
    path = epub(tmp_path / "a.epub", {"a.xhtml": "<p>x</p>"}, {"META-INF/encryption.xml": secret})
    with pytest.raises(DataError, match="it is encrypted"):
        read_document(path)
    fonts = "<encryption><CipherReference URI='OEBPS/font.otf'/></encryption>"
    assert (
        read_document(epub(tmp_path / "b.epub", {"a.xhtml": "<p>x</p>"}, {"META-INF/encryption.xml": fonts})).text
        == "x"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "windows-1251"])
def test_fiction(tmp_path: Path, encoding: str) -> None:
    body = (
        "<body><title><p>Книга</p></title><section><title><p>Глава</p></title><epigraph><p>R&amp;D</p></epigraph>"
        "<p>Ein <emphasis>Satz</emphasis>.</p><poem><stanza><title><p>First</p></title><v>line one</v><v>line two</v></stanza></poem>"
        "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table></section></body>"
        '<body name="notes"><section><p>A note.</p></section></body>'
    )
    text = (
        f"<?xml version='1.0' encoding='{encoding}'?><FictionBook><description><title-info><book-title>T</book-title>"
        f"</title-info></description>{body}<binary>AAAA</binary></FictionBook>"
    )
    (tmp_path / "a.fb2").write_bytes(text.encode(encoding))
    document = read_document(tmp_path / "a.fb2")
    assert document.title == "T"
    assert document.text == (
        "# Книга\n\n## Глава\n\nR&D\n\nEin Satz.\n\n### First\n\nline one\nline two\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nA note."
    )


def test_a_damaged_chapter_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = epub(tmp_path / "a.epub", {"a.xhtml": "<p>One</p>", "b.xhtml": "<p>Damaged</p>", "c.xhtml": "<p>Three</p>"})
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:  # not compressed, so that a byte of a chapter can be changed
        for name, content in parts.items():
            file.writestr(name, content)
    path.write_bytes(path.read_bytes().replace(b"Damaged", b"damaged"))
    with DocumentReader(workers=1) as reader:
        ((_, outcomes),) = reader.read_files([path])
        document, unread = outcomes
    assert isinstance(document, Document) and document.text == "One\n\nThree"
    assert isinstance(unread, Unreadable) and unread.source == f"{path}#OEBPS/b.xhtml"
    assert unread.reason.startswith("its part OEBPS/b.xhtml is damaged")
