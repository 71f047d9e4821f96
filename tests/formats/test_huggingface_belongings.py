"""What comes along with a Hugging Face folder and goes out with its exports; tokenizers that do not fit the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken

import llmbuilder as lb
from llmbuilder.config import ModelConfig
from llmbuilder.errors import CheckpointError, TokenizerError
from llmbuilder.evaluation import evaluate_model
from llmbuilder.inference import GenerationConfig, Generator
from llmbuilder.model import LanguageModel, build_model
from llmbuilder.tokenizer import END_OF_TEXT, Tokenizer
from tests.command_line import run
from tests.tokenizer.foreign import learned, with_holes

transformers = pytest.importorskip("transformers")

TEMPLATE = (
    "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = [END_OF_TEXT, "<|im_start|>", "<|im_end|>", "<pad>"]
MESSAGES = [{"role": "user", "content": "What is a topic?  Tell me."}, {"role": "assistant", "content": " One."}]


@pytest.fixture(scope="module")
def chat(topics: list[str]) -> str:
    return learned(topics, special=SPECIAL).to_str()


def folder_of(folder: Path, tokenizer: str, rows: int = 600, **files: dict[str, Any] | list[Any]) -> Path:
    """Write a small Llama of transformers with a tokenizer and the files beside it."""
    torch.manual_seed(2)
    config = transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, vocab_size=rows,
        max_position_embeddings=128, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer, "utf-8")
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values), "utf-8")
    return folder


@pytest.fixture
def conversational(tmp_path: Path, chat: str) -> Path:
    folder = folder_of(
        tmp_path / "theirs", chat,
        tokenizer_config={
            "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "bos_token": "<|im_start|>",
            "pad_token": "<pad>", "chat_template": TEMPLATE, "model_max_length": 100, "padding_side": "left",
        },
        generation_config={"eos_token_id": [2, 0], "temperature": 0.6, "top_p": 0.9, "do_sample": True},
    )  # fmt: skip
    (folder / "LICENSE").write_text("Use it well.")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: org/base\ntags: [x]\n---\n# A model\n")
    return folder


@pytest.mark.parametrize("by_way_of", ["model.pt", "model.safetensors", "again"])
def test_what_belongs_to_a_model_goes_out_as_it_came(tmp_path: Path, conversational: Path, by_way_of: str) -> None:
    model = lb.load_model(conversational, "cpu")
    assert model.metadata["chat_template"] == TEMPLATE
    assert model.metadata["license"] == "apache-2.0"
    lb.save_model(model, tmp_path / by_way_of)
    run("export", "hf", by_way_of, "ours", cwd=tmp_path)
    theirs, ours = (transformers.AutoTokenizer.from_pretrained(tmp_path / name) for name in ("theirs", "ours"))
    for options in ({}, {"add_generation_prompt": True}):
        assert ours.apply_chat_template(MESSAGES, **options) == theirs.apply_chat_template(MESSAGES, **options)
        assert ours.apply_chat_template(MESSAGES, tokenize=False) == theirs.apply_chat_template(
            MESSAGES, tokenize=False
        )
    for name in ("model_max_length", "padding_side", "pad_token", "eos_token", "bos_token"):
        assert getattr(ours, name) == getattr(theirs, name), name
    generation = json.loads((tmp_path / "ours" / "generation_config.json").read_text())
    assert generation.pop("bos_token_id") == 1
    assert generation.pop("pad_token_id") == 3
    assert generation == {"eos_token_id": [2, 0], "temperature": 0.6, "top_p": 0.9, "do_sample": True}
    assert (tmp_path / "ours" / "LICENSE").read_text() == "Use it well."
    card = (tmp_path / "ours" / "README.md").read_text()
    assert card == "---\nlicense: apache-2.0\nbase_model: org/base\n---\n"
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert opened.generation_config.temperature == 0.6


def test_transformers_hands_our_folders_no_token_types(tmp_path: Path, chat: str) -> None:
    tokenizer = Tokenizer.from_json(chat)
    config = ModelConfig(vocab_size=600, num_layers=1, num_heads=2, embedding_dim=16, max_seq_length=32)
    lb.save_model(build_model(config), tmp_path, tokenizer=tokenizer)
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert set(reader("The cat")) == {"input_ids", "attention_mask"}
    assert reader.model_max_length == 32
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_input_names"] == [
        "input_ids", "attention_mask",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["file", "list", "older"])
def test_chat_templates_are_found_in_all_their_places(tmp_path: Path, chat: str, form: str) -> None:
    listed = [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": "TOOLS"}]
    folder = folder_of(
        tmp_path / "a",
        chat,
        tokenizer_config={} if form == "file" else {"chat_template": listed if form == "list" else TEMPLATE},
    )
    if form == "file":
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text("TOOLS")
    model = lb.load_model(folder, "cpu")
    assert model.metadata["chat_template"] == TEMPLATE
    lb.save_model(model, tmp_path / "b")
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "b")
    expected: Any = TEMPLATE if form == "older" else {"default": TEMPLATE, "tool_use": "TOOLS"}
    assert reader.chat_template == expected


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "tokenizer_config.json",
            '{"chat_template": 3}',
            "tokenizer_config.json is damaged: its chat_template is a number",
        ),
        ("tokenizer_config.json", "{", "tokenizer_config.json is no JSON"),
        ("generation_config.json", "[]", "generation_config.json holds no settings"),
        ("chat_template.jinja", "x" * (1 << 21), "chat_template.jinja has 2,097,152 bytes"),
    ],
)
def test_damaged_files_beside_a_model_are_messages(
    tmp_path: Path, chat: str, name: str, content: str, said: str
) -> None:
    (folder_of(tmp_path, chat) / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"cannot be opened: {said}"):
        lb.load_model(tmp_path, "cpu")


@pytest.mark.parametrize("readme", ["", "no head", "---\n- 1\n---\n", "---\n{\n---\n", "---\nlicense: [1]\n---\n"])
def test_cards_without_a_licence_say_none(tmp_path: Path, chat: str, readme: str) -> None:
    (folder_of(tmp_path, chat) / "README.md").write_text(readme)
    assert "license" not in lb.load_model(tmp_path, "cpu").metadata


def said_of(model: LanguageModel) -> list[str]:
    return Generator(model).generate(["The cat"], GenerationConfig(do_sample=False, max_new_tokens=8))[0]


def test_an_added_token_without_a_row_is_left_out(
    tmp_path: Path, topics: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    backend = learned(topics, special=SPECIAL)
    before = backend.to_str()
    backend.add_tokens([AddedToken("<extra>", normalized=False)])
    backend.add_special_tokens([AddedToken("[PAD]", special=True, normalized=False)])
    folder = folder_of(
        tmp_path / "a", backend.to_str(), tokenizer_config={"pad_token": "[PAD]", "eos_token": "<|im_end|>"}
    )
    model = lb.load_model(folder, "cpu")
    assert "used without '<extra>', '[PAD]': the model has 600 rows" in caplog.text
    assert model.tokenizer is not None
    assert len(model.tokenizer) == 600
    assert model.tokenizer.special.padding is None
    text = "an <extra> token and [PAD] in a text"
    assert model.tokenizer.encode(text) == Tokenizer.from_json(before).encode(text)
    said_of(model)
    (tmp_path / "text.txt").write_text(text * 20)
    assert evaluate_model(folder, tmp_path / "text.txt", device="cpu").tokens > 20


def test_the_tokenizer_of_another_model_is_refused(tmp_path: Path, topics: list[str]) -> None:
    folder = folder_of(tmp_path / "a", learned(topics, 620).to_str())
    with pytest.raises(TokenizerError, match=r"has 620 tokens and the model has rows for 600: it is another model's"):
        lb.load_model(folder, "cpu")
    done = run("generate", "text", "--model", "a", "--prompt", "The", cwd=tmp_path, status=1)
    assert "another model's tokenizer" in done.stderr


def test_a_model_file_with_a_tokenizer_too_large_is_a_message_when_it_is_used(
    tmp_path: Path, topics: list[str]
) -> None:
    config = ModelConfig(vocab_size=610, num_layers=1, num_heads=2, embedding_dim=16, max_seq_length=32)
    tokenizer = Tokenizer(learned(topics, 620))
    lb.save_model(build_model(config), tmp_path / "model.pt", tokenizer=tokenizer)
    with pytest.raises(TokenizerError, match="another model's tokenizer"):
        said_of(lb.load_model(tmp_path / "model.pt", "cpu"))


def test_holes_added_words_and_stored_cuts_of_a_folder(tmp_path: Path, topics: list[str]) -> None:
    backend = with_holes(topics)
    backend.add_tokens([AddedToken("lighthouse keeper", normalized=False)])
    backend.enable_truncation(3)
    backend.enable_padding(length=9, pad_id=0, pad_token="!")
    folder = folder_of(tmp_path, backend.to_str())
    model = lb.load_model(folder, "cpu")
    assert model.tokenizer is not None
    ids = model.tokenizer.encode("the lighthouse keeper sat there and sat there and sat there again")
    backend.no_truncation()
    backend.no_padding()
    assert ids == backend.encode("the lighthouse keeper sat there and sat there and sat there again").ids
    assert backend.token_to_id("lighthouse keeper") in ids
    assert len(ids) > 9
    generated = [
        token for _, token in Generator(model).stream_tokens([ids], GenerationConfig(max_new_tokens=40, seed=1))
    ]
    assert not set(generated) & set(model.tokenizer.holes())
    assert max(generated) < len(model.tokenizer) < 600


def test_folders_without_a_tokenizer_that_can_be_read_say_so(
    tmp_path: Path, chat: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_of(tmp_path, chat)
    (folder / "tokenizer.json").unlink()
    assert lb.load_model(folder, "cpu").tokenizer is None
    assert caplog.text == ""
    (folder / "tokenizer.model").write_bytes(b"sentencepiece")
    assert lb.load_model(folder, "cpu").tokenizer is None
    assert "a SentencePiece model (tokenizer.model) cannot be read here" in caplog.text
