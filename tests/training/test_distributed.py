"""Real processes that train together: the same losses as one, resuming with other numbers of them, and deaths."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.errors import ConfigError, DataError, MissingDependencyError, TrainingError
from llmbuilder.files import read_json_lines
from llmbuilder.model import build_model, load_model
from llmbuilder.training import resume_training, train_model
from llmbuilder.training.loop.batches import StepBatches
from llmbuilder.training.processes.distributed import Processes
from llmbuilder.training.storage.checkpoints import list_checkpoints, read_checkpoint
from tests.shared import made_once
from tests.training.starting_world import processes_in

STEPS = 12
SETTINGS = {
    "model.model_type": "llama", "model.qk_norm": True, "model.num_layers": 2, "model.num_heads": 2,
    "model.embedding_dim": 32, "model.vocab_size": 64, "model.max_seq_length": 16, "model.dropout": 0.0,
    "model.tie_embeddings": False, "training.batch_size": 4, "training.gradient_accumulation_steps": 2,
    "training.max_steps": STEPS, "training.lr_decay_steps": STEPS, "training.warmup_steps": 2,
    "training.learning_rate": 3e-3, "training.eval_every": 6, "training.save_every": 4, "training.log_every": 1,
    "system.device": "cpu", "system.num_threads": 1, "system.distributed_timeout_seconds": 60,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    random = np.random.default_rng(0)
    for name, count in (("train", 4000), ("val", 500)):
        ((np.arange(count) * 7 % 13 + random.integers(0, 4, count)) % 64).astype(np.uint16).tofile(
            folder / f"{name}.bin"
        )
    return folder


def settings(**more: object) -> list[str]:
    values = {**SETTINGS, **{name.replace("__", "."): value for name, value in more.items()}}
    return [part for name, value in values.items() for part in ("--set", f"{name}={json.dumps(value).strip(chr(34))}")]


def llmbuilder(*arguments: object, fails: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmbuilder", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment())
    assert (done.returncode != 0) == fails, done.stderr[-3000:]
    return done


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_json_lines(run / "metrics.jsonl") if "loss" in line]


def validation_losses(run: Path) -> list[float]:
    return [line["validation_loss"] for line in read_json_lines(run / "metrics.jsonl") if "validation_loss" in line]


@pytest.fixture(scope="module")
def alone(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of a single process, only to be read."""

    def make(folder: Path) -> None:
        for optimizer in ("adamw", "muon"):
            config = Config()
            for name, value in {**SETTINGS, "training.optimizer": optimizer}.items():
                section, key = name.split(".")
                setattr(getattr(config, section), key, value)
            train_model(build_model(config), TextDataset(tokens, 16), config, folder / optimizer, callbacks=[])

    folder = made_once(tmp_path_factory, "alone", make)
    return {optimizer: folder / optimizer for optimizer in ("adamw", "muon")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "strategy", "optimizer"), [(2, "ddp", "muon"), (4, "ddp", "adamw"), (2, "fsdp", "adamw")]
)
def test_processes_together_reach_the_losses_of_one(
    tokens: Path, alone: dict[str, Path], tmp_path: Path, processes: int, strategy: str, optimizer: str
) -> None:
    run = tmp_path / "run"
    more = settings(training__optimizer=optimizer, system__distributed_strategy=strategy)
    llmbuilder("train", "model", "--data", tokens, "--output", run, "--nproc", processes, *more)
    assert losses(run) == pytest.approx(losses(alone[optimizer]), abs=1e-5)
    assert losses(run)[-1] < losses(run)[0] - 0.5, "something was learned"
    assert validation_losses(run) == pytest.approx(validation_losses(alone[optimizer]), abs=1e-5)
    assert json.loads((run / "run.json").read_text())["processes"] == processes
    ours, theirs = load_model(run, "cpu").weights(), load_model(alone[optimizer], "cpu").weights()
    assert max((ours[name] - theirs[name]).abs().max().item() for name in theirs) < 1e-4


