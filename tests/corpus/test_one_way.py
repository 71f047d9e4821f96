"""The loader of the guide and the corpus engine are one machine: the same documents, reasons, tokenizer and split."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest

from llmbuilder.config import Config
from llmbuilder.corpus import prepare_corpus
from llmbuilder.data import DataLoader, TextDataset, write_corpus
from tests.corpus.folders import paragraph, rows_of, write_texts
from tests.documents.samples import write_all


@pytest.fixture(autouse=True)
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of documents, containers, tables and what cannot be read."""
    monkeypatch.chdir(tmp_path)
    raw = write_texts(Path("raw"), 12)
    write_all(raw / "office")
    (raw / "again.txt").write_text(paragraph("text3").upper())
    for folder in ("a", "a b", "a-1"):  # the first of equal documents stays, in the same order for both
        (raw / folder).mkdir()
        (raw / folder / "same.txt").write_text("The same words in three folders.")
    (raw / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    (raw / "empty.txt").write_text(" ")
    (raw / "many.txt").write_text(f"{paragraph('one')}\n\x1e\n{paragraph('two')}\n")
    (raw / "rows.jsonl").write_text(f'{json.dumps({"text": paragraph("row")})}\n{{"text": null}}\nnot JSON\n')
    with zipfile.ZipFile(raw / "all.zip", "w") as archive:
        archive.writestr("inside/a.txt", paragraph("zipped"))
        archive.writestr("inside/b.bin", b"\x7fELF" + bytes(50))
    with gzip.open(raw / "more.csv.gz", "wt") as handle:
        handle.write(f"id,body\n1,{paragraph('csv')}\n2,\n")


def settings(**data: object) -> Config:
    config = Config.model_validate({"data": {"near_duplicates": None, **data}})
    config.tokenizer.vocab_size = 400
    return config


def test_a_small_load_and_a_corpus_hold_the_same_documents_for_the_same_reasons() -> None:
    config = settings(tokenize=False)
    loader = DataLoader.from_config(config.data)
    loaded = {document.source: document.text for document in loader.iter_directory(Path("raw"))}
    corpus = prepare_corpus("raw", "corpus", config)
    assert {row["source"]: row["text"] for row in rows_of(corpus.path)} == loaded
    dropped = {(row["source"], row["stage"], row["reason"]) for row in rows_of(corpus.path, "dropped")}
    assert {(row["source"], row["stage"], row["reason"]) for row in loader.report.dropped} == dropped
    assert {stage for _, stage, _ in dropped} == {"extract", "exact"}
    counts = corpus.description["counts"]
    assert {name: loader.report.counts[name] for name in ("found", "documents", "characters", "characters found")} == {
        name: counts[name] for name in ("found", "documents", "characters", "characters found")
    }
    assert loader.report.formats == Counter(corpus.description["groups"]["formats"])
    assert loader.report.cleaning == Counter(corpus.description["groups"]["cleaning"])


def damaged(content: bytes) -> bytes:
    """Cut a file short, and turn some bits of what is left."""
    cut = bytearray(content[: len(content) * 2 // 3])
    for place in range(len(cut) // 2, len(cut), 97):
        cut[place] ^= 0x15
    return bytes(cut)


def write_damaged(folder: Path) -> None:
    """Write a damaged file of every kind, and rows with values that are none."""
    rows = "".join(json.dumps({"text": paragraph(number)}) + "\n" for number in range(200)).encode()
    packed = {"gz": gzip.compress(rows), "xz": lzma.compress(rows), "bz2": bz2.compress(rows)}
    packed["zst"] = bytes(pyarrow.Codec("zstd").compress(rows, asbytes=True))
    for suffix, content in packed.items():
        (folder / f"damaged.jsonl.{suffix}").write_bytes(damaged(content))
    (folder / "digits.jsonl").write_text(f'{{"text": "a row", "number": {"9" * 5000}}}\n{{"text": "another row"}}\n')
    times = pyarrow.array([10**18, 3 * 10**18], pyarrow.timestamp("ns"))
    table = pyarrow.table({"text": ["of a time", "of another"], "at": times, "blob": [[1, 2], [3]]})
    parquet.write_table(table, folder / "times.parquet")
    for path in sorted((folder / "office").iterdir()):
        (folder / f"damaged-{path.name}").write_bytes(damaged(path.read_bytes()))


def test_damaged_files_give_both_the_same(tmp_path: Path) -> None:
    write_damaged(Path("raw"))
    config = settings(tokenize=False)
    loader = DataLoader.from_config(config.data)
    loaded = {document.source: document.text for document in loader.iter_directory(Path("raw"))}
    corpus = prepare_corpus("raw", "corpus", config)
    assert {row["source"]: row["text"] for row in rows_of(corpus.path)} == loaded
    reasons = {row["source"]: row["reason"] for row in rows_of(corpus.path, "dropped")}
    assert {row["source"]: row["reason"] for row in loader.report.dropped} == reasons
    assert {"raw/digits.jsonl#2", "raw/times.parquet#1", "raw/damaged.jsonl.gz#1"} <= set(loaded)
    assert "raw/damaged.jsonl.gz" in reasons


def test_one_corpus_has_one_tokenizer_and_one_split() -> None:
    config = settings(train_split=0.8)
    corpus = prepare_corpus("raw", "corpus", config)
    prepared = TextDataset("corpus", block_size=16)
    write_corpus(DataLoader.from_config(config.data).iter_directory(Path("raw")), "loaded.jsonl")
    for source in ("loaded.jsonl", "raw"):
        dataset = TextDataset(source, block_size=16, train_split=0.8)
        learned = dataset.learn_tokenizer(vocab_size=400)
        assert prepared.tokenizer is not None
        assert learned.fingerprint == prepared.tokenizer.fingerprint, source
        dataset.prepare()
        assert dataset.train.tokens[:].tolist() == prepared.train.tokens[:].tolist(), source
        assert dataset.validation is not None
        assert prepared.validation is not None
        assert dataset.validation.tokens[:].tolist() == prepared.validation.tokens[:].tolist(), source
        assert dataset.info.documents == prepared.info.documents
        assert dataset.info.bytes_of_text == prepared.info.bytes_of_text
    assert corpus.tokens == len(prepared.train.tokens) + len(prepared.validation.tokens)
