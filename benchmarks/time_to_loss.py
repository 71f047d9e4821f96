"""Training until a validation loss: our recipe beside two peers on nanoGPT's formula, on the same text.

python benchmarks/time_to_loss.py TEXT --target 1.79 [--seeds 5] [--sweep 24]

Characters are the tokens, the first 90% of the text trains, the last 10% validates: all of it, in windows of the
model's own context that do not overlap. All models are 128 wide and see 64 characters. Each run is a process of its
own; they take turns. From the middle of their schedule on they are evaluated, every two steps once they come near;
evaluations are not counted, everything else between the first step and the one that reaches the target is. Tokens and
seconds stand apart: how much a run has to see is the recipe's doing, how long that takes also the kernels'.

- `README`: nanoGPT's README for CPUs: 4 layers, 4 heads, batch 12, 2000 steps (then on at the lowest rate, should the
  target not be reached), AdamW, rate 1e-3 to 1e-4, beta2 0.99.
- `tuned`: the same formula and AdamW with depth, batch, rate, beta2 and steps as `--sweep` found them on the very text,
  with a schedule that ends where its own run does.
- `ours`: the recipe and the length of the run that were chosen on tinyshakespeare, on any text.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

CONTEXT, WIDTH, HEADS = 64, 128, 4
OUR_STEPS = 130
NEAR = 0.006  # nats: evaluations become dense from here on


@dataclass(frozen=True)
class Settings:
    """A run on nanoGPT's formula."""

    layers: int
    batch: int
    learning_rate: float
    beta2: float
    steps: int
    goes_on: bool = False  # past its schedule, at the lowest rate


README = Settings(4, 12, 1e-3, 0.99, 2000, goes_on=True)
TUNED = Settings(1, 20, 0.00318, 0.98, 990)


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

    def __init__(self, target: float, loss: Callable[[], float], tokens_per_step: int, first: int) -> None:
        self._target, self._loss, self._tokens, self._first = target, loss, tokens_per_step, first
        self.seconds, self._last, self._seen = 0.0, time.perf_counter(), float("inf")

    def loss_now(self) -> float:
        return self._loss()

    def start(self) -> None:
        self._last = time.perf_counter()

    def after_step(self, step: int, coarse: int) -> None:
        """Evaluate every `coarse` steps, every second one once an evaluation was near the target."""
        self.seconds += time.perf_counter() - self._last
        near = self._seen <= self._target + NEAR
        if step % (2 if near else coarse) == 0 and (near or step >= self._first):
            self._seen = self._loss()
            if self._seen <= self._target:
                found = {"seconds": self.seconds, "steps": step, "tokens": step * self._tokens, "loss": self._seen}
                print(json.dumps(found), flush=True)
                sys.exit(0)
        self._last = time.perf_counter()


