"""Many experiments, datasets and checkpoints in one project: nothing crossed, nothing lost, whatever they are called."""

from __future__ import annotations

import json
import pickle
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmbuilder.config import load_config
from llmbuilder.migration import migrate_project
from llmbuilder.model import load_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training.storage.paths import RunPaths
from tests.migration.untouched import fingerprint
from tests.references import NanoGPT

WORDS = st.text(alphabet=st.sampled_from("abcAB'$ é世-_.1"), min_size=1, max_size=5).map(str.strip).filter(
    lambda word: bool(word.strip(" .")) and not word.startswith((".", "-"))
)  # fmt: skip
FOLDERS = st.lists(WORDS, min_size=1, max_size=3).map("/".join)


@dataclass
class Made:
    """An experiment that the test wrote: where, on what, and what its model computes."""

    out_dir: str
    dataset: str
    model: NanoGPT


def distinct(names: list[str]) -> bool:
    """Whether names are different ones on file systems without case, and none lies inside another."""
    lowered = [name.lower() for name in names]
    return len(set(lowered)) == len(lowered) and not any(
        one != other and one.startswith(f"{other}/") for one in lowered for other in lowered
    )


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, int]]]:
    datasets = draw(st.lists(FOLDERS, min_size=1, max_size=3).filter(distinct))
    outs = draw(st.lists(FOLDERS, min_size=1, max_size=4).filter(distinct))
    choices = draw(st.lists(st.integers(0, len(datasets) - 1), min_size=len(outs), max_size=len(outs)))
    return datasets, list(zip([f"out/{out}" for out in outs], choices, strict=True))


def write_project(root: Path, datasets: list[str], experiments: list[tuple[str, int]]) -> list[Made]:
    tables = []
    for number, name in enumerate(datasets):
        characters = [chr(97 + letter) for letter in range(5 + 3 * number)]
        data = root / "data" / name
        data.mkdir(parents=True)
        rng = np.random.default_rng(number)
        for part in ("train", "val"):
            rng.integers(0, len(characters), 200, dtype=np.uint16).tofile(data / f"{part}.bin")
        table = {"vocab_size": len(characters), "stoi": {c: i for i, c in enumerate(characters)}}
        (data / "meta.pkl").write_bytes(pickle.dumps(table))
        tables.append(characters)
    made = []
    for number, (out_dir, choice) in enumerate(experiments):
        torch.manual_seed(number)
        model = NanoGPT(vocab=len(tables[choice]), layers=1, heads=2, width=8, block=8)
        tokens = torch.randint(len(tables[choice]), (4, 9))
        content = model.checkpoint(model.train_steps(tokens, 1))
        content["config"] = {**model.args, "batch_size": 2, "learning_rate": 1e-3 + number, "max_iters": 4,
                             "dataset": datasets[choice], "out_dir": out_dir, "eval_interval": 2}  # fmt: skip
        (root / out_dir).mkdir(parents=True)
        torch.save(content, root / out_dir / "ckpt.pt")
        made.append(Made(out_dir, datasets[choice], model))
    return made


@given(layouts())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_is_crossed_or_lost(layout: tuple[list[str], list[tuple[str, int]]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        old, new = Path(temporary, "old"), Path(temporary, "new")
        old.mkdir()
        made = write_project(old, *layout)
        before = fingerprint(old)
        report = migrate_project(old, new)
        assert fingerprint(old) == before, "bytes and times of the legacy folder stay"
        assert {row["file"] for row in report.files} == {
            path.relative_to(old).as_posix() for path in old.rglob("*") if path.is_file()
        }
        rows = {row["file"]: row for row in report.checkpoints}
        assert len(rows) == len(made) == len({row["new"].lower() for row in rows.values()})
        for one in made:
            check_experiment(old, new, one, rows[f"{one.out_dir}/ckpt.pt"])


def check_experiment(old: Path, new: Path, one: Made, row: dict[str, object]) -> None:
    """See that a model kept its logits and its dataset's characters, and that its run goes on with its own data."""
    expected = Tokenizer.from_pretrained(old / "data" / one.dataset / "meta.pkl")
    model = load_model(new / str(row["new"]), "cpu")
    tokens = torch.randint(len(expected), (2, 8))
    with torch.no_grad():
        assert (model(tokens)[0] - one.model(tokens)).abs().max() < 1e-5
    assert model.tokenizer is not None
    assert model.tokenizer.fingerprint == expected.fingerprint
    run = new / shlex.split(str(row["resume"]))[-1]
    config = load_config(run / "config.json")
    assert config.model.vocab_size == len(expected)
    record = json.loads(RunPaths.choose(run).record.read_text())
    own = (old / "data" / one.dataset / "train.bin").read_bytes()
    assert (run / record["dataset"]["tokens"] / "train.bin").read_bytes() == own
    assert config.data.path is not None
    assert (new / config.data.path / "train.bin").read_bytes() == own
    assert config.tokenizer.path is not None
    assert Tokenizer.from_pretrained(new / config.tokenizer.path).fingerprint == expected.fingerprint


def test_two_experiments_two_datasets_three_checkpoints_of_one_name(tmp_path: Path) -> None:
    layout = (["alpha", "beta"], [("out-alpha", 0), ("deep/out-beta", 1), ("other/out-beta", 1)])
    made = write_project(tmp_path / "old", *layout)
    report = migrate_project(tmp_path / "old", tmp_path / "new")
    assert [row["new"] for row in report.checkpoints] == [
        "model/out-beta.pt", "model/other-out-beta.pt", "model/out-alpha.pt",
    ]  # fmt: skip
    rows = {row["file"]: row for row in report.checkpoints}
    for one in made:
        check_experiment(tmp_path / "old", tmp_path / "new", one, rows[f"{one.out_dir}/ckpt.pt"])
    assert {(row["data"], row["tokenizer"]) for row in report.experiments} == {
        ("data/alpha", "tokenizers/alpha"), ("data/beta", "tokenizers/beta"),
    }  # fmt: skip
