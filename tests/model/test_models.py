"""Models: the formulas against transformers and a nanoGPT written anew, sizes, caches, meta construction."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import llmbuilder as lb
from llmbuilder.config import Config, ModelConfig
from llmbuilder.config.sizes import count_parameters
from llmbuilder.errors import ConfigError, ExportError
from llmbuilder.model import GPTModel, KeyValueCache, LlamaModel, build_model, load_model, save_model

GEMMA3 = {"model_type": "gemma3", "qk_norm": True, "norm_eps": 1e-6}
SHAPES = {
    "gpt2": {"model_type": "gpt"},
    "gpt2-exact-gelu": {"model_type": "gpt", "activation": "gelu"},
    "gpt2-no-bias": {"model_type": "gpt", "bias": False},
    "gpt2-untied": {"model_type": "gpt", "tie_embeddings": False},
    "gpt2-inner": {"model_type": "gpt", "intermediate_size": 96},
    "llama": {"model_type": "llama", "tie_embeddings": False},
    "llama-grouped": {"model_type": "llama", "num_key_value_heads": 2},
    "llama-head-dim": {"model_type": "llama", "head_dim": 24},
    "qwen3": {"model_type": "llama", "qk_norm": True, "norm_eps": 1e-6},
    "qwen3-grouped-untied": {
        "model_type": "llama", "qk_norm": True, "num_key_value_heads": 1, "tie_embeddings": False, "rope_theta": 5e5,
    },
    "llama-biases": {"model_type": "llama", "attention_bias": True, "output_bias": True, "mlp_bias": True},
    "llama-output-bias": {"model_type": "llama", "output_bias": True},
    "llama-linear": {"model_type": "llama", "rope_scaling": {"kind": "linear", "factor": 4}},
    "llama-three": {
        "model_type": "llama", "head_dim": 32,
        "rope_scaling": {"kind": "llama3", "factor": 8, "original_max_seq_length": 12, "high_freq_factor": 3.5},
    },
    "llama-yarn": {
        "model_type": "llama", "rope_scaling": {"kind": "yarn", "factor": 4, "original_max_seq_length": 12},
    },
    "llama-yarn-all": {
        "model_type": "llama", "rope_theta": 300.0,
        "rope_scaling": {"kind": "yarn", "factor": 3, "original_max_seq_length": 16, "beta_fast": 5, "beta_slow": 0.5,
                         "attention_factor": 1.4, "truncate": False},
    },
    "llama-wide-window": {"model_type": "llama", "sliding_window": 48},
    "mistral": {"model_type": "llama", "sliding_window": 5, "num_key_value_heads": 2},
    "mistral-heads": {"model_type": "llama", "sliding_window": 5, "num_heads": 3, "head_dim": 16},
    "smollm3": {"model_type": "llama", "layers_without_positions": [1]},
    "smollm3-odd-heads": {"model_type": "llama", "num_heads": 3, "head_dim": 10},
    "smollm3-windows": {"model_type": "llama", "sliding_window": 7, "sliding_window_layers": [0, 2]},
    "smollm3-all": {
        "model_type": "llama", "sliding_window": 7, "sliding_window_layers": [1], "layers_without_positions": [0, 1],
        "attention_bias": True, "output_bias": True, "mlp_bias": True, "tie_embeddings": False,
    },
    "qwen2": {"model_type": "llama", "attention_bias": True, "num_key_value_heads": 2},
    "qwen2-window": {
        "model_type": "llama", "attention_bias": True, "sliding_window": 5, "sliding_window_layers": [2],
        "head_dim": 12,
    },
    "qwen3-window": {
        "model_type": "llama", "qk_norm": True, "sliding_window": 5, "sliding_window_layers": [0],
        "attention_bias": True,
    },
    "gemma3": {
        **GEMMA3, "sliding_window": 5, "sliding_window_layers": [0, 2], "windowed_rope_theta": 300.0,
        "num_key_value_heads": 2, "head_dim": 24,
    },
    "gemma3-long-window": {
        **GEMMA3, "sliding_window": 48, "sliding_window_layers": [1], "windowed_rope_theta": 20.0,
        "rope_scaling": {"kind": "linear", "factor": 8},
    },
    "gemma3-no-window": {**GEMMA3, "tie_embeddings": False, "rope_scaling": {"kind": "yarn", "factor": 4}},
    "gemma3-windows": {**GEMMA3, "sliding_window": 7, "rope_theta": 700.0},
}  # fmt: skip


def shape(name: str) -> ModelConfig:
    base = {
        "vocab_size": 300,
        "num_layers": 3,
        "num_heads": 4,
        "embedding_dim": 64,
        "max_seq_length": 48,
        "dropout": 0.0,
    }
    return ModelConfig(**{**base, **SHAPES[name]})


def randomized(name: str) -> LlamaModel | GPTModel:
    """A model whose every parameter matters: nothing is zero or one."""
    model = build_model(shape(name), seed=1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.15 * noise if parameter.dim() > 1 else 1 + 0.2 * noise)
    return model.eval()  # type: ignore[return-value]


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(300, (3, 48), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_logits_equal_transformers(tmp_path: Path, name: str, tokens: Tensor) -> None:
    from transformers import AutoModelForCausalLM

    model = randomized(name)
    save_model(model, tmp_path / "hf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    expected = {
        "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM",
        "mistral": "MistralForCausalLM", "smollm3": "SmolLM3ForCausalLM", "qwen2": "Qwen2ForCausalLM",
        "gemma3": "Gemma3ForCausalLM",
    }  # fmt: skip
    assert type(theirs).__name__ == expected[name.split("-")[0]]
    logits = model(tokens)[0]
    assert (logits - theirs(tokens).logits).abs().max() < 1e-5 * max(1.0, logits.abs().max().item())
    ours_again = load_model(tmp_path / "hf", "cpu")
    assert (model(tokens)[0] - ours_again(tokens)[0]).abs().max() < 1e-5


@pytest.mark.parametrize("name", SHAPES)
def test_gradients_reach_every_parameter_and_sizes_are_exact(name: str, tokens: Tensor) -> None:
    model = randomized(name).train()
    loss = model(tokens[:, :-1], tokens[:, 1:])[1]
    assert loss is not None
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert model.num_parameters() == count_parameters(model.config)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_cache_gives_the_same_logits(name: str, tokens: Tensor) -> None:
    model = randomized(name)
    expected = model(tokens)[0]
    cache = KeyValueCache(model.config, batch_size=3)
    parts = [model.hidden_states(tokens[:, :7], cache)]
    parts += [model.hidden_states(tokens[:, i : i + 1], cache, torch.full((3, 1), i)) for i in range(7, 48)]
    assert (model.lm_head(torch.cat(parts, dim=1)) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["qwen3", "mistral", "smollm3-all", "llama-yarn", "gemma3"])
@torch.no_grad()
def test_cache_rows_may_stand_at_different_places(name: str, tokens: Tensor) -> None:
    model = randomized(name)
    lengths = [15, 29, 2]
    cache = KeyValueCache(model.config, batch_size=3)
    padded = tokens[:, :29].clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = 0
    model.hidden_states(padded, cache)
    places = torch.tensor([[length] for length in lengths])
    step = model.lm_head(model.hidden_states(tokens.gather(1, places), cache, places))[:, 0]
    for row, length in enumerate(lengths):
        alone = model(tokens[row : row + 1, : length + 1])[0][0, -1]
        assert (step[row] - alone).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["mistral", "smollm3-all", "llama-yarn-all", "gemma3"])
def test_layers_recomputed_in_the_backward_pass_have_the_same_gradients(name: str, tokens: Tensor) -> None:
    gradients = []
    for recomputed in (False, True):
        model = randomized(name).train()
        model.gradient_checkpointing = recomputed
        model.summed_loss(tokens[:, :-1], tokens[:, 1:]).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_a_window_hides_what_lies_behind_it(tokens: Tensor) -> None:
    model = randomized("mistral")
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 300
    layers, window = model.config.num_layers, model.config.sliding_window
    reach = layers * (window - 1)  # each layer passes on what the one before saw
    same = (model(tokens)[0] == model(changed)[0]).all(dim=-1)
    assert same[:, reach + 1 :].all()
    assert not same[:, : reach + 1].any()
    assert not (randomized("llama-grouped")(tokens)[0] == randomized("llama-grouped")(changed)[0]).all(dim=-1).any()


@torch.no_grad()
def test_layers_without_positions_see_a_set(tokens: Tensor) -> None:
    config = shape("smollm3").model_copy(update={"layers_without_positions": [0], "num_layers": 1})
    model = build_model(config, seed=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    swapped = tokens.clone()
    swapped[:, [3, 9]] = swapped[:, [9, 3]]
    assert torch.allclose(model(tokens)[0][:, -1], model(swapped)[0][:, -1], atol=1e-5)


def test_a_fresh_model_predicts_nothing_yet(tokens: Tensor) -> None:
    for name in ("gpt2", "llama", "qwen3", "smollm3-all", "llama-yarn"):
        loss = build_model(shape(name))(tokens[:, :-1], tokens[:, 1:])[1]
        assert loss.item() == pytest.approx(torch.tensor(300.0).log().item(), abs=0.15)


def test_gpt2_initialisation_as_in_the_paper() -> None:
    model = build_model(ModelConfig(vocab_size=2000, num_layers=4, num_heads=4, embedding_dim=256))
    block = model.transformer["h"][0]  # type: ignore[index]
    assert block.attn.c_attn.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.attn.c_proj.weight.std().item() == pytest.approx(0.02 / 8**0.5, rel=0.05)
    assert block.mlp.c_fc.bias.abs().sum() == 0


def test_seed_comes_from_the_whole_configuration() -> None:
    def first_weight(seed: int) -> Tensor:
        config = lb.load_config(preset="tiny", overrides={"system.seed": seed})
        return build_model(config.model).embedding.weight

    before = torch.get_rng_state()
    assert torch.equal(first_weight(1), first_weight(1))
    assert not torch.equal(first_weight(1), first_weight(2))
    assert torch.equal(before, torch.get_rng_state()), "the global random state is left alone"


def test_meta_construction_takes_no_memory() -> None:
    config = ModelConfig(num_layers=80, num_heads=64, embedding_dim=8192, vocab_size=128000, model_type="llama")
    model = build_model(config, device="meta")
    assert model.device.type == "meta"
    assert model.num_parameters() == count_parameters(config) > 50e9


def test_more_weights_than_memory_are_refused_before_any_is_made() -> None:
    config = ModelConfig(num_layers=1_000_000, num_heads=8, embedding_dim=1024, vocab_size=300)
    with pytest.raises(ConfigError, match=r"1,000,000 layers and a width of 1,024 has .* billion parameters, which"):
        build_model(config)


def test_estimates_grow_with_the_model() -> None:
    small, large = build_model(shape("llama")), build_model(shape("llama").model_copy(update={"num_layers": 6}))
    assert 0 < small.flops_per_token() < large.flops_per_token()
    assert 4 * small.num_parameters() < small.memory_bytes() < large.memory_bytes()
    multiplied = small.num_parameters() - small.embedding.weight.numel()  # a lookup multiplies nothing
    assert small.flops_per_token(1) == pytest.approx(6 * multiplied, rel=0.01)


def test_shapes_that_cannot_be_built_say_why() -> None:
    with pytest.raises(ConfigError, match=r"embedding_dim \(770\) is not divisible by model.num_heads \(12\)"):
        GPTModel(ModelConfig(embedding_dim=770))
    with pytest.raises(ConfigError, match="num_key_value_heads"):
        build_model(Config(model=ModelConfig(model_type="llama", num_key_value_heads=5)))


def test_windows_make_attention_cheaper() -> None:
    whole, windowed = build_model(shape("llama-grouped")), build_model(shape("mistral"))
    assert whole.flops_per_token(48) > windowed.flops_per_token(48) > whole.flops_per_token(5) - 1
    assert whole.flops_per_token(4) == windowed.flops_per_token(4)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"layers_without_positions": [1], "qk_norm": True}, "layers_without_positions, qk_norm"),
        ({"mlp_bias": True, "qk_norm": True}, "mlp_bias, qk_norm"),
    ],
)
def test_what_no_family_of_transformers_computes_is_not_written(
    tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    model = build_model(shape("llama").model_copy(update=changes))
    with pytest.raises(ExportError, match=f"no family of transformers has {named} together"):
        save_model(model, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
    save_model(model, tmp_path / "model.pt")
    assert load_model(tmp_path / "model.pt").config == model.config


def test_sequences_longer_than_the_context_are_refused() -> None:
    with pytest.raises(ConfigError, match="49 tokens do not fit model.max_seq_length"):
        build_model(shape("gpt2"))(torch.zeros(1, 49, dtype=torch.long))


def test_ignored_targets_do_not_count(tokens: Tensor) -> None:
    model = randomized("llama")
    targets = tokens.clone()
    targets[:, 10:] = -100
    assert torch.allclose(model(tokens, targets)[1], model(tokens[:, :10], tokens[:, :10])[1], atol=1e-6)
