"""What belongs to what in a legacy project, told from its files alone."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from llmbuilder.config import load_config
from llmbuilder.migration import migrate_project
from llmbuilder.migration.understanding import LegacyProject, main_configuration, understand
from llmbuilder.model import load_model
from tests.references import NanoGPT

TRAIN = """
n_layer = 3
n_head = 2
n_embd = 16
block_size = 16
batch_size = 4
learning_rate = 1e-3
max_iters = 9
dataset = 'one'
out_dir = 'out'
exec(open('configurator.py').read())
loss.backward()
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def checkpoint(path: Path, *, vocab: int = 5, when: int = 0, **settings: object) -> NanoGPT:
    """Write what nanoGPT's train.py saves, as if at second `when`."""
    model = NanoGPT(vocab=vocab, layers=1, heads=2, width=8, block=8)
    config = {**model.args, "batch_size": 4, "learning_rate": 1e-3, "max_iters": 9, **settings}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "model_args": model.args, "iter_num": 7, "config": config}, path)
    os.utime(path, (when, when))
    return model


def tokens(folder: Path, characters: str, *, table: bool = True) -> None:
    folder.mkdir(parents=True)
    for part in ("train", "val"):
        np.zeros(40, np.uint16).tofile(folder / f"{part}.bin")
    if table:
        content = {"vocab_size": len(characters), "stoi": {c: i for i, c in enumerate(characters)}}
        (folder / "meta.pkl").write_bytes(pickle.dumps(content))


def chosen(project: LegacyProject) -> str:
    found, _ = main_configuration(project)
    return str(found.source) if found is not None else ""


def test_the_main_configuration(tmp_path: Path) -> None:
    """A declared one, else the newest checkpoint's, else the README's training, else the program's own settings."""
    write(tmp_path, {
        "train.py": TRAIN, "sample.py": "x = model.generate(y)\n",
        "config/eval_one.py": "eval_only = True\ninit_from = 'resume'\nbatch_size = 1\n",
        "config/train_a.py": "out_dir = 'out-a'\nbatch_size = 8\n",
        "config/train_b.py": "out_dir = 'out-b'\nn_layer = 5\n",
    })  # fmt: skip
    assert chosen(understand(tmp_path)) == "train.py", "a bare `python train.py` has the program's own settings"
    (tmp_path / "README.md").write_text(
        "```sh\npython sample.py --out_dir=out-a\npython train.py config/eval_one.py\npython train.py config/train_b.py\n```\n"
    )
    assert chosen(understand(tmp_path)) == "config/train_b.py", "never one that only evaluates"
    checkpoint(tmp_path / "out-a" / "ckpt.pt", when=100, out_dir="out-a", dataset="one")
    checkpoint(tmp_path / "out-c" / "ckpt.pt", when=50, out_dir="out-c", dataset="one")
    assert chosen(understand(tmp_path)) == "out-a/ckpt.pt", "its own settings differ from every file's"
    write(tmp_path, {"config.json": json.dumps({"n_layer": 2, "n_head": 2, "n_embd": 16})})
    assert chosen(understand(tmp_path)) == "config.json"


def test_defaults_are_the_projects_own(tmp_path: Path) -> None:
    write(tmp_path / "old", {"train.py": TRAIN, "config/a.py": "batch_size = 8\nmax_iters = 50\n"})
    report = migrate_project(tmp_path / "old", tmp_path / "new")
    rows = {row["key"]: row for row in report.keys if row["file"] == "config/a.py"}
    assert (rows["n_layer"]["value"], rows["n_layer"]["default_of"]) == (3, "train.py")
    assert (rows["weight_decay"]["value"], rows["weight_decay"]["default_of"]) == (0.1, "nanoGPT")
    config = load_config(tmp_path / "new" / "configs" / "a.json")
    assert (config.model.num_layers, config.training.batch_size, config.training.max_steps) == (3, 8, 50)
    own = load_config(tmp_path / "new" / "configs" / "train.json")
    assert (own.model.num_layers, own.training.batch_size, own.training.max_steps) == (3, 4, 9)


def test_keys_without_effect_stand_first_by_what_they_change(tmp_path: Path) -> None:
    values = {"n_layer": 2, "wandb_tags": "a", "model_preset": "wide", "log_colour": 1, "attention_window": 7}
    write(tmp_path / "old", {"config.json": json.dumps(values)})
    report = migrate_project(tmp_path / "old", tmp_path / "new", dry_run=True)
    without = [row["key"] for row in report.keys if row["new"] is None]
    assert without[:2] == ["model_preset", "attention_window"]
    assert report.keys[len(without)]["new"] is not None, "then those that act"


