"""Random sequences of starts, kills and refusals: nothing of anybody's is lost, and every run can be finished.

STARTING_FUZZ=300 runs as many sequences of one process, STARTING_FUZZ_SEVERAL=30 of several; STARTING_FUZZ_FROM
is the first seed. A failure names its seed and what was done.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from llmbuilder.config import load_config
from llmbuilder.model import build_model, save_model
from llmbuilder.tokenizer import train_tokenizer
from llmbuilder.training.storage.checkpoints import list_checkpoints
from tests.shared import made_once
from tests.training.starting_world import EVERY, STEPS, Action, Broken, World, contents

pytestmark = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="finds the processes of a folder in /proc")
FIRST = int(os.environ.get("STARTING_FUZZ_FROM", "0"))
QUICK = (1, 3, 11)
MOMENTS = ["start", "record", "tokens", "line", "saving", "saved", "model", "final", "report"]
NAMES = ["config.json", "metrics.jsonl", "report.html", "bad-step.json", "run.json", "model.pt", "last.pt",
         "tokens/train.bin", "tokens/validation.bin", "tokens/mine.txt", "tokenizer/notes.txt", "tokenizer/tokenizer.json",
         "checkpoints/step-by-step.txt", "checkpoints/step-00000003.pt", "checkpoints/.mine.tmp", ".mine.tmp",
         ".notes.abcdefgh.tmp", "notes.md"]  # fmt: skip


def seeds(variable: str, usually: int) -> range:
    return range(FIRST, FIRST + int(os.environ.get(variable, usually)))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, prose: str) -> Path:
    """What lies in every world: texts, good and bad, and models to begin from."""

    def make(folder: Path) -> None:
        (folder / "data.txt").write_text(prose)
        (folder / "other.txt").write_text(prose.replace("fox", "cat"))
        (folder / "little.txt").write_text("too little")
        (folder / "empty.txt").write_text("")
        train_tokenizer([prose], vocab_size=400).save_pretrained(folder / "large")
        for name, width in (("start.pt", 32), ("other.pt", 64)):
            config = load_config(preset="tiny", overrides={**SHAPE, "model.embedding_dim": width})
            save_model(build_model(config), folder / name, tokenizer=train_tokenizer([prose], vocab_size=300))

    return made_once(tmp_path_factory, "starting", make)


SHAPE = {"model.vocab_size": 300, "model.embedding_dim": 32, "model.num_heads": 2, "model.num_layers": 2,
         "model.max_seq_length": 32, "model.tie_embeddings": False}  # fmt: skip


def make_world(folder: Path, material: Path, draw: random.Random, *, several: bool) -> World:
    shutil.copytree(material, folder)
    world = World(folder, draw, has_output=several or draw.random() < 0.6)
    if several:
        world.processes, world.strategy = 2, draw.choice(["ddp", "fsdp"])
    tied = draw.random() < 0.5
    settings: dict[str, object] = {
        **SHAPE, "model.tie_embeddings": tied, "training.batch_size": 2, "training.gradient_accumulation_steps": 2,
        "training.max_steps": STEPS, "training.warmup_steps": 2, "training.log_every": 1,
        "training.eval_every": draw.choice([0, EVERY]), "training.save_every": draw.choice([0, EVERY, 3, 1]),
        "training.keep_checkpoints": draw.choice([1, 2]), "training.save_best_only": draw.random() < 0.2,
        "training.optimizer": "adamw" if world.strategy == "fsdp" else draw.choice(["adamw", "muon"]),
        "system.device": "cpu", "system.num_threads": 1, "system.deterministic": draw.random() < 0.8,
        "system.distributed_strategy": world.strategy,
        "system.distributed_timeout_seconds": 30, "data.train_split": draw.choice([0.9, 1.0]),
    }  # fmt: skip
    config = load_config(preset="tiny", overrides=settings)
    if tied:
        tokenizer = train_tokenizer([(folder / "data.txt").read_text()], vocab_size=300)
        save_model(build_model(config), folder / "start.pt", tokenizer=tokenizer, overwrite=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    for path in list(contents(folder)):
        world.theirs[contents(folder)[path]] = path.name
    world.log.append(str(settings))
    return world


def put_theirs(world: World, name: str) -> None:
    folder = world.paths.folder
    if name.startswith("tokenizer") or name in ("model.pt", "last.pt"):
        folder = world.paths.model.parent
        name = "model.last.pt" if name == "last.pt" and not world.has_output else name
    content = f"mine {world.random.random()}".encode()
    if name == "tokenizer/tokenizer.json":  # a sound one that the models are too small for
        content = (world.folder / "large" / "tokenizer.json").read_bytes() + b" "
    world.put(str((folder / name).relative_to(world.folder)), content)


def drawn_action(world: World, *, several: bool) -> Action:
    draw = world.random
    asked = draw.choice(["new", "new", "overwrite", "continue", "resume", "resume"])
    action = Action(asked, processes=draw.choice([1, 2, 2]) if several else 1)
    if asked != "resume":
        kind = draw.choice(["plain", "plain", "plain", "other", "from", "bad"])
        if kind == "other":
            action.data = "other.txt"
        elif kind == "from":
            action.settings = ("training.init_from=start.pt",)
        elif kind == "bad":
            bad = draw.choice(["empty.txt", "little.txt", "training.batch_size=0", "training.init_from=other.pt",
                               "training.init_from=absent.pt", "tokenizer.path=large"])  # fmt: skip
            action.data = bad if bad.endswith(".txt") else action.data
            action.settings = () if bad.endswith(".txt") else (bad,)
    if draw.random() < 0.65:
        action.sent = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        action.moment = draw.choice(MOMENTS)
        longest = 0.6 if action.moment == "start" else 0.03
        action.delay = draw.choice([0.0, draw.uniform(0, longest)])
        action.twice = action.sent != signal.SIGKILL and draw.random() < 0.2
        if action.processes > 1 and action.moment == "start":
            action.delay = draw.uniform(2.0, 9.0)  # what interpreters say that are interrupted before is not ours
        if action.processes == 1 and draw.random() < 0.6:
            action.operation = int(draw.choice([10, 30, 80]) * draw.random()) + 1
    if action.processes > 1 and action.asked == "new" and draw.random() < 0.5:
        action.torchrun = True
        if action.sent is not None:
            action.sent, action.twice = signal.SIGKILL, False
    return action


def run_sequence(folder: Path, material: Path, seed: int, *, several: bool, length: int) -> None:
    draw = random.Random(f"{seed} {several}")
    world = make_world(folder, material, draw, several=several)
    for name in draw.sample(NAMES, draw.choice([0, 0, 1, 2, 4])):
        put_theirs(world, name)
    world.log.append(f"the user's: {sorted(world.theirs.values())}")
    try:
        for _ in range(draw.randint(1, length)):
            if draw.random() < 0.15:
                put_theirs(world, draw.choice(["model.pt", "notes.md", "checkpoints/mine.pt"]))
            world.carry_out(drawn_action(world, several=several))
        world.finish()
    except Exception as error:
        done = "\n".join(world.log)
        raise Broken(f"seed {seed} ({'several' if several else 'one'}): {error}\n{done}") from error
    shutil.rmtree(folder)


@pytest.mark.parametrize("seed", QUICK)
def test_a_few_sequences_of_one_process(tmp_path: Path, material: Path, seed: int) -> None:
    run_sequence(tmp_path / "world", material, seed, several=False, length=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds("STARTING_FUZZ", 8))
def test_sequences_of_one_process(tmp_path: Path, material: Path, seed: int) -> None:
    run_sequence(tmp_path / "world", material, seed, several=False, length=4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds("STARTING_FUZZ_SEVERAL", 2))
def test_sequences_of_several_processes(tmp_path: Path, material: Path, seed: int) -> None:
    run_sequence(tmp_path / "world", material, seed, several=True, length=2)


# The invariants can say no


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, material: Path) -> Path:
    """A world with a finished run, only to be copied."""
    folder = tmp_path_factory.mktemp("finished") / "world"
    world = make_world(folder, material, random.Random("finished"), several=True)
    world.processes = 1
    world.put("run/notes.md", b"mine")
    world.carry_out(Action("new"))
    world.check_finished()
    return folder


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: (run / "notes.md").unlink(), "the user's file run/notes.md is gone"),
        (lambda run: (run / "notes.md").write_bytes(b"other"), "the user's file run/notes.md is gone"),
        (lambda run: (run / "model.pt").write_bytes(b"other"), "model.pt was replaced unasked"),
        (lambda run: (run / "metrics.jsonl").write_bytes(b""), "metrics.jsonl of an earlier run is gone"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "checkpoints/.* of an earlier run is gone"),
    ],
)
def test_a_destroyed_file_is_noticed(
    tmp_path: Path, finished: Path, damage: Callable[[Path], object], words: str
) -> None:
    world = World(Path(shutil.copytree(finished, tmp_path / "world")), random.Random(0))
    world.theirs = {contents(world.folder)[world.folder / "run" / "notes.md"]: "run/notes.md"}
    before = contents(world.folder)
    world.check_files(before, set(), keeps_run=True)
    damage(world.paths.folder)
    with pytest.raises(Broken, match=words):
        world.check_files(before, set(), keeps_run=True)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text() * 2), "has the steps"),
        (lambda run: list_checkpoints(run / "checkpoints")[-1].unlink(), "the newest checkpoint is"),
        (lambda run: shutil.copy(run.parent / "start.pt", run / "model.pt"), "is not the run's"),
        (lambda run: (run / ".model.pt.abcdefgh.tmp").touch(), "unfinished files are left"),
    ],
)
def test_an_unfinished_run_is_noticed(
    tmp_path: Path, finished: Path, damage: Callable[[Path], object], words: str
) -> None:
    world = World(Path(shutil.copytree(finished, tmp_path / "world")), random.Random(0))
    world.check_finished()
    damage(world.paths.folder)
    with pytest.raises(Broken, match=words):
        world.check_finished()


def test_a_wrong_ending_is_noticed(tmp_path: Path, finished: Path) -> None:
    world = World(Path(shutil.copytree(finished, tmp_path / "world")), random.Random(0))
    check = world._check_ending
    check(Action("new"), "refused", 1, "CheckpointError: this directory holds a run already")
    for expected, status, said in (
        ("done", 1, "CheckpointError: this directory holds a run already"),
        ("refused", 0, ""),
        ("refused", 1, "KeyError: 'step'"),
        ("refused", 1, "Traceback ...\nCheckpointError: this directory holds a run already"),
    ):
        with pytest.raises(Broken):
            check(Action("new"), expected, status, said)
