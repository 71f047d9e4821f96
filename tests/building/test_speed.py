"""How fast shapes train, within a time for measuring."""

from __future__ import annotations

import pytest

from llmbuilder.building import speed as speeds
from llmbuilder.building.speed import measured_speed
from llmbuilder.config import Config
from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import count_flops_per_token
from llmbuilder.model import LanguageModel


def _shape(layers: int) -> ModelConfig:
    return ModelConfig(vocab_size=64, num_layers=layers, num_heads=2, embedding_dim=16, max_seq_length=16)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The layers of the models that are built to be measured."""
    layers: list[int] = []

    def build_model(shape: ModelConfig, *, seed: int) -> LanguageModel:
        layers.append(shape.num_layers)
        return build(shape, seed=seed)

    build = speeds.build_model
    monkeypatch.setattr(speeds, "build_model", build_model)
    return layers


def test_when_the_time_for_measuring_is_over_speeds_follow_from_operations(built: list[int]) -> None:
    speed = measured_speed(Config(), seconds=0)
    first, second = speed(_shape(1), 2), speed(_shape(4), 2)
    assert built == [1]  # one is needed, whatever it takes
    assert second == pytest.approx(first * count_flops_per_token(_shape(1)) / count_flops_per_token(_shape(4)))


def test_with_time_each_shape_is_measured(built: list[int]) -> None:
    speed = measured_speed(Config(), seconds=3600)
    assert speed(_shape(1), 2) > 0
    assert speed(_shape(4), 2) > 0
    assert built == [1, 4]
