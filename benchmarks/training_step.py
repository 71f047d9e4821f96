"""One training step beside other trainers': same model, same batch, same precision (float32), on a CPU.

python benchmarks/training_step.py [--shape 0.8M] [--litgpt-python PATH]

Every trainer runs in a process of its own, with whatever settings it chooses there, and they take turns, some steps
each. The whole step is counted: fetching the batch, forward, backward, clipping, optimizer, logging the loss. LitGPT
cannot share an environment with current transformers: --litgpt-python names the interpreter of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shape:
    layers: int
    heads: int
    width: int
    context: int
    batch: int
    vocab: int
    steps: int  # a turn


SHAPES = {
    "0.8M": Shape(4, 4, 128, 64, 12, 65, 40),
    "10M": Shape(6, 6, 384, 256, 8, 65, 4),
    "124M": Shape(12, 12, 768, 1024, 1, 50304, 1),
}
RUNS = 7


class Turns:
    """Called after every step: tells the time of each turn and waits for the next one."""

    def __init__(self, steps: int) -> None:
        self._steps, self._left, self._begin = steps, 2, time.perf_counter()  # two steps to warm up

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            print(f"TURN {time.perf_counter() - self._begin}", flush=True)
            if not sys.stdin.readline():
                sys.exit(0)
            self._left, self._begin = self._steps, time.perf_counter()


def tokens(shape: Shape):
    import numpy as np

    return np.random.default_rng(0).integers(0, shape.vocab, 400_000).astype(np.uint16)


def ours(shape: Shape, family: str, turn: Turns) -> None:
    import llmbuilder as lb
    from llmbuilder.data import TextDataset
    from llmbuilder.training import Callback

    class Pace(Callback):
        def on_step(self, metrics: dict) -> None:
            turn()

    llama = {"model.model_type": "llama", "model.qk_norm": True, "model.tie_embeddings": False}
    family_settings = llama if family == "llama" else {"model.activation": "gelu"}
    config = lb.load_config(
        overrides={
            "model.num_layers": shape.layers, "model.num_heads": shape.heads, "model.embedding_dim": shape.width,
            "model.max_seq_length": shape.context, "model.vocab_size": shape.vocab, "model.dropout": 0.0,
            "model.bias": False, "training.batch_size": shape.batch,
            "training.max_steps": 10**6, "training.weight_decay": 0.1, "training.save_every": 0,
            "training.mixed_precision": "no", "system.device": "cpu", **family_settings,
        }
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        tokens(shape).tofile(Path(folder) / "train.bin")
        dataset = TextDataset(folder, shape.context)
        lb.train_model(lb.build_model(config), dataset, config, Path(folder) / "run", [Pace()])


def hand_written(shape: Shape, _: str, turn: Turns) -> None:
    import torch
    from nanogpt import NanoGPT, random_batch

    data = torch.from_numpy(tokens(shape).astype("int64"))
    model = NanoGPT(shape.vocab, shape.layers, shape.heads, shape.width, shape.context)
    optimizer = model.optimizer(1e-3, (0.9, 0.99))
    while True:
        loss = model(*random_batch(data, shape.batch, shape.context))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        turn()


def with_our_kernels(shape: Shape, family: str, turn: Turns) -> None:
    """The hand-written loop with the kernels, threads and allocator that this package chooses for itself."""
    import torch

    from llmbuilder.acceleration import measure_acceleration

    with measure_acceleration(torch.device("cpu"), torch.float32).applied():
        hand_written(shape, family, turn)


def hugging_face_trainer(shape: Shape, family: str, turn: Turns) -> None:
    import torch
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        Qwen3Config,
        Qwen3ForCausalLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    class Windows(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.data = torch.from_numpy(tokens(shape).astype("int64"))

        def __len__(self) -> int:
            return len(self.data) // shape.context - 1

        def __getitem__(self, index: int) -> dict:
            window = self.data[index * shape.context : (index + 1) * shape.context]
            return {"input_ids": window, "labels": window}

    class Pace(TrainerCallback):
        def on_step_end(self, *args: object, **more: object) -> None:
            turn()

    if family == "llama":
        model = Qwen3ForCausalLM(Qwen3Config(
            vocab_size=shape.vocab, hidden_size=shape.width, intermediate_size=inner_size(shape.width),
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
            head_dim=shape.width // shape.heads, max_position_embeddings=shape.context, tie_word_embeddings=False,
        ))  # fmt: skip
    else:
        model = GPT2LMHeadModel(GPT2Config(
            vocab_size=shape.vocab, n_positions=shape.context, n_embd=shape.width, n_layer=shape.layers,
            n_head=shape.heads, activation_function="gelu", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        ))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=shape.batch, max_steps=10**6, learning_rate=1e-3, weight_decay=0.1,
            logging_steps=100, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=Windows(), callbacks=[Pace()]).train()


def litgpt(shape: Shape, _: str, turn: Turns) -> None:
    """The inner loop of LitGPT's pretraining, with its model, loss and optimizer choice."""
    import lightning as L
    import torch
    from litgpt import GPT, Config
    from litgpt.utils import chunked_cross_entropy

    fabric = L.Fabric(accelerator="cpu", devices=1, precision="32-true")
    config = Config(
        block_size=shape.context, vocab_size=shape.vocab, padded_vocab_size=shape.vocab, n_layer=shape.layers,
        n_head=shape.heads, n_query_groups=shape.heads, n_embd=shape.width, head_size=shape.width // shape.heads,
        intermediate_size=inner_size(shape.width), rotary_percentage=1.0, parallel_residual=False, bias=False,
        norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP", norm_qk=True,
    )  # fmt: skip
    model = fabric.setup(GPT(config))
    optimizer = fabric.setup_optimizers(
        torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95), fused=False)
    )
    data = torch.from_numpy(tokens(shape).astype("int64"))
    windows = torch.utils.data.DataLoader(data.unfold(0, shape.context + 1, shape.context), shape.batch, shuffle=True)
    while True:
        for batch in fabric.setup_dataloaders(windows):
            inputs, targets = batch[:, :-1].contiguous().long(), batch[:, 1:].contiguous().long()
            loss = chunked_cross_entropy(model(inputs), targets)
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            turn()


