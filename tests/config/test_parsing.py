"""JSON and YAML as people write them: words, byte-order marks, keys that stand twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbuilder.config import load_config
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
        ConfigError, match=r"theirs.yaml: data.classifier names code to import \(os:system\).*--allow-code"
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
