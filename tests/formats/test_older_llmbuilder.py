"""Configurations of the older LLMBuilder: every key maps, or is kept with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmbuilder as lb
from llmbuilder.config import Config, migrate_legacy_config
from llmbuilder.config.in_force import all_settings
from llmbuilder.config.loading import build_config
from llmbuilder.config.presets import PRESETS
from llmbuilder.config.validation import find_problems
from llmbuilder.errors import ConfigError
from llmbuilder.formats.nanogpt.configuration import is_legacy, migrate_dictionary

# What its `Config().to_dict()` writes, shortened in the lists of keys that all have the same fate.
SAVED: dict[str, Any] = {
    "model": {"vocab_size": 24000, "embedding_dim": 512, "num_layers": 8, "num_heads": 8, "max_seq_length": 1024,
              "dropout": 0.1, "layer_norm_eps": 1e-05, "use_bias": True, "activation": "gelu", "model_type": "gpt"},
    "training": {"batch_size": 64, "learning_rate": 0.0003, "num_epochs": 10, "weight_decay": 0.01,
                 "gradient_clip_norm": 0.5, "warmup_steps": 1000, "save_every": 1000, "eval_every": 500,
                 "log_every": 100, "max_grad_norm": 1.0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-08},
    "data": {"max_length": 1024, "stride": 512, "min_length": 10, "clean_text": True, "remove_duplicates": True,
             "shuffle": True, "validation_split": 0.1, "test_split": 0.1,
             "ingestion": {"supported_formats": ["html", "txt"], "enable_ocr": True, "ocr_language": "deu"},
             "deduplication": {"enable_exact_deduplication": True, "enable_semantic_deduplication": True,
                               "similarity_threshold": 0.85}},
    "tokenizer": {"vocab_size": 24000, "model_type": "bpe", "character_coverage": 0.9995},
    "inference": {"max_new_tokens": 90, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.1,
                  "do_sample": True, "num_beams": 1, "early_stopping": False, "pad_token_id": None},
    "system": {"device": "cpu", "mixed_precision": False, "compile_model": False, "num_workers": 4,
               "pin_memory": True},
    "paths": {"data_dir": "data", "checkpoint_dir": "checkpoints", "tokenizer_dir": "tokenizers"},
    "tokenizer_training": {"vocab_size": 24000, "algorithm": "bpe", "min_frequency": 2,
                           "special_tokens": ["<pad>", "<unk>", "<s>", "</s>"]},
    "gguf_conversion": {"quantization_level": "Q8_0", "script_paths": {}},
}  # fmt: skip


def one(section: str, **keys: Any) -> dict[str, Any]:
    """Return a configuration of this form with some keys of one section."""
    return {"project": {"name": "x"}, section: keys}


def test_a_saved_configuration_loads_and_is_valid(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SAVED))
    config = lb.load_config(path)
    assert not find_problems(config)
    assert len(caplog.records) == 1
    assert (config.model.num_layers, config.model.activation, config.model.norm_eps) == (8, "gelu", 1e-5)
    assert (config.training.beta2, config.training.lr_schedule, config.training.warmup_steps) == (0.999, "constant", 0)
    assert config.training.max_grad_norm == 1.0, "gradient_clip_norm is never read there"
    assert config.training.mixed_precision == "no"
    assert (config.data.train_split, config.data.ocr, config.data.stride) == (0.8, "deu", 512)
    assert config.generation.max_new_tokens == 90
    assert config.tokenizer.path is None
    config.save(tmp_path / "new.json")
    assert lb.load_config(tmp_path / "new.json") == config


def test_every_key_is_accounted_for_with_its_value() -> None:
    found = migrate_dictionary(SAVED)
    assert found.mapping.keys() | found.unmapped.keys() == found.legacy_values.keys()
    assert not found.mapping.keys() & found.unmapped.keys()
    assert found.legacy_values["gguf_conversion.script_paths"] == {}
    assert found.unmapped.keys() <= found.remarks.keys(), "every key that is left says why"


@pytest.mark.parametrize(
    ("values", "place", "expected"),
    [
        (one("data", validation_split=0.15), "data.train_split", 0.85),
        (one("data", validation_split=0.15, test_split=0.05), "data.train_split", 0.8),
        (one("data", validation_split=0.0, test_split=0.0), "data.train_split", 1.0),
        (one("data", min_length=20), "data.filter_limits", {"characters": (20, None)}),
        (one("data", ingestion={"enable_ocr": False, "ocr_language": "deu"}), "data.ocr", None),
        (one("data", deduplication={"enable_exact_deduplication": False}), "data.remove_duplicates", False),
        (one("data", deduplication={"enable_semantic_deduplication": False}), "data.semantic_duplicates", None),
        (one("system", mixed_precision=True), "training.mixed_precision", "auto"),
        (one("system", compile_model=True), "system.compile", True),
        (one("training", val_ratio=0.2), "data.train_split", 0.8),
        (one("training", random_seed=7), "system.seed", 7),
        (one("tokenizer", model_type="unigram"), "tokenizer.algorithm", "unigram"),
        (one("tokenizer_training", algorithm="sentencepiece"), "tokenizer.algorithm", "unigram"),
        ({**one("tokenizer_training", algorithm="sentencepiece"), "tokenizer": {"model_type": "bpe"}},
         "tokenizer.algorithm", "bpe"),
        (one("tokenizer_training", algorithm="wordpiece", min_frequency=4), "tokenizer.min_frequency", 4),
        (one("tokenizer_training", special_tokens=["<pad>", "<mask>"]), "tokenizer.special_tokens", ["<mask>"]),
        (one("model", use_bias=False), "model.bias", True),
        (one("model", activation="relu"), "model.activation", "gelu"),
        (one("model", layer_norm_eps=1e-6), "model.norm_eps", 1e-5),
        (one("training", batch_size=8), "model.num_layers", 8),
        (one("training", batch_size=8), "training.num_epochs", 10),
        ({"vocab_size": 900, "block_size": 64, "model": {"num_layers": 3}}, "model.max_seq_length", 64),
        ({"n_layer": 5, "model": {"num_layers": 3}}, "model.num_layers", 5),
    ],
)  # fmt: skip
def test_keys_and_units(values: dict[str, Any], place: str, expected: Any) -> None:
    config = migrate_legacy_config(values)
    section, key = place.split(".")
    assert getattr(getattr(config, section), key) == expected
    assert not find_problems(config)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        (one("model", layer_norm_eps=1e-6), "model.layer_norm_eps"),
        (one("model", use_bias=False), "model.use_bias"),
        (one("training", warmup_steps=50), "training.warmup_steps"),
        (one("training", gradient_clip_norm=0.3), "training.gradient_clip_norm"),
        (one("training", save_every=3), "training.save_every"),
        (one("tokenizer", model_type="word"), "tokenizer.model_type"),
        ({**one("tokenizer", vocab_size=99), "model": {"vocab_size": 500}}, "tokenizer.vocab_size"),
        (one("tokenizer_training", algorithm="unigram", min_frequency=5), "tokenizer_training.min_frequency"),
        (one("data", deduplication={"similarity_threshold": 0.9}), "data.deduplication.similarity_threshold"),
        (one("data", validation_split="a tenth"), "data.validation_split"),
        (one("inference", num_beams=4), "inference.num_beams"),
    ],
)
def test_what_had_no_effect_or_has_no_counterpart_is_kept_and_said(values: dict[str, Any], key: str) -> None:
    found = migrate_dictionary(values)
    assert found.unmapped[key] == found.legacy_values[key]
    assert found.remarks[key] in found.notice()
    assert found.values["legacy"][key] == found.legacy_values[key]


def test_the_test_part_is_said_to_validate() -> None:
    assert "validate" in migrate_dictionary(SAVED).remarks["data.test_split"]


def test_what_is_left_out_is_the_older_programs_default() -> None:
    found = migrate_dictionary(one("model", num_layers=3))
    assert found.defaults["training.beta2"] == (0.999, "the older LLMBuilder")
    assert "model.num_layers" not in found.defaults
    assert found.values["model"]["embedding_dim"] == 512


def test_the_training_section_of_a_checkpoint_is_understood() -> None:
    found = migrate_dictionary(SAVED["training"])
    assert found.mapping["num_epochs"] == "training.num_epochs"
    assert found.values["training"]["lr_schedule"] == "constant"
    assert found.legacy_values.keys() == SAVED["training"].keys()


def test_each_part_alone_is_recognised() -> None:
    for section in ("data", "tokenizer", "inference", "system", "paths", "tokenizer_training", "gguf_conversion"):
        assert is_legacy({section: SAVED[section]}), section
    for deep in ("ingestion", "deduplication"):
        assert is_legacy({"data": {deep: SAVED["data"][deep]}}), deep


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_no_configuration_of_ours_is_taken_for_a_legacy_one(preset: str | None) -> None:
    config = build_config(PRESETS[preset], preset) if preset else Config()
    assert not is_legacy(config.to_dict())
    for name, section in config.to_dict().items():
        assert not is_legacy({name: section})


@given(st.sets(st.sampled_from(all_settings())), st.booleans())
def test_no_selection_of_our_keys_is_taken_for_a_legacy_one(names: set[str], kept: bool) -> None:
    values: dict[str, Any] = {}
    for name in names:
        section, key = name.split(".")
        values.setdefault(section, {})[key] = getattr(getattr(Config(), section), key)
    if kept:  # what an earlier migration kept stays legacy's
        values["legacy"] = {"training.warmup_steps": 5, "inference.num_beams": 2, "n_layer": 3}
    assert not is_legacy(values)
    build_config(values, "a selection")


def test_keys_of_both_formats_are_no_legacy_configuration() -> None:
    values = {"system": {"num_workers": 3, "seed": 5}, "model": {"bias": False}}
    assert not is_legacy(values)
    with pytest.raises(ConfigError, match="system.num_workers"):
        build_config(values, "mixed")
