"""A nanoGPT-style project: scripts, configuration, data, checkpoints. The scripts really run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import torch

from tests.references import NanoGPT

CONFIG = {
    "n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 32, "dropout": 0.1, "bias": True, "vocab_size": 300,
    "device": "cuda", "batch_size": 4, "learning_rate": 3e-4, "max_iters": 6, "eval_interval": 3, "eval_iters": 2,
}  # fmt: skip

MODEL_PY = """
import torch
from torch import nn
import torch.nn.functional as F


def GPTConfig(*_, **options):
    base = dict(n_layer=1, n_head=1, n_embd=16, block_size=64, vocab_size=50257)
    return dict(base, **{k: min(v, base[k]) for k, v in options.items()})


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config["vocab_size"], config["n_embd"])
        self.head = nn.Linear(config["n_embd"], config["vocab_size"], bias=False)

    def forward(self, idx, targets=None):
        logits = self.head(self.wte(idx))
        loss = None if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss

    @classmethod
    def from_pretrained(cls, path):
        checkpoint = torch.load(path)
        model = cls(checkpoint["config"])
        model.load_state_dict(checkpoint["model"])
        return model

    def generate(self, context, max_new_tokens):
        tokens = list(context)
        for _ in range(max_new_tokens):
            tokens.append(int(self(torch.tensor([tokens[-1:]]))[0][0, -1].argmax()))
        return tokens
"""
TRAIN_PY = """
import argparse
import torch
from model import GPT, GPTConfig


def train(config, data):
    model = GPT(GPTConfig())
    torch.save({"model": model.state_dict(), "config": model.config, "iter_num": 1}, "model.pt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    parser.add_argument("--data")
    arguments = parser.parse_args()
    train(arguments.config, arguments.data)
"""
SAMPLE_PY = """
import argparse


def sample(prompt, count):
    return [prompt] * count


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--prompt")
    parser.add_argument("--num_samples", type=int)
    arguments = parser.parse_args()
    print(sample(arguments.prompt, arguments.num_samples))
"""
DATASET_PY = """
import torch


def get_batch(split):
    tokens = torch.randint(100, (2, 9))
    return tokens[:, :-1], tokens[:, 1:]
"""
PREPARE_PY = """
import argparse
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--input")
    parser.add_argument("--output")
    arguments = parser.parse_args()
    Path(arguments.output).write_text("".join(p.read_text() for p in sorted(Path(arguments.input).glob("*.txt"))))
"""
EVAL_PY = """
import argparse

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data")
    print(parser.parse_args().data)
"""
RUN_SH = """#!/bin/bash
python prepare_data.py --input raw/ --output data.txt
python train.py --config config.json --data data.txt --batch_size=12 --compile=False --unknown_flag=3
python train.py config/train_chars.py --max_iters=100
python sample.py --model model.pt --prompt "Hello" --num_samples 5 && echo done
python eval.py --data data.txt
"""
PYTHON_CONFIG = """# a small character model
out_dir = 'out-chars'
eval_interval = 250 # often
dataset = 'chars'
gradient_accumulation_steps = 1
batch_size = 4
block_size = 32
n_layer = 2
n_head = 2
n_embd = 32
learning_rate = 1e-3
max_iters = 5 * 8
warmup_iters = 2
compile = False
"""


def write_legacy_project(folder: Path, text: str) -> NanoGPT:
    """Write the project and return the model whose checkpoints are in it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "mystery": 7}))
    for name, content in (
        ("model.py", MODEL_PY), ("train.py", TRAIN_PY), ("sample.py", SAMPLE_PY), ("dataset.py", DATASET_PY),
        ("prepare_data.py", PREPARE_PY), ("eval.py", EVAL_PY), ("run.sh", RUN_SH), ("data.txt", text), ("training_data.txt", text),
        ("requirements.txt", "torch\n"), ("README.txt", "how to run\n"),
    ):  # fmt: skip
        (folder / name).write_text(content)
    (folder / "raw").mkdir()
    (folder / "raw" / "a.txt").write_text(text[:2000])
    (folder / "config").mkdir()
    (folder / "config" / "train_chars.py").write_text(PYTHON_CONFIG)
    characters = sorted(set(text))
    data = folder / "data" / "chars"
    data.mkdir(parents=True)
    ids = np.array([characters.index(c) for c in text], dtype=np.uint16)
    ids[:-1000].tofile(data / "train.bin")
    ids[-1000:].tofile(data / "val.bin")
    table = {"vocab_size": len(characters), "stoi": {c: i for i, c in enumerate(characters)},
             "itos": dict(enumerate(characters))}  # fmt: skip
    (data / "meta.pkl").write_bytes(pickle.dumps(table))
    torch.manual_seed(0)
    model = NanoGPT(vocab=len(characters))
    tokens = torch.from_numpy(ids[: 33 * 40].astype(np.int64)).view(40, 33)
    optimizer = model.train_steps(tokens, 20)
    (folder / "out-chars").mkdir()
    torch.save(model.checkpoint(optimizer), folder / "out-chars" / "ckpt.pt")
    torch.save(model.checkpoint(optimizer, prefix="_orig_mod."), folder / "compiled.pt")
    torch.save({"model": {}, "payload": _Object()}, folder / "unsafe.pt")
    return model


class _Object:
    """Something a checkpoint should not hold: opening it would call a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("opening it ran this",)
