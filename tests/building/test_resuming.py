"""A build that is stopped goes on where it was, whatever stopped it and wherever it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import llmbuilder as lb
from llmbuilder.building import is_build, resume_build
from llmbuilder.building.journal import JOURNAL, STAGES, Journal
from llmbuilder.data import TextDataset
from llmbuilder.errors import ConfigError, DataError, LLMBuilderError
from llmbuilder.training import Callback, StoppedRun
from tests.command_line import run

SETTINGS = ["training.max_steps=12", "training.save_every=4", "training.eval_every=4", "training.warmup_steps=2",
            "model.num_layers=1", "model.embedding_dim=32", "model.num_heads=2", "model.max_seq_length=32",
            "tokenizer.vocab_size=300", "system.deterministic=true"]  # fmt: skip

# A process that ends as one without power does: after the work of a stage, before that is written down; training
# in its middle.
KILLED = """
import os, signal, sys
import llmbuilder as lb
from llmbuilder.building.journal import Journal
from llmbuilder.training import Callback

stage, settings = sys.argv[1], sys.argv[2:]
carry_out = Journal.carry_out

def until_killed(self, name, work, **more):
    def killed():
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    return carry_out(self, name, killed if name == stage and stage != "training" else work, **more)

class Kills(Callback):
    def on_step(self, metrics):
        if stage == "training" and metrics["step"] == 7:
            os.kill(os.getpid(), signal.SIGKILL)

