"""Documents to text beside markitdown: how much is right, and how fast.

python benchmarks/extraction.py [--documents 4] [--paragraphs 300] [--real FOLDER ...]

The same known text (the running interpreter's help topics) is written in every format, with what such files have
besides: running headers and page numbers in the PDF, navigation, a cookie notice and a footer in the web page. Counted
are words: recall is the share of the known ones that came out, precision the share of what came out that was known,
order the share of the known ones that stand in their order, boilerplate the lines of the frame that are left. Speed is
compared on one core (one process at work on each side; ours waits for its own) and on all (a pool of processes for
markitdown), with one markitdown object in each process. `--real` adds folders of real files, for speed only.
"""

from __future__ import annotations

import argparse
import functools
import html
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from harness import compare, print_header

from llmbuilder.data import DataLoader, default_corpus

HEADER, FOOTER = "Collected Topics of the Interpreter", "Second revised edition"
FRAME = ["Accept all cookies", "Sign up for our newsletter", "Related articles", "All rights reserved by Example Press"]


def known_paragraphs(count: int, number: int) -> list[str]:
    """Return paragraphs of prose, other ones for each number."""
    found = (" ".join(part.split()) for document in default_corpus() for part in document.text.split("\n\n"))
    prose = list(
        dict.fromkeys(p for p in found if 80 < len(p) < 900 and p[0].isupper() and p.isascii() and "*" not in p)
    )
    return (prose[number * count :] + prose)[:count]


def write_pdf(path: Path, paragraphs: list[str]) -> None:
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer

    def furniture(canvas: object, document: object) -> None:
        canvas.drawString(72, 810, HEADER)  # type: ignore[attr-defined]
        canvas.drawString(72, 30, FOOTER)  # type: ignore[attr-defined]
        canvas.drawString(500, 30, f"Page {document.page}")  # type: ignore[attr-defined]

    style = getSampleStyleSheet()["BodyText"]
    flow = [part for text in paragraphs for part in (Paragraph(html.escape(text), style), Spacer(1, 8))]
    SimpleDocTemplate(str(path)).build(flow, onFirstPage=furniture, onLaterPages=furniture)


def write_docx(path: Path, paragraphs: list[str]) -> None:
    import docx

    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = HEADER
    document.sections[0].footer.paragraphs[0].text = FOOTER
    for text in paragraphs:
        document.add_paragraph(text)
    document.save(str(path))


def write_pptx(path: Path, paragraphs: list[str]) -> None:
    import pptx

    deck = pptx.Presentation()
    for start in range(0, len(paragraphs), 3):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.placeholders[1].text = "\n".join(paragraphs[start : start + 3])
    deck.save(str(path))


def write_odt(path: Path, paragraphs: list[str]) -> None:
    from odf.opendocument import OpenDocumentText
    from odf.text import P

    document = OpenDocumentText()
    for text in paragraphs:
        document.text.addElement(P(text=text))
    document.save(str(path))


def write_rtf(path: Path, paragraphs: list[str]) -> None:
    escaped = (re.sub(r"([\\{}])", r"\\\1", text) for text in paragraphs)
    path.write_text("{\\rtf1\\ansi\\deff0 {\\fonttbl{\\f0 Arial;}}\n" + "\\par\n".join(escaped) + "\\par}")


