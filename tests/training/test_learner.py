"""The loss and the gradients of a step: the same however it is divided over forward passes and processes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.model import build_model
from llmbuilder.model.loss import IGNORE_INDEX
from llmbuilder.tokens.samples import SampleRows, SampleWriter
from llmbuilder.tokens.windows import TokenWindows
from llmbuilder.training.loop.batches import StepBatches
from llmbuilder.training.loop.learner import Learner
from llmbuilder.training.loop.trainer import Trainer
from llmbuilder.training.processes.distributed import Processes, joined_processes
from llmbuilder.training.storage.paths import RunPaths

BLOCK, SEQUENCES = 12, 8


def settings(batch_size: int = SEQUENCES) -> Config:
    config = Config()
    config.model.vocab_size, config.model.num_layers, config.model.num_heads = 40, 2, 2
    config.model.embedding_dim, config.model.max_seq_length, config.model.dropout = 16, BLOCK, 0.0
    config.training.batch_size, config.training.gradient_accumulation_steps = batch_size, SEQUENCES // batch_size
    config.training.max_steps, config.training.warmup_steps, config.system.device = 6, 2, "cpu"
    return config


class RaggedWindows(TokenWindows):
    """Windows of which another number of targets counts each: from none to all."""

    def gather(self, starts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = super().gather(starts)
        targets = targets.clone()
        for row, start in enumerate(starts):
            targets[row, int(start) % (BLOCK + 1) :] = IGNORE_INDEX
        return inputs, targets

    def count_targets(self, starts: np.ndarray) -> int:
        return int((starts % (BLOCK + 1)).sum())


def sequences(folder: Path, kind: str) -> TokenWindows | SampleRows:
    if kind == "ragged":
        return RaggedWindows(folder / "train.bin", BLOCK, 5, seed=2)
    return SampleRows(folder / "packed.bin", BLOCK, seed=2)


def token_folder(folder: Path) -> Path:
    random = np.random.default_rng(5)
    with SampleWriter(folder / "packed.bin", 40, tokenizer=None) as writer:
        for length in random.integers(2, BLOCK + 2, 200):
            writer.add(random.integers(0, 40, length), random.random(length) < 0.3, 0)
    for name in ("train", "val"):
        random.integers(0, 40, 4000).astype(np.uint16).tofile(folder / f"{name}.bin")
    return folder


def step(
    folder: Path, config: Config, processes: Processes | None = None, kind: str = "ragged", **options: Any
) -> dict[str, Any]:
    """The loss of a step and the gradients it leaves, whole."""
    processes = processes or Processes()
    torch.manual_seed(1)
    learner = Learner(build_model(config.model), config, torch.device("cpu"), processes, **options)
    batch = StepBatches(sequences(folder, kind), config.training, processes).fetch(3 * SEQUENCES)
    loss = processes.mean(learner.compute_gradients(batch))[0]
    gradients = {name: parameter.grad for name, parameter in learner.model.named_parameters()}
    whole = {n: g.full_tensor() if hasattr(g, "full_tensor") else g for n, g in gradients.items() if g is not None}
    return {"loss": loss, **whole}


def expected(folder: Path, kind: str = "ragged") -> dict[str, Any]:
    """The sum over the targets that count, divided by their number, each sample alone, by PyTorch's own loss."""
    torch.manual_seed(1)
    model = build_model(settings().model)
    windows = sequences(folder, kind)
    inputs, targets, *positions = windows.gather(windows.starts_at(3 * SEQUENCES, SEQUENCES))
    count = (targets != IGNORE_INDEX).sum()
    total = torch.zeros(())
    for row in range(len(inputs)):
        begins = (positions[0][row] == 0).nonzero().flatten().tolist() if positions else [0]
        for begin, end in itertools.pairwise([*begins, inputs.shape[1]]):
            part = targets[row : row + 1, begin:end]
            loss = model(inputs[row : row + 1, begin:end], part)[1]
            if (part != IGNORE_INDEX).any():
                total = total + loss * (part != IGNORE_INDEX).sum() / count
    total.backward()
    return {"loss": total.detach(), **{name: parameter.grad for name, parameter in model.named_parameters()}}


