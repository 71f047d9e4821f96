"""What others have put where a run writes is kept, whatever happens to the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.errors import DataError, TrainingError
from llmbuilder.files import read_json_lines
from llmbuilder.model import build_model, load_model, save_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import Callback, TrainingResults, resume_training, train_model
from llmbuilder.training.storage.checkpoints import list_checkpoints
from llmbuilder.training.storage.model_files import run_name, run_that_wrote
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.sharded_checkpoints import is_sharded
from llmbuilder.training.storage.unfinished import remove_unfinished_writes
from tests.command_line import run


@pytest.fixture(autouse=True)
def _nothing_is_measured(tiny_config: Config) -> None:
    tiny_config.system.deterministic, tiny_config.system.num_threads = True, 1


def train(config: Config, text: str, folder: Path | None, **options: object) -> TrainingResults:
    dataset = TextDataset([text], config.model.max_seq_length, train_split=0.9)
    return train_model(build_model(config), dataset, config, folder, **{"callbacks": [], **options})  # type: ignore[arg-type]


class Dying(Callback):
    """Ends a run when its first checkpoint is on the disk."""

    def on_checkpoint(self, path: Path) -> None:
        raise TrainingError("killed")


def die_after_a_checkpoint(config: Config, text: str, folder: Path | None) -> None:
    config.training.eval_every = 0
    with pytest.raises(TrainingError, match="killed"):
        train(config, text, folder, callbacks=[Dying()])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("folder", [None, "run"])
@pytest.mark.parametrize("is_model", [True, False])
def test_a_model_that_came_after_a_kill_is_kept_on_resuming(
    here: Path, tiny_config: Config, prose: str, folder: str | None, is_model: bool
) -> None:
    run_folder = Path(folder or "llmbuilder-run")
    die_after_a_checkpoint(tiny_config, prose, Path(folder) if folder else None)
    model = RunPaths.of_run(run_folder).model
    assert not model.exists()
    if is_model:
        save_model(build_model(tiny_config), model)
    else:
        model.write_bytes(b"mine")
    theirs = model.read_bytes()
    assert resume_training(run_folder, callbacks=[]).steps == 12
    assert model.with_name("model.1.pt").read_bytes() == theirs
    assert run_that_wrote(model) == run_name(RunPaths.of_run(run_folder)) is not None


def test_a_run_set_aside_does_not_replace_the_model_of_the_next(here: Path, tiny_config: Config, prose: str) -> None:
    train(tiny_config, prose, None)
    train(tiny_config, prose, None)
    second = Path("model.pt").read_bytes()
    resume_training("llmbuilder-run.1", overrides=["training.max_steps=20"], callbacks=[])
    kept = [path for path in here.glob("model*.pt") if path.read_bytes() == second]
    assert kept == [here / "model.2.pt"]


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "run.json", "report.html", "bad-step.json", "tokens/train.bin",
             "tokenizer/vocab.txt", "tokenizer", "tokens", "checkpoints", ".mine.tmp", "checkpoints/.mine.tmp",
             ".config.json.tmp"],
)  # fmt: skip
def test_a_start_keeps_what_lies_in_the_folder(tmp_path: Path, tiny_config: Config, prose: str, name: str) -> None:
    theirs = tmp_path / "run" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    assert train(tiny_config, prose, tmp_path / "run").steps == 12
    assert resume_training(tmp_path / "run", overrides=["training.max_steps=14"], callbacks=[]).steps == 14
    train(tiny_config, prose, tmp_path / "run", overwrite=True)
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.read_bytes() == b"mine"]
    assert len(kept) == 1
    assert sorted(step for line in read_json_lines(tmp_path / "run" / "metrics.jsonl") if "loss" in line
                  for step in [line["step"]]) == [2, 4, 6, 8, 10, 12]  # fmt: skip


def test_tokens_in_the_folder_that_a_run_only_uses_survive_the_next(
    tmp_path: Path, tiny_config: Config, prose: str, bpe: Tokenizer
) -> None:
    tiny_config.model.vocab_size = 512
    mine = tmp_path / "run" / "tokens"
    dataset = TextDataset([prose], 32, train_split=0.9, tokenizer=bpe).prepare(mine)
    before = (mine / "train.bin").read_bytes()
    train_model(build_model(tiny_config), dataset, tiny_config, tmp_path / "run", callbacks=[])
    assert (mine / "train.bin").read_bytes() == before
    train(tiny_config, prose * 2, tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "tokens.1" / "train.bin").read_bytes() == before


def test_a_refused_start_moves_and_leaves_nothing(here: Path, tiny_config: Config, prose: str) -> None:
    for folder in (None, Path("run"), Path("not-yet")):
        if folder != Path("not-yet"):
            train(tiny_config, prose, folder)
        before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
        with pytest.raises(DataError):
            train(tiny_config, "too little", folder, overwrite=True)
        assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
    assert not Path("not-yet").exists()


def test_an_output_that_is_a_file_is_refused_in_a_sentence(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(TrainingError, match="run cannot be used as a folder.*choose another directory"):
        train(tiny_config, prose, tmp_path / "run")


def test_continue_repeats_one_command_until_the_run_is_finished(
    tmp_path: Path, tiny_config: Config, prose: str
) -> None:
    (tmp_path / "data.txt").write_text(prose)
    tiny_config.save(tmp_path / "config.json")
    command = ("train", "model", "--config", "config.json", "--data", "data.txt", "--output", "run", "--quiet")
    folder = tmp_path / "run"
    die_after_a_checkpoint(tiny_config, prose, folder)
    run(*command, cwd=tmp_path, status=1)
    run(*command, "--continue", "--overwrite", cwd=tmp_path, status=1)
    run(*command, "--continue", cwd=tmp_path)
    lines = read_json_lines(folder / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10, 12]
    written = json.loads((folder / "run.json").read_text())["name"]
    run(*command, "--continue", cwd=tmp_path)
    assert json.loads((folder / "run.json").read_text())["name"] == written, "a finished run stays as it is"


def test_continuing_refuses_another_text_split_or_tokenizer(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    (tmp_path / "data.txt").write_text(prose)
    (tmp_path / "other.txt").write_text(prose.upper())
    tiny_config.save(tmp_path / "config.json")
    command = ("train", "model", "--config", "config.json", "--output", "run", "--quiet")
    run(*command, "--data", "data.txt", cwd=tmp_path)
    before = (tmp_path / "run" / "run.json").read_text()
    refused = run(*command, "--data", "other.txt", "--continue", cwd=tmp_path, status=1).stderr
    assert "is trained on data.txt and goes on with its own tokens: other.txt would not act" in refused
    again = (*command, "--data", "data.txt", "--continue")
    assert (
        "data.train_split would not act" in run(*again, "--set", "data.train_split=0.5", cwd=tmp_path, status=1).stderr
    )
    assert "tokenizer.algorithm would not act" in run(*again, "--set", "tokenizer.algorithm=unigram", cwd=tmp_path,
                                                      status=1).stderr  # fmt: skip
    other = TextDataset([prose.upper()], 8).learn_tokenizer(vocab_size=60, algorithm="char")
    other.save_pretrained(tmp_path / "theirs")
    assert "goes on with its own tokenizer" in run(*again, "--tokenizer", "theirs", cwd=tmp_path, status=1).stderr
    assert (tmp_path / "run" / "run.json").read_text() == before
    run(*again, cwd=tmp_path)


def test_a_replaced_run_leaves_no_tokenizer_to_another_text(
    tmp_path: Path, tiny_config: Config, prose: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    train(tiny_config, prose, folder)
    first = Tokenizer.from_pretrained(folder / "tokenizer").fingerprint
    train(tiny_config, prose.upper(), folder, overwrite=True)
    assert Tokenizer.from_pretrained(folder / "tokenizer").fingerprint != first
    assert "using the tokenizer in" not in caplog.text


def test_a_tokenizer_without_an_end_of_text_is_said(
    tmp_path: Path, tiny_config: Config, prose: str, caplog: pytest.LogCaptureFixture
) -> None:
    learned = TextDataset([prose], 8).learn_tokenizer(vocab_size=tiny_config.model.vocab_size)
    values = json.loads(learned.to_json())
    values["added_tokens"], text = [], json.dumps(values)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "tokenizer.json").write_text(text.replace("<|endoftext|>", "[DOC_END]"))
    tiny_config.tokenizer.path = str(tmp_path / "theirs")
    train(tiny_config, prose, tmp_path / "run")
    assert "the tokenizer names no end of text" in caplog.text


def test_a_checkpoint_comes_after_the_lines_of_its_step(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    tiny_config.training.save_best_only = True
    tiny_config.training.log_every = 1
    logged: list[list[int]] = []

    def saving(self: object) -> None:
        lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")
        logged.append([line["step"] for line in lines if "loss" in line])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmbuilder.training.loop.snapshots.Snapshots.save", saving)
        train(tiny_config, prose, tmp_path / "run")
    assert [steps[-1] for steps in logged] == [4, 8, 12]


def test_a_sharded_checkpoint_that_lacks_only_its_name_is_one(tmp_path: Path) -> None:
    paths = RunPaths.choose(tmp_path)
    whole = paths.checkpoints / ".step-00000004.tmp"
    for folder in (whole, paths.checkpoints / ".step-00000008.tmp", paths.checkpoints / ".step-00000004.old.tmp"):
        folder.mkdir(parents=True)
    (whole / "state.json").write_text("{}")
    assert list_checkpoints(paths.checkpoints) == [whole]
    remove_unfinished_writes(paths)
    assert [path.name for path in paths.checkpoints.iterdir()] == ["step-00000004"]
    assert is_sharded(paths.checkpoints / "step-00000004")


def test_a_run_is_the_same_by_whatever_path_it_is_named(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    train(tiny_config, prose, tmp_path / "run")
    (tmp_path / "other").mkdir()
    straight, around = RunPaths.of_run(tmp_path / "run"), RunPaths.of_run(tmp_path / "other" / ".." / "run")
    assert (straight.keep_earlier, around.keep_earlier) == (False, False)
    assert (straight.last_model.name, around.last_model.name) == ("last.pt", "last.pt")


def test_a_model_tells_its_run(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    train(tiny_config, prose, tmp_path / "run")
    paths = RunPaths.of_run(tmp_path / "run")
    assert load_model(paths.model, "cpu").metadata["run"] == run_name(paths)
    (tmp_path / "other.pt").write_bytes(b"other")
    assert run_that_wrote(tmp_path / "other.pt") == ""