Journal.carry_out = until_killed
lb.build("docs", "run", preset="tiny", overrides=settings, callbacks=[Kills()])
"""


@pytest.fixture
def folder(tmp_path: Path, prose: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs").mkdir()
    for number in range(20):
        (tmp_path / "docs" / f"{number}.txt").write_text(
            f"Document {number}. {prose[1500 * number : 1500 * (number + 1)]}"
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(name: str = "run", callbacks: list[Callback] | None = None, **more: Any) -> Any:
    more = {"preset": "tiny", "overrides": SETTINGS, **more}
    return lb.build("docs", name, callbacks=callbacks or [], **more)


def traces(name: str) -> dict[str, Any]:
    """Return what two builds that are the same have in common: text, tokens, weights, losses, samples, files."""
    weights = lb.load_model(f"{name}/model.pt").weights()
    summary = json.loads(Path(name, "summary.json").read_text())
    lines = [json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["validation_loss"]) for line in lines if "validation_loss" in line]
    files = sorted(path.relative_to(name).as_posix() for path in Path(name).rglob("*")
                   if path.is_file() and "lock" not in path.name)  # fmt: skip
    return {
        "text": Path(name, "corpus.txt").read_text(),
        "weights": {key: value.tolist() for key, value in weights.items()},
        "losses": losses,
        "samples": summary["samples"],
        "bits per byte": summary["bits_per_byte"],
        "files": files,
    }


def assert_alike(one: str, other: str) -> None:
    """Fail, naming the first thing in which two builds differ."""
    first, second = traces(one), traces(other)
    for what in first:
        assert first[what] == second[what], what


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_as_an_unbroken_build(folder: Path) -> None:
    build("whole")
    for stage in STAGES:
        subprocess.run(["rm", "-rf", "run"], check=True)
        killed = subprocess.run([sys.executable, "-c", KILLED, stage, *SETTINGS], capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert is_build("run")
        assert not Journal.read(Path("run")).is_finished  # type: ignore[union-attr]
        build()
        assert_alike("run", "whole")


def stop_in(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out = Journal.carry_out

    def stopped(self: Journal, name: str, work: Callable[[], Any], **more: Any) -> Any:
        def interrupted() -> None:
            raise KeyboardInterrupt

        return carry_out(self, name, interrupted if name == stage else work, **more)

    monkeypatch.setattr(Journal, "carry_out", stopped)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "training"])
def test_ctrl_c_says_what_is_kept_and_how_to_go_on(
    folder: Path, stage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched:
        stop_in(stage, patched)
        with pytest.raises(KeyboardInterrupt):
            build("a run")
    assert f"stopped while {STAGES[stage]}" in caplog.text
    assert "llmbuilder train resume 'a run'" in caplog.text
    before = list(STAGES)[: list(STAGES).index(stage)]
    assert all(STAGES[name] in caplog.text for name in before)
    said: list[str] = []
    result = resume_build("a run", announce=said.append, callbacks=[])
    assert result.training.steps == 12
    assert all(STAGES[name] in said[0] for name in before)


class StopsAt(Callback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, metrics: dict) -> None:
        if metrics["step"] == self._step:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_while_training_saves_the_step(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    build("whole")
    with pytest.raises(StoppedRun) as stopped:
        build(callbacks=[StopsAt(5)])
    steps = stopped.value.results.steps
    assert steps in (5, 6)  # the signal comes during one of them
    assert f"stopped at step {steps}; go on with: llmbuilder train resume run" in caplog.text
    assert Path("run", "model.pt").is_file()
    build()
    assert_alike("run", "whole")


def test_a_finished_build_is_returned_as_it_is(folder: Path) -> None:
    first = build()
    written = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*") if "lock" not in path.name}
    said: list[str] = []
    second = build(announce=said.append)
    assert said == ["run is built already, from the same documents with the same settings"]
    assert second.to_dict() == first.to_dict()
    assert {path: path.stat().st_mtime_ns for path in Path("run").rglob("*") if "lock" not in path.name} == written


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"overrides": [*SETTINGS, "training.batch_size=3"]}, r"training\.batch_size: \S+ then, 3 now"),
        ({"quantization": "q8_0"}, "the quantization: f16 then, q8_0 now"),
        ({"time_budget": 600.0}, "the time budget: not given then, 10 minutes now"),
    ],
)
def test_another_request_says_what_differs(folder: Path, more: dict[str, Any], said: str) -> None:
    build()
    with pytest.raises(DataError, match=said) as error:
        build(**more)
    assert "overwrite=True" in str(error.value)
    assert build(**more, overwrite=True).training.steps == 12


def test_changed_documents_are_another_request(folder: Path) -> None:
    build()
    Path("docs", "new.txt").write_text("A document that was not there before.")
    with pytest.raises(DataError, match="the documents have changed .20 files then, 21 now"):
        build()
    with pytest.raises(DataError, match=r"the documents: .*docs then, .*docs.0\.txt now"):
        lb.build("docs/0.txt", "run", preset="tiny", overrides=SETTINGS)


def test_train_resume_finishes_a_build_and_trains_a_finished_one_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_in("samples", patched)
        with pytest.raises(KeyboardInterrupt):
            build()
    done = run("train", "resume", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert Path("run", "summary.md").is_file() and Path("run", "model.gguf").is_file()
    longer = run("train", "resume", "run", "--set", "training.max_steps=20", "--json", cwd=folder)
    assert json.loads(longer.stdout)["training"]["steps"] == 20
    assert json.loads(Path("run", "summary.json").read_text())["training"]["steps"] == 20


def test_an_overwriting_build_that_is_stopped_does_not_go_on_with_the_earlier_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build()
    others = {"overrides": [*SETTINGS, "system.seed=7"]}
    with monkeypatch.context() as patched:
        stop_in("plan", patched)
        with pytest.raises(KeyboardInterrupt):
            build(**others, overwrite=True)
    build(**others)
    build("whole", **others)
    assert_alike("run", "whole")


def test_a_full_disk_keeps_what_is_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("llmbuilder.building.stages.export_gguf", _no_space)
        with pytest.raises(LLMBuilderError, match="No space left"):
            build()
    assert Journal.read(Path("run")).has("samples")  # type: ignore[union-attr]
    build()
    assert Path("run", "model.gguf").is_file()


def _no_space(*_: Any, **__: Any) -> None:
    raise LLMBuilderError("cannot write run/model.gguf: No space left on device")


def test_a_damaged_journal_is_named(folder: Path) -> None:
    Path("run").mkdir()
    Path("run", JOURNAL).write_text("{")
    with pytest.raises(DataError, match=r"run/build\.json is damaged"):
        build()


def test_what_is_done_is_done_again_where_its_files_are_gone(folder: Path) -> None:
    build("whole")
    build()
    for name in ("model.gguf", "summary.json"):
        Path("run", name).unlink()
    build()
    assert Path("run", "model.gguf").is_file()
    assert torch.equal(lb.load_model("run/model.pt").lm_head.weight, lb.load_model("whole/model.pt").lm_head.weight)


def test_the_command_line_goes_on_too(folder: Path) -> None:
    command = ("build", "docs", "--output", "run", "--preset", "tiny", "--quiet")
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    run(*command, *settings, cwd=folder)
    again = run(*command[:-1], *settings, cwd=folder)
    assert "run is built already" in again.stderr
    other = run(*command, *settings, "--quantization", "q8_0", cwd=folder, status=1)
    assert "the quantization: f16 then, q8_0 now" in other.stderr
    assert "or pass --overwrite to begin again in its place" in other.stderr
    run(*command, *settings, "--quantization", "q8_0", "--overwrite", cwd=folder)


def test_sigterm_outside_training_says_where_it_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    carry_out = Journal.carry_out

    def terminated(self: Journal, name: str, work: Callable[[], Any], **more: Any) -> Any:
        if name == "samples":
            os.kill(os.getpid(), signal.SIGTERM)
        return carry_out(self, name, work, **more)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "carry_out", terminated)
        with pytest.raises(SystemExit) as left:
            build()
    assert left.value.code == 143
    assert "stopped while evaluating" in caplog.text
    assert signal.getsignal(signal.SIGTERM) is before


def test_checkpoints_that_are_all_damaged_cost_the_training_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(Callback):
        def on_step(self, metrics: dict) -> None:
            if metrics["step"] == 7:
                raise RuntimeError("no power")

    build("whole")
    with pytest.raises(RuntimeError, match="no power"):
        build(callbacks=[Fails()])
    for path in Path("run", "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    said: list[str] = []
    build(announce=said.append)
    assert any("no usable checkpoint" in line and "has to begin again, and it does" in line for line in said)
    assert_alike("run", "whole")


def test_another_run_in_the_place_of_a_builds_own_is_not_taken_for_it(folder: Path) -> None:
    build()
    Path("text.txt").write_text(Path("docs", "0.txt").read_text() * 3)
    train = ("train", "model", "--preset", "tiny", "--data", "text.txt", "--set", "training.max_steps=2")
    refused = run(*train, "--output", "run", "--overwrite", cwd=folder, status=1).stderr
    assert "run holds a build: `llmbuilder build ... --overwrite` replaces it" in refused
    config = lb.load_config(preset="tiny", overrides=SETTINGS)
    lb.train_model(lb.build_model(config), TextDataset("text.txt", 32), config, "run", [], overwrite=True)
    for again in (build, lambda: resume_build("run")):
        with pytest.raises(DataError, match="another was trained there: pass overwrite=True"):
            again()
    assert build(overwrite=True).training.steps == 12


def test_settings_of_a_complete_training_are_refused_and_those_of_one_at_work_are_told(folder: Path) -> None:
    with pytest.raises(StoppedRun):
        build(callbacks=[StopsAt(5)])
    with pytest.raises(StoppedRun):
        resume_build("run", overrides=["training.log_every=3"], callbacks=[StopsAt(9)])
    said: list[str] = []
    build(announce=said.append)
    assert "Training goes on with training.log_every=3, as `train resume` was asked for" in said
    before = traces("run")
    with pytest.raises(ConfigError, match=r"learning_rate would not act here: the training of run is complete; train"):
        resume_build("run", overrides=["training.learning_rate=0.001"])
    assert traces("run") == before
