"""One real file of each format, made with the formats' own libraries."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

SENTENCE = "The lighthouse keeper of {} counted {} ships before the storm."


def sentence(name: str) -> str:
    return SENTENCE.format(name, len(name) * 7)


def write_pdf(path: Path, pages: int = 4) -> None:
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfgen import canvas

    words = ["north", "south", "east", "west", "harbour", "island"]
    sheet = canvas.Canvas(str(path), pagesize=A4)
    sheet.setTitle("Lighthouse records")
    for page in range(pages):
        sheet.drawString(72, 800, "Annual Report of the Lighthouse Society")
        for line in range(8):
            sheet.drawString(72, 740 - 15 * line, f"{sentence(words[(page + line) % 6] + str(page * 8 + line))}")
        sheet.drawString(72, 600, f"The commissioners of {words[page % 6]} deliberated about the mainte-")
        sheet.drawString(72, 585, f"nance of tower number {page} for hours.")
        sheet.drawString(280, 30, f"Page {page + 1} of {pages}")
        sheet.showPage()
    sheet.save()


def write_docx(path: Path) -> None:
    import docx

    document = docx.Document()
    document.add_heading("Records", level=1)
    document.add_paragraph(sentence("docx"))
    document.save(str(path))


def write_pptx(path: Path) -> None:
    import pptx

    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Records"
    slide.placeholders[1].text = sentence("pptx")
    deck.save(str(path))


def write_odt(path: Path) -> None:
    from odf.opendocument import OpenDocumentText
    from odf.text import P

    document = OpenDocumentText()
    document.text.addElement(P(text=sentence("odt")))
    document.save(str(path))


def write_epub(path: Path) -> None:
    container = (
        '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
        '<rootfiles><rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Records</dc:title>'
        '<dc:identifier id="id">x</dc:identifier><dc:language>en</dc:language></metadata>'
        '<manifest><item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="c"/></spine></package>'
    )
    chapter = (
        '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>c</title></head>'
        f"<body><h1>Chapter</h1><p>{sentence('epub')}</p></body></html>"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", container)
        archive.writestr("book.opf", package)
        archive.writestr("c.xhtml", chapter)


def write_all(folder: Path) -> dict[str, str]:
    """Write one file of each format and return format -> a sentence its text must hold."""
    folder.mkdir(parents=True, exist_ok=True)
    write_pdf(folder / "report.pdf")
    write_docx(folder / "letter.docx")
    write_pptx(folder / "slides.pptx")
    write_odt(folder / "notes.odt")
    write_epub(folder / "book.epub")
    (folder / "plain.txt").write_text(sentence("text") + "\n")
    (folder / "readme.md").write_text(f"# Title\n\n{sentence('markdown')}\n")
    (folder / "page.html").write_text(f"<html><title>T</title><body><p>{sentence('html')}</p></body></html>")
    (folder / "memo.rtf").write_text(r"{\rtf1\ansi " + sentence("rtf") + r"\par}")
    with open(folder / "table.csv", "w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["id", "text"])
        rows.writerow([1, sentence("csv")])
    (folder / "rows.jsonl").write_text(json.dumps({"text": sentence("jsonl"), "title": "row"}) + "\n")
    names = ["docx", "pptx", "odt", "epub", "text", "markdown", "html", "rtf", "csv", "jsonl"]
    return {**{name: sentence(name) for name in names}, "pdf": sentence("north0")}