@pytest.mark.slow
def test_sharded_run_goes_on_with_other_numbers_of_processes(
    tokens: Path, alone: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    more = settings(system__distributed_strategy="fsdp", training__max_steps=4)
    llmbuilder("train", "model", "--data", tokens, "--output", run, "--nproc", 2, *more)
    (checkpoint,) = list_checkpoints(run / "checkpoints")
    assert {path.suffix for path in checkpoint.iterdir()} == {".safetensors", ".json", ".pt"}
    llmbuilder("train", "resume", run, "--nproc", 4, "--set", "training.max_steps=8")
    llmbuilder("train", "resume", run, "--set", f"training.max_steps={STEPS}")
    assert losses(run) == pytest.approx(losses(alone["adamw"]), abs=1e-5)
    assert [path.is_dir() for path in list_checkpoints(run / "checkpoints")] == [True, False]
    llmbuilder("train", "resume", run, "--nproc", 2, "--set", f"training.max_steps={STEPS + 2}")
    assert len(losses(run)) == STEPS + 2, "and from a whole checkpoint into shards"
    shard = next(list_checkpoints(run / "checkpoints")[-1].glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    done = llmbuilder("train", "resume", run, "--set", f"training.max_steps={STEPS + 3}")
    assert f"the checksum of {shard.name} does not match" in done.stderr


@pytest.mark.slow
def test_a_sharded_model_with_tied_embeddings_is_saved_and_goes_on(tokens: Path, tmp_path: Path) -> None:
    tied = {"model__tie_embeddings": True, "training__eval_every": 0}
    llmbuilder("train", "model", "--data", tokens, "--output", tmp_path / "alone", *settings(**tied))
    run, more = tmp_path / "run", settings(**tied, system__distributed_strategy="fsdp", training__max_steps=4)
    llmbuilder("train", "model", "--data", tokens, "--output", run, "--nproc", 2, *more)
    llmbuilder("train", "resume", run, "--nproc", 2, "--set", "training.max_steps=8")
    llmbuilder("train", "resume", run, "--set", "training.max_steps=10")
    llmbuilder("train", "resume", run, "--nproc", 2, "--set", f"training.max_steps={STEPS}")
    assert losses(run) == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)
    ours, theirs = load_model(run, "cpu").weights(), load_model(tmp_path / "alone", "cpu").weights()
    assert max((ours[name] - theirs[name]).abs().max().item() for name in theirs) < 1e-4


def test_rules_hold_on_resuming_too(alone: dict[str, Path]) -> None:
    before = (alone["muon"] / "config.json").read_bytes()
    with pytest.raises(ConfigError, match="needs whole matrices, which no process has under fsdp"):
        resume_training(alone["muon"], overrides=["system.distributed_strategy=fsdp"], callbacks=[])
    assert (alone["muon"] / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("error", "known", "words"),
    [
        (IsADirectoryError(21, "Is a directory"), TrainingError, "main process failed: IsADirectoryError.*directory"),
        (DataError("no text"), DataError, "^no text$"),
        (MissingDependencyError("ray", "ray", "this"), TrainingError, "failed: MissingDependencyError: this needs ray"),
    ],
)
def test_every_error_of_the_main_process_reaches_the_others(
    monkeypatch: pytest.MonkeyPatch, error: Exception, known: type[Exception], words: str
) -> None:
    sent: list[bytes] = []

    def broadcast(values: list[object], src: int) -> None:
        if sent:
            values[:] = pickle.loads(sent[0])
        else:
            sent.append(pickle.dumps(values))

    def failing() -> None:
        raise error

    monkeypatch.setattr("torch.distributed.broadcast_object_list", broadcast)
    with pytest.raises(type(error)) as raised:
        Processes(0, 2).on_main(failing)
    assert raised.value is error
    with pytest.raises(known, match=words):
        Processes(1, 2).on_main(failing)


def start(rank: int, port: int, *arguments: object) -> subprocess.Popen[str]:
    """Start one process of two as torchrun would, without torchrun, which would end the other one itself."""
    more = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port)}  # fmt: skip
    command = [sys.executable, "-m", "llmbuilder", *map(str, arguments)]
    return subprocess.Popen(command, env=environment(**more), stderr=subprocess.PIPE, text=True)


def wait_for_steps(run: Path, steps: int) -> None:
    deadline = time.monotonic() + 120
    while len(losses(run)) < steps:
        assert time.monotonic() < deadline, "the run does not advance"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_with_a_message(tokens: Path, tmp_path: Path, killed: int) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    run = tmp_path / "run"
    more = settings(training__max_steps=10**6, training__eval_every=0)
    both = [start(rank, port, "train", "model", "--data", tokens, "--output", run, *more) for rank in (0, 1)]
    wait_for_steps(run, 5)
    both[killed].kill()
    _, said = both[1 - killed].communicate(timeout=90)
    both[killed].communicate()
    assert both[1 - killed].returncode == 1, said[-3000:]
    assert f"process {1 - killed} of 2 lost the others" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_command_reaches_its_processes(
    tokens: Path, tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    run = tmp_path / "run"
    more = settings(training__max_steps=10**6, training__eval_every=0, training__save_every=0)
    command = [sys.executable, "-m", "llmbuilder", "train", "model", "--data", tokens, "--output", run, *more]
    process = subprocess.Popen(
        [*map(str, command), "--nproc", "2"], env=environment(), stderr=subprocess.PIPE, text=True
    )
    wait_for_steps(run, 3)
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)  # which also waits until no process holds the pipe
    assert process.returncode == status, said[-3000:]
    assert "go on with: llmbuilder train resume" in said
    assert "Traceback" not in said
    assert len(list_checkpoints(run / "checkpoints")) == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="finds the processes of a folder in /proc")
