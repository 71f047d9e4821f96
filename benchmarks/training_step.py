"""One training step beside a hand-written loop and transformers' model, same shape, batch and precision.

python benchmarks/training_step.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from harness import compare, print_header
from transformers import GPT2Config, GPT2LMHeadModel

import llmbuilder as lb
from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.training.paths import RunPaths
from llmbuilder.training.trainer import Trainer

# name, layers, heads, width, context, batch, vocabulary, steps a run
SHAPES = [("0.8M", 4, 4, 128, 64, 12, 65, 20), ("10M", 6, 6, 384, 256, 8, 65, 3)]


def trainer_for(shape: tuple, folder: Path) -> Trainer:
    _, layers, heads, width, context, batch, vocab, _ = shape
    np.random.default_rng(0).integers(0, vocab, 100_000).astype(np.uint16).tofile(folder / "train.bin")
    config = lb.load_config(
        overrides={
            "model.num_layers": layers, "model.num_heads": heads, "model.embedding_dim": width, "model.dropout": 0.0,
            "model.max_seq_length": context, "model.vocab_size": vocab, "model.bias": False, "model.activation": "gelu",
            "training.batch_size": batch, "training.max_steps": 10**6, "training.weight_decay": 0.1,
            "system.device": "cpu",
        }
    )  # fmt: skip
    assert isinstance(config, Config)
    return Trainer(lb.build_model(config), TextDataset(folder, context), config, RunPaths.choose(folder / "run"))


def hand_written(model: torch.nn.Module, call, windows, batch: int, steps: int) -> None:
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
              {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))

    def run() -> None:
        for step in range(steps):
            inputs, targets = windows.gather(windows.starts_at(step * batch, batch))
            loss = call(inputs, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()

    return run  # type: ignore[return-value]


if __name__ == "__main__":
    print_header("python benchmarks/training_step.py")
    for shape in SHAPES:
        name, layers, heads, width, context, batch, vocab, steps = shape
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_for(shape, Path(folder))

            def ours(trainer: Trainer = trainer, steps: int = steps) -> None:
                for step in range(steps):
                    trainer._one_step(trainer.batches.fetch(step))

            plain = lb.build_model(trainer.config)
            loop = hand_written(plain, lambda x, y, m=plain: m(x, y)[1], trainer.windows, batch, steps)
            compare(f"{steps} steps, {name}", ours, loop, peer_name="hand-written loop, same model")
            theirs = GPT2LMHeadModel(GPT2Config(n_layer=layers, n_head=heads, n_embd=width, n_positions=context,
                                                vocab_size=vocab, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
                                                activation_function="gelu"))  # fmt: skip
            loop = hand_written(
                theirs,
                lambda x, y, m=theirs: torch.nn.functional.cross_entropy(m(x).logits.flatten(0, 1), y.flatten()),
                trainer.windows, batch, steps,
            )  # fmt: skip
            compare(f"{steps} steps, {name}", ours, loop, peer_name="transformers GPT-2, same loop")
