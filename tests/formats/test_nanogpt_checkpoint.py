"""Legacy checkpoints: loaded as what they are, or refused by name."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmbuilder.config.schema import ModelConfig, TrainingConfig
from llmbuilder.errors import CheckpointError
from llmbuilder.formats.nanogpt.checkpoint import convert_checkpoint
from llmbuilder.formats.nanogpt.formula import prove_with_formula
from llmbuilder.formats.nanogpt.model_source import find_model_source
from llmbuilder.formats.nanogpt.source import ArchitectureFacts, imported_files, read_architecture
from llmbuilder.model import load_model
from llmbuilder.training.loop.optimizers import Optimizers
from tests.formats.legacy_models import LLAMA_ARGUMENTS, Rotary, optimizer_of, train
from tests.references import NanoGPT

TOKENS = torch.randint(50, (2, 20), generator=torch.Generator().manual_seed(1))
TANH = ArchitectureFacts(activations={"gelu_tanh"}, norm_epsilons={"layernorm": {1e-5}})
ARGUMENTS = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 32, "bias": True, "vocab_size": 50, "dropout": 0.1}


def nanogpt(bias: bool = True) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: tensor.clone() for name, tensor in NanoGPT(vocab=50, bias=bias).state_dict().items()}


def checkpoint(**changed: Any) -> dict[str, Any]:
    return {"model": nanogpt(), "model_args": {**ARGUMENTS, **changed}, "iter_num": 3}


@torch.no_grad()
def difference(model: torch.nn.Module, reference: torch.nn.Module) -> float:
    return float((model(TOKENS)[0] - reference(TOKENS)).abs().max())


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_carried_over_exactly(kind: torch.dtype) -> None:
    content = checkpoint()
    content["model"] = {name: tensor.to(kind) for name, tensor in content["model"].items()}
    legacy = convert_checkpoint(content)
    model = legacy.build()
    found = prove_with_formula(content, legacy, model)
    assert found is not None
    assert found < 1e-5
    stored = content["model"]["transformer.h.0.mlp.c_fc.weight"]
    assert torch.equal(model.weights()["transformer.h.0.mlp.c_fc.weight"], stored.float())
    assert prove_with_formula(content, legacy, model.to(kind)) == found
    assert {parameter.dtype for parameter in model.parameters()} == {kind}


def test_weights_that_are_not_finite_are_named() -> None:
    content = checkpoint()
    content["model"]["transformer.wte.weight"][:3, :4] = float("nan")
    with pytest.raises(CheckpointError, match=r"12 weights are not finite: transformer.wte.weight\."):
        convert_checkpoint(content)


def fused(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put queries, keys and values of each layer into one projection."""
    for layer in range(2):
        parts = [weights.pop(f"layers.{layer}.attention.w{part}.weight") for part in "qkv"]
        weights[f"layers.{layer}.attention.wqkv.weight"] = torch.cat(parts)
    return weights


def test_a_projection_of_grouped_queries_keys_and_values_comes_apart() -> None:
    torch.manual_seed(0)
    reference = Rotary()
    content = reference.checkpoint()
    legacy = convert_checkpoint({**content, "model": fused(dict(content["model"]))})
    assert legacy.config.num_key_value_heads == 2
    assert difference(legacy.build(), reference) < 1e-5


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("qk_norm", [True, False])
def test_rotary_models_load_whichever_way_positions_pair_elements(interleaved: bool, qk_norm: bool) -> None:
    torch.manual_seed(0)
    reference = Rotary(interleaved, theta=5000.0, qk_norm=qk_norm)
    facts = ArchitectureFacts(rotary={"interleaved" if interleaved else "halves"}, rope_thetas={5000.0})
    legacy = convert_checkpoint(reference.checkpoint(), source=facts)
    assert legacy.config.model_type == "llama"
    assert (legacy.config.num_key_value_heads, legacy.config.rope_theta, legacy.config.qk_norm) == (2, 5000.0, qk_norm)
    assert (legacy.step, legacy.best_validation_loss) == (5, 2.5)
    assert difference(legacy.build(), reference) < 1e-5


