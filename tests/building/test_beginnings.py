"""The prompts of a build's samples."""

from __future__ import annotations

from pathlib import Path

from llmbuilder.building.beginnings import held_out_beginnings
from llmbuilder.data import Document, TextDataset, write_corpus
from tests.tokenizer.foreign import pieces_like_sentencepiece


def _dataset(tmp_path: Path, texts: list[str], split: float | None = 0.5) -> TextDataset:
    write_corpus([Document(text, f"{n}.txt", "text", str(n)) for n, text in enumerate(texts)], tmp_path / "a.txt")
    dataset = TextDataset(tmp_path / "a.txt", 8, None, split)
    dataset.learn_tokenizer(vocab_size=300)
    return dataset.prepare(tmp_path / "tokens")


def test_they_are_beginnings_of_documents_that_were_held_out(tmp_path: Path) -> None:
    texts = [
        f"Document number {n} begins with these words and goes on about subject {n} for a while." for n in range(40)
    ]
    dataset = _dataset(tmp_path, texts)
    assert dataset.tokenizer is not None
    trained = dataset.tokenizer.decode(dataset.train.tokens[: len(dataset.train.tokens)].tolist())
    found = held_out_beginnings(dataset, 3)
    assert len(set(found)) == 3
    for text in found:
        assert any(whole.startswith(text) for whole in texts)
        number = text.split()[2]
        assert f"Document number {number} begins" not in trained
        assert text.split()[-1] in texts[int(number)].split()  # ends between words


def test_scripts_without_spaces_are_not_cut_away(tmp_path: Path) -> None:
    long = "これは長い日本語の文章であり単語の間に空白がありません。" * 4
    (found,) = held_out_beginnings(_dataset(tmp_path, [f"{n}{long}" for n in range(8)]), 1)
    assert long.startswith(found[1:])
    assert len(found) >= 10


def test_short_documents_are_taken_where_there_are_no_others(tmp_path: Path) -> None:
    assert held_out_beginnings(_dataset(tmp_path, [f"word {n}" for n in range(20)]), 2)


def test_without_a_validation_part_the_training_part_gives_them(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, ["some words of one document here"] * 3, split=None)
    assert held_out_beginnings(dataset, 1) == ["some words of one document here"]


def test_the_token_that_documents_begin_with_is_none_of_their_text(topics: list[str]) -> None:
    tokenizer = pieces_like_sentencepiece(topics[:20], 700)
    assert tokenizer.special.adds_begin
    text = "An assertion and what it asserts"
    dataset = TextDataset([text] * 40, 8, None, 0.5, tokenizer=tokenizer).prepare()
    assert held_out_beginnings(dataset, 2) == [text, text]
