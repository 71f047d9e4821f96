"""Adapters alone as GGUF: llama.cpp lays them beside their model and predicts what this package does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llmbuilder.errors import CheckpointError, ExportError
from llmbuilder.export import export_gguf, export_gguf_adapter, verify_gguf
from llmbuilder.finetuning import load_adapter, save_adapter
from llmbuilder.model import load_model, save_model
from llmbuilder.model.adapters import AdapterShape, adapted_layers, add_adapters, linear_layers
from llmbuilder.tokenizer import Tokenizer
from tests.command_line import run
from tests.gguf_files import SHAPES, randomized

pytest.importorskip("xllamacpp")
TEXTS = ["The assert statement", "Naïve café: don't, 12345."]


def prepared(folder: Path, name: str, tokenizer: Tokenizer, *, has_magnitudes: bool = False) -> tuple[Path, Path]:
    """Write a random model and adapters of several ranks and scales, and return both places."""
    model = randomized(name, len(tokenizer))
    model.tokenizer = tokenizer
    save_model(model, folder / "base.pt")
    add_adapters(model, {layer: AdapterShape(2 + number % 3, 0.5 + number % 4, has_magnitudes)
                         for number, layer in enumerate(linear_layers(model))})  # fmt: skip
    torch.manual_seed(4)
    for _, layer in adapted_layers(model):
        torch.nn.init.normal_(layer.lora_B.weight, std=0.1)
    return folder / "base.pt", save_adapter(model, folder / "adapter")


@pytest.mark.parametrize("name", SHAPES)
def test_llamacpp_applies_an_adapter_as_we_do(tmp_path: Path, name: str, bpe: Tokenizer) -> None:
    base, adapter = prepared(tmp_path, name, bpe)
    found = export_gguf_adapter(base, adapter, tmp_path / "adapter.gguf", texts=TEXTS)
    assert found is not None
    assert found.equal_tokens == found.greedy_tokens > 0
    assert found.mean_kl_divergence < 1e-5
    export_gguf(base, tmp_path / "base.gguf", "f32")
    without = verify_gguf(tmp_path / "base.gguf", load_adapter(load_model(base, "cpu"), adapter), TEXTS)
    assert without.mean_kl_divergence > 1e-3, "the adapter changes what is predicted"


def test_the_command_writes_and_checks(tmp_path: Path, bpe: Tokenizer) -> None:
    base, adapter = prepared(tmp_path, "qwen3-untied", bpe)
    said = run("export", "adapter", base, adapter, tmp_path / "a.gguf", cwd=tmp_path).stdout
    assert "for llama.cpp's --lora" in said
    assert "greedy tokens alike" in said
    assert (
        "already exists" in run("export", "adapter", base, adapter, tmp_path / "a.gguf", cwd=tmp_path, status=1).stderr
    )


def test_what_llamacpp_cannot_add_is_refused(tmp_path: Path, bpe: Tokenizer) -> None:
    base, adapter = prepared(tmp_path, "qwen3-untied", bpe, has_magnitudes=True)
    with pytest.raises(ExportError, match="model merge"):
        export_gguf_adapter(base, adapter, tmp_path / "a.gguf")
    save_model(randomized("qwen2", len(bpe)), tmp_path / "other.pt", tokenizer=bpe)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        export_gguf_adapter(tmp_path / "other.pt", adapter, tmp_path / "a.gguf")
    assert not (tmp_path / "a.gguf").exists()