def test_training_goes_on_with_rows_and_moments_permuted_alike() -> None:
    """llama2.c's rotary pairs are neighbours, ours half a head apart: weights and both moments have to move together."""
    torch.manual_seed(0)
    reference = Rotary()
    optimizer = optimizer_of(reference)
    train(reference, optimizer, 3)
    legacy = convert_checkpoint(copy.deepcopy(reference.checkpoint(optimizer)))
    model = legacy.build()
    assert legacy.optimizer is not None
    config = TrainingConfig(learning_rate=1e-2, beta1=0.9, beta2=0.95, weight_decay=0.1)
    optimizers = Optimizers(model, config)
    optimizers.load_state_dict([legacy.optimizer])
    train(reference, optimizer, 4)
    train(model, optimizers.adamw, 4)
    assert difference(model, reference) < 1e-4


def test_separate_projections_become_one_and_a_bias_in_some_places_is_zero_in_the_others() -> None:
    whole = nanogpt()
    expected = convert_checkpoint({"model": whole, "model_args": ARGUMENTS}).build()
    split = dict(whole)
    for layer in range(2):
        stem = f"transformer.h.{layer}.attn"
        for part, rows in zip("qkv", split.pop(f"{stem}.c_attn.weight").chunk(3), strict=True):
            split[f"{stem}.{part}_proj.weight"] = rows
        split.pop(f"{stem}.c_attn.bias")
    model = convert_checkpoint({"model": split, "model_args": ARGUMENTS}).build()
    for layer in range(2):
        expected.state_dict()[f"transformer.h.{layer}.attn.c_attn.bias"].zero_()
    assert difference(model, lambda tokens: expected(tokens)[0]) < 1e-6  # type: ignore[arg-type]


@pytest.mark.parametrize("prefixes", [["module.", "_orig_mod."], ["_orig_mod.", "module.", "model."], ["model."] * 3])
def test_wrappers_come_off_in_any_order_and_number(prefixes: list[str]) -> None:
    wrapped = {"".join(prefixes) + name: tensor for name, tensor in nanogpt().items()}
    legacy = convert_checkpoint({"model": wrapped, "model_args": ARGUMENTS})
    assert all(torch.equal(legacy.weights[name], t) for name, t in nanogpt().items() if name != "lm_head.weight")
    assert prove_with_formula({"model": wrapped, "model_args": ARGUMENTS}, legacy, legacy.build()) < 1e-5  # type: ignore[operator]


@pytest.mark.parametrize(("key", "value"), [
    ("n_experts", 8), ("logit_softcap", 30.0), ("norm_position", "post"), ("window_size", 64), ("attn_type", "linear"),
    ("my_new_thing", True), ("pos_emb_type", "rope"), ("activation", "relu"), ("norm_type", "dyt"), ("qk_norm", True),
    ("n_layer", 3), ("n_head", 5), ("n_embd", 64), ("n_head", "two"), ("model_type", "mamba"),
])  # fmt: skip
def test_what_is_declared_and_not_computed_here_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError) as refusal:
        convert_checkpoint(checkpoint(**{key: value}), activation="gelu")
    assert str(value) in str(refusal.value) or {"pos_emb_type": "rotary", "qk_norm": "normalised"}[key] in str(
        refusal.value
    )


def test_what_is_off_or_says_nothing_of_the_computation_is_no_reason_to_refuse() -> None:
    legacy = convert_checkpoint(
        checkpoint(use_moe=False, n_experts=8, moe_top_k=2, window_size=None, logit_softcap=0.0, norm_position="pre",
                   gradient_checkpointing=True, embedding_std_init=0.02, qk_norm=False), activation="gelu"
    )  # fmt: skip
    assert legacy.config.num_layers == 2
    training = {"wandb_project": "owt", "learning_rate": 1e-3, "my_loss_window": 20, "rope_scaling": None}
    convert_checkpoint({**checkpoint(), "config": training})
    with pytest.raises(CheckpointError, match="use_rope_scaling = 4"):
        convert_checkpoint({**checkpoint(), "config": {**training, "use_rope_scaling": 4}})


