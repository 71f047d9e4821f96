"""The parts that special tokens play: read as others say them, kept in files of models, told to other engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import processors

from llmbuilder.config import ModelConfig
from llmbuilder.data import TextDataset
from llmbuilder.errors import CheckpointError
from llmbuilder.inference import GenerationConfig, Generator
from llmbuilder.model import LanguageModel, build_model, load_model, save_model
from llmbuilder.tokenizer import END_OF_TEXT, SpecialTokens, Tokenizer
from tests.tokenizer.foreign import learned

CHAT = [END_OF_TEXT, "<|im_start|>", "<|im_end|>", "<pad>"]


@pytest.fixture(scope="module")
def chat_json(topics: list[str]) -> str:
    """SmolLM2's arrangement: end-of-text is there, and conversations end otherwise."""
    return learned(topics, special=CHAT).to_str()


@pytest.fixture(scope="module")
def llama_json(topics: list[str]) -> str:
    """Llama's arrangement: a token before every text, put there by the post-processor."""
    backend = learned(topics, special=["<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", backend.token_to_id("<s>")), ("</s>", 1)]
    )
    return backend.to_str()


def folder_with(path: Path, content: str, **files: dict[str, Any]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "tokenizer.json").write_text(content, "utf-8")
    for name, values in files.items():
        (path / f"{name}.json").write_text(json.dumps(values), "utf-8")
    return path


def model_for(tokenizer: Tokenizer) -> LanguageModel:
    config = ModelConfig(vocab_size=len(tokenizer), num_layers=1, num_heads=2, embedding_dim=32, max_seq_length=64,
                         dropout=0.0)  # fmt: skip
    torch.manual_seed(0)
    return build_model(config).eval()


@pytest.mark.parametrize(
    ("files", "end", "others"),
    [
        ({"tokenizer_config": {"eos_token": "<|im_end|>", "pad_token": "<pad>"}}, "<|im_end|>", []),
        ({"special_tokens_map": {"eos_token": {"content": "<|im_end|>"}}}, "<|im_end|>", []),
        ({"config": {"eos_token_id": 2}}, "<|im_end|>", []),
        (
            {"tokenizer_config": {"eos_token": "<|im_end|>"}, "generation_config": {"eos_token_id": [2, 0]}},
            "<|im_end|>",
            [END_OF_TEXT],
        ),
        ({}, END_OF_TEXT, []),
    ],
)
def test_a_folder_says_what_ends_a_text(
    tmp_path: Path, chat_json: str, files: dict[str, Any], end: str, others: list[str]
) -> None:
    from transformers import AutoTokenizer

    found = Tokenizer.from_pretrained(folder_with(tmp_path, chat_json, **files))
    assert found.end_of_text == end
    assert found.ending_ids == [CHAT.index(token) for token in (end, *others)]
    found.save_pretrained(tmp_path / "saved")
    again = Tokenizer.from_pretrained(tmp_path / "saved")
    assert again.special == found.special
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").eos_token == end


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "folder"])
def test_special_tokens_travel_with_a_model(tmp_path: Path, chat_json: str, name: str) -> None:
    special = {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>", "pad_token": "<pad>", "add_bos_token": True,
               "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}  # fmt: skip
    generation = {"eos_token_id": [2, 0]}
    folder = folder_with(tmp_path / "t", chat_json, tokenizer_config=special, generation_config=generation)
    tokenizer = Tokenizer.from_pretrained(folder)
    assert tokenizer.special == SpecialTokens(
        begin="<|im_start|>", end="<|im_end|>", padding="<pad>", additional=("<|im_start|>", "<|im_end|>"),
        other_ends=(END_OF_TEXT,), adds_begin=True,
    )  # fmt: skip
    save_model(model_for(tokenizer), tmp_path / name, tokenizer=tokenizer)
    again = load_model(tmp_path / name, "cpu").tokenizer
    assert again is not None
    assert again.special == tokenizer.special
    assert again.ending_ids == [2, 0]


def test_a_model_file_whose_special_ids_moved_is_refused(tmp_path: Path, chat_json: str) -> None:
    tokenizer = Tokenizer.from_json(chat_json, SpecialTokens(end="<|im_end|>"))
    path = save_model(model_for(tokenizer), tmp_path / "model.pt", tokenizer=tokenizer)
    content = torch.load(path, weights_only=True)
    content["special_tokens"]["eos_token"]["id"] = 1
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"'<\|im_end\|>' has the id 1 in the model and 2 in its tokenizer"):
        load_model(path)


def test_files_of_earlier_versions_open(tmp_path: Path, chat_json: str) -> None:
    tokenizer = Tokenizer.from_json(chat_json)
    path = save_model(model_for(tokenizer), tmp_path / "model.pt", tokenizer=tokenizer)
    content = torch.load(path, weights_only=True)
    del content["special_tokens"]
    torch.save(content, path)
    again = load_model(path).tokenizer
    assert again is not None
    assert again.end_of_text_id == 0


