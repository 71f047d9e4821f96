"""Training on a GPU: tokens/s, MFU and memory of the 124M preset beside nanoGPT's formula, taking turns.

python benchmarks/gpu.py [--tokens FOLDER] [--batch 16] [--device cuda] [--no-compile]

Without --tokens the data is random; with it, the real tokens of a folder (`train.bin`). Both sides run bfloat16 where
the device has it, compiled unless told otherwise, and fetch their batches from the same memory-mapped file.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from nanogpt import NanoGPT, random_batch

import llmbuilder as lb
from llmbuilder.acceleration import measure_acceleration
from llmbuilder.data import TextDataset
from llmbuilder.machine import resolve_device, resolve_precision
from llmbuilder.training.loop.trainer import Trainer
from llmbuilder.training.storage.paths import RunPaths

SHAPE = {"model.num_layers": 12, "model.num_heads": 12, "model.embedding_dim": 768, "model.max_seq_length": 1024}


def our_step(folder: Path, batch: int, compiled: bool, device: str, small: bool) -> tuple[Callable[[], float], Trainer]:
    shape = {**SHAPE, **({"model.num_layers": 2, "model.max_seq_length": 128} if small else {})}
    config = lb.load_config(
        preset="gpu_medium",
        overrides={
            **shape, "model.vocab_size": 50304, "model.tie_embeddings": True, "training.batch_size": batch,
            "training.gradient_accumulation_steps": 1, "training.max_steps": 10**6, "system.compile": compiled,
            "system.device": device, "training.save_every": 0, "training.sample_every": 0,
        },
    )  # fmt: skip
    from llmbuilder.config.recipe import resolve_recipe

    resolve_recipe(config, 1, 1 << 40)
    dataset = TextDataset(folder, config.model.max_seq_length)
    trainer = Trainer(lb.build_model(config), dataset, config, RunPaths.choose(folder / "run"))
    trainer.learner.compile(trainer.state.max_steps)
    steps = iter(range(10**6))

    def run() -> float:
        metrics = trainer.one_step(trainer.batches.fetch(next(steps) * trainer.batches.sequences_per_step))
        return metrics["loss"] if metrics else float("nan")

    return run, trainer


def peer_step(folder: Path, batch: int, compiled: bool, device: torch.device, small: bool) -> Callable[[], float]:
    layers, context = (2, 128) if small else (12, 1024)
    data = torch.from_numpy(np.memmap(folder / "train.bin", dtype=np.uint16, mode="r").astype(np.int64))
    model = NanoGPT(50304, layers, 12, 768, context).to(device)
    optimizer = model.optimizer(6e-4, (0.9, 0.95))
    call = torch.compile(model) if compiled else model
    precision = resolve_precision("auto", device)

    def run() -> float:
        inputs, targets = random_batch(data, batch, context)
        if device.type == "cuda":
            inputs, targets = (part.pin_memory().to(device, non_blocking=True) for part in (inputs, targets))
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = call(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--small", action="store_true", help="2 layers, context 128: to try the script on a CPU")
    given = parser.parse_args()
    device = resolve_device(given.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.tokens or Path(temporary)
        if given.tokens is None:
            np.random.default_rng(0).integers(0, 50257, 4_000_000).astype(np.uint16).tofile(folder / "train.bin")
        compiled = not given.no_compile
        ours, trainer = our_step(folder, given.batch, compiled, str(device), given.small)
        theirs = peer_step(folder, given.batch, compiled, device, given.small)
        times: tuple[list[float], list[float]] = ([], [])
        with measure_acceleration(device, trainer.learner.precision).applied():
            for run in range(3 if given.small else 30):
                for seconds, step in zip(times, (ours, theirs), strict=True):
                    begin = time.perf_counter()
                    step()
                    if run >= 2 or given.small:
                        seconds.append(time.perf_counter() - begin)
        tokens = trainer.tokens_per_step
        peak = trainer.acceleration.peak_flops
        flops = trainer.learner.model.flops_per_token()
        memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
        print(f"{device}, {given.batch} sequences of {trainer.windows.block_size}, compiled: {compiled}, "
              f"{trainer.learner.precision}; most memory of both {memory:.1f} GB\n")  # fmt: skip
        print("| | tokens/s | MFU |\n| --- | --- | --- |")
        rates = [tokens / statistics.median(seconds) for seconds in times]
        for name, rate in zip(("llmbuilder", "nanoGPT's formula"), rates, strict=True):
            print(f"| {name} | {rate:,.0f} | {f'{rate * flops / peak:.1%}' if peak else 'unknown peak'} |")
        print(f"\nratio {rates[0] / rates[1]:.2f}")


if __name__ == "__main__":
    main()
