from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest

from llmbuilder.data import DataLoader
from llmbuilder.documents.readers import read_document
from tests.documents.office_files.written import docx, paragraph, text_of


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"\r\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("iso-8859-2", "Žluťoučký kůň úpěl"),
        ("windows-1250", "Žluťoučký kůň – „úpěl“"),
        ("iso-2022-jp", "日本語のメール"),
        ("koi8-r", "Привет, мир"),
        ("utf-16", "Grüße"),
        ("us-ascii", "Grüße in UTF-8"),
        ("no-such-charset", "Grüße in UTF-8"),
    ],
)
def test_the_declared_charset_is_honoured(tmp_path: Path, charset: str, text: str) -> None:
    body = text.encode("utf-8" if charset in ("us-ascii", "no-such-charset") else charset)
    path = write(tmp_path / "a.eml", "Subject: Hello", "MIME-Version: 1.0", f"Content-Type: text/plain; charset={charset}",
                 "Content-Transfer-Encoding: 8bit", "", body)  # fmt: skip
    assert text_of(path) == f"Hello\n\n{text}"


def test_headers_are_decoded_and_kept_as_notes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eml", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from =?iso-8859-2?b?v2x1?=",
                 "From: =?utf-8?b?SsO8cmdlbg==?= <j@example.org>", "Date: Mon, 3 Mar 2025 10:00:00 +0100", "", "Text.")  # fmt: skip
    document = read_document(path)
    assert document.title == "Grüße from żlu"
    assert document.notes["from"] == "Jürgen <j@example.org>"


def test_html_alone_is_read_as_a_page(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eml", "Subject: News", "Content-Type: text/html; charset=utf-8", "",
                 "<html><body><h1>News &amp; more</h1><p>R&amp;D, p &lt; 0.05</p><ul><li>one</li><li>two</li></ul>"
                 "<img src='data:image/png;base64,AAAA'></body></html>")  # fmt: skip
    assert text_of(path) == "News\n\n# News & more\n\nR&D, p < 0.05\n\n- one\n- two"


def test_of_two_versions_the_plain_one_unless_it_is_a_stub(tmp_path: Path) -> None:
    for plain, wanted in (
        ("The whole text of the mail, as plain as it can be.", "plain as"),
        ("See HTML.", "as a page"),
    ):
        message = EmailMessage()
        message["Subject"] = "Both"
        message.set_content(plain)
        message.add_alternative("<p>The whole text of the mail, as a page that has it all.</p>", subtype="html")
        (tmp_path / "a.eml").write_bytes(message.as_bytes())
        assert wanted in text_of(tmp_path / "a.eml")


def test_flowed_lines_are_joined(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eml", "Subject: Flow", "Content-Type: text/plain; format=flowed", "",
                 "One paragraph that ", "goes on here.", "", "Another.", "-- ", "Me")  # fmt: skip
    assert text_of(path) == "Flow\n\nOne paragraph that goes on here.\n\nAnother.\n-- \nMe"


def with_attachments(folder: Path) -> EmailMessage:
    report = docx(folder / "report.docx", paragraph("R&amp;D at AT&amp;T"))
    message = EmailMessage()
    message["Subject"] = "Report"
    message.set_content("See the attachment.")
    message.add_attachment(
        report.read_bytes(), maintype="application", subtype="octet-stream", filename="Bericht ü.docx"
    )
    message.add_attachment(b"\x89PNG\r\n\x1a\n0000", maintype="image", subtype="png", filename="logo.png")
    inner = EmailMessage()
    inner["Subject"] = "Forwarded"
    inner.set_content("What was forwarded.")
    message.add_attachment(inner)
    report.unlink()
    return message


def test_attachments_are_documents_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "mails").mkdir()
    message = with_attachments(tmp_path)
    (tmp_path / "mails" / "mail.eml").write_bytes(message.as_bytes())
    stamp = b"From me@example.org Thu Jan  1 00:00:00 1970\n"
    (tmp_path / "mails" / "box.mbox").write_bytes(stamp + message.as_bytes().replace(b"\nFrom ", b"\n>From "))
    loader = DataLoader(clean_text=False, remove_duplicates=False)
    found = {
        document.source.removeprefix(f"{tmp_path}/mails/"): document.text
        for document in loader.iter_directory(tmp_path / "mails")
    }
    for name in ("mail.eml", "box.mbox#1.eml"):
        assert found[name] == "Report\n\nSee the attachment."
        assert found[f"{name}#Bericht ü.docx"] == "R&D at AT&T"
        inner = next(text for source, text in found.items() if source.startswith(name) and "message-" in source)
        assert inner == "Forwarded\n\nWhat was forwarded."
    assert any("logo.png" in row["source"] and "PNG" in row["reason"] for row in loader.report.skipped)


@pytest.mark.parametrize(("deleted", "text"), [("yes", "A wrapped line goes on."), ("no", "A wrap ped line  goes on.")])
def test_lines_that_flow(tmp_path: Path, deleted: str, text: str) -> None:
    kind = f"Content-Type: text/plain; format=flowed; delsp={deleted}"
    path = write(tmp_path / "a.eml", "Subject: S", kind, "", "A wrap ", "ped line  ", "goes on.", "", "-- ", "Me")
    assert text_of(path) == f"S\n\n{text}\n\n-- \nMe"


def test_a_mark_before_the_header_is_no_end_of_it(tmp_path: Path) -> None:
    coded = "Content-Transfer-Encoding: base64"
    path = write(tmp_path / "a.eml", b"\xef\xbb\xbfSubject: S", "MIME-Version: 1.0", coded, "", "VGV4dC4=")
    assert text_of(path) == "S\n\nText."
