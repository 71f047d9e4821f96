"""Every number of the configuration has a range, and one outside it is found, named and mended."""

from __future__ import annotations

import copy
import pickle
from typing import Any, get_args

import pytest

import llmbuilder as lb
from llmbuilder.config import Config, fix_config, validate_config, whole_config
from llmbuilder.config.ranges import range_of
from llmbuilder.config.recipe import resolve_recipe
from llmbuilder.config.schema import Section
from llmbuilder.data import TextDataset
from llmbuilder.errors import ConfigError

SETTINGS = [
    (section, key)
    for section, info in Config.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
    for key in info.annotation.model_fields
]


def field_of(section: str, key: str) -> Any:
    return Config.model_fields[section].annotation.model_fields[key]  # type: ignore[union-attr]


def mentions_numbers(annotation: Any) -> bool:
    return annotation in (int, float) or any(map(mentions_numbers, get_args(annotation)))


@pytest.mark.parametrize(("section", "key"), [s for s in SETTINGS if mentions_numbers(field_of(*s).annotation)])
def test_every_number_has_a_range_that_is_held(section: str, key: str) -> None:
    limits = range_of(field_of(section, key))
    assert limits is not None, f"{section}.{key} takes any number"
    default = field_of(section, key).get_default(call_default_factory=True)
    for wrong in (float("nan"), float("inf"), -1e18):
        values = [wrong] if not isinstance(default, dict) else [{"words": (wrong, None)}, {"raw": wrong}]
        for value in values:
            config = Config()
            try:
                setattr(getattr(config, section), key, value)
            except ValueError:
                continue  # not even of the type, such as a whole number that is NaN
            if limits.holds(wrong):
                continue
            valid, problems = validate_config(config)
            assert not valid
            assert f"{section}.{key}" in {problem.path for problem in problems}


@pytest.mark.parametrize(
    "setting",
    [
        "training.embedding_learning_rate=-1", "training.time_budget_seconds=-5", "data.min_language_score=7",
        "data.file_seconds=-1", "data.near_duplicates=3", "data.train_split=-3", "data.repeated_lines=1",
        "generation.top_k=-1", "system.seed=-1", "training.sample_every=-1", "data.mixture={raw: -1}",
    ],
)  # fmt: skip
def test_what_cannot_be_is_found_and_mended(setting: str) -> None:
    config = lb.load_config(overrides=[setting])
    valid, problems = validate_config(config)
    assert not valid
    assert [problem.path for problem in problems] == [setting.split("=")[0]]
    assert validate_config(fix_config(config))[0]


@pytest.mark.parametrize(
    "setting",
    [
        "training.embedding_learning_rate=0", "data.near_duplicates=auto", "data.near_duplicates=1", "model.dropout=0",
        "training.learning_rate=auto", "training.eval_every=0", "model.dropout=0.0", "generation.top_k=null",
        "data.filter_limits={words: [null, 5]}", "system.seed=0",
    ],
)  # fmt: skip
def test_what_can_be_passes(setting: str) -> None:
    assert validate_config(lb.load_config(overrides=[setting])) == (True, [])


def test_training_refuses_what_cannot_be(tiny_config: Config, prose: str) -> None:
    tiny_config.training.embedding_learning_rate = -1
    model = lb.build_model(tiny_config)
    dataset = TextDataset([prose], block_size=32)
    with pytest.raises(
        ConfigError, match=r"training.embedding_learning_rate \(-1.0\) must be at least 0 and less than 1"
    ):
        lb.train_model(model, dataset, tiny_config)


@pytest.mark.parametrize("value", [0.02, 0.0])
def test_a_rate_that_was_set_stays_whatever_the_default_is(value: float) -> None:
    settings = {"training.optimizer": "muon", "training.learning_rate": "auto", "training.muon_learning_rate": value}
    config = lb.load_config(preset="tiny", overrides=settings)
    resolve_recipe(config, 100_000, 1 << 33)
    assert config.training.muon_learning_rate == value


def test_a_rate_of_zero_moves_nothing(tiny_config: Config, prose: str, tmp_path: Any) -> None:
    for name, value in {"embedding_learning_rate": 0.0, "weight_decay": 0.0, "optimizer": "adamw"}.items():
        setattr(tiny_config.training, name, value)
    tiny_config.model.tie_embeddings = False
    model = lb.build_model(tiny_config)
    before = {name: tensor.clone() for name, tensor in model.weights().items()}
    lb.train_model(model, TextDataset([prose], block_size=32), tiny_config, tmp_path / "run", callbacks=[])
    after = model.weights()
    same = {name for name in before if before[name].equal(after[name].cpu())}
    assert same == {"model.embed_tokens.weight"}


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda it: it.model_copy(), lambda it: pickle.loads(pickle.dumps(it))]
)
def test_copies_and_pickles_know_where_they_belong(copied: Any) -> None:
    config = lb.load_config(preset="tiny", overrides={"system.seed": 7})
    other = copied(config)
    assert other == config
    assert other is not config
    other.training.batch_size = 3
    assert config.training.batch_size != 3
    assert whole_config(other.training) is other
    assert whole_config(config.training) is config
    section = copied(config.training)
    assert section == config.training
    whole = whole_config(section)
    assert whole is not None
    assert whole.system.seed == 7
    assert whole_config(copied(type(config.training)())) is None
