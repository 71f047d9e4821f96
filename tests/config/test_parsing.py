"""JSON and YAML as people write them: words, byte-order marks, keys that stand twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmbuilder.config import load_config
from llmbuilder.config.parsing import parse_value
from llmbuilder.errors import ConfigError


@pytest.mark.parametrize("word", ["no", "bf16"])
def test_words_that_yaml_once_took_for_booleans_stay_words(tmp_path: Path, word: str) -> None:
    (tmp_path / "c.yaml").write_text(f"training:\n  mixed_precision: {word}\ndata:\n  languages: [en, no]\n")
    config = load_config(tmp_path / "c.yaml")
    assert config.training.mixed_precision == word
    assert config.data.languages == ["en", "no"]
    config = load_config(overrides=[f"training.mixed_precision={word}", "data.languages=[en, no]"])
    assert (config.training.mixed_precision, config.data.languages) == (word, ["en", "no"])


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("False", False), ("yes", True), ("off", False), ("0", False)]
)
def test_booleans_are_still_read_however_they_are_written(text: str, value: bool) -> None:
    assert load_config(overrides=[f"system.compile={text}"]).system.compile is value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "training:\n  max_steps: 5\nmodel:\n  num_layers: 2\ntraining:\n  batch_size: 3\n"),
        ("c.json", '{"training": {"max_steps": 5}, "training": {"batch_size": 3}}'),
        ("c.json", '{"training": {"max_steps": 5, "max_steps": 6}}'),
    ],
)
def test_a_key_that_stands_twice_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=r"the key '(training|max_steps)' stands twice.*write it once"):
        load_config(tmp_path / name)


def test_merged_mappings_may_be_overridden(tmp_path: Path) -> None:
    text = "model: &small\n  num_layers: 2\n  num_heads: 2\ntraining: {max_steps: 5}\n"
    (tmp_path / "c.yaml").write_text(text.replace("num_heads", "<<: {num_heads: 8}\n  num_heads"))
    assert load_config(tmp_path / "c.yaml").model.num_heads == 2


def test_a_file_names_no_code_unless_it_is_trusted(tmp_path: Path) -> None:
    path = tmp_path / "theirs.yaml"
    path.write_text("data:\n  classifier: os:system\n")
    with pytest.raises(
        ConfigError, match=r"theirs.yaml: data.classifier names code to import \(os:system\).*allow_code=True"
    ):
        load_config(path)
    assert load_config(path, allow_code=True).data.classifier == "os:system"
    assert load_config(overrides=["data.classifier=taste:score"]).data.classifier == "taste:score"
    path.write_text("data:\n  classifier: quality.ftz\n")
    assert load_config(path).data.classifier == "quality.ftz"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"training": {"max_steps": 7}}'),
        ("c.yaml", "training:\n  max_steps: 7\n"),
        ("c.py", "max_iters = 7\nn_layer = 2\n"),
    ],
)
def test_a_byte_order_mark_is_accepted(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_config(tmp_path / name).training.max_steps == 7


ALIASES = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}\n" for level in range(1, 9)
)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("c.yaml", ALIASES, "more than 100,000 values"),
        ("c.yaml", MERGES, "more than 100,000 values"),
        ("c.yaml", "a: &a [*a]", "more than 100,000 values"),
        ("c.yaml", "a: " + "[" * 20_000, "nested too deeply"),
        ("c.json", '{"a": ' + "[" * 100_000, "nested too deeply"),
        ("c.json", '{"a": ' + "[" * 200 + "]" * 200 + "}", "a is nested too deeply"),
        ("c.json", '{"model": {"name": "x\\ud800"}}', r"model.name holds half a character .*ud800"),
        ("c.json", '{"model": {"\\ud800": 1}}', r"the key '.ud800' holds half a character"),
        ("c.json", '{"training": {"learning_rate": NaN}}', "training.learning_rate is nan"),
        ("c.json", '{"n_layer": -Infinity}', "n_layer is -inf"),
        ("c.yaml", "training: {learning_rate: .inf}", "training.learning_rate is inf"),
        ("c.json", '{"n_layer": 1' + "0" * 5000 + "}", "holds a value that cannot be read"),
        ("c.yaml", "a: 010", "010 could be a decimal or an octal number: write 10"),
    ],
)
def test_what_could_not_be_written_again_is_refused_by_name(tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"{name}.*{problem}"):
        load_config(tmp_path / name)


def test_aliases_that_a_file_could_hold_are_welcome(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model: {num_layers: &two 2, num_heads: *two}\ntraining: {max_steps: *two}\n")
    assert load_config(tmp_path / "c.yaml").training.max_steps == 2
    assert parse_value("[" * 20_000) == "[" * 20_000
    assert parse_value(json.dumps([1, {"a": 2}])) == [1, {"a": 2}]
