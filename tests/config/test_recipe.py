"""What 'auto' means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmbuilder as lb
from llmbuilder.config import Config, validate_config
from llmbuilder.config.presets import PRESETS
from llmbuilder.config.recipe import (
    choose_dropout,
    choose_rates,
    choose_step_tokens,
    choose_weight_decay,
    longest_batch,
    resolve_recipe,
)
from llmbuilder.config.schema import ModelConfig, TrainingConfig
from llmbuilder.config.sizes import estimate_run_memory, estimate_training_memory, layer_matrices


def auto(**explicit: object) -> Config:
    values = {"training.optimizer": "auto", "training.learning_rate": "auto", "training.batch_size": "auto"}
    return lb.load_config(preset="tiny", overrides={**values, **explicit})


def test_numbers_take_the_place_of_auto() -> None:
    config = auto(**{"model.tie_embeddings": False})
    assert validate_config(config)[0]
    chosen = resolve_recipe(config, 1_000_000, 1 << 33)
    training = config.training
    assert (training.optimizer, training.muon_learning_rate, training.embedding_learning_rate) == ("muon", 0.05, 0.15)
    assert training.learning_rate == training.head_learning_rate == 0.015
    assert isinstance(training.batch_size, int)
    assert set(chosen) >= {"optimizer", "learning_rate", "muon_learning_rate", "batch_size"}
    assert resolve_recipe(config, 1_000_000, 1 << 33) == {}, "a resumed run finds numbers"


def test_what_is_explicit_stays() -> None:
    config = auto(
        **{"training.optimizer": "adamw", "training.embedding_learning_rate": 0.004, "training.batch_size": 5}
    )
    resolve_recipe(config, 10**9, 1 << 33)
    training = config.training
    assert (training.optimizer, training.embedding_learning_rate, training.batch_size) == ("adamw", 0.004, 5)
    assert training.learning_rate == pytest.approx(3e-3)
    legacy = Config()
    before = legacy.to_dict()
    assert resolve_recipe(legacy, 10**9, 1 << 33) == {}
    assert legacy.to_dict() == before


def test_sharded_models_get_adamw_with_a_rate_for_their_width() -> None:
    config = auto(**{"model.embedding_dim": 1024})
    resolve_recipe(config, 10**9, 1 << 33, is_sharded=True)
    assert config.training.optimizer == "adamw"
    assert config.training.learning_rate == pytest.approx(3e-3 / 8)


def test_a_tied_table_gets_no_embedding_rate() -> None:
    assert "embedding_learning_rate" not in choose_rates(ModelConfig(tie_embeddings=True), "muon")


@pytest.mark.parametrize("family", ["gpt", "llama"])
def test_the_longest_batch_fills_the_room_by_the_estimate_that_warns(family: str) -> None:
    model = ModelConfig(model_type=family)
    room = 1 << 35
    longest = longest_batch(model, room)
    fits, does_not = (
        estimate_training_memory(model, TrainingConfig(batch_size=size)).activations for size in (longest, longest + 1)
    )
    assert longest > 1
    assert fits <= room < does_not


@given(st.integers(1, 10**13))
def test_steps_grow_with_the_run_and_leave_enough_of_them(tokens: int) -> None:
    step = choose_step_tokens(tokens)
    assert 1 <= step <= choose_step_tokens(tokens * 2)
    assert step * 50 <= max(tokens, 50)


def test_a_small_memory_divides_the_batch_into_passes() -> None:
    wide, narrow = auto(), auto()
    resolve_recipe(wide, 10**8, 1 << 36)
    resolve_recipe(narrow, 10**8, 1 << 26)
    assert wide.training.gradient_accumulation_steps == 1
    assert narrow.training.gradient_accumulation_steps > 1
    product = narrow.training.gradient_accumulation_steps * narrow.training.batch_size
    assert product >= wide.training.batch_size > narrow.training.batch_size


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_validate_and_resolve(preset: str) -> None:
    config = lb.load_config(preset=preset)
    config.model.num_layers = 1
    resolve_recipe(config, 10**7, 1 << 34)
    assert "auto" not in (config.training.optimizer, config.training.learning_rate, config.training.batch_size)


def test_weight_decay_is_for_text_seen_often() -> None:
    assert choose_weight_decay(0.5, 1000) == choose_weight_decay(2.0, 1000) == 0
    decays = [choose_weight_decay(passes, 1000) for passes in (2.0, 3.0, 4.0, 6.0)]
    assert decays == sorted(set(decays)), "more passes, more decay"
    assert choose_weight_decay(6.0, 1000) == choose_weight_decay(10.0, 1000) < choose_weight_decay(26.0, 1000)
    assert choose_weight_decay(60.0, 1000) == choose_weight_decay(600.0, 10) == 1.0, "up to a limit"
    assert choose_weight_decay(6.0, 500) == pytest.approx(2 * choose_weight_decay(6.0, 1000), rel=1e-3)


def test_dropout_comes_with_very_many_passes_only() -> None:
    assert [choose_dropout(passes) for passes in (0.3, 1, 8, 15)] == [0, 0, 0, 0]
    assert choose_dropout(16) == choose_dropout(60) == 0.1


def test_frozen_matrices_are_counted_as_they_are_held() -> None:
    config = Config()
    config.finetuning.method = "lora"
    weights = {}
    for method, precision in (("lora", "no"), ("lora", "bf16"), ("dora", "bf16"), ("qlora", "no")):
        config.finetuning.method, config.training.mixed_precision = method, precision  # type: ignore[assignment]
        weights[method, precision] = estimate_run_memory(config).weights
    matrices = config.model.num_layers * sum(a * b for a, b in layer_matrices(config.model).values())
    assert weights["lora", "no"] - weights["lora", "bf16"] == 2 * matrices
    assert weights["dora", "bf16"] == weights["lora", "no"], "lengths are compared with whole matrices"
    assert weights["qlora", "no"] < weights["lora", "bf16"] - matrices
