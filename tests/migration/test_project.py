"""Whole projects: every file and key accounted for, logits kept, training continued, the old folder untouched."""

from __future__ import annotations

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
from tests.command_line import run
from tests.migration.legacy_project import write_legacy_project
from tests.migration.untouched import fingerprint
from tests.references import NanoGPT


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
    assert len(files) == len(report["files"]), "each file once"
    assert set(files) == {name for name, kind in fingerprint(folder / "old").items() if kind[0] != "folder"}
    assert files["config.json"]["result"] == "config.json"
    assert files["config/train_chars.py"]["result"] == "configs/train_chars.json"
    assert files["data/chars/train.bin"]["result"] == "data/chars/train.bin"
    assert files["data/chars/meta.pkl"]["result"] == "tokenizer/"
    assert files["data.txt"]["result"] == "data/data.txt"
    assert files["raw/a.txt"]["result"] == "data/raw/a.txt"
    assert files["out-chars/ckpt.pt"]["result"] == "model/out-chars.pt"
    assert files["requirements.txt"]["result"] == "left"
    assert "run any code" in files["unsafe.pt"]["why"]
    keys = {(row["file"], row["key"]): row for row in report["keys"]}
    assert keys["config.json", "n_layer"]["new"] == "model.num_layers"
    assert keys["config.json", "mystery"]["new"] is None
    most_steps = keys["config/train_chars.py", "max_iters"]
    assert (most_steps["value"], most_steps["new"], most_steps["new_value"]) == (40, "training.max_steps", 40)
    filled = keys["config/train_chars.py", "weight_decay"]
    assert (filled["value"], filled["default_of"]) == (0.1, "nanoGPT"), "its train.py has no defaults of its own"
    markdown = (folder / "new" / "MIGRATION.md").read_text()
    assert all(name in markdown for name in files)


@torch.no_grad()
def test_checkpoints_keep_their_logits_and_say_so(project: tuple[Path, NanoGPT]) -> None:
    folder, legacy = project
    report = json.loads((folder / "new" / "migration.json").read_text())
    assert {row["file"] for row in report["checkpoints"]} == {"out-chars/ckpt.pt", "compiled.pt"}
    for row in report["checkpoints"]:
        assert row["proof"]["against"] == "formula", "nothing of the project was run"
        assert row["proof"]["largest_logit_difference"] < 1e-5
    tokens = torch.randint(20, (2, 32))
    for name in ("out-chars.pt", "compiled.pt"):
        model = load_model(folder / "new" / "model" / name, "cpu")
        assert (model(tokens)[0] - legacy(tokens)).abs().max() < 1e-5


def test_generation_works_with_the_migrated_character_table(project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    text = lb.generate_text(folder / "new/model/out-chars.pt", folder / "new/tokenizer", "Item 7", max_new_tokens=10)
    assert text.startswith("Item 7")


def test_training_continues_with_the_legacy_optimizer(project: tuple[Path, NanoGPT]) -> None:
    """Twenty more steps in the new package follow the checkpoint's twenty without a jump."""
    folder, _ = project
    results = resume_training(folder / "new" / "run" / "out-chars", callbacks=[])
    assert results.steps == 40
    first = next(line for line in results.history if "loss" in line)
    assert first["step"] > 20
    start = lb.evaluate_model(folder / "new/model/out-chars.pt", folder / "new/data/data.txt").loss
    assert results.final_loss < start + 0.05


def test_the_new_training_script_runs_every_configuration(project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    for arguments, place in (([], "run"), (["configs/train_chars.json", "--overwrite"], "run/out-chars")):
        done = subprocess.run(
            [sys.executable, "train.py", *arguments], cwd=folder / "new", capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        assert (folder / "new" / place / "model.pt").is_file()
    again = subprocess.run([sys.executable, "train.py"], cwd=folder / "new", capture_output=True, text=True, timeout=60)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr and "Traceback" not in again.stderr


def test_commands_get_their_new_form(project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    report = json.loads((folder / "new" / "migration.json").read_text())
    found = {row["line"]: row for row in report["commands"] if row["file"] == "run.sh"}
    assert found[2]["new"] == "llmbuilder data load --input data/raw --output data/data.txt --clean"
    assert found[3]["new"] == (
        "llmbuilder train model --config config.json --data data/data.txt --output run "
        "--set training.batch_size=12 --set system.compile=False"
    )
    assert found[3]["left"] == ["--unknown_flag=3"]
    assert found[4]["new"].startswith("llmbuilder train model --config configs/train_chars.json --output run/out-chars")
    assert "--overwrite" in found[4]["new"], "the run that was carried over lies there"
    assert "--set training.max_steps=100" in found[4]["new"]
    assert "--prompt Hello --num-samples 5" in found[5]["new"]
    assert found[6]["new"].startswith("llmbuilder model evaluate ")
    assert "llmbuilder train model --config config.json" in (folder / "new" / "run.sh").read_text()


def test_dry_run_writes_nothing(tmp_path: Path, project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    report = migrate_project(folder / "old", tmp_path / "new", dry_run=True)
    assert not (tmp_path / "new").exists()
    written = json.loads((folder / "new" / "migration.json").read_text())
    assert report.files == written["files"]
    assert report.experiments == written["experiments"]


def test_refusals(tmp_path: Path, project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    with pytest.raises(MigrationError, match="no such folder"):
        migrate_project(tmp_path / "absent", tmp_path / "new")
    with pytest.raises(MigrationError, match="never written to"):
        migrate_project(folder / "old", folder / "old" / "inside")
    with pytest.raises(MigrationError, match="already exists"):
        migrate_project(folder / "old", folder / "new")
    with pytest.raises(MigrationError, match="'gelu_tanh', not 'relu'"):
        migrate_project(folder / "old", tmp_path / "new", activation="relu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MigrationError, match="is empty"):
        migrate_project(tmp_path / "empty", tmp_path / "new")


def test_code_runs_only_with_consent(tmp_path: Path, project: tuple[Path, NanoGPT]) -> None:
    folder, _ = project
    refused = run("migrate", folder / "old", tmp_path / "new", "--prove", cwd=tmp_path, status=1)
    assert "add --run-legacy-code to allow it" in refused.stderr
    assert "give both" in run("migrate", folder / "old", "new", "--run-legacy-code", cwd=tmp_path, status=1).stderr
    assert not (tmp_path / "new").exists()
