"""How many heads a model has, where its checkpoint does not say: from what made it, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from llmbuilder.migration.project import migrate_project
from tests.references import NanoGPT

TRAIN = """
import torch
from model import GPT, GPTConfig
learning_rate, batch_size, max_iters = 1e-3, 4, 10
model = GPT(GPTConfig())
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
for step in range(max_iters):
    model(None).backward()
    optimizer.step()
torch.save(model.state_dict(), "out/model.pt")
"""
SHAPE = """
from dataclasses import dataclass
@dataclass
class GPTConfig:
    n_layer: int = 2
    n_head: int = HEADS
    n_embd: int = 32
    block_size: int = 32
    vocab_size: int = 50
"""


def test_a_script_that_the_training_does_not_import_decides_nothing(tmp_path: Path) -> None:
    old = tmp_path / "old"
    for name, text in {
        "train.py": TRAIN,
        "model.py": SHAPE.replace("HEADS", "4"),
        "helper.py": SHAPE.replace("HEADS", "8") + "def show():\n    print(GPTConfig())\nshow()\n",
        "tests/shapes.json": json.dumps({"n_layer": 2, "n_head": 2, "n_embd": 32}),
    }.items():
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text(text)
    (old / "out").mkdir()
    torch.manual_seed(0)
    weights = NanoGPT(vocab=50, bias=True).state_dict()
    torch.save(weights, old / "out" / "model.pt")
    torch.save({"model": weights, "cfg": {"n_head": 2, "n_embd": 32}}, old / "out" / "declared.pt")
    report = migrate_project(old, tmp_path / "new")
    rows = {row["file"]: row for row in report.checkpoints}
    assert rows.keys() == {"out/model.pt", "out/declared.pt"}, report.files
    assumed = rows["out/model.pt"]
    assert any("its 4 heads are those of" in sentence for sentence in assumed["assumed"]), assumed["assumed"]
    assert assumed["proof"]["only_if"] == ["with 4 heads, which the checkpoint does not say"]
    declared = rows["out/declared.pt"]
    assert not any("heads" in sentence for sentence in declared["assumed"]) and not declared["proof"]["only_if"]
