"""Every way a run begins, and that none of them costs an earlier one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.errors import CheckpointError, TokenizerError, TrainingError
from llmbuilder.files import write_json
from llmbuilder.model import build_model, load_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import TrainingResults, resume_training, train_model
from llmbuilder.training.processes.distributed import Launch
from llmbuilder.training.storage.checkpoints import list_checkpoints
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.starting import Asked, Start, choose_start, prepare_start

FIRST, AGAIN, OTHER = Launch("ours"), Launch("ours", restarts=1), Launch("theirs", restarts=1)
REFUSED = None


def train(config: Config, prose: str, run: Path | None, **options: object) -> TrainingResults:
    dataset = TextDataset(
        [prose], config.model.max_seq_length, train_split=0.9, tokenizer=options.pop("tokenizer", None)
    )  # type: ignore[arg-type]
    return train_model(build_model(config), dataset, config, run, **{"callbacks": [], **options})  # type: ignore[arg-type]


def on_the_disk(folder: Path, contents: str) -> None:
    if "record" in contents:
        write_json(folder / "run.json", {"model": "model.pt", "tokenizer": "tokenizer", "launch": "ours"})
    if "foreign" in contents:
        write_json(folder / "run.json", ["somebody", "else's"])
    if "checkpoint" in contents:
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "step-00000004.pt").touch()
    if "model" in contents:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.pt").touch()


NEW, REPLACE, ASIDE, RESUME = Start.NEW, Start.REPLACE, Start.ASIDE, Start.RESUME
ROWS = [
    # on the disk, launch, a new run, overwrite, no directory named, continue
    ("", Launch(), NEW, NEW, NEW, NEW),
    ("", AGAIN, NEW, NEW, NEW, NEW),
    ("record", Launch(), Start.AGAIN, Start.AGAIN, Start.AGAIN, Start.AGAIN),
    ("record", FIRST, Start.AGAIN, Start.AGAIN, Start.AGAIN, Start.AGAIN),
    ("record", AGAIN, Start.AGAIN, Start.AGAIN, Start.AGAIN, Start.AGAIN),
    ("record", OTHER, Start.AGAIN, Start.AGAIN, Start.AGAIN, Start.AGAIN),
    ("record checkpoint model", AGAIN, RESUME, RESUME, RESUME, RESUME),
    ("record checkpoint", AGAIN, RESUME, RESUME, RESUME, RESUME),
    ("record model", AGAIN, Start.AGAIN, Start.AGAIN, Start.AGAIN, Start.AGAIN),
    ("record checkpoint model", Launch(), REFUSED, REPLACE, ASIDE, RESUME),
    ("record checkpoint model", FIRST, REFUSED, REPLACE, ASIDE, RESUME),
    ("record checkpoint model", OTHER, REFUSED, REPLACE, ASIDE, RESUME),
    ("record checkpoint", OTHER, REFUSED, REPLACE, ASIDE, RESUME),
    ("record model", OTHER, REFUSED, REPLACE, Start.AGAIN, Start.AGAIN),
    ("model", Launch(), REFUSED, REPLACE, NEW, REFUSED),
    ("checkpoint", Launch(), REFUSED, REFUSED, ASIDE, REFUSED),
    ("foreign", Launch(), NEW, NEW, NEW, NEW),
    ("foreign checkpoint", AGAIN, REFUSED, REFUSED, ASIDE, REFUSED),
]


@pytest.mark.parametrize(("contents", "launch", "new", "overwrite", "unnamed", "continued"), ROWS)
def test_the_table_of_starts(
    tmp_path: Path, contents: str, launch: Launch, new: Start, overwrite: Start, unnamed: Start, continued: Start
) -> None:
    for number, (asked, keep, expected) in enumerate(
        [(Asked.NEW, False, new), (Asked.OVERWRITE, False, overwrite), (Asked.NEW, True, unnamed),
         (Asked.OVERWRITE, True, unnamed), (Asked.CONTINUE, False, continued),
         (Asked.RESUME, False, RESUME), (Asked.RESUME, True, RESUME)]
    ):  # fmt: skip
        folder = tmp_path / str(number)
        on_the_disk(folder, contents)
        paths = RunPaths(folder, folder / "model.pt", folder / "tokenizer", keep_earlier=keep)
        if expected is REFUSED:
            with pytest.raises(CheckpointError, match="another directory"):
                choose_start(paths, asked, launch)
        else:
            assert choose_start(paths, asked, launch) is expected, (contents, launch, asked, keep)


def test_a_name_given_to_two_launches_owns_nothing(tmp_path: Path) -> None:
    on_the_disk(tmp_path, "record checkpoint model")
    paths = RunPaths.choose(tmp_path)
    for launch in (FIRST, AGAIN):
        with pytest.raises(CheckpointError, match="already holds a run"):
            prepare_start(paths, Asked.NEW, launch)


@pytest.mark.slow
def test_torchrun_does_not_start_a_refused_run_again(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    run = tmp_path / "run"
    train(tiny_config, prose, run)
    before = {path: path.read_bytes() for path in (run / "model.pt", run / "metrics.jsonl", run / "run.json")}
    tiny_config.training.max_steps = 20
    tiny_config.save(tmp_path / "config.json")
    (tmp_path / "data.txt").write_text(prose)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1",
               "-m", "llmbuilder", "train", "model", "--config", "config.json", "--data", "data.txt",
               "--output", "run"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("already holds a run") == 2, done.stderr[-3000:]
    assert {path: path.read_bytes() for path in before} == before


def test_processes_started_again_go_on_with_their_own_run(
    tmp_path: Path, tiny_config: Config, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    train(tiny_config, prose, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["launch"] == "job"
    checkpoints = list_checkpoints(tmp_path / "run" / "checkpoints")
    checkpoints[-1].unlink()  # as if it had died after step 8
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    results = train(tiny_config, prose, tmp_path / "run", overwrite=True)
    assert [line["step"] for line in results.history if "loss" in line] == [2, 4, 6, 8, 10, 12]


def test_a_start_that_failed_is_started_again_by_the_same_command(
    tmp_path: Path, tiny_config: Config, prose: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmbuilder.training.loop.trainer import Trainer

    def failing(*_: object) -> None:
        raise TrainingError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "run", failing)
        with pytest.raises(TrainingError, match="no memory"):
            train(tiny_config, prose, tmp_path / "run")
    with pytest.raises(TrainingError, match="no checkpoint yet: start it again with the same command"):
        resume_training(tmp_path / "run")
    assert train(tiny_config, prose, tmp_path / "run").steps == 12
    assert "holds a start that ended before its first checkpoint: starting again" in caplog.text


def test_overwriting_removes_what_the_run_wrote_and_nothing_else(
    tmp_path: Path, tiny_config: Config, prose: str
) -> None:
    run = tmp_path / "run"
    train(tiny_config, prose, run)
    theirs = [run / "notes.md", run / "checkpoints" / "best-so-far.pt", run / "checkpoints" / "step-by-step.txt"]
    for path in theirs:
        path.write_text("mine")
    tiny_config.training.max_steps = 6
    tiny_config.training.save_every = 0
    train(tiny_config, prose, run, overwrite=True)
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step-00000006.pt"]
    assert [path.read_text() for path in theirs] == ["mine"] * 3


def test_a_refused_overwrite_leaves_the_run_whole(
    tmp_path: Path, tiny_config: Config, prose: str, bpe: Tokenizer
) -> None:
    run = tmp_path / "run"
    train(tiny_config, prose, run)
    with pytest.raises(TokenizerError, match="512 tokens but model.vocab_size is 300"):
        train(tiny_config, prose, run, overwrite=True, tokenizer=bpe)
    assert resume_training(run, overrides=["training.max_steps=14"], callbacks=[]).steps == 14


def test_a_model_that_is_replaced_is_not_taken_for_the_new_runs(
    tmp_path: Path, tiny_config: Config, prose: str
) -> None:
    """Killed after a checkpoint and before its first evaluation, the new run has no model yet."""
    run = tmp_path / "run"
    train(tiny_config, prose, run)
    tiny_config.training.eval_every = 0
    tiny_config.training.max_steps = 5
    tiny_config.system.seed = 7
    train(tiny_config, prose, run, overwrite=True)
    resume_training(run, overrides=["training.max_steps=9"], callbacks=[])
    assert load_model(run, "cpu").metadata["step"] == 9
    assert not (run / "last.pt").exists()


def test_a_run_owns_its_tokens(tmp_path: Path, tiny_config: Config, prose: str, bpe: Tokenizer) -> None:
    """Asking for the length of a dataset tokenizes it into a folder that ends with the dataset."""
    tiny_config.model.vocab_size = 512
    dataset = TextDataset([prose], 32, train_split=0.9, tokenizer=bpe)
    inputs = dataset[0][0]
    assert len(dataset) > 0
    for name in ("first", "second"):
        train_model(build_model(tiny_config), dataset, tiny_config, tmp_path / name, callbacks=[])
        assert json.loads((tmp_path / name / "run.json").read_text())["dataset"]["tokens"] == "tokens"
        assert (dataset[0][0] == inputs).all()
    del dataset
    train(
        tiny_config, prose * 2, tmp_path / "first", overwrite=True, tokenizer=bpe
    )  # the first's tokens are others now
    assert resume_training(tmp_path / "second", overrides=["training.max_steps=14"], callbacks=[]).steps == 14
    assert not list(tmp_path.rglob("*.tmp"))


def test_tokens_the_user_keeps_stay_where_they_are(
    tmp_path: Path, tiny_config: Config, prose: str, bpe: Tokenizer
) -> None:
    tiny_config.model.vocab_size = 512
    dataset = TextDataset([prose], 32, train_split=0.9, tokenizer=bpe).prepare(tmp_path / "mine")
    train_model(build_model(tiny_config), dataset, tiny_config, tmp_path / "run", callbacks=[])
    assert not (tmp_path / "run" / "tokens").exists()
    assert resume_training(tmp_path / "run", overrides=["training.max_steps=14"], callbacks=[]).steps == 14
