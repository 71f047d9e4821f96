"""The sinks against the real libraries, without a network."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.files import read_json_lines
from llmbuilder.model import build_model
from llmbuilder.training import train_model


def train(config: Config, prose: str, run: Path) -> None:
    train_model(build_model(config), TextDataset([prose], 32, train_split=0.9), config, run, callbacks=[])


def test_tensorboard_reads_what_was_logged(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tiny_config.tracking.tensorboard = True
    train(tiny_config, prose, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    logged = [(line["step"], line["loss"]) for line in read_json_lines(tmp_path / "run" / "metrics.jsonl")
              if "loss" in line]  # fmt: skip
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (step, pytest.approx(loss)) for step, loss in logged
    ]
    assert {"validation_loss", "tokens_per_second", "learning_rate"} <= set(events.Tags()["scalars"])
    assert any("sample" in tag for tag in events.Tags()["tensors"])


def test_trackio_keeps_what_was_logged(
    tmp_path: Path, tiny_config: Config, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio")
    import trackio.utils

    for module in (trackio, trackio.utils, __import__("trackio.sqlite_storage").sqlite_storage):
        for name in ("TRACKIO_DIR",):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tmp_path / "trackio")
    tiny_config.tracking.trackio = True
    tiny_config.tracking.trackio_project = "offline"
    train(tiny_config, prose, tmp_path / "run")
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select metrics from metrics").fetchall()
    assert len(rows) >= 6