def test_tensors_that_have_no_place_are_named() -> None:
    content = checkpoint()
    content["model"]["transformer.h.0.attn.gate.weight"] = torch.ones(2)
    with pytest.raises(CheckpointError, match="transformer.h.0.attn.gate.weight"):
        convert_checkpoint(content)
    content = checkpoint()
    content["model"].pop("transformer.h.1.mlp.c_proj.weight")
    with pytest.raises(CheckpointError, match="layers.1.down.weight|no place for"):
        convert_checkpoint(content)


def test_masks_are_dropped_if_they_are_causal() -> None:
    content = checkpoint()
    content["model"]["transformer.h.0.attn.bias"] = torch.ones(32, 32).tril().view(1, 1, 32, 32)
    assert convert_checkpoint(content).build()
    content["model"]["transformer.h.0.attn.bias"] = torch.ones(32, 32).tril().triu(-8).view(1, 1, 32, 32)
    with pytest.raises(CheckpointError, match="no plain causal mask"):
        convert_checkpoint(content)


def test_a_missing_position_table_means_rotary_positions_or_none() -> None:
    content = checkpoint()
    content["model"].pop("transformer.wpe.weight")
    with pytest.raises(CheckpointError, match="nothing says whether they are rotary or missing"):
        convert_checkpoint(content)
    content["model_args"]["use_rotary_embeddings"] = True
    with pytest.raises(CheckpointError, match="rotary positions with LayerNorm and a plain MLP: this package has no"):
        convert_checkpoint(content)


def test_how_rotary_positions_pair_elements_is_asked_for_where_nothing_tells() -> None:
    names = {"tok_embeddings": "transformer.wte", "output": "lm_head", "layers.": "transformer.h."}
    weights = Rotary().state_dict()
    for old, new in names.items():
        weights = {name.replace(old, new): tensor for name, tensor in weights.items()}
    weights = {("transformer.ln_f.weight" if name == "norm.weight" else name): t for name, t in weights.items()}
    content = {"model": weights, "model_args": {**LLAMA_ARGUMENTS, "use_rope": True}}
    with pytest.raises(CheckpointError, match="neighbouring elements or those half a head apart"):
        convert_checkpoint(content)
    legacy = convert_checkpoint(content, source=ArchitectureFacts(rotary={"halves"}))
    assert any("RMSNorm" in sentence for sentence in legacy.assumed)
    frequencies = {"transformer.h.0.attention.inv_freq": 1 / 7000.0 ** (torch.arange(0, 8, 2) / 8)}
    content["model"] = {**weights, **frequencies}
    assert convert_checkpoint(content, source=ArchitectureFacts(rotary={"halves"})).config.rope_theta == 7000.0


def test_the_form_of_gelu_is_told_read_usual_or_asked_for() -> None:
    content = checkpoint()
    legacy = convert_checkpoint(content)
    assert legacy.config.activation == "gelu" and "exact form of GELU, as in nanoGPT" in legacy.assumed[0]
    assert convert_checkpoint(content, activation="gelu_tanh").config.activation == "gelu_tanh"
    read = convert_checkpoint(content, source=TANH)
    assert read.config.activation == "gelu_tanh" and not read.assumed
    for other in ("relu_squared", "silu"):
        with pytest.raises(CheckpointError, match=other):
            convert_checkpoint(content, source=ArchitectureFacts(activations={other}))
    build = {
        "model": nanogpt(),
        "config": {k: v for k, v in ARGUMENTS.items() if k != "bias"},
        "step": 9,
        "val_loss": 3.5,
    }
    legacy = convert_checkpoint(build)
    assert (legacy.config.activation, legacy.step, legacy.best_validation_loss) == ("gelu_tanh", 9, 3.5)
    untied = {**nanogpt(), "lm_head.weight": torch.randn(50, 32)}
    with pytest.raises(CheckpointError, match="--activation gelu or --activation gelu_tanh"):
        convert_checkpoint({"model": untied, "model_args": ARGUMENTS})
    masked = {**untied, "transformer.h.0.attn.bias": torch.ones(32, 32).tril()[None, None]}
    legacy = convert_checkpoint({"model": masked, "config": {"n_head": 2}})
    assert (legacy.origin, legacy.config.activation, legacy.config.tie_embeddings) == ("minGPT", "gelu_tanh", False)


