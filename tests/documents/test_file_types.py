"""Files that are not what their names say, and files that nobody can read."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from llmbuilder.data import DataLoader
from llmbuilder.documents.file_types import MIME_TYPES, SUPPORTED_SUFFIXES, detect_format
from llmbuilder.errors import DataError
from tests.documents.samples import write_all


def test_documents_are_recognised_under_any_name(tmp_path: Path) -> None:
    expected = write_all(tmp_path)
    files = {SUPPORTED_SUFFIXES[file.suffix.lower()]: file for file in sorted(tmp_path.iterdir())}
    tried = sorted(set(files) & set(MIME_TYPES))
    assert {"pdf", "docx", "pptx", "odt", "epub", "html", "rtf"} <= set(tried)
    for kind in tried:
        for name in ("wrong.txt", "wrong.pdf", "wrong.docx", "wrong"):
            path = tmp_path / "renamed" / name
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(files[kind], path)
            (document,) = DataLoader().load_file(path)
            assert document.format == kind, name
            assert expected[kind] in " ".join(document.text.split()), (kind, name)


def test_code_and_markdown_may_begin_with_a_tag(tmp_path: Path) -> None:
    for name in ("page.md", "template.js"):
        (tmp_path / name).write_text("<html><body>as it is</body></html>")
        assert DataLoader().load_file(tmp_path / name)[0].text.startswith("<html>")
    (tmp_path / "about.txt").write_text("Each PDF begins with the characters %PDF- and a version.")
    assert detect_format(tmp_path / "about.txt") == "text"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("photo.pdf", b"\x89PNG\r\n\x1a\n" + bytes(100), "it is a PNG picture, not a document"),
        ("page.html", b"\x1f\x8b\x08" + bytes(100), "it is damaged: Error -3 while decompressing data"),
        ("data.xyz", b"some text\0and bytes", "unsupported format '.xyz'"),
        ("drawing.svg", b"<svg>text</svg>", "unsupported format '.svg'"),
        ("broken.docx", b"PK\x03\x04" + bytes(100), "cannot be read as docx"),
    ],
)
def test_what_is_no_document_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        DataLoader().load_file(tmp_path / name)


def test_text_is_read_whatever_its_name(tmp_path: Path) -> None:
    content = "The lighthouse of the café\u00a0– " * 400
    for name in ("README.Debian", "letter.final", "chapter.1"):
        (tmp_path / name).write_text(content)
        assert DataLoader().load_file(tmp_path / name)[0].format == "text"


def test_an_archive_gives_its_members_and_nothing_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "all.zip", "w") as archive:
        archive.writestr("../outside.txt", "text")
        archive.writestr("program.exe", b"\x7fELF" + bytes(100))
    loader = DataLoader()
    (document,) = loader.load_file(tmp_path / "in" / "all.zip")
    assert document.source == f"{tmp_path / 'in' / 'all.zip'}#../outside.txt"
    assert loader.report.skipped == [
        {"source": f"{tmp_path / 'in' / 'all.zip'}#program.exe", "reason": "it is a program, not a document"}
    ]
    assert not (tmp_path / "outside.txt").exists()


def test_encrypted_documents_are_reported_as_such(tmp_path: Path) -> None:
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    for name, password in (("closed.pdf", "secret"), ("open.pdf", "")):
        canvas = Canvas(str(tmp_path / name), encrypt=StandardEncryption(password, ownerPassword="owner"))
        canvas.drawString(50, 800, "Only for those who know the word.")
        canvas.save()
    loader = DataLoader()
    (document,) = loader.load_directory(tmp_path)
    assert Path(document.source).name == "open.pdf"  # it restricts printing, not reading
    assert loader.report.skipped[0]["reason"] == "it is encrypted: a copy without a password can be read"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "secret.txt").chmod(0)
    (tmp_path / "public.txt").write_text("public")
    loader = DataLoader()
    assert len(loader.load_directory(tmp_path)) == 1
    assert "Permission denied" in loader.report.skipped[0]["reason"]


def test_addresses_in_angle_brackets_are_no_markup(tmp_path: Path) -> None:
    path = tmp_path / "manual.txt"
    path.write_text("Report errors to:\n<https://example.org/translations/team/>\n<https://example.org/bugs/>\n")
    (document,) = DataLoader().load_file(path)
    assert document.format == "text"
    assert "<https://example.org/bugs/>" in document.text