def test_a_text_of_tests_is_not_the_data(tmp_path: Path) -> None:
    write(tmp_path / "old", {
        "train.py": TRAIN.replace("dataset = 'one'\n", ""), "tests/fixtures/data.txt": "no data", "docs/input.txt": "no data",
        "corpus/book.txt": "the data", "requirements.txt": "torch", "notes.txt": "notes", "train_text.txt": "more data",
    })  # fmt: skip
    report = migrate_project(tmp_path / "old", tmp_path / "new")
    files = {row["file"]: row["result"] for row in report.files}
    assert files["tests/fixtures/data.txt"] == files["docs/input.txt"] == files["requirements.txt"] == "left"
    assert files["corpus/book.txt"] == "data/corpus/book.txt"
    assert load_config(tmp_path / "new" / "config.json").data.path == "data/train_text.txt"


def test_a_character_model_without_a_table_gets_the_characters_of_its_text(tmp_path: Path) -> None:
    text = "abc\r\nabd\r\n"
    old = tmp_path / "old"
    tokens(old / "data" / "one", "", table=False)
    (old / "data" / "one" / "input.txt").write_bytes(text.encode())
    write(old, {"train.py": TRAIN})
    checkpoint(old / "out" / "ckpt.pt", vocab=5, out_dir="out", dataset="one")
    report = migrate_project(old, tmp_path / "new")
    model = load_model(tmp_path / "new" / "model" / "out.pt", "cpu")
    assert model.tokenizer is not None
    assert model.tokenizer.encode(text) == [1, 2, 3, 0, 1, 2, 4, 0], "line ends as Python reads them"
    assert any("has no meta.pkl" in note for note in report.notes)


def test_tokens_of_unknown_encoding_get_no_tokenizer_and_a_note(tmp_path: Path) -> None:
    old = tmp_path / "old"
    tokens(old / "data" / "one", "", table=False)
    write(old, {"train.py": TRAIN})
    checkpoint(old / "out" / "ckpt.pt", vocab=7, out_dir="out", dataset="one")
    report = migrate_project(old, tmp_path / "new")
    assert load_model(tmp_path / "new" / "model" / "out.pt", "cpu").tokenizer is None
    assert any("says nothing of its tokenizer" in note for note in report.notes)


def test_a_model_of_other_characters_is_not_given_these(tmp_path: Path) -> None:
    """A checkpoint of four tokens and a table of six characters do not belong together."""
    old = tmp_path / "old"
    tokens(old / "data" / "one", "abcdef")
    write(old, {"train.py": TRAIN})
    checkpoint(old / "out" / "ckpt.pt", vocab=4, out_dir="out", dataset="one")
    report = migrate_project(old, tmp_path / "new")
    assert load_model(tmp_path / "new" / "model" / "out.pt", "cpu").tokenizer is None
    assert any("trained on other data" in note for note in report.notes)


def test_one_damaged_file_does_not_stop_the_rest(tmp_path: Path) -> None:
    old = tmp_path / "old"
    tokens(old / "data" / "one", "abcde")
    tokens(old / "data" / "two", "xy")
    (old / "data" / "two" / "meta.pkl").write_bytes(pickle.dumps(pytest.raises))
    write(old, {"train.py": TRAIN, "config/broken.json": "{", "config/broken.py": "x = = 1", "empty.pt": ""})
    checkpoint(old / "out" / "ckpt.pt", out_dir="out", dataset="one")
    torch.save({"model": {"transformer.wte.weight": torch.zeros(3, 2), "strange": torch.zeros(1)},
                "model_args": {"n_head": 1}}, old / "strange.pt")  # fmt: skip
    report = migrate_project(old, tmp_path / "new")
    files = {row["file"]: row for row in report.files}
    for name in ("config/broken.json", "config/broken.py", "empty.pt", "strange.pt", "data/two/meta.pkl"):
        assert files[name]["result"] == "left", name
        assert files[name]["why"], name
    assert files["out/ckpt.pt"]["result"] == "model/out.pt"
    assert files["data/two/train.bin"]["result"] == "data/two/train.bin"


def test_an_unknown_argument_is_refused_by_name(tmp_path: Path) -> None:
    old = tmp_path / "old"
    model = NanoGPT(vocab=5, layers=1, heads=2, width=8, block=8)
    content = {"model": model.state_dict(), "model_args": {**model.args, "attention_sink": 4}}
    old.mkdir()
    torch.save(content, old / "model.pt")
    report = migrate_project(old, tmp_path / "new")
    assert report.checkpoints == []
    assert "attention_sink = 4" in report.files[0]["why"]
    assert not (tmp_path / "new" / "model").exists()


def test_data_that_is_named_and_not_here_is_no_other_data(tmp_path: Path) -> None:
    old = tmp_path / "old"
    tokens(old / "data" / "one", "abcde")
    write(old, {"train.py": TRAIN, "config/far.py": "dataset = 'far'\nout_dir = 'out-far'\nbatch_size = 2\n"})
    checkpoint(old / "out-far" / "ckpt.pt", vocab=5, out_dir="out-far", dataset="far")
    report = migrate_project(old, tmp_path / "new")
    assert load_model(tmp_path / "new" / "model" / "out-far.pt", "cpu").tokenizer is None
    assert load_config(tmp_path / "new" / "configs" / "far.json").data.path == "data/far"
    assert load_config(tmp_path / "new" / "configs" / "train.json").data.path == "data/one"
    assert any(note.startswith("No data for data/far, which config/far.py") for note in report.notes)


