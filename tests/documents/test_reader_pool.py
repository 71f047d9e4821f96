"""Files that crash, hang or explode their reader cost only themselves."""

from __future__ import annotations

import io
import os
import signal
import zipfile
from pathlib import Path

import pytest

from llmbuilder.data import DataLoader
from llmbuilder.documents.document import Document, Unreadable
from llmbuilder.documents.reader_pool import ReadingLimits
from llmbuilder.documents.reading import DocumentReader
from tests.documents.samples import write_all, write_pdf


def workers_of_this_process() -> list[int]:
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    return [pid for pid in pids if b"reader_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_order_and_texts_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    write_all(tmp_path)
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    one, three = (DataLoader(workers=count).load_directory(tmp_path) for count in (1, 3))
    assert [document.source for document in one] == sorted(document.source for document in one)
    assert one == three
    assert not workers_of_this_process()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_reader_that_dies_costs_one_file(tmp_path: Path) -> None:
    for number in range(8):
        write_pdf(tmp_path / f"{number}.pdf")
    with DocumentReader(workers=1) as reader:
        outcomes = (outcome for _, found in reader.read_files(sorted(tmp_path.iterdir())) for outcome in found)
        assert isinstance(next(outcomes), Document)
        (worker,) = workers_of_this_process()
        os.kill(worker, signal.SIGKILL)
        rest = list(outcomes)
    lost = [outcome for outcome in rest if isinstance(outcome, Unreadable)]
    assert len(rest) == 7
    assert len(lost) <= 1  # the one it was at, if any
    assert all("its reader crashed (exit code -9)" in unreadable.reason for unreadable in lost)


def endless_pdf(pages: int) -> bytes:
    """A small file in which one full page stands very many times: reading it takes minutes."""
    lines = " ".join(f"(Line {number}: nothing of interest happens here.) '" for number in range(200))
    content = f"BT /F1 9 Tf 12 TL 50 800 Td {lines} ET"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {pages}/Kids[{'3 0 R ' * pages}]>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(content)}>>stream\n{content}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    file, places = "%PDF-1.4\n", []
    for number, written in enumerate(objects, start=1):
        places.append(len(file))
        file += f"{number} 0 obj{written} endobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 6\n0000000000 65535 f \n{table}trailer<</Size 6/Root 1 0 R>>\nstartxref\n{len(file)}\n%%EOF"
    return (file + end).encode()


def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "long.pdf").write_bytes(endless_pdf(100_000))
    (tmp_path / "short.html").write_text("<p>A short page with a sentence in it.</p>")
    loader = DataLoader(limits=ReadingLimits(seconds=12))
    assert [document.format for document in loader.load_directory(tmp_path)] == ["html"]
    (skipped,) = loader.report.skipped
    assert skipped["reason"] == "reading it took longer than 12 seconds and was given up"


def test_a_decompression_bomb_ends_at_the_memory_limit(tmp_path: Path) -> None:
    document = io.BytesIO()
    with zipfile.ZipFile(document, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        with archive.open("content.xml", "w", force_zip64=True) as content:
            for _ in range(1500):  # 1.5 GB in a file of some 1.5 MB
                content.write(b" " * (1 << 20))
    (tmp_path / "bomb.odt").write_bytes(document.getvalue())
    (tmp_path / "short.html").write_text("<p>A short page with a sentence in it.</p>")
    loader = DataLoader(limits=ReadingLimits(memory_bytes=1 << 30))
    assert [document.format for document in loader.load_directory(tmp_path)] == ["html"]
    (skipped,) = loader.report.skipped
    assert skipped["source"].endswith("bomb.odt")


def test_entity_bombs_and_deep_nesting_are_contained(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha" * 10}">' for n in range(12))
    (tmp_path / "bomb.fb2").write_text(
        f'<?xml version="1.0"?><!DOCTYPE x [{entities}]><FictionBook><body><p>&e11;</p></body></FictionBook>'
    )
    (tmp_path / "deep.html").write_text("<div>" * 200_000 + "deep inside" + "</div>" * 200_000)
    (tmp_path / "short.html").write_text("<p>A short page with a sentence in it.</p>")
    loader = DataLoader(limits=ReadingLimits(seconds=10, memory_bytes=2 << 30))
    documents = loader.load_directory(tmp_path)
    assert "A short page" in documents[-1].text
    assert all(document.characters < 10_000_000 for document in documents)
    assert len(documents) + len(loader.report.skipped) == 3  # nothing is lost silently


def test_a_file_beyond_the_size_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_text("x" * 2000)
    (tmp_path / "small.txt").write_text("small")
    loader = DataLoader(limits=ReadingLimits(file_bytes=1000))
    assert [document.text for document in loader.load_directory(tmp_path)] == ["small"]
    assert loader.report.skipped[0]["reason"] == "it is 2,000 bytes, more than the 1,000 a file may have: split it"
