"""Loading, saving, validating and fixing configurations."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmbuilder as lb
from llmbuilder.config import (
    PRESETS,
    Config,
    ModelConfig,
    SystemConfig,
    TrainingConfig,
    fix_config,
    json_schema,
    section_of,
    validate_config,
    whole_config,
)
from llmbuilder.config.sizes import count_parameters
from llmbuilder.errors import ConfigError


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_saved_configuration_loads_equal(tmp_path: Path, suffix: str) -> None:
    config = lb.load_config(preset="gpu_medium", overrides=["training.batch_size=3"])
    config.save(tmp_path / f"config{suffix}")
    assert lb.load_config(tmp_path / f"config{suffix}") == config


def test_new_format_defaults_are_the_documented_ones() -> None:
    config = Config()
    assert (config.model.vocab_size, config.model.num_layers, config.model.embedding_dim) == (16000, 12, 768)
    assert (config.training.batch_size, config.training.num_epochs, config.training.warmup_steps) == (16, 10, 1000)
    assert (config.training.weight_decay, config.training.max_grad_norm) == (0.01, 1.0)
    assert (config.training.save_every, config.training.eval_every, config.training.log_every) == (1000, 500, 100)
    assert (config.system.seed, config.system.deterministic) == (42, False)


def test_precedence_is_preset_file_environment_override(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"training": {"batch_size": 2, "max_steps": 7}, "model": {"num_layers": 5}}')
    assert lb.load_config(preset="tiny").training.batch_size == 16
    assert lb.load_config(path, preset="tiny").training.batch_size == 2
    assert lb.load_config(path, preset="tiny").model.embedding_dim == 128
    monkeypatch.setenv("LLMBUILDER_TRAINING__BATCH_SIZE", "3")
    assert lb.load_config(path, preset="tiny").training.batch_size == 3
    loaded = lb.load_config(path, preset="tiny", overrides=["training.batch_size=4"])
    assert (loaded.training.batch_size, loaded.training.max_steps, loaded.model.num_layers) == (4, 7, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model": {"num_layer": 3}}', r"unknown key 'model.num_layer'; did you mean model.num_layers\?"),
        ('{"modle": {}}', r"unknown key 'modle'; did you mean 'model'\?"),
        ('{"model": {"num_layers": "many"}}', r"model.num_layers: a valid integer.*got 'many'"),
        ('{"model": ', r"not valid JSON: .* line 1"),
        ("[1]", "must hold a mapping"),
    ],
)
def test_malformed_files_say_what_and_where(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        lb.load_config(path)
    assert "config.json" in str(caught.value)


def test_missing_file_and_unknown_preset() -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        lb.load_config("nowhere.json")
    with pytest.raises(ConfigError, match=r"unknown preset 'gpu_mediun'.*did you mean 'gpu_medium'"):
        lb.load_config(preset="gpu_mediun")
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        lb.load_config(overrides=["batch_size=3"])


def test_assignment_checks_types() -> None:
    config = Config()
    config.training.mixed_precision = "fp16"
    with pytest.raises(ValueError, match="mixed_precision"):
        config.training.mixed_precision = "fp12"  # type: ignore[assignment]


def test_a_section_knows_its_whole() -> None:
    config = lb.load_config(preset="tiny", overrides=["system.seed=7"])
    assert whole_config(config.training) is config
    assert section_of(config.training, SystemConfig).seed == 7
    duplicate = copy.deepcopy(config)
    assert whole_config(duplicate.training) is duplicate
    config.training = TrainingConfig(batch_size=1)
    assert whole_config(config.training) is config
    assert whole_config(ModelConfig()) is None
    assert section_of(lb.load_config(preset="tiny").training, SystemConfig).seed == 42  # the whole stays alive


def test_sharing_a_section_does_not_steal_it() -> None:
    first = Config()
    second = Config(model=first.model)
    assert whole_config(first.model) is first
    assert whole_config(second.model) is second


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_load_and_break_no_rule_but_memory(name: str) -> None:
    problems = [problem for problem in validate_config(lb.load_config(preset=name))[1] if "GiB" not in problem.rule]
    assert problems == []


def test_preset_sizes() -> None:
    sizes = {name: count_parameters(lb.load_config(preset=name).model) for name in PRESETS}
    assert sizes["tiny"] < sizes["cpu_small"] < sizes["gpu_medium"] < sizes["gpu_large"]
    assert 90e6 < sizes["gpu_medium"] < 130e6


def test_schema_documents_every_field() -> None:
    schema = json_schema()
    for name in ("ModelConfig", "TrainingConfig", "SystemConfig", "DataConfig", "TokenizerConfig", "GenerationConfig"):
        for key, field in schema["$defs"][name]["properties"].items():
            assert field.get("description"), f"{name}.{key} has no description"
    assert schema["additionalProperties"] is False


LLAMA = {"model.model_type": "llama"}
GEMMA3 = {"model.model_type": "gemma3", "model.qk_norm": True}
BROKEN = [
    ("model.embedding_dim", {"model.embedding_dim": 770}, {"model.embedding_dim": 768}),
    ("model.num_key_value_heads", {"model.model_type": "llama", "model.num_key_value_heads": 5}, None),
    ("model.embedding_dim", {"model.model_type": "llama", "model.num_heads": 4, "model.embedding_dim": 20}, None),
    ("training.warmup_steps", {"training.max_steps": 50}, {"training.warmup_steps": 5}),
    ("training.min_learning_rate", {"training.min_learning_rate": 1.0}, None),
    ("training.lr_decay_steps", {"training.lr_decay_steps": 10}, {"training.lr_decay_steps": None}),
    ("training.learning_rate", {"training.learning_rate": -1.0}, {"training.learning_rate": 3e-4}),
    ("model.dropout", {"model.dropout": 1.5}, {"model.dropout": 0.1}),
    ("model.num_layers", {"model.num_layers": 0}, None),
    ("tokenizer.vocab_size", {"tokenizer.vocab_size": 99999}, {"tokenizer.vocab_size": 16000}),
    ("model.qk_norm", {"model.qk_norm": True}, {"model.qk_norm": False}),
    ("model.attention_bias", {"model.attention_bias": True}, {"model.attention_bias": False}),
    ("model.sliding_window", {"model.sliding_window": 8}, {"model.sliding_window": None}),
    ("model.windowed_rope_theta", {"model.windowed_rope_theta": 1e4}, {"model.windowed_rope_theta": None}),
    ("model.windowed_rope_theta", {**LLAMA, "model.windowed_rope_theta": 1e4}, {"model.windowed_rope_theta": None}),
    ("model.windowed_rope_theta", {**GEMMA3, "model.windowed_rope_theta": 1e4}, None),
    ("model.qk_norm", {"model.model_type": "gemma3"}, {"model.qk_norm": True}),
    ("model.mlp_bias", {**GEMMA3, "model.mlp_bias": True}, {"model.mlp_bias": False}),
    ("model.sliding_window_layers", {"model.sliding_window_layers": [0]}, {"model.sliding_window_layers": None}),
    ("model.layers_without_positions", {"model.layers_without_positions": [3]}, {"model.layers_without_positions": []}),
    ("model.rope_scaling", {"model.rope_scaling": {"kind": "linear", "factor": 2}}, {"model.rope_scaling": None}),
    ("model.sliding_window", {**LLAMA, "model.sliding_window": 0}, None),
    ("model.sliding_window", {**LLAMA, "model.sliding_window": 8, "model.sliding_window_layers": []}, None),
    ("model.sliding_window_layers", {**LLAMA, "model.sliding_window_layers": [0]}, None),
    (
        "model.sliding_window_layers",
        {**LLAMA, "model.sliding_window": 8, "model.sliding_window_layers": [1, 12]},
        {"model.sliding_window_layers": [1]},
    ),
    (
        "model.layers_without_positions",
        {**LLAMA, "model.layers_without_positions": [3, 3, 40]},
        {"model.layers_without_positions": [3]},
    ),
    (
        "model.layers_without_positions",
        {**LLAMA, "model.layers_without_positions": [3, 3]},
        {"model.layers_without_positions": [3]},
    ),
    ("model.layers_without_positions", {**LLAMA, "model.layers_without_positions": [-1]}, None),
    (
        "model.rope_theta",
        {**LLAMA, "model.num_layers": 2, "model.layers_without_positions": [0, 1], "model.rope_theta": 5e5},
        {"model.rope_theta": 10000.0},
    ),
    ("model.rope_scaling", {**LLAMA, "model.rope_scaling": {"kind": "linear", "factor": 0.5}}, None),
    ("model.rope_scaling", {**LLAMA, "model.rope_scaling": {"kind": "linear", "factor": 2, "beta_fast": 3}}, None),
    ("model.rope_scaling", {**LLAMA, "model.rope_scaling": {"kind": "yarn", "factor": 2, "beta_fast": 0.5}}, None),
    (
        "model.rope_scaling",
        {**LLAMA, "model.rope_scaling": {"kind": "llama3", "factor": 2, "low_freq_factor": 4}},
        None,
    ),
    (
        "model.rope_scaling",
        {**LLAMA, "model.rope_scaling": {"kind": "yarn", "factor": 2, "original_max_seq_length": 0}},
        None,
    ),
    ("generation.temperature", {"generation.temperature": -0.1}, None),
    ("system.device", {"system.device": "cuda:99"}, {"system.device": "auto"}),
    ("training.batch_size", {"training.batch_size": 100_000}, None),
]


@pytest.mark.parametrize(("path", "broken", "fixed"), BROKEN, ids=[f"{p}-{i}" for i, (p, _, _) in enumerate(BROKEN)])
def test_broken_rules_are_named_and_fixed(
    path: str, broken: dict[str, object], fixed: dict[str, object] | None
) -> None:
    config = lb.load_config(overrides=broken)  # loading never raises for rules
    valid, errors = validate_config(config)
    assert not valid
    problem = next(error for error in errors if error.path == path)
    assert problem.rule
    assert problem.remedy
    repaired = fix_config(config, errors)
    assert validate_config(repaired) == (True, [])
    assert fix_config(repaired) == repaired
    for dotted, value in (fixed or {}).items():
        section, key = dotted.split(".")
        assert getattr(getattr(repaired, section), key) == value
    assert not validate_config(config)[0], "the original is left as it was"


def test_a_setting_with_parts_names_the_wrong_one() -> None:
    for value, said in (
        ({"kind": "linear", "facto": 2}, "unknown key 'model.rope_scaling.facto'; did you mean 'factor'?"),
        ({"kind": "linear", "factor": "wide"}, "model.rope_scaling.factor: a valid number"),
        ({"kind": "linear"}, "model.rope_scaling.factor: Field required"),
        ({"kind": "ntk", "factor": 2}, "model.rope_scaling.kind: 'linear', 'llama3' or 'yarn'"),
        ("linear", "model.rope_scaling: "),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            lb.load_config(overrides={"model.rope_scaling": value})


def test_a_setting_with_parts_knows_its_place_and_travels(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model:\n  rope_scaling: {kind: linear, factor: 2}\n")
    config = lb.load_config(tmp_path / "run.yaml")
    assert str(validate_config(config)[1][0]).startswith(f"{tmp_path / 'run.yaml'}, line 2: model.rope_scaling")
    config.save(tmp_path / "again.json")
    assert lb.load_config(tmp_path / "again.json") == config == copy.deepcopy(config)
    assert pickle.loads(pickle.dumps(config.model)) == config.model


def test_fix_says_what_it_changed(caplog: pytest.LogCaptureFixture) -> None:
    fix_config(lb.load_config(overrides={"model.embedding_dim": 770}))
    assert "model.embedding_dim: 770 -> 768" in caplog.text


def test_vocabulary_must_fit_the_tokenizer(tmp_path: Path, bpe: object) -> None:
    bpe.save_pretrained(tmp_path / "tokenizer")  # type: ignore[attr-defined]
    config = lb.load_config(overrides={"tokenizer.path": str(tmp_path / "tokenizer"), "model.vocab_size": 100})
    errors = validate_config(config)[1]
    assert [error.path for error in errors] == ["model.vocab_size"]
    assert fix_config(config, errors).model.vocab_size == 512


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "model_type": st.sampled_from(["gpt", "llama", "gemma3"]),
            "windowed_rope_theta": st.none() | st.floats(-1, 1e6),
            "num_layers": st.integers(-1, 40),
            "num_heads": st.integers(-1, 40),
            "embedding_dim": st.integers(-1, 3000),
            "vocab_size": st.integers(0, 60000),
            "max_seq_length": st.integers(0, 4096),
            "num_key_value_heads": st.none() | st.integers(-1, 20),
            "dropout": st.floats(-1, 2),
            "qk_norm": st.booleans(),
            "mlp_bias": st.booleans(),
            "layers_without_positions": st.lists(st.integers(-1, 40), max_size=4),
            "sliding_window": st.none() | st.integers(-1, 4096),
            "sliding_window_layers": st.none() | st.lists(st.integers(-1, 40), max_size=4),
            "rope_scaling": st.none()
            | st.fixed_dictionaries(
                {"kind": st.sampled_from(["linear", "llama3", "yarn"]), "factor": st.floats(0, 8)},
                optional={"beta_slow": st.floats(-1, 50), "high_freq_factor": st.floats(-1, 50)},
            ),
        }
    ),
    st.integers(-5, 5000),
    st.none() | st.integers(-5, 5000),
)
def test_whatever_is_fixed_validates(model: dict[str, object], warmup: int, steps: int | None) -> None:
    config = Config(model=ModelConfig(**model), training=TrainingConfig(warmup_steps=warmup, max_steps=steps))
    repaired = fix_config(config, validate_config(config)[1])
    assert validate_config(repaired) == (True, [])
    assert fix_config(repaired) == repaired
    assert json.loads(json.dumps(repaired.to_dict()))
