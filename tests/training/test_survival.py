"""What a run survives: kills at any moment, a second run, a full disk, vanished data, bad losses."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.errors import DataError, LLMBuilderError, TrainingError
from llmbuilder.files import read_json_lines
from llmbuilder.locking import locked_folder
from llmbuilder.model import build_model, load_model
from llmbuilder.training import resume_training, train_model
from llmbuilder.training.loop.anomalies import LossWatch
from llmbuilder.training.storage.checkpoints import list_checkpoints, read_checkpoint

STEPS = 150


def losses(run: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_json_lines(run / "metrics.jsonl") if "loss" in line]


def train(config: Config, prose: str, run: Path, **options: object) -> object:
    dataset = TextDataset([prose], config.model.max_seq_length, train_split=0.9)
    return train_model(build_model(config), dataset, config, run, **{"callbacks": [], **options})  # type: ignore[arg-type]


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "llmbuilder", "train", *arguments, "--quiet"]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip


def kill_when(process: subprocess.Popen[bytes], ready: object) -> bool:
    """Kill a process the moment `ready()` is true; False if it ended before that."""
    deadline = time.monotonic() + 120
    while not ready():  # type: ignore[operator]
        if process.poll() is not None:
            assert process.returncode == 0
            return False
        assert time.monotonic() < deadline, "the run does not advance"
        time.sleep(0.001)  # a checkpoint takes longer to write, and watching takes no processor from the run
    process.kill()
    process.wait()
    return True


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    """Five kills, two of them while a checkpoint is being written; TEST_KILLS seeds other moments."""
    tiny_config.training.max_steps = STEPS
    tiny_config.training.save_every = 4
    tiny_config.training.log_every = 1
    tiny_config.training.optimizer = "muon"
    tiny_config.training.learning_rate = 3e-3
    tiny_config.model.dropout = 0.1
    tiny_config.save(tmp_path / "config.json")
    (tmp_path / "data.txt").write_text(prose)
    begin = ["model", "--config", "config.json", "--data", "data.txt", "--output"]
    assert start(tmp_path, *begin, "whole").wait() == 0

    run = tmp_path / "killed"
    moments = random.Random(os.environ.get("TEST_KILLS", "0"))
    arguments = [*begin, "killed"]
    deaths = 0
    for kill in range(5):
        first = losses(run)[-1][0] if losses(run) else 0
        process = start(tmp_path, *arguments)
        at = first + moments.randint(6, 25)

        def at_a_step(at: int = at) -> bool:
            return bool(losses(run)) and losses(run)[-1][0] >= at

        def while_writing(at: int = at) -> bool:
            return at_a_step(at) and any((run / "checkpoints").glob(".step-*.tmp"))

        deaths += kill_when(process, while_writing if kill % 2 else at_a_step)
        arguments = ["resume", "killed"]
    assert deaths >= 4
    assert start(tmp_path, "resume", "killed").wait() == 0
    assert losses(run) == losses(tmp_path / "whole")
    assert not list(run.rglob("*.tmp"))
    weights = [load_model(folder, "cpu").weights() for folder in (run, tmp_path / "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_second_run_on_one_directory_is_refused(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    train(tiny_config, prose, tmp_path / "run")
    holder = (
        "import sys, time; from pathlib import Path; from llmbuilder.locking import locked_folder\n"
        "with locked_folder(Path(sys.argv[1]), RuntimeError): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(TrainingError, match=rf"is in use by process {other.pid} on .* since 20"):
        resume_training(tmp_path / "run", callbacks=[])
    with pytest.raises(TrainingError, match="is in use"):
        train(tiny_config, prose, tmp_path / "run", overwrite=True)
    other.kill()  # leaves its files behind: a stale lock
    other.wait()
    assert (tmp_path / "run" / ".lock.json").exists()
    assert resume_training(tmp_path / "run", callbacks=[]).steps == 12
    with locked_folder(tmp_path / "run", TrainingError):
        pass


def test_what_a_killed_sharded_checkpoint_leaves_is_removed(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    train(tiny_config, prose, tmp_path / "run")
    unfinished = tmp_path / "run" / "checkpoints" / ".step-00000099.tmp"
    unfinished.mkdir()
    (unfinished / "shard-00001.safetensors").write_bytes(b"half")
    assert resume_training(tmp_path / "run", overrides=["training.max_steps=13"], callbacks=[]).steps == 13
    assert not unfinished.exists()


FILLS_ITS_DISK = """
import resource, signal, sys
from llmbuilder.cli.main import run
from llmbuilder.training.loop import trainer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
one_step = trainer.Trainer.one_step
def filling(self, *arguments):
    if self.state.step == 9:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    return one_step(self, *arguments)
