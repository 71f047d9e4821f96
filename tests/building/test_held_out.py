"""Owners read by name which of their documents tested the model."""

from __future__ import annotations

from pathlib import Path

from llmbuilder.building.held_out import held_out_names, short_names
from llmbuilder.data import DataLoader, TextDataset, write_corpus
from llmbuilder.tokenizer import Tokenizer


def _corpus(folder: Path, place: Path) -> Path:
    loader = DataLoader()
    write_corpus(loader.iter_directory(folder), place / "corpus.txt", loader.report)
    return place / "corpus.txt"


def _dataset(corpus: Path, share: float = 0.8) -> TextDataset:
    dataset = TextDataset(corpus, 8, train_split=share)
    dataset.learn_tokenizer(vocab_size=300)
    return dataset.prepare()


def test_the_named_documents_are_those_that_were_not_trained_on(tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "letters"
    folder.mkdir(parents=True)
    for number in range(12):
        words = " ".join(f"w{number}x{n}" for n in range(150 + number))
        (folder / f"{number}.txt").write_text(f"letter {number}: {words}")
    dataset = _dataset(_corpus(folder, tmp_path))
    names = held_out_names(dataset, tmp_path / "corpus.txt")
    tokenizer = dataset.tokenizer
    assert isinstance(tokenizer, Tokenizer)
    assert dataset.validation is not None
    text = tokenizer.decode(dataset.validation.tokens[:].tolist())
    assert names
    for number in range(12):
        assert (f"{number}.txt" in names) == (f"letter {number}:" in text)
    # Another process, which finds the tokens already made, says the same.
    again = TextDataset(tmp_path / "corpus.txt", 8, train_split=0.8, tokenizer=tokenizer).prepare(tmp_path / "again")
    assert held_out_names(again, tmp_path / "corpus.txt") == names


def test_a_document_that_was_cut_is_named_so(tmp_path: Path, prose: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "book.txt").write_text(prose)
    corpus = _corpus(tmp_path / "docs", tmp_path)
    assert held_out_names(_dataset(corpus), corpus) == ["the end of book.txt"]
    assert held_out_names(_dataset(corpus, 1.0), corpus) == []


def test_names_are_short() -> None:
    assert short_names(["a/b/c.txt"]) == ["c.txt"]
    assert short_names(["a/b/c.txt", "a/d.txt"]) == ["b/c.txt", "d.txt"]
    assert short_names(["/a/b.txt", "c.txt"]) == ["/a/b.txt", "c.txt"]
