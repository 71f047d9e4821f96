"""The loader of the guide and the corpus engine are one machine: the same documents, reasons, tokenizer and split."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from pathlib import Path

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
