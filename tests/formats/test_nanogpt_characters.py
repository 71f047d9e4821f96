"""nanoGPT's character tables and those of its forks: read for what they are, or named; texts read as nanoGPT did."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llmbuilder as lb
from llmbuilder.config import ModelConfig
from llmbuilder.data import TextDataset
from llmbuilder.errors import TokenizerError
from llmbuilder.evaluation import evaluate_model
from llmbuilder.formats.nanogpt.characters import characters_of, read_nanogpt_meta
from llmbuilder.tokenizer import Tokenizer


def table(text: str) -> dict[str, Any]:
    """Return what nanoGPT's prepare.py writes for a text."""
    characters = sorted(set(text))
    return {"vocab_size": len(characters), "itos": dict(enumerate(characters)),
            "stoi": {character: number for number, character in enumerate(characters)}}  # fmt: skip


def written(folder: Path, values: Any) -> Path:
    (folder / "meta.pkl").write_bytes(pickle.dumps(values))
    return folder / "meta.pkl"


def test_every_line_end_is_a_line_feed_as_python_reads_it(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_pretrained(written(tmp_path, table("ab\n")))
    path = tmp_path / "text.txt"
    path.write_bytes(b"a\r\nb\rab\n\r\n\r")
    as_nanogpt = path.read_text()
    assert tokenizer.decode(tokenizer.encode(path.read_bytes().decode())) == as_nanogpt
    assert tokenizer.keep_known("a\r\nxb") == "a\nb"
    tokenizer.save_pretrained(tmp_path / "saved")
    assert Tokenizer.from_pretrained(tmp_path / "saved").encode("a\r\nb") == tokenizer.encode("a\nb")
    assert Tokenizer.from_dict(tokenizer.to_dict()).encode("a\r\nb") == tokenizer.encode("a\nb")


def test_transformers_reads_the_line_ends_alike(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = Tokenizer.from_pretrained(written(tmp_path, table("ab\n")))
    tokenizer.save_pretrained(tmp_path / "saved")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs.encode("a\r\nb\ra") == tokenizer.encode("a\r\nb\ra")


def test_a_table_with_carriage_returns_keeps_them(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_pretrained(written(tmp_path, table("ab\r\n")))
    assert tokenizer.decode(tokenizer.encode("a\r\nb")) == "a\r\nb"


def test_our_own_character_tokenizers_refuse_what_they_do_not_know() -> None:
    with pytest.raises(TokenizerError, match="000D"):
        Tokenizer.from_characters("ab\n").encode("a\r\nb")


def test_a_dataset_of_crlf_text_has_the_tokens_of_prepare_py(tmp_path: Path) -> None:
    path = tmp_path / "input.txt"
    path.write_bytes(b"one line\r\nand another one\r\n" * 40)
    text = path.read_text()
    tokenizer = Tokenizer.from_pretrained(written(tmp_path, table(text)))
    dataset = TextDataset(path, 8, tokenizer=tokenizer, train_split=1.0).prepare()
    expected = [table(text)["stoi"][character] for character in text]
    assert np.array(dataset.train.tokens[:]).tolist() == expected


def test_a_spelled_end_of_text_is_text_where_there_is_no_such_token(tmp_path: Path) -> None:
    text = "first part\n<|endoftext|>\nsecond part\n" * 30
    path = tmp_path / "input.txt"
    path.write_text(text)
    tokenizer = Tokenizer.from_pretrained(written(tmp_path, table(text)))
    dataset = TextDataset(path, 8, tokenizer=tokenizer, train_split=1.0).prepare()
    assert tokenizer.decode(np.array(dataset.train.tokens[:]).tolist()) == text
    model = lb.build_model(ModelConfig(num_layers=1, num_heads=1, embedding_dim=8, max_seq_length=16,
                                       vocab_size=len(tokenizer)))  # fmt: skip
    model.tokenizer = tokenizer
    assert evaluate_model(model, path).tokens == len(text) - 1
    assert tokenizer.encode("<|endoftext|>") == [tokenizer.encode(character)[0] for character in "<|endoftext|>"]


def test_a_text_without_its_characters_is_still_cut_at_end_of_text(tmp_path: Path) -> None:
    path = tmp_path / "input.txt"
    path.write_text("ab\n<|endoftext|>\nba" * 40)
    tokenizer = Tokenizer.from_pretrained(written(tmp_path, table("ab\n")))
    assert set(TextDataset(path, 4, tokenizer=tokenizer, train_split=1.0).prepare().train.tokens[:]) <= {0, 1, 2}


@pytest.mark.parametrize(
    "values",
    [
        {"stoi": {"a": 0, "b": 1}},
        {"itos": {1: "b", 0: "a"}},
        {"itos": ["a", "b"], "stoi": {}},
        {"stoi": {"a": 0, "b": 1}, "itos": ["a", "b"], "chars": ["a", "b"], "dataset": "x.txt", "tokenizer": "char"},
        {**table("ab"), "tokenizer": "character_level", "eot_token_id": None},
    ],
)
def test_forms_of_character_tables(tmp_path: Path, values: dict[str, Any]) -> None:
    assert read_nanogpt_meta(written(tmp_path, values)).characters == ("a", "b")
    assert Tokenizer.from_pretrained(tmp_path).encode("ba") == [1, 0]


@pytest.mark.parametrize(
    "values",
    [
        {"tokenizer": "byte", "vocab_size": 256},
        {"stoi": {bytes([byte]): byte for byte in range(256)}, "itos": {byte: bytes([byte]) for byte in range(256)}},
    ],
)
def test_bytes_are_read_as_bytes(tmp_path: Path, values: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_pretrained(written(tmp_path, values))
    text = "Grüße, 日本 \r\n\t🙂<|endoftext|>"
    assert tokenizer.encode(text) == list(text.encode())
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer) == 256


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"tokenizer": "tiktoken", "tiktoken_encoding": "gpt2", "vocab_size": 50257}, "tiktoken 'gpt2'"),
        ({"tokenizer": "huggingface", "hf_tokenizer_name": "Qwen/Qwen3"}, "huggingface 'Qwen/Qwen3'"),
        ({"tokenizer": "sentencepiece", "stoi": {"▁the": 0, "a": 1}}, "sentencepiece"),
        ({"tokenizer": "sinewave"}, "sinewave"),
        ({"stoi": {"<|start|>": 0, "a": 1}}, r"'<\|start\|>' is one of its tokens"),
        ({"stoi": {b"a": 0, "b": 1}}, "b'a' is one of its tokens"),
        ({"stoi": {"a": 0, "b": 5}}, "ids are not 0 to 1"),
        ({"stoi": {"a": "0"}}, "ids are no numbers"),
        ({"itos": {0: ["a"]}}, "."),
        ({"stoi": {"a": 0, "b": 1}, "itos": ["b", "a"]}, "contradicts itself"),
        ({"vocab_size": 50304}, "no 'stoi'"),
        (["a", "b"], "no 'stoi'"),
        ({"stoi": {}}, "no 'stoi'"),
    ],
)
def test_other_tables_are_named(tmp_path: Path, values: Any, named: str) -> None:
    written(tmp_path, values)
    with pytest.raises(TokenizerError, match=named):
        Tokenizer.from_pretrained(tmp_path)


def test_the_characters_of_texts_are_found_without_a_table(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_bytes(b"ba\r\n")
    second.write_bytes("bé".encode())
    assert characters_of([first, second], 4) == ["\n", "a", "b", "é"]
    assert characters_of([first], 4) is None
    assert characters_of([first, second], 3) is None
    second.write_bytes(b"\xff\xfe\x00")
    assert characters_of([first, second], 4) is None


def test_sentencepiece_models_are_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    for path in (tmp_path, tmp_path / "tokenizer.model"):
        with pytest.raises(TokenizerError, match="SentencePiece"):
            Tokenizer.from_pretrained(path)
