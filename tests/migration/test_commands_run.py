"""Every translated command of a project with two experiments, executed in order beside the legacy one's result."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmbuilder.migration import MigrationReport, migrate_project
from tests.migration.nano_project import Trained, run_legacy, write_nano_project
from tests.migration.untouched import fingerprint

COMMANDS = """\
#!/bin/bash
set -e
PY="python -u"
OUT=out-alpha
for name in alpha beta; do
  python data/$name/prepare.py
done
$PY train.py config/train_alpha.py --max_iters=40 --lr_decay_iters=40
python train.py config/train_beta.py \\
    --n_embd=16 --batch_size=4   # a smaller one
cd data && cd .. && python train.py config/train_alpha.py --init_from=resume --max_iters=60 ; echo "a; b & c"
python sample.py --out_dir=${OUT} --num_samples=2 --start="red"
python sample.py --out_dir=out-beta --start=FILE:prompt.txt --max_new_tokens=10 > samples.txt
"""
PROMPT = "0123"


def texts() -> dict[str, str]:
    """Two texts that no model confuses: a few words over and over, and digits by chance."""
    chance = random.Random(0)
    words = " ".join(chance.choice(("red", "green", "blue")) for _ in range(3000))
    return {"alpha": words, "beta": "".join(chance.choice("0123456789") for _ in range(8000))}


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, MigrationReport, str]:
    """Return the legacy project with what its own commands made, the new one, the report and the legacy output."""
    folder = tmp_path_factory.mktemp("commands")
    old, new = folder / "old", folder / "new"
    write_nano_project(old, texts(), [Trained("alpha", "alpha"), Trained("beta", "beta")], COMMANDS)
    (old / "prompt.txt").write_text(PROMPT)
    output = shell("bash run.sh", old)
    before = fingerprint(old)
    report = migrate_project(old, new)
    assert fingerprint(old) == before
    return old, new, report, output


def shell(command: str, folder: Path) -> str:
    """Run a line as a person does, with this environment's programs first."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_each_translated_command_does_what_the_old_one_did(
    projects: tuple[Path, Path, MigrationReport, str],
) -> None:
    _, new, report, output = projects
    rows = [row for row in report.commands if row["file"] == "run.sh"]
    assert len(rows) == 6 and all(row["new"] for row in rows)
    assert all(row["left"] == [] for row in rows), "every argument has a counterpart"
    legacy_losses = [float(loss) for loss in re.findall(r"val loss ([\d.]+)", output)]
    printed = [shell(row["new"], new) for row in rows]

    alpha, beta = losses(new / "run/out-alpha"), losses(new / "run/out-beta")
    first, second, third = legacy_losses[4], legacy_losses[8], legacy_losses[-1]
    assert abs(alpha[40] - first) < 0.25
    assert abs(beta[30] - second) < 0.25
    assert abs(alpha[60] - third) < 0.25, "resumed where the first training ended"
    assert second - third > 1, "the two datasets can be told apart"

    for text, start, count, length in ((printed[4], "red", 2, 25), (printed[5], PROMPT, 3, 10)):
        samples = re.split(r"--- sample \d+ ---\n", text)[1:] if count > 1 else [text]
        assert len(samples) == count
        assert all(sample.startswith(start) for sample in samples)
        assert all(len(sample.rstrip("\n")) <= len(start) + length for sample in samples)
    assert set("".join(printed[5].split())) - set("-sample123456789 0") == set(), "beta's model writes beta's digits"


def losses(run: Path) -> dict[int, float]:
    """Return a run's validation losses by step."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["validation_loss"] for line in lines if line.get("validation_loss") is not None}


@pytest.mark.slow
def test_the_loss_is_where_it_was_and_training_goes_on(projects: tuple[Path, Path, MigrationReport, str]) -> None:
    """The migrated run's first steps lie where the legacy program's own next steps lie."""
    old, new, report, _ = projects
    again = new.parent / "again"
    migrate_project(old, again)
    legacy = run_legacy(old, "train.py", "config/train_alpha.py", "--init_from=resume", "--max_iters=80")
    expected = float(re.findall(r"step 80: val loss ([\d.]+)", legacy)[0])
    row = next(row for row in report.checkpoints if row["file"] == "out-alpha/ckpt.pt")
    assert row["step"] == 60
    shell(f"{row['resume']} --set training.max_steps=80", again)
    found = losses(again / "run/out-alpha")
    assert min(found) > 60
    assert abs(found[80] - expected) < 0.1
