"""Models of transformers: each field of a configuration is honoured, has no effect, or is a refusal by its name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import llmbuilder as lb
from llmbuilder.errors import CheckpointError
from llmbuilder.formats.huggingface.fields import _BOOKKEEPING, _ONLY_EVERYWHERE, FIELDS
from llmbuilder.inference import GenerationConfig, Generator
from llmbuilder.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

GPT2 = {"n_layer": 3, "n_head": 2, "n_embd": 32, "vocab_size": 90, "n_positions": 32}
LLAMA = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 48, "vocab_size": 90, "max_position_embeddings": 32}  # fmt: skip
IDS = {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
QWEN3 = {**LLAMA, "head_dim": 16}
GEMMA3 = {**QWEN3, **IDS, "sliding_window": 6, "num_hidden_layers": 7}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
CLASSES = {
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel, GPT2),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, LLAMA),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, QWEN3),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM, LLAMA),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, LLAMA),
    "smollm3": (transformers.SmolLM3Config, transformers.SmolLM3ForCausalLM, {**LLAMA, **IDS, "num_hidden_layers": 5}),
    "gemma3_text": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM, GEMMA3),
}


def saved(folder: Path, kind: str, written: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Write a random model of transformers, with `written` put over its config.json, and return the model."""
    config, model, small = CLASSES[kind]
    torch.manual_seed(1)
    theirs = model(config(**{**small, **changes})).eval()
    for parameter in theirs.parameters():  # large enough for every part to matter
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(folder)
    if written is not None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **written}))
    return theirs