def test_the_formula_gives_no_number_for_anything_but_the_standard_form() -> None:
    content = checkpoint()
    for legacy in (
        convert_checkpoint(content, activation="gelu_tanh"),
        convert_checkpoint(
            content, source=ArchitectureFacts(activations={"gelu"}, norm_epsilons={"layernorm": {1e-3}})
        ),
        convert_checkpoint({**content, "model_args": {**ARGUMENTS, "norm_position": "pre"}}, activation="gelu"),
    ):
        assert prove_with_formula(content, legacy, legacy.build()) is None
    legacy = convert_checkpoint(content)
    number = prove_with_formula(content, legacy, legacy.build())
    assert number is not None and number < 1e-5


def test_a_vocabulary_padded_for_speed_stays_as_it_is() -> None:
    torch.manual_seed(0)
    weights = NanoGPT(vocab=64).state_dict()
    assert convert_checkpoint({"model": weights, "model_args": {**ARGUMENTS, "vocab_size": 50}}).config.vocab_size == 64


@dataclasses.dataclass
class Described:
    """A configuration as build-nanogpt stores it: the object itself."""

    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 32
    block_size: int = 32
    vocab_size: int = 50


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return shutil.copyfile, (__file__, str(self.path))


def test_a_configuration_that_is_an_object_is_read_without_its_class(tmp_path: Path) -> None:
    content = {"model": nanogpt(), "config": Described(), "step": 4, "val_loss": 3.0}
    torch.save(content, tmp_path / "model.pt")
    model = load_model(tmp_path / "model.pt", "cpu")
    assert (model.config.num_heads, model.config.activation) == (2, "gelu_tanh")
    for bad in (
        {**content, "config": Runs(tmp_path / "ran")},
        {**content, "optimizer": Runs(tmp_path / "ran")},
        {**content, "model": {**nanogpt(), "more": Runs(tmp_path / "ran")}},
    ):
        torch.save(bad, tmp_path / "bad.pt")
        with pytest.raises(CheckpointError, match="run any code"):
            load_model(tmp_path / "bad.pt", "cpu")
    assert not (tmp_path / "ran").exists()


