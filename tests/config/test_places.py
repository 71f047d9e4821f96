"""A message about a setting names where its value comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbuilder.config import Config, load_config, validate_config
from llmbuilder.config.aliases import ALIASES, meant_settings
from llmbuilder.config.in_force import all_settings
from llmbuilder.errors import ConfigError, for_command_line


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("c.yaml", "model:\n  num_layers: 2\ntraining:\n  batch_size: 0\n", "c.yaml, line 4: "),
        ("c.yaml", "training:\r\n  # of a laptop\r\n  batch_size: 0\r\n", "c.yaml, line 3: "),
        ("c.json", '{\n\t"training": {\n\t\t"batch_size": 0\n\t}\n}', "c.json, line 3: "),
        ("c.json", '{"n_layer": 2,\n "batch_size": 0}', "c.json, line 2 (batch_size): "),
        ("c.py", "n_layer = 2\nbatch_size = 0  # try\n", "c.py, line 2 (batch_size): "),
    ],
)
def test_a_value_of_a_file_is_named_with_its_line(tmp_path: Path, name: str, text: str, place: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    wrong = [problem for problem in validate_config(load_config(tmp_path / name))[1] if "batch_size" in problem.path]
    assert str(wrong[0]).startswith(f"{tmp_path}/{place}training.batch_size (0)")


def test_the_last_place_counts_and_a_later_change_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(config: Config) -> str:
        return "\n".join(map(str, validate_config(config)[1]))

    monkeypatch.setenv("LLMBUILDER_TRAINING__BATCH_SIZE", "0")
    config = load_config(preset="tiny")
    assert said(config).startswith("the environment variable LLMBUILDER_TRAINING__BATCH_SIZE: training.batch_size")
    assert said(config.copy_of()) == said(config)
    config.training.batch_size = -1
    assert said(config).startswith("training.batch_size (-1)")
    given = load_config(preset="tiny", overrides=["training.batch_size=-2"])
    assert for_command_line(said(given)).startswith("--set training.batch_size=-2: training.batch_size (-2)")
    assert given == Config.model_validate(given.to_dict()), "places take no part in equality"


def test_every_alias_leads_to_a_setting() -> None:
    assert set(ALIASES.values()) <= set(all_settings())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "training.learning_rate"), ("epochs", "training.num_epochs"), ("bs", "training.batch_size"),
        ("n_layer", "model.num_layers"), ("context", "model.max_seq_length"), ("block_size", "model.max_seq_length"),
        ("n_embd", "model.embedding_dim"), ("wd", "training.weight_decay"), ("training.dropout", "model.dropout"),
        ("data.batch_size", "training.batch_size"), ("per-device-train-batch-size", "training.batch_size"),
        ("learningRate", "training.learning_rate"), ("training.learning_rat", "training.learning_rate"),
        ("hidden_size", "model.embedding_dim"), ("n_predict", "generation.max_new_tokens"),
    ],
)  # fmt: skip
def test_names_of_elsewhere_lead_to_the_setting(name: str, meant: str) -> None:
    assert meant_settings(name)[0] == meant


def test_a_section_without_keys_is_empty_and_a_file_without_sections_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("training:\n  # batch_size: 2\nmodel:\n  num_layers: 3\n")
    assert load_config(path).model.num_layers == 3
    for text in ("", "# nothing\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="c.yaml .*(empty|nothing but comments)"):
            load_config(path)


def test_numbers_are_those_of_one_version_of_yaml(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("training: {learning_rate: 1e-4}\ntracking: {wandb_run_name: 2024-01-01}\nsystem: {seed: 1_000}\n")
    config = load_config(path)
    assert (config.training.learning_rate, config.tracking.wandb_run_name, config.system.seed) == (
        1e-4,
        "2024-01-01",
        1000,
    )
    with pytest.raises(ConfigError, match=r"seed=010: 010 could be .* write 10, or 0o10"):
        load_config(overrides=["system.seed=010"])
    with pytest.raises(ConfigError, match="line 2: the key 'seed' stands twice|stands twice in the mapping at line"):
        (tmp_path / "c.json").write_text('{"system":\n {"seed": 1, "seed": 2}}')
        load_config(tmp_path / "c.json")
