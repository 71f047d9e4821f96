"""What is wrong with a build is found before it begins."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from llmbuilder.building.checks import check_build, check_output, check_run
from llmbuilder.config import load_config
from llmbuilder.errors import ConfigError, DataError, ExportError, LLMBuilderError, MissingDependencyError


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("Once upon a time.")
    return path


def _leave_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - free, free))


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"quantization": "q9"}, ExportError, "unknown quantization"),
        ({"output": None}, ConfigError, "--output"),
        ({"preset": "tinny"}, ConfigError, "did you mean 'tiny'"),
        ({"time_budget": -1.0}, ConfigError, "time budget"),
        ({"overrides": ["system.device=cuda:99"]}, ConfigError, "system.device=cuda:99: this machine has no cuda:99"),
        ({"documents": "nowhere"}, DataError, "no such file or folder: nowhere"),
    ],
)
def test_wrong_arguments(
    changed: dict[str, object], error: type[LLMBuilderError], said: str, text: Path, tmp_path: Path
) -> None:
    arguments = {"documents": text, "output": tmp_path / "run", **changed}
    with pytest.raises(error, match=said):
        check_build(**arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
    check_build(text, tmp_path / "run")


def test_a_device_that_a_file_names_falls_back_later(text: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("system: {device: 'cuda:99'}\n")
    assert check_build(text, tmp_path / "run", config=load_config(tmp_path / "c.yaml")).system.device == "cuda:99"


def test_a_full_volume_is_named_with_both_numbers(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _leave_free(monkeypatch, 2_000_000)
    with pytest.raises(ConfigError, match="at least 16 MB are needed and 2 MB are free"):
        check_build(text, tmp_path / "run")


def test_what_a_tuned_base_takes_follows_from_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base.safetensors"
    save_file({"weight": np.zeros((1000, 1000), np.float32)}, base)
    needed = {"lora": 16 + 2 * 4, "full": 16 + 2 * (4 + 12)}  # a base and its copy; best, last and two checkpoints
    for method, megabytes in needed.items():
        config = load_config(overrides=[f"finetuning.method={method}"])
        _leave_free(monkeypatch, megabytes * 1_000_000)
        check_run(config, tmp_path / "run", base=base)
        _leave_free(monkeypatch, megabytes * 1_000_000 - 1)
        with pytest.raises(ConfigError, match=f"at least {megabytes} MB are needed"):
            check_run(config, tmp_path / "run", base=base)


def test_rows_that_a_tokenizer_may_not_have_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _leave_free(monkeypatch, 30_000_000)
    shape = ["model.num_layers=1", "model.num_heads=1", "model.embedding_dim=64"]
    check_run(load_config(overrides=[*shape, "model.vocab_size=100000"]), tmp_path / "run")
    with pytest.raises(ConfigError, match="MB are needed and 30 MB are free"):
        check_run(load_config(overrides=[*shape, "model.intermediate_size=100000"]), tmp_path / "run")


def test_a_missing_library_is_named_with_its_command(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'llmbuilder\[wandb\]'"):
        check_build(text, tmp_path / "run", overrides=["tracking.wandb=true"])


def test_an_output_is_no_input_under_another_name(text: Path, tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(text)
    with pytest.raises(DataError, match="both input and output"):
        check_output(tmp_path / "link.txt", [text], overwrite=True)