trainer.Trainer.one_step = filling
run()
"""


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    """A real refused write: the child process may not write files as large as a checkpoint from step 9 on."""
    run = tmp_path / "run"
    tiny_config.save(tmp_path / "config.json")
    (tmp_path / "data.txt").write_text(prose)
    arguments = ["train", "model", "--config", "config.json", "--data", "data.txt", "--output", "run"]
    done = subprocess.run([sys.executable, "-c", FILLS_ITS_DISK, *arguments], cwd=tmp_path, capture_output=True,
                          text=True, timeout=240)  # fmt: skip
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert [read_checkpoint(path).step for path in list_checkpoints(run / "checkpoints")] == [4, 8]
    assert resume_training(run, callbacks=[]).steps == 12


def test_vanished_tokens_are_named(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    train(tiny_config, prose, tmp_path / "run")
    (tmp_path / "run" / "tokens" / "train.bin").rename(tmp_path / "elsewhere.bin")
    with pytest.raises(LLMBuilderError, match="tokens"):
        resume_training(tmp_path / "run", overrides=["training.max_steps=14"], callbacks=[])
    (tmp_path / "elsewhere.bin").rename(tmp_path / "run" / "tokens" / "train.bin")
    assert resume_training(tmp_path / "run", overrides=["training.max_steps=14"], callbacks=[]).steps == 14
    (tmp_path / "run" / "tokens").rename(tmp_path / "gone")
    with pytest.raises(DataError, match="are gone: there is no folder"):
        resume_training(tmp_path / "run", callbacks=[])


class BadBatch:
    """Makes the loss of one batch, by its number, what it should not be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, factor: float) -> None:
        from llmbuilder.training.loop.learner import Learner
        from llmbuilder.training.loop.trainer import Trainer

        honest_step, honest_loss = Trainer.one_step, Learner.summed_loss
        self.position, self.sequences_per_step = -1, 1

        def one_step(trainer: Trainer, *arguments: Any) -> dict[str, Any] | None:
            self.position = trainer.state.position
            self.sequences_per_step = trainer.batches.sequences_per_step
            return honest_step(trainer, *arguments)

        def loss(learner: Learner, *batch: torch.Tensor) -> torch.Tensor:
            bad = torch.is_grad_enabled() and self.position == number * self.sequences_per_step
            return honest_loss(learner, *batch) * (factor if bad else 1.0)

        monkeypatch.setattr(Trainer, "one_step", one_step)
        monkeypatch.setattr(Learner, "summed_loss", loss)


def test_skip_leaves_the_batch_out(
    tmp_path: Path, tiny_config: Config, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    BadBatch(monkeypatch, 5, float("nan"))
    tiny_config.training.loss_spike_policy = "skip"
    tiny_config.training.log_every = 1
    results = train(tiny_config, prose, tmp_path / "run")
    assert results.steps == 12  # type: ignore[attr-defined]
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 13))
    events = [line["event"] for line in read_json_lines(tmp_path / "run" / "metrics.jsonl") if "event" in line]
    assert events == ["the loss became nan at step 6: its batch was left out"]
    assert read_checkpoint(list_checkpoints(tmp_path / "run" / "checkpoints")[-1]).sequences_left_out == 4
    assert load_model(tmp_path / "run", "cpu").embedding.weight.isfinite().all()