SOURCES = {
    "activation": [
        ("x = F.gelu(x)", {"gelu"}), ("self.act = nn.GELU()", {"gelu"}), ("x = F.gelu(x, approximate='tanh')", {"gelu_tanh"}),
        ("self.act = nn.GELU('tanh')", {"gelu_tanh"}), ("x = F.relu(x).square()", {"relu_squared"}),
        ("x = F.silu(x)", {"silu"}), ("act = NewGELU()", {"gelu_tanh"}),
        ("y = 0.5 * x * (1 + torch.tanh(c * (x + 0.044715 * x ** 3)))", {"gelu_tanh"}), ("x = self.gelu(x)", set()),
    ],
    "rotary": [
        ("def rotate_half(x): pass", {"halves"}), ("a, b = x[..., ::2], x[..., 1::2]", {"interleaved"}),
        ("x1 = x[..., :half]", {"halves"}), ("y = torch.view_as_complex(x)", {"interleaved"}),
        ("r, i = x.reshape(x.shape[:-1] + (-1, 2)).unbind(-1)", {"interleaved"}),
    ],
    "always": [
        ("att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))", 0),
        ("att = (q @ k.transpose(-2, -1)) / math.sqrt(d)", 0),
        ("att = (q @ k.transpose(-2, -1)) * (1.0 / k.size(-1))", 1),
        ("att = q @ k.transpose(-2, -1) * (C // n_head) ** -0.5", 0), ("att = q @ k.transpose(-2, -1) * d ** -0.25", 1),
        ("self.scale = 1 / math.sqrt(k.shape[3])\natt = torch.matmul(q, k.transpose(2, 3)) * self.scale", 0),
        ("self.scale = 1 / math.sqrt(2 * d)\natt = torch.matmul(q, k.transpose(2, 3)) * self.scale", 1),
        ("att = (q @ k.transpose(-2, -1)) * math.sqrt(d)", 1), ("y = scaled_dot_product_attention(q, k, v, scale=None)", 0),
        ("y = F.scaled_dot_product_attention(q, k, v, is_causal=True)", 0),
        ("y = F.scaled_dot_product_attention(q, k, v, scale=0.12)", 1),
        ("logits = 30 * torch.tanh(logits / 30)", 1),
        ("x = self.ln_1(x + self.attn(x))", 1), ("x = x + self.attn(self.ln_1(x))", 0),
        ("x = self.transformer.wte(idx) * math.sqrt(self.n_embd)", 1),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "line", "expected"), [(k, *case) for k, cases in SOURCES.items() for case in cases])
def test_a_source_is_read_and_never_run(tmp_path: Path, kind: str, line: str, expected: Any) -> None:
    (tmp_path / "model.py").write_text(f"raise SystemExit\n{line}\n")
    facts = read_architecture([tmp_path / "model.py"])
    found = {"activation": facts.activations, "rotary": facts.rotary, "always": len(facts.always)}[kind]
    assert found == expected


def test_what_a_source_does_under_a_condition_is_said_and_what_it_always_does_is_refused(tmp_path: Path) -> None:
    cap = "logits = 30 * torch.tanh(logits / 30)"
    (tmp_path / "model.py").write_text(f"x = F.gelu(x)\nif config.cap:\n    {cap}\n")
    legacy = convert_checkpoint(checkpoint(), source=read_architecture([tmp_path / "model.py"]))
    assert any("caps its logits" in sentence and "condition" in sentence for sentence in legacy.assumed)
    (tmp_path / "model.py").write_text(f"x = F.gelu(x)\n{cap}\n")
    with pytest.raises(CheckpointError, match=r"caps its logits with a tanh \(model.py, line 2\)"):
        convert_checkpoint(checkpoint(), source=read_architecture([tmp_path / "model.py"]))


def test_defaults_of_the_projects_configuration_count_where_the_checkpoint_is_silent(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        "class GPTConfig:\n    n_head: int = 12\n    vocab_size: int = 9\n    norm_eps: float = 1e-3\n"
    )
    (tmp_path / "model.py").write_text("from conf import GPTConfig\nx = F.gelu(x)\n")
    files = imported_files(tmp_path / "model.py", tmp_path)
    assert [file.name for file in files] == ["model.py", "conf.py"]
    assert convert_checkpoint(checkpoint(), source=read_architecture(files)).config.norm_eps == 1e-3
    with (tmp_path / "conf.py").open("a") as handle:
        handle.write("    residual_twist: float = 0.5\n")
    with pytest.raises(CheckpointError, match="residual_twist = 0.5"):
        convert_checkpoint(checkpoint(), source=read_architecture(files))


MODEL = """
class Block(nn.Module):
    def __init__(self):
        self.ln_1 = self.ln_2 = self.attn = self.mlp = None
        self.c_attn = self.c_proj = self.c_fc = None
    def forward(self, x): return F.gelu(x, approximate="tanh")
class GPT(nn.Module):
    def __init__(self):
        self.transformer = dict(wte=1, wpe=2, h=3, ln_f=4)
        self.lm_head = 5
    def forward(self, x): pass
"""


