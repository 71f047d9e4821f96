"""Inputs of every kind, and large files in parts."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest

from llmbuilder.config import Config
from llmbuilder.corpus import prepare_corpus
from llmbuilder.corpus.units import list_sources
from llmbuilder.documents import sources
from llmbuilder.errors import DataError
from tests.corpus.folders import paragraph, reasons_of, rows_of, write_texts


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def untokenized(**data: object) -> Config:
    config = Config()
    for name, value in {"tokenize": False, **data}.items():
        setattr(config.data, name, value)
    return config


def test_files_folders_and_globs_name_each_file_once() -> None:
    write_texts(Path("raw"), 3)
    write_texts(Path("raw/deep"), 2, "deep")
    (Path("raw") / ".hidden.txt").write_text("hidden")
    names = [source.name for source in list_sources(["raw", "raw/text-000.txt", "raw/**/deep-*.txt"]).sources]
    assert names == sorted(names)
    assert len(names) == len(set(names)) == 5
    with pytest.raises(DataError, match=r"no such file or folder: raw/\*\.pdf"):
        list_sources(["raw/*.pdf"])


@pytest.fixture
def server(here: Path) -> Iterator[str]:
    write_texts(Path("site"), 2)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(here / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_addresses_are_read(server: str) -> None:
    pytest.importorskip("aiohttp")
    prepare_corpus([f"{server}/text-000.txt", f"{server}/text-001.txt"], "corpus", untokenized())
    assert [row["source"] for row in rows_of(Path("corpus"))] == [f"{server}/text-000.txt", f"{server}/text-001.txt"]
    with pytest.raises(DataError, match=r"text-009\.txt: cannot be listed"):
        list_sources([f"{server}/text-009.txt"])


class EndlessPage(http.server.BaseHTTPRequestHandler):
    """A page that goes on for as long as somebody reads it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"A line that is sent again and again.\n" * 1000)
                type(self).sent += 37_000

    sent = 0


def test_an_endless_download_ends() -> None:
    pytest.importorskip("aiohttp")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), EndlessPage) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{listening.server_port}/page.txt"
        write_texts(Path("raw"), 2)
        prepare_corpus(["raw", address], "corpus", untokenized(file_mb=2))
        listening.shutdown()
    assert "more than the 2,097,152 bytes a file may have" in reasons_of(Path("corpus"))[address]
    assert EndlessPage.sent < 1 << 26
    assert len(rows_of(Path("corpus"))) == 2


def test_a_file_system_behind_an_address_is_listed(here: Path) -> None:
    write_texts(Path("raw"), 3)
    found = list(list_sources([f"file://{here}/raw"]).sources)
    assert len(found) == 3
    assert all(source.stamp and source.size for source in found)
    prepare_corpus(f"file://{here}/raw", "corpus", untokenized())
    assert len(rows_of(Path("corpus"))) == 3


def test_large_files_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SPLIT_BYTES", 4000)
    texts = [paragraph(n, 30 + n % 90) for n in range(120)]
    with open("rows.jsonl", "w") as handle:
        handle.writelines(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(texts))
    parquet.write_table(pyarrow.table({"text": [text[::-1] for text in texts]}), "rows.parquet", row_group_size=10)
    parts = list(list_sources(["rows.jsonl", "rows.parquet"]).sources)
    assert len(parts) > 10
    prepare_corpus(["rows.jsonl", "rows.parquet"], "corpus", untokenized(clean_text=False))
    rows = rows_of(Path("corpus"))
    assert [row["text"] for row in rows] == [*texts, *(text[::-1] for text in texts)]
    assert len({row["source"] for row in rows}) == 240
    assert json.loads(rows[7]["metadata"]) == {"n": 7}


def test_what_data_load_wrote_and_a_corpus_are_inputs_too() -> None:
    from llmbuilder.data import DataLoader, write_corpus

    write_texts(Path("raw"), 5)
    write_corpus(DataLoader().iter_directory(Path("raw")), "data.txt")
    prepare_corpus("data.txt", "first", untokenized())
    prepare_corpus("first", "second", untokenized())
    assert [row["text"] for row in rows_of(Path("first"))] == [row["text"] for row in rows_of(Path("second"))]
    assert len(rows_of(Path("second"))) == 5


def test_hostile_files_cost_only_themselves(here: Path) -> None:
    raw = write_texts(Path("raw"), 6)
    with open(raw / "huge.txt", "wb") as handle:
        handle.truncate(2 << 30)  # two gigabytes without a line end
    (raw / "deep.html").write_text("<div>" * 200_000 + "deep")
    (raw / "latin.txt").write_bytes(("Die Möwe flog über die Dächer. " * 20).encode("latin-1"))
    (raw / "nul.txt").write_bytes(b"text\0with\0nul")
    (raw / "bytes.txt").write_bytes(bytes(range(256)) * 20)
    (raw / "program.txt").write_bytes(b"\x7fELF" + bytes(100))
    (raw / "long\nname.txt").write_text("A file whose name has a line break in it, and a sentence of its own.")
    (raw / b"\xff\xfe.txt".decode("utf-8", "surrogateescape")).write_text("Not even the name is Unicode here, is it?")
    prepare_corpus("raw", "corpus", untokenized(file_seconds=10.0))
    kept = {row["source"]: row["text"] for row in rows_of(Path("corpus"))}
    dropped = reasons_of(Path("corpus"))
    assert sum("text-" in name for name in kept) == 6
    assert kept["raw/latin.txt"].startswith("Die Möwe flog über")
    assert "A file whose name has a line break" in kept["raw/long\nname.txt"]
    assert any("Not even the name" in text for text in kept.values())
    assert "it is 2,147,483,648 bytes, more than the 1,073,741,824" in dropped["raw/huge.txt"]
    assert "binary" in dropped["raw/nul.txt"]
    assert "binary" in dropped["raw/bytes.txt"]
    assert dropped["raw/program.txt"] == "it is a program, not a document"
    assert ("raw/deep.html" in kept) != ("raw/deep.html" in dropped)


@pytest.mark.slow
def test_ten_thousand_pages_are_read_or_given_up_in_time(here: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    Path("raw").mkdir()
    canvas = Canvas("raw/long.pdf")
    for page in range(10_000):
        for line, words in enumerate(paragraph(page, words=48).split(". ")):
            canvas.drawString(50, 700 - 14 * line, f"{words.rstrip('.')}.")
        canvas.showPage()
    canvas.save()
    write_texts(Path("raw"), 2)
    prepare_corpus("raw", "corpus", untokenized(file_seconds=60.0))
    sizes = {row["source"]: row["characters"] for row in rows_of(Path("corpus"))}
    reason = reasons_of(Path("corpus")).get("raw/long.pdf", "")
    assert sizes.get("raw/long.pdf", 0) > 400_000 or "longer than 60 seconds" in reason
    assert len(sizes) >= 2