@torch.no_grad()
def difference(folder: Path, theirs: Any) -> float:
    """The largest difference of logits, in parts of the largest logit: those of these models reach tens."""
    tokens = torch.randint(90, (2, 32), generator=torch.Generator().manual_seed(3))
    expected = theirs(tokens).logits
    found = lb.load_model(folder, "cpu")(tokens)[0]
    return float((expected - found).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gpt2", {}),
        ("gpt2", {"scale_attn_weights": False}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("gpt2", {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True}),
        ("gpt2", {"reorder_and_upcast_attn": True, "attn_implementation": "eager"}),
        ("gpt2", {"activation_function": "gelu"}),
        ("gpt2", {"activation_function": "gelu_fast"}),
        ("gpt2", {"n_inner": 40}),
        ("gpt2", {"layer_norm_epsilon": 0.05}),
        ("gpt2", {"tie_word_embeddings": False}),
        ("gpt2", {"initializer_range": 0.5, "summary_type": "mean", "attn_pdrop": 0.3}),
        ("llama", {}),
        ("llama", {"head_dim": 12}),
        ("llama", {"num_key_value_heads": 1}),
        ("llama", {"rms_norm_eps": 0.05}),
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"rope_theta": 500.0}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
        ("llama", {"pretraining_tp": 2}),
        ("qwen3", {}),
        ("qwen3", {"rope_theta": 77.0}),
        ("qwen3", {"tie_word_embeddings": True}),
        ("qwen3", {"sliding_window": 4}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}),
        ("qwen3", {"layer_types": ["full_attention", "full_attention"]}),
        ("llama", {"attention_bias": True}),
        ("llama", {"mlp_bias": True}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.5}}),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 500.0}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
        ("llama", {"rope_scaling": LLAMA3, "rope_theta": 300.0, "head_dim": 16}),
        ("llama", {"rope_parameters": {**LLAMA3, "rope_theta": 1000.0}}),
        ("llama", {"rope_scaling": {**LLAMA3, "low_freq_factor": 0.5, "high_freq_factor": 1.5}, "head_dim": 24}),
        ("llama", {"rope_scaling": YARN}),
        ("llama", {"rope_scaling": {**YARN, "beta_fast": 6.0, "beta_slow": 0.2}, "rope_theta": 90.0, "head_dim": 16}),
        ("llama", {"rope_scaling": {**YARN, "attention_factor": 1.7}}),
        ("llama", {"rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3}}),
        ("llama", {"rope_scaling": {**YARN, "mscale": 0.7}}),
        ("llama", {"rope_scaling": {**YARN, "truncate": False}, "rope_theta": 90.0, "head_dim": 16}),
        ("llama", {"rope_scaling": {**YARN, "factor": 1.0}}),
        ("qwen3", {"rope_scaling": YARN, "attention_bias": True}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 4,
                   "layer_types": ["full_attention", "sliding_attention"]}),
        ("mistral", {}),
        ("mistral", {"sliding_window": None}),
        ("mistral", {"sliding_window": 5}),
        ("mistral", {"sliding_window": 1}),
        ("mistral", {"sliding_window": 31, "tie_word_embeddings": True}),
        ("mistral", {"sliding_window": 5, "head_dim": 12, "num_key_value_heads": 4, "rope_theta": 1e6}),
        ("mistral", {"sliding_window": 5, "rope_scaling": YARN}),
        ("qwen2", {}),
        ("qwen2", {"tie_word_embeddings": True, "sliding_window": 4}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "rope_scaling": YARN,
                   "layer_types": ["sliding_attention", "full_attention"]}),
        ("smollm3", {}),
        ("smollm3", {"no_rope_layer_interval": 2, "tie_word_embeddings": False}),
        ("smollm3", {"no_rope_layers": [1, 0, 0, 1, 1]}),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 1, 1], "attention_bias": True, "mlp_bias": True}),
        ("smollm3", {"no_rope_layers": [0, 0, 0, 0, 0]}),
        ("smollm3", {"use_sliding_window": True, "sliding_window": 4}),
        ("smollm3", {"use_sliding_window": True, "sliding_window": 4, "no_rope_layers": [1, 1, 0, 1, 0],
                     "layer_types": ["sliding_attention", *["full_attention"] * 3, "sliding_attention"]}),
        ("smollm3", {"rope_scaling": YARN, "rope_theta": 5e6}),
        ("gemma3_text", {}),
        ("gemma3_text", {"sliding_window_pattern": 3, "query_pre_attn_scalar": 40, "tie_word_embeddings": False}),
        ("gemma3_text", {"sliding_window_pattern": 1}),
        ("gemma3_text", {"layer_types": ["full_attention"] * 7}),
        ("gemma3_text", {"layer_types": ["sliding_attention"] * 7, "sliding_window": 90}),
        ("gemma3_text", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_theta": 500.0,
                         "rope_local_base_freq": 20.0}),
        ("gemma3_text", {"rope_parameters": {"full_attention": {**YARN, "rope_theta": 90.0},
                                             "sliding_attention": {"rope_type": "default", "rope_theta": 30.0}}}),
    ],
)  # fmt: skip
def test_what_is_honoured_predicts_alike(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    """In both directions: opened here, and written again and opened there."""
    theirs = saved(tmp_path / "theirs", kind, **changes)
    assert difference(tmp_path / "theirs", theirs) < 1e-5
    lb.save_model(lb.load_model(tmp_path / "theirs", "cpu"), tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    assert difference(tmp_path / "theirs", again) < 1e-5


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("llama", {"rope_parameters": None, "rope_theta": 500.0, "rope_scaling": None}),
        ("llama", {"rope_parameters": None, "rope_theta": 500.0, "rope_scaling": {"type": "default"}}),
        ("qwen3", {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 500.0}}}),
        ("qwen3", {"rope_parameters": None, "rope_theta": 500.0, "layer_types": None, "sliding_window": 9}),
        ("gemma3_text", {"rope_parameters": None, "rope_theta": 500.0, "layer_types": None, "rope_local_base_freq": 1e4,
                         "sliding_window_pattern": 6, "cache_implementation": "hybrid", "rope_scaling": None}),
    ],
)  # fmt: skip
def test_both_forms_of_rotary_positions_are_read(tmp_path: Path, kind: str, written: dict[str, Any]) -> None:
    theirs = saved(tmp_path, kind, written, rope_theta=500.0)
    assert difference(tmp_path, theirs) < 1e-5