def test_logs_beside_a_checkpoint_are_not_the_data(tmp_path: Path) -> None:
    """minGPT's way: the text lies beside the program, and args.txt and config.json beside the model."""
    old = tmp_path / "old"
    write(old, {
        "projects/chars/chars.py": "data = open('input.txt').read()\nimport torch\nbatch_size = 4\nloss.backward()\n",
        "projects/chars/input.txt": "abcab", "projects/chars/out/args.txt": "python chars.py", "train_log.txt": "step 1",
        "projects/chars/out/config.json": json.dumps({
            "data": {"block_size": 8}, "system": {"work_dir": "./out"},
            "model": {"n_layer": 1, "n_head": 2, "n_embd": 8},
            "trainer": {"batch_size": 4, "learning_rate": 1e-3, "grad_norm_clip": 1.0},
        }),
    })  # fmt: skip
    torch.save(NanoGPT(vocab=3, layers=1, heads=2, width=8, block=8).state_dict(), old / "projects/chars/out/model.pt")
    report = migrate_project(old, tmp_path / "new")
    (one,) = report.experiments
    assert (one["data"], one["tokenizer"]) == ("data/projects/chars/input.txt", "tokenizer")
    assert one["configuration"] == "projects/chars/out/config.json"
    files = {row["file"]: row["result"] for row in report.files}
    assert files["projects/chars/out/args.txt"] == files["train_log.txt"] == "left"
    assert load_config(tmp_path / "new" / "config.json").model.max_seq_length == 8


def test_data_is_told_by_the_names_of_folders(tmp_path: Path) -> None:
    old = tmp_path / "old"
    tokens(old / "data" / "stories", "abcde")
    tokens(old / "data" / "code", "vwxyz")
    for name in ("stories", "code"):
        checkpoint(old / "checkpoints" / name / "ckpt.pt", vocab=5)
    report = migrate_project(old, tmp_path / "new")
    assert {row["wrote"]: row["data"] for row in report.experiments} == {
        "checkpoints/stories": "data/stories", "checkpoints/code": "data/code",
    }  # fmt: skip


def test_a_configuration_in_its_own_form(tmp_path: Path) -> None:
    """Sections and names of a project's own; a plan of many trainings is none."""
    old = tmp_path / "old"
    write(old, {
        "conf/a.yaml": "net:\n  d_model: 16\n  num_heads: 2\n  num_layers: 1\nrun:\n  lr: 0.001\n  batch_size: 4\n",
        "conf/sweep.yaml": "n_layer: [1, 2]\nn_head: [2, 4]\nbatch_size: [4]\n",
    })  # fmt: skip
    report = migrate_project(old, tmp_path / "new")
    config = load_config(tmp_path / "new" / "configs" / "conf" / "a.json")
    assert (config.model.embedding_dim, config.model.num_layers, config.training.learning_rate) == (16, 1, 0.001)
    assert {row["file"]: row["result"] for row in report.files}["conf/sweep.yaml"] == "left"


def test_a_configuration_of_another_model_is_said_to_be_one(tmp_path: Path) -> None:
    write(tmp_path / "old", {"config.json": json.dumps({"n_layer": 1, "n_head": 4, "n_embd": 16, "n_kv_head": 2})})
    report = migrate_project(tmp_path / "old", tmp_path / "new")
    assert any("n_kv_head = 2" in note and "another model" in note for note in report.notes)


def test_a_new_migration_does_not_mix_with_a_run_in_use(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    tokens(old / "data" / "one", "abcde")
    write(old, {"train.py": TRAIN})
    checkpoint(old / "out" / "ckpt.pt", out_dir="out", dataset="one")
    migrate_project(old, new)
    (new / "run" / "out" / "metrics.jsonl").write_text("{}\n")
    migrate_project(old, new, overwrite=True)
    assert not (new / "run" / "out" / "metrics.jsonl").exists()
    assert [path.read_text() for path in (new / "run").glob("*/metrics.jsonl")] == ["{}\n"], "the earlier run is kept"


def test_the_main_configuration_is_of_a_model_that_is_here(tmp_path: Path) -> None:
    old = tmp_path / "old"
    tokens(old / "data" / "one", "abcde")
    write(old, {"config/train_on.py": "init_from = 'resume'\nout_dir = 'out-on'\ndataset = 'one'\nbatch_size = 3\n"})
    checkpoint(old / "out-a" / "ckpt.pt", when=100, out_dir="out-a", dataset="one", learning_rate=0.25)
    checkpoint(old / "out-b" / "ckpt.pt", when=200, out_dir="out-b", dataset="one", n_experts=8)
    report = migrate_project(old, tmp_path / "new")
    assert list(report.refused) == ["out-b/ckpt.pt"]
    assert load_config(tmp_path / "new" / "config.json").training.learning_rate == 0.25
    assert load_config(tmp_path / "new" / "configs" / "train_on.json").training.init_from == "scratch"
    assert any("train_on.json went on with a run that is not here" in note for note in report.notes)