def test_processes_end_with_a_launcher_that_was_killed(tokens: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    more = settings(training__max_steps=10**6, training__eval_every=0, training__save_every=0)
    command = [sys.executable, "-m", "llmbuilder", "train", "model", "--data", tokens, "--output", run, *more]
    process = subprocess.Popen(
        [*map(str, command), "--nproc", "2"], env=environment(), stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    wait_for_steps(run, 3)
    assert len(processes_in(tmp_path)) == 3
    process.kill()
    _, said = process.communicate(timeout=60)  # which also waits until no process holds the pipe
    assert not processes_in(tmp_path)
    assert "go on with: llmbuilder train resume" in said
    assert len(list_checkpoints(run / "checkpoints")) == 1


@pytest.mark.slow
def test_a_sharded_run_with_a_time_budget_takes_its_rehearsal_back(tokens: Path, tmp_path: Path) -> None:
    """The first step sees the weights it would have seen without one."""
    first = []
    for name, budget in (("plain", {}), ("fitted", {"training__time_budget_seconds": 600})):
        more = settings(system__distributed_strategy="fsdp", training__eval_every=0, **budget)
        llmbuilder("train", "model", "--data", tokens, "--output", tmp_path / name, "--nproc", 2, *more)
        first.append(losses(tmp_path / name)[:2])
    assert first[0] == first[1]


def test_a_failed_process_decides_the_exit_status(tmp_path: Path) -> None:
    done = llmbuilder("train", "resume", tmp_path / "nowhere", "--nproc", 2, fails=True)
    assert done.returncode == 1
    assert "holds no run" in done.stderr


@pytest.mark.slow
def test_torchrun_starts_again_from_the_last_checkpoint(tokens: Path, alone: dict[str, Path], tmp_path: Path) -> None:
    run, marker = tmp_path / "run", tmp_path / "died"
    script = tmp_path / "dies_once.py"
    script.write_text(
        "import os, signal, sys\n"
        "from llmbuilder.training.loop import trainer\n"
        "step = trainer.Trainer.one_step\n"
        "def dying(self, *arguments):\n"
        f"    if self.state.step == 6 and self.processes.rank == 1 and not os.path.exists({str(marker)!r}):\n"
        f"        open({str(marker)!r}, 'w').close()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, *arguments)\n"
        "trainer.Trainer.one_step = dying\n"
        "from llmbuilder.cli.main import run\n"
        "run()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1",
               str(script), "train", "model", "--data", str(tokens), "--output", str(run), *settings()]  # fmt: skip
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert marker.exists()
    assert losses(run) == pytest.approx(losses(alone["adamw"]), abs=1e-5)


def test_batches_are_shared_without_overlap(tokens: Path) -> None:
    config = Config()
    config.training.batch_size, config.training.gradient_accumulation_steps = 4, 3
    windows = TextDataset(tokens, 16).train
    whole = [row for inputs, _ in StepBatches(windows, config.training).fetch(5).parts for row in inputs.tolist()]
    for count in (2, 3, 4, 6, 12):
        parts = [StepBatches(windows, config.training, Processes(rank, count)).fetch(5) for rank in range(count)]
        assert [row for part in parts for inputs, _ in part.parts for row in inputs.tolist()] == whole
        assert max(len(inputs) for part in parts for inputs, _ in part.parts) <= 4
    with pytest.raises(ConfigError, match="5 processes cannot share the 12 sequences"):
        StepBatches(windows, config.training, Processes(0, 5))


def test_sharding_and_muon_are_refused_together() -> None:
    from llmbuilder.config import fix_config, validate_config

    config = Config()
    config.training.optimizer, config.system.distributed_strategy = "muon", "fsdp"
    valid, problems = validate_config(config)
    assert not valid
    assert "needs whole matrices" in str(problems[0])
    assert fix_config(config).training.optimizer == "adamw"


def test_checkpoints_remember_the_random_states_of_all(alone: dict[str, Path]) -> None:
    state = read_checkpoint(list_checkpoints(alone["muon"] / "checkpoints")[-1])
    assert len(state.random) == 1
    assert state.config["training"]["optimizer"] == "muon"