@pytest.mark.parametrize(
    ("kind", "changes", "named"),
    [
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gpt2", {"activation_function": "relu"}, "activation_function 'relu'"),
        ("gpt2", {"activation_function": "quick_gelu"}, "quick_gelu"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ("llama", {"rope_scaling": {"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0] * 4,
                                    "long_factor": [2.0] * 4}}, "rope scaling .longrope."),
        ("mistral", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    ],
)  # fmt: skip
def test_what_computes_something_else_is_refused_by_name(
    tmp_path: Path, kind: str, changes: dict[str, Any], named: str
) -> None:
    saved(tmp_path, kind, **changes)
    with pytest.raises(CheckpointError, match=named):
        lb.load_model(tmp_path, "cpu")


@pytest.mark.parametrize(
    ("kind", "written", "named"),
    [
        ("llama", {"attention_multiplier": 0.5}, "attention_multiplier 0.5"),
        ("llama", {"logit_scale": 0}, "logit_scale 0"),
        ("llama", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ("llama", {"sliding_window": 16}, "sliding_window 16"),
        ("llama", {"layer_types": ["sliding_attention", "full_attention"]}, "layer_types sliding_attention"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "mrope_section": [4, 4]}}, "mrope_section"),
        ("llama", {"rope_theta": 77.0}, "two values of rope_theta"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 8}},
         "rope scaling .dynamic."),
        ("llama", {"rope_scaling": {"type": "linear"}}, "rope scaling .linear. without factor"),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "without low_freq_factor"),
        ("llama", {"rope_scaling": {**YARN, "factor": "wide"}}, "rope scaling .*wide"),
        ("llama", {"rope_scaling": {"rope_type": ["yarn"]}}, "rope scaling"),
        ("llama", {"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000"),
        ("llama", {"num_hidden_layers": "two"}, "num_hidden_layers is 'two'"),
        ("llama", {"max_position_embeddings": None}, "max_position_embeddings is None"),
        ("qwen3", {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 500.0},
                                       "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}},
         "rotary positions that differ"),
        ("mistral", {"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]},
         "layer_types full_attention with sliding_window 8"),
        ("mistral", {"sliding_window": None, "layer_types": ["sliding_attention"] * 2}, "layer_types sliding"),
        ("mistral", {"num_experts": 4}, "num_experts 4"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types"),
        ("qwen2", {"layer_types": ["chunked_attention"] * 2}, "layer_types chunked_attention"),
        ("qwen2", {"dual_chunk_attention_config": {"chunk_size": 8}}, "dual_chunk_attention_config"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": "wide", "max_window_layers": 0, "layer_types": None},
         "sliding_window"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers .1, 0."),
        ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 0}, "no_rope_layer_interval 0"),
        ("llama", {"rope_scaling": "linear"}, "rope scaling 'linear'"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama", {"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ("llama", {"auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}, "auto_map"),
        ("llama", {"hidden_size": "wide"}, "embedding_dim"),
        ("llama", {"layer_types": 3}, "layer_types 3"),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50.0"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention True"),
        ("gemma3_text", {"hidden_activation": "silu"}, "hidden_activation 'silu'"),
        ("gemma3_text", {"attention_bias": True}, "attention_bias True"),
        ("gemma3_text", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0"),
        ("gemma3_text", {"sliding_window": None}, "layer_types sliding_attention"),
        ("gemma3_text", {"sliding_window": None, "layer_types": None}, "sliding_window None"),
        ("gemma3_text", {"sliding_window_pattern": 0, "layer_types": None}, "sliding_window_pattern 0"),
        ("gemma3_text", {"rope_parameters": {"rope_type": "linear", "factor": 8.0}}, "rope_parameters"),
        ("gemma3_text", {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 8.0}}},
         "in layers with a window"),
        ("gemma3_text", {"model_type": "gemma3"}, "model_type 'gemma3' is not supported"),
        ("gpt2", {"activation_function": ["gelu"]}, "activation_function"),
        ("gpt2", {"n_head": 0, "scale_attn_weights": False}, "num_heads"),
        ("gpt2", {"is_encoder_decoder": True}, "is_encoder_decoder"),
        ("gpt2", {"parallel_attn": True, "alibi": True}, "parallel_attn True, alibi True"),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "layer_types": None, "max_window_layers": None},
         "sliding_window 4"),
    ],
)  # fmt: skip
def test_fields_that_are_not_understood_are_refused_by_name(
    tmp_path: Path, kind: str, written: dict[str, Any], named: str
) -> None:
    saved(tmp_path, kind, written)
    with pytest.raises(CheckpointError, match=named):
        lb.load_model(tmp_path, "cpu")


@pytest.mark.parametrize("kind", CLASSES)
def test_bookkeeping_refuses_nothing(tmp_path: Path, kind: str) -> None:
    theirs = saved(
        tmp_path,
        kind,
        {"torch_dtype": "float32", "_name_or_path": "x", "use_cache": True, "id2label": {"0": "A"}, "max_length": 20,
         "task_specific_params": {"text-generation": {"do_sample": True}}, "pad_token_id": 3, "something": None,
         "something_else": False, "pruned_heads": {}, "auto_map": {"AutoTokenizer": ["mine.Mine", None]}},
    )  # fmt: skip
    assert difference(tmp_path, theirs) < 1e-5


