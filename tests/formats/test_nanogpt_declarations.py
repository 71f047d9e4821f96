"""What a checkpoint declares of its model: found wherever it stands, refused where it contradicts itself."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from llmbuilder.errors import CheckpointError
from llmbuilder.formats.nanogpt.checkpoint import convert_checkpoint
from llmbuilder.formats.nanogpt.files import read_checkpoint_file
from llmbuilder.formats.nanogpt.sections import declared_heads
from llmbuilder.formats.nanogpt.source import read_architecture
from llmbuilder.formats.torch_files import read_torch_file
from tests.references import NanoGPT

SHAPE = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 32, "bias": True, "vocab_size": 50, "dropout": 0.1}


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: tensor.clone() for name, tensor in NanoGPT(vocab=50, bias=True).state_dict().items()}


@pytest.mark.parametrize(
    "content",
    [
        {name: SHAPE}
        for name in (
            "cfg",
            "gptconf",
            "hyper_parameters",
            "configuration",
            "params",
            "model_kwargs",
            "meta",
            "opt",
            "x",
        )
    ]
    + [
        {"cfg": types.SimpleNamespace(**SHAPE)},
        {"state": {"made_with": SHAPE}},
        {"hyper_parameters": {"core": {"batch_size": 4, "optim": {"lr": 1e-3}}, **SHAPE}},
        {"config": {"learning_rate": 1e-3, "n_head": 12, "n_embd": 768, "n_layer": 12}, "cfg": SHAPE},
        {"cfg": {"nhead": 4, "d_model": 32}},
        {"cfg": {"num_attention_heads": 4, "layers": 2}},
        {"cfg": SHAPE, "teacher": {**SHAPE, "n_head": 2, "n_embd": 64, "n_layer": 9}},
        dict(SHAPE),
    ],
)
def test_a_mapping_that_describes_the_tensors_is_what_the_checkpoint_declares(content: dict[str, Any]) -> None:
    assert declared_heads({"model": weights(), **content}) == 4
    assert convert_checkpoint({"model": weights(), **content}, activation="gelu").config.num_heads == 4


@pytest.mark.parametrize(
    "content",
    [
        {"cfg": SHAPE, "model_args": {**SHAPE, "n_head": 2}},
        {"cfg": {"nhead": 8, "d_model": 32}, "meta": SHAPE},
        {"hyper_parameters": {"net": {**SHAPE, "n_head": 2}, "model": SHAPE}},
        {"cfg": {**SHAPE, "norm_eps": 1e-5}, "arch": {**SHAPE, "norm_eps": 1e-6}},
    ],
)
def test_declarations_that_contradict_each_other_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="contradicts itself"):
        convert_checkpoint({"model": weights(), **content})


def test_what_is_not_understood_is_refused_in_a_section_of_any_name() -> None:
    for unknown in ({"softmax1": True}, {"my_new_thing": True}, {"attn_type": "linear"}):
        with pytest.raises(CheckpointError, match=next(iter(unknown))):
            convert_checkpoint({"model": weights(), "cfg": {**SHAPE, **unknown}})
    with pytest.raises(CheckpointError, match="softmax1"):
        convert_checkpoint({"model": weights(), "model_args": SHAPE, "config": {"softmax1": True, "lr": 1e-3}})


def test_parameters_of_what_is_off_or_absent_are_harmless() -> None:
    extra = {"softmax1": False, "softmaxn_param": 1, "swiglu_matched": True, "swiglu_mult": 2.67, "use_swiglu": False}
    assert convert_checkpoint({"model": weights(), "model_args": {**SHAPE, **extra}}, activation="gelu").build()


def test_a_default_of_the_project_is_not_called_a_declaration(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "class GPTConfig:\n    n_head: int = 4\n    vocab_size: int = 9\n    twist: int = 2\n"
    )
    with pytest.raises(CheckpointError, match="project's own default is twist = 2") as refusal:
        convert_checkpoint({"model": weights(), "model_args": SHAPE}, source=read_architecture([tmp_path / "model.py"]))
    assert "it declares" not in str(refusal.value)


@pytest.mark.parametrize("key", ["iter_num", "iter", "iteration", "global_step", "steps", "it"])
def test_the_step_is_found_under_its_usual_names(key: str) -> None:
    assert convert_checkpoint({"model": weights(), "model_args": SHAPE, key: 7, "epoch": 3}).step == 7
    assert convert_checkpoint({"model": weights(), "model_args": SHAPE, "epoch": 3}).step == 0


class Attention(nn.Module):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(32, 96), nn.Linear(32, 32)
        self.n_head = heads


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_fc, self.gelu, self.c_proj = nn.Linear(32, 128), nn.GELU("tanh"), nn.Linear(128, 32)


class Layer(nn.Module):
    def __init__(self, heads: int, eps: float) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(32, eps=eps), nn.LayerNorm(32, eps=eps)
        self.attn, self.mlp = Attention(heads), Mlp()


class Whole(nn.Module):
    def __init__(self, heads: tuple[int, int] = (8, 8), eps: tuple[float, float] = (1e-3, 1e-3)) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(50, 32), "wpe": nn.Embedding(16, 32),
            "h": nn.ModuleList([Layer(h, e) for h, e in zip(heads, eps, strict=True)]),
            "ln_f": nn.LayerNorm(32, eps=eps[0]),
        })  # fmt: skip


def test_a_model_that_was_pickled_whole_declares_what_its_modules_hold(tmp_path: Path) -> None:
    torch.save(Whole(), tmp_path / "whole.pt")
    content = {"model": read_torch_file(tmp_path / "whole.pt")}
    config = convert_checkpoint(content).config
    assert (declared_heads(content), config.num_heads, config.norm_eps, config.activation) == (8, 8, 1e-3, "gelu_tanh")
    for contradictory in (Whole(heads=(8, 4)), Whole(eps=(1e-3, 1e-5))):
        torch.save(contradictory, tmp_path / "whole.pt")
        with pytest.raises(CheckpointError, match="contradicts itself"):
            convert_checkpoint({"model": read_torch_file(tmp_path / "whole.pt")})
    torch.save(Whole(), tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match="contradicts itself: cfg has num_heads = 4"):
        convert_checkpoint({"model": read_torch_file(tmp_path / "whole.pt"), "cfg": SHAPE})


def test_weights_in_safetensors_are_described_by_the_json_beside_them(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in weights().items() if name != "lm_head.weight"}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "model_args.json").write_text(json.dumps(SHAPE))
    (tmp_path / "config.json").write_text(json.dumps({"learning_rate": 1e-3, "n_head": 4}))
    (tmp_path / "export_meta.json").write_text(json.dumps({"iter": 40}))
    (tmp_path / "notes.json").write_text("no JSON {")
    legacy = convert_checkpoint(read_checkpoint_file(tmp_path / "model.safetensors"))
    assert (legacy.config.num_heads, legacy.step, legacy.config.tie_embeddings) == (4, 40, True)
    (tmp_path / "model.json").write_text(json.dumps({**SHAPE, "n_head": 2}))
    assert convert_checkpoint(read_checkpoint_file(tmp_path / "model.safetensors")).config.num_heads == 2
    (tmp_path / "model.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(CheckpointError, match="llmbuilder import hf"):
        read_checkpoint_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"short")
    (tmp_path / "model.json").unlink()
    with pytest.raises(CheckpointError, match="cut short"):
        read_checkpoint_file(tmp_path / "model.safetensors")


VARIANTS = """
class MLP(nn.Module):
    def __init__(self):
        self.c_fc, self.act, self.c_proj = 1, nn.GELU(approximate="tanh"), 2