def test_generation_ends_at_every_end_of_the_model(tmp_path: Path, chat_json: str) -> None:
    files = {"tokenizer_config": {"eos_token": "<|im_end|>"}, "generation_config": {"eos_token_id": [2, 0]}}
    tokenizer = Tokenizer.from_pretrained(folder_with(tmp_path, chat_json, **files))
    for end in (0, 2):
        model = model_for(tokenizer)
        with torch.no_grad():
            model.lm_head.weight.zero_()
        model.lm_head.bias = torch.nn.Parameter(torch.eye(len(tokenizer))[end])
        assert Generator(model, tokenizer).generate(["The"], GenerationConfig(do_sample=False)) == [[""]]


@pytest.mark.parametrize("settings", [{}, {"add_bos_token": False}, {"add_bos_token": True}])
def test_begin_of_text_comes_first_where_a_model_expects_it(
    tmp_path: Path, llama_json: str, settings: dict[str, bool]
) -> None:
    config = {"bos_token": "<s>", "eos_token": "</s>", **settings}
    tokenizer = Tokenizer.from_pretrained(folder_with(tmp_path, llama_json, tokenizer_config=config))
    expected = [0] if settings.get("add_bos_token", True) else []
    assert tokenizer.beginning_ids == expected
    assert tokenizer.end_of_text_id == 1
    generator = Generator(model_for(tokenizer), tokenizer)
    assert generator.encode_prompt("The cat") == [*expected, *tokenizer.encode("The cat")]
    assert generator.encode_prompt("") == (expected or [1])


def test_documents_of_token_files_begin_as_prompts_do(tmp_path: Path, llama_json: str) -> None:
    tokenizer = Tokenizer.from_json(llama_json, SpecialTokens(begin="<s>", end="</s>", adds_begin=True))
    dataset = TextDataset(["The cat", "A dog"], block_size=2, train_split=None, tokenizer=tokenizer)
    tokens = dataset.prepare(tmp_path).train.tokens.tolist()
    assert tokens == [0, *tokenizer.encode("The cat"), 1, 0, *tokenizer.encode("A dog"), 1]


def test_a_file_alone_tells_its_begin_of_text(llama_json: str) -> None:
    assert Tokenizer.from_json(llama_json).beginning_ids == [0]
    assert Tokenizer(tokenizers.Tokenizer.from_str(llama_json)).special.begin == "<s>"


def test_a_template_that_only_ends_texts_begins_none(topics: list[str]) -> None:
    backend = learned(topics, special=["</s>"])
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    assert Tokenizer(backend).beginning_ids == []


@pytest.mark.parametrize("settings", [{}, {"add_bos_token": True}])
def test_hugging_face_folders_say_all_of_it(
    tmp_path: Path, llama_json: str, chat_json: str, settings: dict[str, bool]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<pad>", **settings}
    files = {"tokenizer_config": names, "generation_config": {"eos_token_id": [2, 0]}}
    tokenizer = Tokenizer.from_pretrained(folder_with(tmp_path / "t", chat_json, **files))
    save_model(model_for(tokenizer), tmp_path / "hf", tokenizer=tokenizer)
    config = json.loads((tmp_path / "hf" / "config.json").read_text("utf-8"))
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (1, [2, 0], 3)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert theirs.generation_config.eos_token_id == [2, 0]
    assert theirs.generation_config.bos_token_id == 1
    reader = AutoTokenizer.from_pretrained(tmp_path / "hf")
    generator = Generator(load_model(tmp_path / "hf", "cpu"))
    assert reader("The cat")["input_ids"] == generator.encode_prompt("The cat")
    assert generator.encode_prompt("The cat")[0] == (1 if settings else tokenizer.encode("The cat")[0])


def test_other_readers_of_saved_files_leave_spelled_special_tokens_text(tmp_path: Path, chat_json: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = Tokenizer.from_json(chat_json)
    tokenizer.save_pretrained(tmp_path)
    text = f"a user wrote {END_OF_TEXT} and <|im_end|> here"
    assert not tokenizer.special_ids() & set(tokenizer.encode(text))
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == tokenizer.encode(text)


def test_a_tokenizer_of_the_hub_keeps_its_special_tokens(
    tmp_path: Path, chat_json: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from the cache, as on a machine without a network."""
    from huggingface_hub import constants

    place = tmp_path / "models--org--name"
    folder_with(place / "snapshots" / ("0" * 40), chat_json, tokenizer_config={"eos_token": "<|im_end|>"})
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert Tokenizer.from_pretrained("org/name").end_of_text == "<|im_end|>"


def test_settings_that_contradict_the_post_processor_win_and_are_saved_so(tmp_path: Path, llama_json: str) -> None:
    from transformers import AutoTokenizer

    config = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False}
    tokenizer = Tokenizer.from_pretrained(folder_with(tmp_path / "t", llama_json, tokenizer_config=config))
    tokenizer.save_pretrained(tmp_path / "saved")
    assert Tokenizer.from_pretrained(tmp_path / "saved") == tokenizer
    assert Tokenizer.from_pretrained(tmp_path / "saved").beginning_ids == []
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")("The")["input_ids"] == tokenizer.encode("The")