def nanogpt(text: str, target: float, seed: int, settings: Settings, most_seconds: float) -> None:
    from nanogpt import NanoGPT, learning_rate, random_batch

    torch.manual_seed(seed)
    train, validation, vocab = split(text)
    model = NanoGPT(vocab, settings.layers, HEADS, WIDTH, CONTEXT)
    peak = settings.learning_rate
    optimizer = model.optimizer(peak, (0.9, settings.beta2))
    warmup = min(100, settings.steps // 20)

    def logits(inputs: Tensor) -> Tensor:
        x = model.tokens(inputs) + model.positions(torch.arange(inputs.shape[1]))
        for block in model.blocks:
            x = block(x)
        return model.head(model.norm(x))

    watch = Watch(
        target, lambda: validation_loss(logits, validation, CONTEXT), settings.batch * CONTEXT, settings.steps // 2
    )
    for step in range(3 * settings.steps if settings.goes_on else settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak, warmup, settings.steps, peak / 10)
        loss = model(*random_batch(train, settings.batch, CONTEXT))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        watch.after_step(step + 1, coarse=max(2, settings.steps // 40 // 2 * 2))
        if watch.seconds > most_seconds:
            break
    found = {"seconds": float("inf"), "steps": settings.steps, "tokens": float("inf"), "loss": watch.loss_now()}
    print(json.dumps(found), flush=True)


def ours(text: str, target: float, seed: int) -> None:
    """The shape and the number of steps that were chosen on tinyshakespeare; more steps where the text needs them."""
    import numpy as np

    import llmbuilder as lb
    from llmbuilder.config.recipe import RECOMMENDED
    from llmbuilder.data import TextDataset
    from llmbuilder.training import Callback

    train, validation, vocab = split(text)
    config = lb.load_config(
        overrides={
            "model.model_type": "llama", "model.qk_norm": True, "model.num_layers": 2, "model.num_heads": HEADS,
            "model.embedding_dim": WIDTH, "model.max_seq_length": CONTEXT, "model.vocab_size": vocab,
            "model.dropout": 0.0, "model.bias": False, "model.norm_eps": 1e-6, "model.tie_embeddings": False,
            **{f"training.{name}": value for name, value in RECOMMENDED.items()}, "training.warmup_steps": 3,
            "training.batch_size": 24, "training.max_steps": OUR_STEPS, "training.eval_every": 0,
            "training.save_every": 0, "system.seed": seed, "system.device": "cpu",
        }
    )  # fmt: skip
    model = lb.build_model(config)
    loss = lambda: validation_loss(lambda inputs: model(inputs)[0], validation, CONTEXT)  # noqa: E731
    watch = Watch(target, loss, config.training.batch_size * CONTEXT, OUR_STEPS // 2)

    class Pace(Callback):
        def on_start(self, plan: object) -> None:
            watch.start()

        def on_step(self, metrics: dict) -> None:
            watch.after_step(metrics["step"], coarse=4)

    with tempfile.TemporaryDirectory() as folder:
        train.numpy().astype(np.uint16).tofile(Path(folder) / "train.bin")
        dataset = TextDataset(folder, CONTEXT, seed=seed)
        lb.train_model(model, dataset, config, Path(folder) / "run", [Pace()])


def measure(given: argparse.Namespace, seed: int, settings: Settings | None, most_seconds: float = 600) -> dict:
    """Run a process; None is ours. Returns infinities where the target was not reached."""
    worker = {"settings": settings and asdict(settings), "seed": seed, "most_seconds": most_seconds}
    command = [sys.executable, __file__, given.text, "--target", str(given.target), "--our-steps", str(given.our_steps)]
    done = subprocess.run([*command, "--worker", json.dumps(worker)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else dict.fromkeys(("seconds", "steps", "tokens", "loss"), float("inf"))


def sweep(given: argparse.Namespace) -> None:
    """Look for settings of the tuned peer: at random first, then around the best ones.

    The slowest of three seeds counts, others than those that are reported. The text may be the one that is reported.
    """
    chance = random.Random(given.sweep)
    best, best_seconds = README, 60.0
    for trial in range(given.sweep):
        if trial < 2 * given.sweep // 3 or best == README:
            batch, layers = chance.choice((8, 12, 16, 24, 32)), chance.choice((1, 2, 3, 4))
            steps = int(chance.choice((900, 1200, 1600, 2000)) * (16 / batch) ** 0.5)
            rate, beta2 = round(10 ** chance.uniform(-2.8, -2.1), 5), chance.choice((0.95, 0.98, 0.99))
            settings = Settings(layers, batch, rate, beta2, steps)
        else:
            layers, batch = max(1, best.layers + chance.choice((0, 0, 1, -1))), best.batch + chance.choice((0, 4, -4))
            rate = round(best.learning_rate * chance.choice((0.7, 1, 1.4)), 5)
            settings = Settings(layers, max(4, batch), rate, best.beta2, int(best.steps * chance.uniform(0.7, 1)))
        found = [measure(given, 1000, settings, 1.2 * best_seconds)]
        if found[0]["seconds"] < best_seconds:  # by luck, unless other seeds agree
            found += [measure(given, seed, settings, 1.2 * best_seconds) for seed in (1001, 1002)]
        seconds = max(run["seconds"] for run in found)
        print(f"{settings}: {seconds:.1f} s, {max(run['loss'] for run in found):.3f}", flush=True)
        if seconds < best_seconds:
            best, best_seconds = settings, seconds
    print(f"best: {best}: {best_seconds:.1f} s")


def report(given: argparse.Namespace) -> None:
    print(f"until {given.target} nats per character of the validation part of {given.text}; tuned: {TUNED}\n")
    print("| seed | ours | tuned | ratio | README | ratio |\n| --- | --- | --- | --- | --- | --- |")
    ratios: tuple[list[float], list[float]] = ([], [])
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        a, *peers = (measure(given, seed, settings) for settings in (None, TUNED, README))
        cells = [f"{a['seconds']:.2f} s, {a['tokens']:,} tokens"]
        for found, peer in zip(ratios, peers, strict=True):
            found.append(peer["seconds"] / a["seconds"])
            cells.append(f"{peer['seconds']:.1f} s, {peer['tokens']:,} tokens | {found[-1]:.2f}")
        print(f"| {seed} | {' | '.join(cells)} |", flush=True)
    print("\nmedian ratios:", *(f"{statistics.median(found):.2f}" for found in ratios))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("--target", type=float, default=1.88)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=11)
    parser.add_argument("--our-steps", type=int, default=OUR_STEPS)
    parser.add_argument("--sweep", type=int, metavar="TRIALS")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    OUR_STEPS = given.our_steps
    if given.worker:
        work, text = json.loads(given.worker), Path(given.text).read_text("utf-8")
        if work["settings"] is None:
            ours(text, given.target, work["seed"])
        else:
            nanogpt(text, given.target, work["seed"], Settings(**work["settings"]), work["most_seconds"])
    elif given.sweep:
        sweep(given)
    else:
        report(given)