def inner_size(width: int) -> int:
    return -(-8 * width // 3 // 32) * 32


TRAINERS = {"ours": ours, "hand-written": hand_written, "with-our-kernels": with_our_kernels,
            "transformers": hugging_face_trainer, "litgpt": litgpt}  # fmt: skip
PAIRS = [
    ("gpt", "hand-written", "hand-written nanoGPT loop"),
    ("gpt", "with-our-kernels", "hand-written nanoGPT loop under our kernel switch"),
    ("gpt", "transformers", "transformers Trainer, GPT-2"),
    ("llama", "transformers", "transformers Trainer, Qwen3"),
    ("llama", "litgpt", "LitGPT"),
]


class Worker:
    def __init__(self, trainer: str, family: str, shape: str, python: str) -> None:
        command = [python, __file__, "--worker", trainer, "--family", family, "--shape", shape]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.turn(first=True)

    def turn(self, *, first: bool = False) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not first:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("TURN "):
                return float(line.split()[1])
        raise SystemExit("a trainer ended early")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def compare(family: str, peer: str, title: str, name: str, python: str) -> None:
    workers = [Worker("ours", family, name, sys.executable), Worker(peer, family, name, python)]
    times: list[list[float]] = [[], []]
    for run in range(RUNS + 1):
        for worker, seconds in zip(workers, times, strict=True):
            took = worker.turn()
            if run:  # the first turn warms up
                seconds.append(took / SHAPES[name].steps)
    a, b = (statistics.median(seconds) for seconds in times)
    print(f"| step, {name}, {family} | {1e3 * a:.1f} ms | {title} {1e3 * b:.1f} ms | {b / a:.2f} |", flush=True)
    for worker in workers:
        worker.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--litgpt-python", help="an interpreter that has litgpt; without it LitGPT is left out")
    parser.add_argument("--worker", choices=TRAINERS, help=argparse.SUPPRESS)
    parser.add_argument("--family", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        shape = SHAPES[given.shape[0]]
        TRAINERS[given.worker](shape, given.family, Turns(shape.steps))
    else:
        from harness import print_header

        print_header("python benchmarks/training_step.py")
        for name in given.shape or SHAPES:
            for family, peer, title in PAIRS:
                if peer != "litgpt" or given.litgpt_python:
                    compare(family, peer, title, name, given.litgpt_python if peer == "litgpt" else sys.executable)
