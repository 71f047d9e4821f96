"""Whole projects: every file and key accounted for, logits kept, training continued, the old folder untouched."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import llmbuilder as lb
from llmbuilder.errors import MigrationError
from llmbuilder.migration import migrate_project
from llmbuilder.model import load_model
from llmbuilder.training import resume_training
from tests.migration.legacy_project import write_legacy_project
from tests.references import NanoGPT


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prose: str) -> tuple[Path, NanoGPT]:
    folder = tmp_path_factory.mktemp("project")
    model = write_legacy_project(folder / "old", prose)
    before = fingerprint(folder / "old")
    migrate_project(folder / "old", folder / "new")
    assert fingerprint(folder / "old") == before, "the legacy folder is only read"
    return folder, model


def test_every_file_and_key_is_accounted_for(project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    report = json.loads((folder / "new" / "migration.json").read_text())
    files = {row["file"]: row for row in report["files"]}
    assert set(files) == set(fingerprint(folder / "old"))
    assert files["config.json"]["result"] == "config.json"
    assert files["config/train_chars.py"]["result"] == "configs/train_chars.json"
    assert files["data/chars/train.bin"]["result"] == "data/chars/train.bin"
    assert files["data/chars/meta.pkl"]["result"] == "tokenizer/"
    assert files["data.txt"]["result"] == "data/data.txt"
    assert files["out-chars/ckpt.pt"]["result"] == "model/ckpt.pt"
    assert files["requirements.txt"]["result"] == "left"
    assert "run any code" in files["unsafe.pt"]["why"]
    keys = {(row["file"], row["key"]): row["new"] for row in report["keys"]}
    assert keys["config.json", "n_layer"] == "model.num_layers"
    assert keys["config.json", "mystery"] is None
    assert keys["config/train_chars.py", "max_iters"] == "training.max_steps"
    markdown = (folder / "new" / "MIGRATION.md").read_text()
    assert all(name in markdown for name in files)


@torch.no_grad()
def test_checkpoints_keep_their_logits_and_say_so(project: tuple[Path, NanoGPT]) -> None:
    folder, legacy = project
    report = json.loads((folder / "new" / "migration.json").read_text())
    assert {row["file"] for row in report["checkpoints"]} == {"out-chars/ckpt.pt", "compiled.pt"}
    assert all(row["largest_logit_difference"] < 1e-5 for row in report["checkpoints"])
    tokens = torch.randint(20, (2, 32))
    for name in ("ckpt.pt", "compiled.pt"):
        model = load_model(folder / "new" / "model" / name, "cpu")
        assert (model(tokens)[0] - legacy(tokens)).abs().max() < 1e-5


def test_generation_works_with_the_migrated_character_table(project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    text = lb.generate_text(folder / "new/model/ckpt.pt", folder / "new/tokenizer", "Item 7", max_new_tokens=10)
    assert text.startswith("Item 7")


def test_training_continues_with_the_legacy_optimizer(project: tuple[Path, NanoGPT]) -> None:
    """Twenty more steps in the new package follow the checkpoint's twenty without a jump."""
    folder, _ = project
    results = resume_training(folder / "new" / "run" / "ckpt", callbacks=[])
    assert results.steps == 40
    first = next(line for line in results.history if "loss" in line)
    assert first["step"] > 20
    start = lb.evaluate_model(folder / "new/model/ckpt.pt", folder / "new/data/data.txt").loss
    assert results.final_loss < start + 0.05


def test_the_new_training_script_runs(project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    subprocess.run([sys.executable, "train.py"], cwd=folder / "new", check=True, capture_output=True, timeout=120)
    assert (folder / "new" / "run" / "model.pt").is_file()


def test_commands_get_their_new_form(project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    report = json.loads((folder / "new" / "migration.json").read_text())
    found = {row["line"]: row for row in report["commands"] if row["file"] == "run.sh"}
    assert found[2]["new"] == "llmbuilder data load --input raw/ --output data.txt --clean"
    assert found[3]["new"] == (
        "llmbuilder train model --config config.json --data data/data.txt --output run/ "
        "--set training.batch_size=12 --set system.compile=False"
    )
    assert found[3]["left"] == ["--unknown_flag=3"]
    assert found[4]["new"].startswith("llmbuilder train model --config configs/train_chars.json")
    assert "--set training.max_steps=100" in found[4]["new"]
    assert found[5]["new"] == (
        "llmbuilder generate text --model model/model.pt --tokenizer tokenizer/ --prompt Hello --num-samples 5"
    )
    assert found[6]["new"] == "llmbuilder model evaluate model/ckpt.pt --data data/data.txt"


def test_dry_run_writes_nothing(tmp_path: Path, project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    report = migrate_project(folder / "old", tmp_path / "new", dry_run=True)
    assert not (tmp_path / "new").exists()
    written = json.loads((folder / "new" / "migration.json").read_text())
    assert [row["file"] for row in report.files] == [row["file"] for row in written["files"]]


def test_refusals(tmp_path: Path, project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    with pytest.raises(MigrationError, match="no such folder"):
        migrate_project(tmp_path / "absent", tmp_path / "new")
    with pytest.raises(MigrationError, match="never written to"):
        migrate_project(folder / "old", folder / "old" / "inside")
    with pytest.raises(MigrationError, match="already exists"):
        migrate_project(folder / "old", folder / "new")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MigrationError, match="is empty"):
        migrate_project(tmp_path / "empty", tmp_path / "new")
