"""Seconds of training until a validation loss: our recipe beside nanoGPT's own run for CPUs, on the same text.

python benchmarks/time_to_loss.py TEXT [--target 1.88] [--seeds 5]

Characters are the tokens, the first 90% of the text trains, the last 10% validates: all of it, in windows of the
model's own context that do not overlap. Each run is a process of its own; the two take turns. Evaluations are not
counted; everything else between the first step and the one that reaches the target is.

nanoGPT's side has the hyperparameters of its README for CPUs: 4 layers, 4 heads, width 128, context 64, batch 12,
2000 steps (then on at the lowest rate, should the target not be reached), AdamW, rate 1e-3 to 1e-4, beta2 0.99.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

OUR_STEPS = 130


def split(text: str) -> tuple[Tensor, Tensor, int]:
    characters = sorted(set(text))
    number = {character: index for index, character in enumerate(characters)}
    ids = torch.tensor([number[character] for character in text])
    end = int(0.9 * len(ids))
    return ids[:end], ids[end:], len(characters)


@torch.no_grad()
def validation_loss(logits: Callable[[Tensor], Tensor], data: Tensor, context: int) -> float:
    count = (len(data) - 1) // context
    inputs, targets = data[: count * context].view(count, context), data[1 : count * context + 1].view(count, context)
    total = 0.0
    for begin in range(0, count, 128):
        part = logits(inputs[begin : begin + 128])
        total += F.cross_entropy(part.flatten(0, 1), targets[begin : begin + 128].flatten(), reduction="sum").item()
    return total / (count * context)


class Watch:
    """Counts the seconds of steps and ends the run when an evaluation reaches the target."""

    def __init__(self, target: float, loss: Callable[[], float]) -> None:
        self._target, self._loss = target, loss
        self.seconds, self._last, self.reached, self.best = 0.0, time.perf_counter(), False, float("inf")

    def after_step(self, step: int, evaluate: bool) -> None:
        self.seconds += time.perf_counter() - self._last
        if evaluate:
            self.best = min(self.best, self._loss())
            self.reached = self.best <= self._target
            if self.reached:
                print(json.dumps({"seconds": self.seconds, "steps": step, "loss": self.best}), flush=True)
                sys.exit(0)
        self._last = time.perf_counter()


def nanogpt(text: str, target: float, seed: int) -> None:
    from nanogpt import NanoGPT, learning_rate, random_batch

    torch.manual_seed(seed)
    train, validation, vocab = split(text)
    model = NanoGPT(vocab, 4, 4, 128, 64)
    optimizer = model.optimizer(1e-3, (0.9, 0.99))

    def logits(inputs: Tensor) -> Tensor:
        x = model.tokens(inputs) + model.positions(torch.arange(inputs.shape[1]))
        for block in model.blocks:
            x = block(x)
        return model.head(model.norm(x))

    watch = Watch(target, lambda: validation_loss(logits, validation, 64))
    for step in range(5000):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, 1e-3, 100, 2000, 1e-4)
        loss = model(*random_batch(train, 12, 64))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        watch.after_step(step + 1, evaluate=step >= 1500 and step % 50 == 49)


def ours(text: str, target: float, seed: int) -> None:
    import numpy as np

    import llmbuilder as lb
    from llmbuilder.config.recipe import RECOMMENDED
    from llmbuilder.data import TextDataset
    from llmbuilder.training import Callback

    train, validation, vocab = split(text)
    config = lb.load_config(
        overrides={
            "model.model_type": "llama", "model.qk_norm": True, "model.num_layers": 2, "model.num_heads": 4,
            "model.embedding_dim": 128, "model.max_seq_length": 64, "model.vocab_size": vocab, "model.dropout": 0.0,
            "model.bias": False, "model.norm_eps": 1e-6, "model.tie_embeddings": False,
            **{f"training.{name}": value for name, value in RECOMMENDED.items()}, "training.warmup_steps": 3,
            "training.batch_size": 24, "training.max_steps": OUR_STEPS, "training.eval_every": 0,
            "training.save_every": 0, "system.seed": seed, "system.device": "cpu",
        }
    )  # fmt: skip
    model = lb.build_model(config)
    watch = Watch(target, lambda: validation_loss(lambda inputs: model(inputs)[0], validation, 64))

    class Pace(Callback):
        def on_start(self, plan: object) -> None:
            watch._last = time.perf_counter()

        def on_step(self, metrics: dict) -> None:
            step = metrics["step"]
            watch.after_step(step, evaluate=step >= 0.9 * OUR_STEPS and step % 2 == 0)

    with tempfile.TemporaryDirectory() as folder:
        train.numpy().astype(np.uint16).tofile(Path(folder) / "train.bin")
        dataset = TextDataset(folder, 64, seed=seed)
        lb.train_model(model, dataset, config, Path(folder) / "run", [Pace()])


def measure(name: str, arguments: argparse.Namespace, seed: int) -> dict:
    command = [sys.executable, __file__, arguments.text, "--target", str(arguments.target)]
    done = subprocess.run([*command, "--worker", name, "--seed", str(seed)], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        print(done.stderr[-2000:] if done.returncode else f"{name}, seed {seed}: the target was not reached")
        return {"seconds": float("inf"), "steps": 0, "loss": float("inf")}
    return json.loads(lines[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("--target", type=float, default=1.88)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--worker", choices=["ours", "nanogpt"], help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        {"ours": ours, "nanogpt": nanogpt}[given.worker](Path(given.text).read_text("utf-8"), given.target, given.seed)
        sys.exit(0)
    print(f"until {given.target} nats per character of the validation part of {given.text}\n")
    print("| seed | ours | nanoGPT's formula | ratio |\n| --- | --- | --- | --- |")
    ratios = []
    for seed in range(1, given.seeds + 1):
        a, b = measure("ours", given, seed), measure("nanogpt", given, seed)
        ratios.append(b["seconds"] / a["seconds"])
        print(f"| {seed} | {a['seconds']:.2f} s, {a['steps']} steps, {a['loss']:.3f} | "
              f"{b['seconds']:.1f} s, {b['steps']} steps, {b['loss']:.3f} | {ratios[-1]:.1f} |",
              flush=True)  # fmt: skip
    print(f"\nmedian ratio: {statistics.median(ratios):.1f}")