def test_rewind_goes_back_and_around(
    tmp_path: Path, tiny_config: Config, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    BadBatch(monkeypatch, 6, float("inf"))
    tiny_config.training.loss_spike_policy = "rewind"
    tiny_config.training.log_every = 1
    results = train(tiny_config, prose, tmp_path / "run")
    assert results.steps == 12  # type: ignore[attr-defined]
    lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert [line["event"] for line in lines if "event" in line] == [
        "the loss became inf at step 7: back to step 4, without the batches since"
    ]
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 13)), "each step once, as it was in the end"
    assert lines == results.history  # type: ignore[attr-defined]
    assert read_checkpoint(list_checkpoints(tmp_path / "run" / "checkpoints")[-1]).sequences_left_out == 12


def test_stop_leaves_what_is_needed_to_look_into_it(
    tmp_path: Path, tiny_config: Config, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_config.training.max_steps = 60
    BadBatch(monkeypatch, 45, 3.0)
    with pytest.raises(TrainingError, match=r"the loss rose to .* at step 46.*state before that step is saved"):
        train(tiny_config, prose, tmp_path / "run")
    incident = json.loads((tmp_path / "run" / "bad-step.json").read_text())
    assert incident["step"] == 46
    assert len(incident["texts"]) == len(incident["window_starts"])
    assert incident["texts"][0] in prose
    assert len(incident["recent_losses"]) == 8
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].stem.endswith("45")
    resumed = resume_training(tmp_path / "run", overrides=["training.loss_spike_policy=skip"], callbacks=[])
    assert resumed.steps == 60


def test_rewind_reaches_past_a_checkpoint_of_spoiled_weights(
    tmp_path: Path, tiny_config: Config, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmbuilder.training.loop.learner import Learner

    tiny_config.training.max_steps = 60
    honest, is_at_fault = Learner.update_weights, True

    def update(learner: Learner) -> None:
        honest(learner)
        if is_at_fault and len(seen) == 45:
            for parameter in learner.model.parameters():
                parameter.data.mul_(20)
        seen.append(1)

    seen: list[int] = []
    monkeypatch.setattr(Learner, "update_weights", update)
    with pytest.raises(TrainingError, match=r"rose to .* at step 47, at a learning rate of .*policy=rewind` goes back"):
        train(tiny_config, prose, tmp_path / "run")
    is_at_fault = False
    folder = tmp_path / "run" / "checkpoints"
    assert list_checkpoints(folder)[-1].stem.endswith("46"), "its weights are the spoiled ones"
    results = resume_training(tmp_path / "run", overrides=["training.loss_spike_policy=rewind"], callbacks=[])
    assert results.steps == 60
    events = [line["event"] for line in results.history if "event" in line]
    assert [event.partition(": back to ")[2] for event in events] == ["step 44, without the batches since"]
    assert results.final_loss < 4, "from weights that were sound"


def test_a_falling_noisy_loss_is_no_spike() -> None:
    noise = random.Random(0)
    watch = LossWatch(10.0)
    for step in range(5000):
        assert watch.problem(3 / (1 + step / 500) + 1 + noise.gauss(0, 0.15), 1.0) is None
    assert "standard deviations" in str(watch.problem(9.0, 1.0))
    by_one, hard = LossWatch(10.0, sequences_per_step=1), random.Random(1)
    for step in range(5000):  # a hundredth of the text is much harder than the rest
        loss = (3 if hard.random() < 0.01 else 1) * (3 / (1 + step / 500) + 1) + hard.gauss(0, 0.05)
        assert by_one.problem(loss, 1.0) is None
    assert "standard deviations" in str(by_one.problem(30.0, 1.0))
    assert LossWatch(0.0).problem(1e9, 1.0) is None
    assert "gradient norm became inf" in str(LossWatch(0.0).problem(1.0, float("inf")))