def assert_alike(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("kind", ["ragged", "packed"])
@pytest.mark.parametrize("batch_size", [8, 4, 1])
def test_accumulation_changes_neither_loss_nor_gradients(tmp_path: Path, batch_size: int, kind: str) -> None:
    folder = token_folder(tmp_path)
    assert_alike(step(folder, settings(batch_size), kind=kind), expected(folder, kind))


def test_a_mean_of_means_would_be_noticed(tmp_path: Path) -> None:
    folder = token_folder(tmp_path)
    windows = RaggedWindows(folder / "train.bin", BLOCK, 5, seed=2)
    torch.manual_seed(1)
    model = build_model(settings().model)
    parts = [windows.gather(windows.starts_at(3 * SEQUENCES + i, 1)) for i in range(SEQUENCES)]
    means = [model(*part)[1] for part in parts if (part[1] != IGNORE_INDEX).any()]
    mean_of_means = torch.stack([mean for mean in means if mean is not None]).mean().item()
    assert mean_of_means != pytest.approx(expected(folder)["loss"].item(), rel=1e-4)


def test_processes_change_neither_loss_nor_gradients(tmp_path: Path) -> None:
    folder = token_folder(tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
               "-m", "tests.training.test_learner", str(folder)]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for kind in ("ragged", "packed"):
        wanted = expected(folder, kind)
        for name in ("ddp-4", "ddp-1", "fsdp-2"):
            assert_alike(torch.load(folder / f"{kind}-{name}.pt"), wanted)


def steps_of_one_process(folder: Path) -> None:
    """What each of the processes above does."""
    with joined_processes(settings().system) as processes:
        ways = (("ddp-4", 4, False), ("ddp-1", 1, False), ("fsdp-2", 2, True))
        for kind, (name, batch_size, is_sharded) in itertools.product(("ragged", "packed"), ways):
            found = step(folder, settings(batch_size), processes, kind, is_sharded=is_sharded)
            if processes.is_main:
                torch.save(found, folder / f"{kind}-{name}.pt")


class Transfers(TorchFunctionMode):
    """Counts what takes values from the device to Python."""

    count = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__"):
            self.count += 1
        return function(*args, **(kwargs or {}))


def numbers_read(profiler: profile) -> list[str]:
    """What asked for a number out of a tensor; AdamW's fused kernel on CPUs reads its own count of steps there."""
    found = []
    for event in profiler.events() or []:
        callers = [event]
        while callers[-1].cpu_parent is not None:
            callers.append(callers[-1].cpu_parent)
        names = [caller.name for caller in callers]
        if event.name == "aten::_local_scalar_dense" and "aten::_fused_adamw_" not in names:
            found.append(" < ".join(names))
    return found


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_one_transfer_from_the_device_a_step(tmp_path: Path, optimizer: str) -> None:
    """Each one makes the processor wait until the device has finished."""
    config = settings(batch_size=2)
    config.training.optimizer = optimizer
    dataset = TextDataset(token_folder(tmp_path), BLOCK)
    trainer = Trainer(build_model(config.model), dataset, config, RunPaths.choose(tmp_path / "run"))
    trainer.one_step(trainer.batches.fetch(0))
    batch = trainer.batches.fetch(2)
    with Transfers() as transfers, profile(activities=[ProfilerActivity.CPU]) as profiler:
        metrics = trainer.one_step(batch)
    assert metrics is not None and metrics["grad_norm"] > 0
    assert transfers.count == 1
    assert numbers_read(profiler) == []
    assert "aten::mm" in {event.name for event in profiler.events() or []}  # the profiler saw the step
    with Transfers() as transfers, profile(activities=[ProfilerActivity.CPU]) as profiler:
        float(torch.ones(()))
    assert (transfers.count, len(numbers_read(profiler))) == (1, 1)  # both measures see what they are to see


if __name__ == "__main__":
    steps_of_one_process(Path(sys.argv[1]))
