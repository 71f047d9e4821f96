"""Tokenizers without a tokenizer.json: a vocabulary, its merges, and what the files beside them add."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from llmbuilder.errors import TokenizerError
from llmbuilder.tokenizer import END_OF_TEXT, Tokenizer, train_tokenizer
from tests.tokenizer.foreign import learned

TEXT = "It's 2024, isn't it?  Naïve café\u0301: 12345 tokens,\n\n  two blanks and\ttabs. ﬁn"


def written(folder: Path, backend: tokenizers.Tokenizer, **files: Any) -> Path:
    """Write a byte-level BPE as GPT2Tokenizer and Qwen2Tokenizer save it."""
    folder.mkdir(exist_ok=True)
    backend.model.save(str(folder))
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values), "utf-8")
    return folder


def test_qwen_cuts_words_and_composes_characters_in_its_own_way(tmp_path: Path, topics: list[str]) -> None:
    own = train_tokenizer(topics, vocab_size=500, pretokenizer="qwen2")
    backend = tokenizers.Tokenizer.from_str(own.to_json())
    size = backend.get_vocab_size(with_added_tokens=False)
    added = {
        str(size + 5): {"content": "<|im_end|>", "special": True},
        str(size + 3): {"content": "<tool>", "special": False},
    }
    folder = written(
        tmp_path, backend,
        tokenizer_config={"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "added_tokens_decoder": added},
    )  # fmt: skip
    found = Tokenizer.from_pretrained(folder)
    composed = TEXT.replace("e\u0301", "é")
    assert found.encode(TEXT) == own.encode(composed)
    assert found.pretokenizer == "qwen2"
    assert found.end_of_text_id == size + 5
    assert found.encode("a <tool> b")[-3:][0] == size + 3 or size + 3 in found.encode("a <tool> b")
    assert size + 5 not in found.encode("a <|im_end|> b")
    assert len(found) == size + 6
    assert found.holes()[-3:] == [size + 1, size + 2, size + 4] or {size + 2, size + 4} <= set(found.holes())


@pytest.mark.parametrize("named", ["class", "family", "nothing"])
def test_gpt2_is_told_by_class_or_family(tmp_path: Path, topics: list[str], named: str) -> None:
    backend = learned(topics, 500, special=[END_OF_TEXT])
    files: dict[str, Any] = {
        "class": {"tokenizer_config": {"tokenizer_class": "GPT2TokenizerFast"}, "config": {"model_type": "smollm3"}},
        "family": {"config": {"model_type": "gpt2", "eos_token_id": 0}},
        "nothing": {},
    }[named]
    found = Tokenizer.from_pretrained(written(tmp_path, backend, **files))
    assert found.encode(TEXT) == backend.encode(TEXT).ids
    assert found.pretokenizer == "gpt2"
    assert found.end_of_text_id == 0


def test_an_older_folder_lists_added_tokens_in_a_file_of_their_own(tmp_path: Path, topics: list[str]) -> None:
    backend = learned(topics, 500)
    folder = written(
        tmp_path, backend, added_tokens={"<pad>": 500, "<word>": 501}, special_tokens_map={"pad_token": "<pad>"},
        config={"model_type": "gpt2"},
    )  # fmt: skip
    found = Tokenizer.from_pretrained(folder)
    assert found.vocabulary()["<pad>"] == 500
    assert found.special_ids() == {500}
    assert 501 in found.encode("a <word>")
    assert 500 not in found.encode("a <pad>")
    assert len(found) == 502, "no end-of-text is added that the model has no row for"


def test_what_is_not_known_to_be_cut_alike_is_refused(tmp_path: Path, topics: list[str]) -> None:
    backend = learned(topics, 500)
    for number, files in enumerate((
        {"tokenizer_config": {"tokenizer_class": "RobertaTokenizer"}},
        {"config": {"model_type": "llama"}},
        {"config": {"model_type": ["gpt2"]}},
    )):  # fmt: skip
        with pytest.raises(TokenizerError, match="how words are cut is not known for"):
            Tokenizer.from_pretrained(written(tmp_path / str(number), backend, **files))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"added_tokens": {"the": 499}}, "has the id"),
        ({"added_tokens": []}, "added tokens cannot be read"),
        ({"added_tokens": {"<a>": "x"}}, "added tokens cannot be read"),
        ({"tokenizer_config": {"added_tokens_decoder": [1]}}, "added tokens cannot be read"),
        ({"tokenizer_config": {"added_tokens_decoder": {"500": {}}}}, "added tokens cannot be read"),
    ],
)
def test_damaged_files_are_messages(tmp_path: Path, topics: list[str], files: dict[str, Any], said: str) -> None:
    backend = learned(topics, 500)
    with pytest.raises(TokenizerError, match=said):
        Tokenizer.from_pretrained(written(tmp_path, backend, **files, config={"model_type": "gpt2"}))


def test_ids_and_names_that_are_none_name_no_special_tokens(tmp_path: Path, topics: list[str]) -> None:
    folder = tmp_path
    (folder / "tokenizer.json").write_text("\ufeff" + learned(topics, 500).to_str(), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": ["x"], "additional_special_tokens": 4}))
    (folder / "generation_config.json").write_text(
        "\ufeff" + json.dumps({"eos_token_id": ["2", -1, 10**30], "pad_token_id": -4})
    )
    found = Tokenizer.from_pretrained(folder)
    assert found.end_of_text is None
    assert found.special.padding is None
