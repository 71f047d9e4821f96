"""Documents that hold much of each other stay together; how much of the held-out text was trained on is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmbuilder.config import Config
from llmbuilder.corpus import prepare_corpus
from llmbuilder.data import TextDataset
from llmbuilder.tokens.grouping import bits_left_out, find_groups, held_out_overlaps, iter_gram_samples
from llmbuilder.tokens.overlap import run_length, shared_runs
from llmbuilder.tokens.splitting import split_pieces
from tests.corpus.folders import paragraph, rows_of


def samples_of(documents: list[str], bits: int = 0) -> list[np.ndarray]:
    return list(iter_gram_samples(((text, True) for text in documents), bits))


def book() -> list[str]:
    """A book, its three chapters each as a file of its own, and what has nothing to do with it."""
    chapters = [paragraph(f"chapter {number}", 400) for number in range(3)]
    return ["\n\n".join(chapters), *chapters, *(paragraph(f"other {number}", 400) for number in range(30))]


def test_a_book_and_its_chapters_are_one_group() -> None:
    documents = book()
    groups = find_groups(samples_of(documents)).tolist()
    assert groups == [0, 0, 0, 0, *range(4, 34)]
    quoting = f"{paragraph('letter', 300)} {documents[5][:300]} {paragraph('end', 300)}"
    assert find_groups(samples_of([*documents, quoting])).tolist() == [*groups, 34]  # a quotation is no copy


def test_a_licence_in_many_documents_makes_no_group_of_them() -> None:
    licence = paragraph("licence", 200)
    documents = [f"{paragraph(number, 100)}\n\n{licence}" for number in range(40)]
    assert find_groups(samples_of(documents)).tolist() == list(range(40))
    assert len(set(find_groups(samples_of(documents[:5])).tolist())) == 1


def test_documents_in_pieces_are_sampled_as_wholes() -> None:
    documents = [paragraph(number, 300) for number in range(3)]
    pieces = [
        (text[place : place + 500], place + 500 >= len(text))
        for text in documents
        for place in range(0, len(text), 500)
    ]
    whole, apart = samples_of(documents), list(iter_gram_samples(pieces, 0))
    assert len(apart) == 3
    for one, other in zip(whole, apart, strict=True):
        assert len(np.intersect1d(one, other)) > 0.8 * len(one)  # but for what spans two pieces


def test_of_a_large_corpus_a_sample_tells() -> None:
    assert bits_left_out(10_000_000) == 0
    assert 1 <= bits_left_out(200_000_000) <= 3
    assert bits_left_out(10**12) > bits_left_out(10**10)
    documents = book()
    sampled = samples_of(documents, 3)
    assert 0.05 < sum(map(len, sampled)) / sum(map(len, samples_of(documents))) < 0.25
    assert find_groups(sampled).tolist() == [0, 0, 0, 0, *range(4, 34)]


@pytest.mark.parametrize("seed", range(8))
def test_no_group_is_divided_whatever_the_seed(seed: int) -> None:
    documents = book()
    split = split_pieces(lambda: ((text, True) for text in documents), 0.8, seed)
    assert split.cut_at is None
    assert len({number in split.validation_documents for number in range(4)}) == 1
    overlaps = held_out_overlaps(samples_of(documents), split.validation_documents)
    assert set(overlaps) == split.validation_documents
    assert max(overlaps.values()) < 0.02


def test_large_corpora_keep_groups_together_and_large_groups_in_training() -> None:
    documents = [paragraph(f"one {number // 2}", 40) for number in range(2400)]  # each of them twice
    flood = paragraph("flood", 2000)
    documents += [flood[: 4000 + number] for number in range(15)]
    split = split_pieces(lambda: ((text, True) for text in documents), 0.9, 3)
    held_out = split.validation_documents
    assert 100 < len(held_out) < 400
    assert all((number in held_out) == (number + 1 in held_out) for number in range(0, 2400, 2))


def test_shared_runs_are_counted_exactly() -> None:
    random = np.random.default_rng(0)
    train = random.integers(0, 5000, 3_000_000).astype(np.uint16)
    fresh = random.integers(0, 5000, 6000).astype(np.uint16)
    half = np.concatenate([fresh[:5000], train[1_048_570:1_053_570]])  # across the parts that are read at a time
    assert shared_runs(train, fresh, 16) == 0
    assert shared_runs(train, train[700:9000], 16) == 1
    assert shared_runs(train, half, 16) == pytest.approx((5000 - 15) / (10_000 - 15))
    assert shared_runs(train, fresh[:15], 16) is None
    assert shared_runs(train[:10], fresh, 16) == 0


def test_a_run_is_some_eight_words_whatever_a_token_is() -> None:
    assert run_length(1000, 1000) in (32, 64)  # characters
    assert run_length(1000, 4000) in (8, 16)
    assert run_length(1000, 0) in (8, 16)


def test_a_dataset_says_what_its_validation_is_worth(tmp_path: Path) -> None:
    text = "".join(f"{paragraph(number, 60)}\n" for number in range(60))
    (tmp_path / "fresh.txt").write_text(text)
    (tmp_path / "twice.txt").write_text(text + text[: len(text) // 4])
    for name, least, most in (("fresh.txt", 0.0, 0.05), ("twice.txt", 0.9, 1.0)):
        dataset = TextDataset(tmp_path / name, 16, train_split=0.9)
        dataset.learn_tokenizer(vocab_size=300)
        dataset.prepare()
        assert dataset.validation_overlap is not None
        assert least <= dataset.validation_overlap <= most, name
    assert TextDataset([text], 16, tokenizer=dataset.tokenizer).prepare().validation_overlap is None


def test_a_corpus_names_the_held_out_documents_that_were_trained_on(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, text in enumerate(book()):
        (raw / f"{number:02}.txt").write_text(text)
    for number in range(40, 60):  # each quotes its neighbours
        (raw / f"{number:02}.txt").write_text(
            f"{paragraph(number, 100)} {paragraph(f'shared {number // 2}', 25)} {paragraph(-number, 100)}"
        )
    config = Config.model_validate({"data": {"train_split": 0.7}, "tokenizer": {"vocab_size": 400}})
    corpus = prepare_corpus(raw, tmp_path / "corpus", config)
    held_out = corpus.description["held_out"]
    assert held_out["documents"] > 5
    assert 0 < held_out["overlap"] < 0.2
    assert held_out["overlap"] == TextDataset(corpus.path, 16).validation_overlap
    assert held_out["largest"]
    assert all(0 < item["overlap"] < 0.25 for item in held_out["largest"])
    names = {row["source"] for row in rows_of(corpus.path)}
    assert {item["source"] for item in held_out["largest"]} <= names