@pytest.mark.parametrize("kind", CLASSES)
def test_every_field_of_transformers_has_its_place(kind: str) -> None:
    config = CLASSES[kind][0]
    family = FIELDS[kind]
    tables = {*family.honoured, *family.without_effect, *family.only, *_BOOKKEEPING, *_ONLY_EVERYWHERE}
    assert {*config().to_dict()} <= tables
    for field in dataclasses.fields(config):
        if field.name in family.honoured and field.name != "head_dim":
            assert family.honoured[field.name] == field.default, field.name
    assert family.honoured.get("head_dim") in (None, getattr(config, "head_dim", None))
    if kind != "gpt2":
        found = family.honoured["rope_theta"], family.honoured.get("rope_local_base_freq")
        theta = config.default_theta
        assert found == ((theta["global"], theta["local"]) if isinstance(theta, dict) else (theta, None))


def test_what_a_short_config_leaves_out_is_as_in_transformers(tmp_path: Path) -> None:
    theirs = saved(tmp_path, "qwen3", num_attention_heads=2, num_key_value_heads=2, head_dim=128)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    for name in ("head_dim", "rms_norm_eps", "rope_parameters", "layer_types", "hidden_act", "use_sliding_window"):
        values.pop(name)
    path.write_text(json.dumps(values))
    assert difference(tmp_path, theirs) < 1e-5


def test_other_names_of_fields_are_read(tmp_path: Path) -> None:
    theirs = saved(tmp_path, "gpt2")
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    values["hidden_size"], values["num_hidden_layers"] = values.pop("n_embd"), values.pop("n_layer")
    path.write_text(json.dumps(values))
    assert difference(tmp_path, theirs) < 1e-5


@pytest.mark.parametrize("text", ["[]", "{", "null", '{"model_type": ["llama"]}', "\udcff"])
def test_a_broken_config_is_a_message(tmp_path: Path, text: str) -> None:
    saved(tmp_path, "llama")
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match="cannot be opened"):
        lb.load_model(tmp_path, "cpu")


@torch.no_grad()
def test_scaled_attention_goes_back_to_transformers(tmp_path: Path) -> None:
    theirs = saved(tmp_path / "a", "gpt2", scale_attn_by_inverse_layer_idx=True)
    lb.save_model(lb.load_model(tmp_path / "a", "cpu"), tmp_path / "b")
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "b").eval()
    tokens = torch.randint(90, (1, 32))
    assert (theirs(tokens).logits - again(tokens).logits).abs().max() < 1e-5


@pytest.fixture(scope="module")
def numbers() -> Tokenizer:
    """A tokenizer of as many tokens as the models have rows: which they are does not matter."""
    return Tokenizer.from_characters([chr(0x4E00 + number) for number in range(90)], end_of_text=None)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gpt2", {}),
        ("llama", {"rope_scaling": LLAMA3}),
        ("mistral", {"sliding_window": 5}),
        ("smollm3", {"use_sliding_window": True, "sliding_window": 6, "no_rope_layer_interval": 2}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
        ("qwen3", {"rope_scaling": YARN}),
        ("gemma3_text", {"sliding_window_pattern": 2}),
    ],
)
def test_what_is_generated_is_what_transformers_generates(
    tmp_path: Path, kind: str, changes: dict[str, Any], numbers: Tokenizer
) -> None:
    """Greedily, from prompts of different lengths in one batch, beyond windows and the original context."""
    theirs = saved(tmp_path, kind, **{**changes, **IDS, "eos_token_id": None})
    generator = Generator(lb.load_model(tmp_path, "cpu"), numbers)
    prompts = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15, 16, 17], [40]]
    settings = GenerationConfig(do_sample=False, max_new_tokens=22)
    found: list[list[int]] = [[], [], []]
    for row, token in generator.stream_tokens(prompts, settings):
        found[row].append(token)
    for prompt, tokens in zip(prompts, found, strict=True):
        expected = theirs.generate(torch.tensor([prompt]), max_new_tokens=22, do_sample=False, pad_token_id=0)
        assert tokens == expected[0, len(prompt) :].tolist()