def write_epub(path: Path, paragraphs: list[str]) -> None:
    chapters = [paragraphs[start : start + 50] for start in range(0, len(paragraphs), 50)]
    items = "".join(
        f'<item id="c{n}" href="c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(len(chapters))
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr(
            "META-INF/container.xml",
            '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
            'full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        )
        archive.writestr(
            "book.opf",
            '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id"><metadata '
            'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>t</dc:title><dc:identifier id="id">x</dc:identifier>'
            f"<dc:language>en</dc:language></metadata><manifest>{items}</manifest><spine>{order}</spine></package>",
        )
        for number, chapter in enumerate(chapters):
            archive.writestr(f"c{number}.xhtml", _page("".join(f"<p>{html.escape(text)}</p>" for text in chapter)))


def write_html(path: Path, paragraphs: list[str]) -> None:
    menu = "".join(f'<li><a href="/{n}">Section {n}</a></li>' for n in range(12))
    body = "".join(f"<p>{html.escape(text)}</p>\n" for text in paragraphs)
    path.write_text(
        _page(
            f'<div class="cookie-banner"><p>{FRAME[0]}</p></div><nav><ul>{menu}</ul></nav><main><article>{body}'
            f"</article></main><aside><h3>{FRAME[2]}</h3><ul>{menu}</ul><p>{FRAME[1]}</p></aside><footer>{FRAME[3]}</footer>"
        )
    )


def _page(body: str) -> str:
    return (
        '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>t</title></head>'
        f"<body>{body}</body></html>"
    )


WRITERS: dict[str, Callable[[Path, list[str]], None]] = {
    "pdf": write_pdf, "docx": write_docx, "pptx": write_pptx, "odt": write_odt, "rtf": write_rtf, "epub": write_epub,
    "html": write_html,
}  # fmt: skip


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def in_order(known: list[str], found: list[str]) -> float:
    matcher = SequenceMatcher(None, known, found, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()) / max(1, len(known))


def judge(paragraphs: list[str], text: str) -> str:
    known, found = words_of(" ".join(paragraphs)), words_of(text)
    both = (Counter(known) & Counter(found)).total()
    left = sum(text.count(line) for line in (HEADER, FOOTER, *FRAME))
    order = in_order(known[:5000], found[:5500])
    return f"{both / len(known):.4f} | {both / max(1, len(found)):.4f} | {order:.4f} | {left}"


def by_llmbuilder(files: list[Path], workers: int | None = None) -> Iterator[str]:
    loader = DataLoader(remove_duplicates=False, workers=workers)
    return (document.text for document in loader.iter_files(files))


@functools.cache
def markitdown_converter() -> Any:
    """One for all files, as its documentation advises: making one takes longer than reading a small file."""
    from markitdown import MarkItDown

    return MarkItDown()


def by_markitdown(file: Path) -> str | None:
    """Return the text of a file, or None where it cannot read it."""
    converter = markitdown_converter()
    try:
        return converter.convert(file).text_content
    except Exception:  # noqa: BLE001 - whatever it cannot read
        return None


def by_markitdown_on_all_cores(files: list[Path], pool: ProcessPoolExecutor) -> list[str | None]:
    return list(pool.map(by_markitdown, files, chunksize=max(1, min(8, len(files) // 8))))


def compare_reading(title: str, files: list[Path], pool: ProcessPoolExecutor, runs: int) -> None:
    """Compare on one core, both without processes of their own besides, and on all."""
    compare(f"{title}, one core", lambda: list(by_llmbuilder(files, 1)), lambda: [by_markitdown(f) for f in files],
            runs=runs, peer_name="markitdown")  # fmt: skip
    compare(f"{title}, all cores", lambda: list(by_llmbuilder(files)), lambda: by_markitdown_on_all_cores(files, pool),
            runs=runs, peer_name="markitdown in a pool of processes")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=4)
    parser.add_argument("--paragraphs", type=int, default=300)
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        known = [known_paragraphs(given.paragraphs, number) for number in range(given.documents)]
        files: dict[str, list[Path]] = {}
        for kind, write in WRITERS.items():
            files[kind] = [Path(folder) / f"{number}.{kind}" for number in range(given.documents)]
            for file, paragraphs in zip(files[kind], known, strict=True):
                write(file, paragraphs)
        print("| format | by | recall | precision | order | frame lines left |\n| --- | --- | --- | --- | --- | --- |")
        for kind in WRITERS:
            print(f"| {kind} | llmbuilder | {judge(known[0], next(by_llmbuilder(files[kind][:1])))} |", flush=True)
            text = by_markitdown(files[kind][0])
            print(
                f"| {kind} | markitdown | {judge(known[0], text) if text is not None else 'cannot read it'} |",
                flush=True,
            )
        print()
        print_header("python benchmarks/extraction.py")
        with ProcessPoolExecutor() as pool:
            for kind in ("pdf", "docx", "epub", "html"):
                compare_reading(described(kind, files[kind]), files[kind], pool, given.runs)
            for folder in given.real:
                for kind in ("pdf", "epub", "docx", "html"):
                    if found := sorted(folder.rglob(f"*.{kind}")):
                        compare_reading(described(f"real {kind}", found), found, pool, given.runs)
                        missed = sum(by_markitdown(file) is None for file in found)
                        print(f"markitdown cannot read {missed} of them", flush=True)


def described(kind: str, files: list[Path]) -> str:
    return f"{kind}, {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
