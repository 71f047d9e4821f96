"""Windows: what they hold, how they are split, in which order they come."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from llmbuilder.data import DataLoader, Document, TextDataset
from llmbuilder.errors import DataError, TokenizerError
from llmbuilder.tokenizer import Tokenizer


def test_targets_are_the_inputs_shifted(bpe: Tokenizer, topics: list[str]) -> None:
    dataset = TextDataset(topics, 64, tokenizer=bpe)
    inputs, targets = dataset[1]
    assert inputs.shape == targets.shape == (64,)
    assert torch.equal(inputs[1:], targets[:-1])
    assert inputs.dtype == torch.int64


def test_documents_are_separated_and_nothing_is_lost(bpe: Tokenizer) -> None:
    dataset = TextDataset(["one two", Document("three")], 2, tokenizer=bpe).prepare()
    end = bpe.end_of_text_id
    expected = [*bpe.encode("one two"), end, *bpe.encode("three"), end]
    assert dataset.train.tokens.tolist() == expected
    assert dataset.info.documents == 2
    assert dataset.info.bytes_of_text == len("one twothree")


def test_tokens_do_not_depend_on_streaming(tmp_path: Path, bpe: Tokenizer, prose: str) -> None:
    text = prose * 200
    (tmp_path / "big.txt").write_text(text)
    streamed = TextDataset(tmp_path / "big.txt", 64, tokenizer=bpe).prepare()
    assert streamed.train.tokens[:-1].tolist() == bpe.encode(text)


def test_split_is_by_document(bpe: Tokenizer) -> None:
    texts = [f"document number {n} says {n * n}. " * 5 for n in range(60)]
    dataset = TextDataset(texts, 16, train_split=0.9, tokenizer=bpe).prepare()
    parts = [bpe.decode(part.tokens.tolist()) for part in (dataset.train, dataset.validation)]  # type: ignore[union-attr]
    found = [{n for n in range(60) if f"document number {n} says" in part} for part in parts]
    assert found[0] | found[1] == set(range(60))
    assert not found[0] & found[1]
    assert 4 <= len(found[1]) <= 8
    again = TextDataset(texts, 16, train_split=0.9, tokenizer=bpe).prepare()
    assert np.array_equal(again.validation.tokens, dataset.validation.tokens)  # type: ignore[union-attr]


def test_a_single_document_is_cut_once(bpe: Tokenizer, prose: str) -> None:
    dataset = TextDataset([prose], 16, train_split=0.9, tokenizer=bpe).prepare()
    assert dataset.validation is not None
    end = bpe.end_of_text_id
    texts = [bpe.decode([t for t in part.tokens.tolist() if t != end]) for part in (dataset.train, dataset.validation)]
    assert texts[0] + texts[1] == prose
    assert len(texts[1]) == pytest.approx(0.1 * len(prose), rel=0.05)
    assert texts[1].startswith("Item"), "the cut is at a line"


def test_order_is_seeded_and_every_window_comes_once_an_epoch(bpe: Tokenizer, topics: list[str]) -> None:
    windows = TextDataset(topics, 64, tokenizer=bpe, seed=1).prepare().train
    other = TextDataset(topics, 64, tokenizer=bpe, seed=2).prepare().train
    first = windows.starts_at(0, len(windows))
    assert sorted(first.tolist()) == [i * 64 for i in range(len(windows))]
    assert not np.array_equal(first, other.starts_at(0, len(other)))
    assert np.array_equal(
        windows.starts_at(10, 50), np.concatenate([windows.starts_at(10, 20), windows.starts_at(30, 30)])
    )
    second = windows.starts_at(len(windows), len(windows))
    assert not np.array_equal(first, second)
    assert int(second.max()) + 64 < len(windows.tokens)


def test_stride_overlaps_windows(bpe: Tokenizer, topics: list[str]) -> None:
    plain = TextDataset(topics, 64, tokenizer=bpe)
    half = TextDataset(topics, 64, stride=32, tokenizer=bpe)
    assert len(half) == pytest.approx(2 * len(plain), rel=0.02)
    assert torch.equal(half[1][0][:32], half[0][0][32:])


def test_too_little_text_gives_the_numbers(bpe: Tokenizer) -> None:
    with pytest.raises(
        DataError, match=r"has 4 tokens, and a window of block_size 8 needs 9; use block_size 3 or less"
    ):
        TextDataset(["abc"], 8, tokenizer=Tokenizer.from_characters("abc")).prepare()


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_empty_text(texts: list[str]) -> None:
    with pytest.raises(DataError, match=r"no text|empty"):
        TextDataset(texts, 8)


def test_unusable_arguments_and_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        TextDataset(tmp_path / "absent.txt", 8)
    with pytest.raises(DataError, match="must be at least 1"):
        TextDataset(["text"], 0)
    with pytest.raises(DataError, match="train_split"):
        TextDataset(["text"], 8, train_split=1.5)
    with pytest.raises(TokenizerError, match="needs a tokenizer"):
        TextDataset(["text"], 8).prepare()
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="holds no text"):
        TextDataset(tmp_path / "empty.txt", 8)


def test_nanogpt_token_folders_are_accepted(tmp_path: Path) -> None:
    np.arange(1000, dtype=np.uint16).tofile(tmp_path / "train.bin")
    np.arange(200, dtype=np.uint16).tofile(tmp_path / "val.bin")
    table = {"stoi": {chr(500 + n): n for n in range(1000)}, "itos": {}, "vocab_size": 1000}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(table))
    dataset = TextDataset(tmp_path, 32)
    assert dataset.is_prepared
    assert dataset[0][0].tolist() == list(range(32))
    assert dataset.validation is not None
    assert len(dataset.validation.tokens) == 200
    assert len(dataset.tokenizer or ()) == 1000


def test_token_files_cut_short_are_refused(tmp_path: Path, bpe: Tokenizer, topics: list[str]) -> None:
    TextDataset(topics, 64, tokenizer=bpe).prepare(tmp_path)
    path = tmp_path / "train.bin"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="cut short"):
        TextDataset(tmp_path, 64)


def test_folders_of_documents_work_directly(tmp_path: Path, bpe: Tokenizer, prose: str) -> None:
    (tmp_path / "a.txt").write_text(prose)
    (tmp_path / "b.md").write_text("# Title\n" + prose)
    dataset = TextDataset(tmp_path, 32, tokenizer=bpe).prepare()
    assert dataset.info.documents == len(DataLoader().load_directory(tmp_path)) == 2


def test_large_vocabularies_use_wider_tokens(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_characters([chr(c) for c in range(0x4E00, 0x4E00 + 20000)] + [chr(c) for c in range(0x20000, 0x20000 + 50000)])  # fmt: skip
    dataset = TextDataset([chr(0x20000 + 49999) * 50], 8, tokenizer=tokenizer).prepare()
    assert dataset.info.dtype == "uint32"
    assert int(dataset.train.tokens[0]) == 69999


@pytest.mark.parametrize("tokens", [33, 34, 50, 64, 65, 66, 80, 95])
def test_a_text_of_up_to_three_windows_is_seen_in_its_first_pass(tmp_path: Path, tokens: int) -> None:
    np.arange(tokens, dtype=np.uint16).tofile(tmp_path / "train.bin")
    windows = TextDataset(tmp_path, 32).train
    seen = {place for start in windows.starts_at(0, len(windows)) for place in range(start, start + 33)}
    left = max(0, tokens - 65)  # what the second window does not reach is in later passes
    assert seen == set(range(tokens - left))
    later = {place for start in windows.starts_at(0, 200 * len(windows)) for place in range(start, start + 33)}
    assert later == set(range(tokens))
