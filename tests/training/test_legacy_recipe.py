"""A migrated configuration trains as the legacy program did: the same losses, step by step."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llmbuilder.config import migrate_legacy_config
from llmbuilder.data import TextDataset
from llmbuilder.model import load_model
from llmbuilder.training import train_model
from tests.references import NanoGPT

LEGACY = {
    "n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 32, "bias": False, "vocab_size": 65, "dropout": 0.0,
    "batch_size": 6, "gradient_accumulation_steps": 2, "learning_rate": 3e-3, "max_iters": 50, "lr_decay_iters": 45,
    "min_lr": 3e-4, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "grad_clip": 0.5, "decay_lr": True,
    "warmup_iters": 7, "device": "cpu", "log_interval": 1, "eval_interval": 0, "seed": 1337, "dtype": "float32",
}  # fmt: skip


def legacy_rate(step: int) -> float:
    """nanoGPT's get_lr, from its description: linear warm-up, cosine decay, then the minimum."""
    if step < 7:
        return 3e-3 * (step + 1) / 8
    if step > 45:
        return 3e-4
    return 3e-4 + 0.5 * (1 + math.cos(math.pi * (step - 7) / 38)) * (3e-3 - 3e-4)


@pytest.mark.parametrize("overrides", [{}, {"decay_lr": False}, {"grad_clip": 0.0}])
def test_fifty_steps_equal_the_legacy_loop(tmp_path: Path, overrides: dict[str, object]) -> None:
    legacy = {**LEGACY, **overrides}
    noise = np.random.default_rng(0).integers(0, 3, 5000)
    (np.arange(5000) * 7 % 11 + noise).astype(np.uint16).tofile(tmp_path / "train.bin")
    torch.manual_seed(0)
    reference = NanoGPT()
    torch.save({"model": reference.state_dict(), "model_args": reference.args}, tmp_path / "ckpt.pt")

    config = migrate_legacy_config(legacy)
    dataset = TextDataset(tmp_path, config.model.max_seq_length, seed=config.system.seed)
    results = train_model(load_model(tmp_path / "ckpt.pt", "cpu"), dataset, config, tmp_path / "run", callbacks=[])
    ours = [line["loss"] for line in results.history if "loss" in line]

    parameters = list(reference.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
         {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}],
        lr=3e-3, betas=(0.9, 0.99),
    )  # fmt: skip
    theirs = []
    for step in range(50):
        for group in optimizer.param_groups:
            group["lr"] = legacy_rate(step) if legacy["decay_lr"] else 3e-3
        total = 0.0
        for part in range(2):
            inputs, targets = dataset.train.gather(dataset.train.starts_at(step * 12 + part * 6, 6))
            loss = F.cross_entropy(reference(inputs).flatten(0, 1), targets.flatten()) / 2
            loss.backward()
            total += loss.item()
        if legacy["grad_clip"]:
            torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        optimizer.zero_grad()
        theirs.append(total)

    assert len(ours) == 50
    assert ours[-1] < ours[0] - 0.3, "something was learned"
    assert ours == pytest.approx(theirs, abs=1e-4)