class SwiGLU(nn.Module):
    def __init__(self):
        self.c_gate, self.c_val, self.c_proj = 1, 2, 3
    def forward(self, x):
        return F.silu(x)
"""
OTHER = """
class ReluMLP(nn.Module):
    def __init__(self):
        self.c_fc, self.act, self.c_proj = 1, nn.ReLU(), 2
"""


def test_a_plain_mlp_has_the_activation_of_the_class_with_its_parts(tmp_path: Path) -> None:
    content = {"model": weights(), "model_args": {**SHAPE, "use_swiglu": False}}
    (tmp_path / "model.py").write_text(VARIANTS)
    assert (
        convert_checkpoint(content, source=read_architecture([tmp_path / "model.py"])).config.activation == "gelu_tanh"
    )
    (tmp_path / "model.py").write_text(VARIANTS + OTHER)
    facts = read_architecture([tmp_path / "model.py"])
    with pytest.raises(CheckpointError, match="--activation gelu"):
        convert_checkpoint(content, source=facts)
    for chosen in ({"mlp_type": "mlp"}, {"activation": "gelu"}):
        named = {"model": weights(), "model_args": {**SHAPE, **chosen}}
        assert convert_checkpoint(named, source=facts).config.activation == "gelu_tanh"
    with pytest.raises(CheckpointError, match="activation relu"):
        convert_checkpoint({"model": weights(), "model_args": {**SHAPE, "mlp_type": "ReluMLP"}}, source=facts)


def test_a_training_module_holds_its_model_under_a_name_of_its_own() -> None:
    held = {f"net.{name}": tensor for name, tensor in weights().items()}
    content = {"state_dict": held, "hyper_parameters": SHAPE, "global_step": 30}
    legacy = convert_checkpoint(content, activation="gelu")
    assert (legacy.config.num_heads, legacy.step) == (4, 30)
    assert convert_checkpoint({"ema": weights(), "config": SHAPE}, activation="gelu").config.num_heads == 4
