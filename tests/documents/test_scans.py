"""Scanned pages are recognised, read where tesseract is there, and named where it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llmbuilder.data import DataLoader
from llmbuilder.errors import DataError


def write_scan(path: Path, pages: int) -> None:
    """Write a PDF of pictures of text; of several pages the first has text."""
    from PIL import Image, ImageDraw, ImageFont
    from reportlab.pdfgen.canvas import Canvas

    picture = Image.new("RGB", (1700, 2200), "white")
    font = ImageFont.load_default(size=48)
    for line in range(6):
        ImageDraw.Draw(picture).text((150, 150 + 90 * line), f"Scanned line {line} of the harbour", "black", font)
    picture.save(path.with_suffix(".png"))
    canvas = Canvas(str(path))
    if pages > 1:
        canvas.drawString(50, 700, "The first page has text that can simply be read.")
        canvas.showPage()
    for _ in range(max(1, pages - 1)):
        canvas.drawImage(str(path.with_suffix(".png")), 0, 0, 595, 842)
        canvas.showPage()
    canvas.save()


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="needs tesseract")
def test_scanned_pages_are_read_beside_others(tmp_path: Path) -> None:
    write_scan(tmp_path / "mixed.pdf", 2)
    (document,) = DataLoader().load_file(tmp_path / "mixed.pdf")
    assert "can simply be read" in document.text
    assert "Scanned line 3 of the harbour" in document.text
    (without,) = DataLoader(ocr=None).load_file(tmp_path / "mixed.pdf")
    assert "Scanned" not in without.text


def test_scans_are_named_where_they_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scan(tmp_path / "scan.pdf", 1)
    monkeypatch.setenv("PATH", str(tmp_path))  # no tesseract there
    with pytest.raises(
        DataError, match=r"no text in it \(scanned pages\? They are read where tesseract is installed\)"
    ):
        DataLoader().load_file(tmp_path / "scan.pdf")