def test_the_file_that_names_a_checkpoints_parts_defines_its_model(tmp_path: Path) -> None:
    for name, text in {
        "train.py": "from nets.model import GPT\nclass Wrapper(nn.Module):\n    def forward(self): pass\n",
        "nets/model.py": MODEL,
        "nets/other.py": MODEL.replace("wte", "tok_embeddings").replace("c_attn", "wq").replace("c_fc", "w1"),
        ".venv/model.py": MODEL,
        "nets/bare.py": "wte wpe h ln_f ln_1 ln_2 attn mlp c_attn c_proj c_fc transformer lm_head",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert find_model_source(checkpoint(), tmp_path) == tmp_path / "nets" / "model.py"
    assert find_model_source({"model": Rotary().state_dict()}, tmp_path) is None
    assert find_model_source({"model": {}}, tmp_path) is None


def test_an_older_scripts_optimizer_keeps_its_order() -> None:
    """One group of all parameters in their order, as the older scripts and mini-nanoGPT have it."""
    model = NanoGPT(vocab=50, bias=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(TOKENS).sum().backward()
    optimizer.step()
    legacy = convert_checkpoint(
        {"model": model.state_dict(), "model_args": ARGUMENTS, "optimizer": optimizer.state_dict()}
    )
    assert legacy.optimizer is not None and not legacy.left
    names = [n for n, p in legacy.build().named_parameters() if p.dim() >= 2]
    names += [n for n, p in legacy.build().named_parameters() if p.dim() < 2]
    moments = {name: legacy.optimizer["state"][number]["exp_avg"] for number, name in enumerate(names)}
    for name, parameter in model.named_parameters():
        assert torch.equal(moments[name], optimizer.state[parameter]["exp_avg"])
    plain = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    plain.step()
    legacy = convert_checkpoint({"model": model.state_dict(), "model_args": ARGUMENTS, "optimizer": plain.state_dict()})
    assert legacy.optimizer is None and "optimizer state is left" in legacy.left[0]


def test_a_configuration_that_is_given_has_to_fit() -> None:
    config = ModelConfig(vocab_size=50, num_layers=3, num_heads=2, embedding_dim=32, max_seq_length=32)
    with pytest.raises(CheckpointError, match="num_layers = 3, and its weights have 2"):
        convert_checkpoint({"model": nanogpt()}, config)
    with pytest.raises(CheckpointError, match="how many attention heads"):
        convert_checkpoint(nanogpt())


NAMES = st.sampled_from(
    [*nanogpt(), *Rotary().state_dict(), "lm_head.bias", "x", "transformer.h.0.attn.bias", "h.9.q.k"]
)
SHAPES = st.lists(st.integers(0, 5), max_size=4)
TENSORS = st.builds(
    lambda shape, dtype: torch.ones(shape, dtype=dtype),
    SHAPES,
    st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3) | TENSORS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=2),
    max_leaves=4,
)
ARGUMENT_NAMES = st.sampled_from([*ARGUMENTS, *LLAMA_ARGUMENTS, "use_rope", "rope_theta", "norm_eps", "activation"])


@settings(max_examples=300, deadline=None)
@given(
    weights=st.dictionaries(NAMES, TENSORS, max_size=30),
    whole=st.sampled_from([{}, nanogpt(), Rotary().state_dict()]),
    arguments=st.dictionaries(ARGUMENT_NAMES, VALUES, max_size=8),
    others=st.dictionaries(st.sampled_from(["config", "optimizer", "iter_num", "step", "val_loss", "args"]), VALUES),
)
def test_nothing_but_a_refusal_comes_of_any_mapping(
    weights: dict[str, Tensor], whole: dict[str, Tensor], arguments: dict[str, Any], others: dict[str, Any]
) -> None:
    for content in ({"model": {**whole, **weights}, "model_args": arguments, **others}, {**whole, **weights, **others}):
        with contextlib.suppress(CheckpointError):
            convert_checkpoint(content).build()
