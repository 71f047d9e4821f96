"""A folder in which runs are started, disturbed and continued, and what must hold in it after every such action.

Which actions follow each other is drawn by a seed; at which instruction a signal meets the program is not.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from llmbuilder.files import read_json_lines
from llmbuilder.inference import generate_text
from llmbuilder.model import load_model
from llmbuilder.training.storage.checkpoints import list_checkpoints
from llmbuilder.training.storage.model_files import run_name, run_that_wrote
from llmbuilder.training.storage.paths import RunPaths
from tests.training.starting_program import SCRIPT, enter

STEPS, EVERY = 12, 4
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.training.starting_program"])
_PATIENCE = 90.0  # seconds in which a tiny run ends, or a process whose launcher was killed
_SENTENCE = re.compile(r"^\w+(Error|Exception): \w.{20,}", re.MULTILINE)


class Broken(AssertionError):
    """Something that must hold does not."""


@dataclass
class Action:
    """One command: what is asked for, by how many processes, and what befalls it."""

    asked: str
    data: str = "data.txt"
    processes: int = 1
    settings: tuple[str, ...] = ()
    sent: signal.Signals | None = None
    twice: bool = False
    moment: str = ""
    delay: float = 0.0
    torchrun: bool = False
    operation: int = 0  # of those that change a name on the disk, before which the signal comes; 0 for the moment


@dataclass
class World:
    """A folder of a user's, with the settings of its runs; `log` tells what was done in it."""

    folder: Path
    random: random.Random
    has_output: bool = True
    processes: int = 1
    strategy: str = "ddp"
    theirs: dict[str, str] = field(default_factory=dict)  # where the user has put a file, by its content's checksum
    log: list[str] = field(default_factory=list)

    @property
    def paths(self) -> RunPaths:
        run = self.folder / ("run" if self.has_output else "llmbuilder-run")
        place = run if self.has_output else self.folder
        return RunPaths(run, place / "model.pt", place / "tokenizer", keep_earlier=not self.has_output)

    def put(self, name: str, content: bytes) -> None:
        """Let the user put a file somewhere, unless one is there."""
        path = self.folder / name
        if path.exists() or any(parent.is_file() for parent in path.parents):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.theirs[hashlib.sha256(content).hexdigest()] = name

    # What is done

    def carry_out(self, action: Action) -> None:
        """Do one thing and check all that must hold after it."""
        before = contents(self.folder)
        keeps_run = action.asked == "new" and self.paths.has_record and bool(list_checkpoints(self.paths.checkpoints))
        may_go = self._replaceable(action)
        expected = "" if action.sent is not None else self.expected(action)
        status, said = self._run(action)
        self.log.append(f"{action} -> {status}: {said[-1500:]}")
        self._check_ending(action, expected, status, said)
        self._check_processes()
        self.check_files(before, may_go, keeps_run=keeps_run)
        if expected == "refused" and not action.torchrun:  # whose first processes take their name out of run.json
            self._check_unchanged(before)

    def expected(self, action: Action) -> str:
        """Return how an undisturbed action ends, from what is on the disk: "done" or "refused"."""
        paths = self.paths
        has_run, has_checkpoint = paths.has_record, bool(list_checkpoints(paths.checkpoints))
        has_model = self.has_output and (paths.model.exists() or paths.last_model.exists())
        if action.asked == "resume":
            return "done" if has_run and has_checkpoint else "refused"
        if action.asked == "continue" and has_run and has_checkpoint:
            return "done" if "batch_size=0" not in str(action.settings) else "refused"
        if action.data in ("empty.txt", "little.txt") or any(bad in str(action.settings) for bad in BAD_SETTINGS):
            return "refused"
        if has_checkpoint and not has_run:
            return "refused" if self.has_output or action.asked == "continue" else "done"
        if action.asked == "overwrite" or not self.has_output:
            return "done"
        if action.asked == "continue":
            return "refused" if has_model and not has_run else "done"
        return "refused" if has_checkpoint or has_model else "done"

    def _replaceable(self, action: Action) -> set[Path]:
        """Return the model files that an action may replace or remove: the run's own, if that is asked for."""
        paths = self.paths
        own = run_name(paths)
        if action.asked not in ("resume", "continue", "overwrite") or own is None:
            return set()
        return {path for path in (paths.model, paths.last_model) if path.exists() and run_that_wrote(path) == own}

    def _arguments(self, action: Action) -> list[str]:
        run = self.paths.folder.name
        if action.asked == "resume":
            more = [] if action.processes == 1 or action.torchrun else ["--nproc", str(action.processes)]
            return ["train", "resume", run, "--quiet", *more]
        if not self.has_output:
            way = {"overwrite": ["overwrite"], "continue": ["continue_run"]}.get(action.asked, [])
            return [SCRIPT, action.data, *way, *action.settings]
        way = [f"--{action.asked}"] if action.asked in ("overwrite", "continue") else []
        sets = [word for setting in action.settings for word in ("--set", setting)]
        more = [] if action.processes == 1 or action.torchrun else ["--nproc", str(action.processes)]
        return ["train", "model", "--config", "config.yaml", "--data", action.data, "--output", run, "--quiet",
                *way, *sets, *more]  # fmt: skip

    def _run(self, action: Action) -> tuple[int, str]:
        said = self.folder.parent / f"{self.folder.name}.said"
        said.unlink(missing_ok=True)
        arguments = self._arguments(action)
        if action.processes == 1:
            process = _FORKS.Process(
                target=enter, args=(arguments, str(self.folder), str(said), action.sent, action.operation)
            )
            process.start()
            ended = lambda: process.exitcode  # noqa: E731
            while not said.exists() and ended() is None:
                time.sleep(0.001)
        else:
            program = [sys.executable, "-m", "llmbuilder", *arguments]
            if action.torchrun:
                program[1:2] = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={action.processes}",
                                "--max-restarts=1", "-m"]  # fmt: skip
            with open(said, "wb") as handle:
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                process = subprocess.Popen(program, cwd=self.folder, stdout=handle, stderr=handle, env=environment)  # type: ignore[assignment]
            ended = process.poll  # type: ignore[attr-defined]
        if action.sent is not None and not action.operation:
            self._disturb(action, process.pid, ended)  # type: ignore[arg-type]
        deadline = time.monotonic() + _PATIENCE
        while ended() is None:
            if time.monotonic() > deadline:
                raise Broken(f"{action} does not end")
            time.sleep(0.005)
        return int(ended()), said.read_text("utf-8", "replace") if said.exists() else ""  # type: ignore[arg-type]

    def _disturb(self, action: Action, pid: int, ended: object) -> None:
        """Wait for the moment and send the signal, to one of the processes if torchrun is to start them again."""
        deadline = time.monotonic() + _PATIENCE
        while not self._is_reached(action.moment) and time.monotonic() < deadline:
            if ended() is not None:  # type: ignore[operator]
                return
            time.sleep(0.0005)
        time.sleep(action.delay)
        targets = [pid]
        if action.torchrun:
            targets = [rank for rank in processes_in(self.folder) if rank != pid][-1:] or [pid]
        for target in targets * (2 if action.twice else 1):
            if ended() is None:  # type: ignore[operator]
                try:
                    os.kill(target, action.sent or 0)
                except ProcessLookupError:
                    return
                time.sleep(0.03)

    def _is_reached(self, moment: str) -> bool:
        paths = self.paths
        if moment in ("", "start"):
            return True
        if moment == "line":
            return paths.metrics.exists() and paths.metrics.stat().st_size > 0
        if moment == "model":
            return any(paths.model.parent.glob(".model.pt.*.tmp")) or any(paths.model.parent.glob(".*last.pt.*.tmp"))
        if moment == "final":
            return any(paths.checkpoints.glob(f"*step-{STEPS:08d}*"))
        folder, pattern = {"record": (paths.folder, "run.json"), "tokens": (paths.folder, ".tokens.tmp"),
                           "saving": (paths.checkpoints, ".step-*.tmp"), "saved": (paths.checkpoints, "step-*"),
                           "report": (paths.folder, ".report.html.*")}[moment]  # fmt: skip
        return any(folder.glob(pattern))

    # What must hold

    def _check_ending(self, action: Action, expected: str, status: int, said: str) -> None:
        if expected == "done" and status != 0:
            raise Broken(f"{action} ended with {status} instead of 0")
        if expected == "refused" and (status == 0 or not _SENTENCE.search(said)):
            raise Broken(f"{action} ended with {status} and no sentence that says why")
        if expected == "" and status not in ENDINGS[action.sent] and not (status == 1 and _SENTENCE.search(said)):  # type: ignore[index]
            raise Broken(f"{action} ended with {status}")
        if "Traceback" in said and not action.torchrun:
            raise Broken(f"{action} showed a traceback")

    def _check_processes(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while left := processes_in(self.folder):
            if time.monotonic() > deadline:
                raise Broken(f"processes are left behind: {left}")
            time.sleep(0.02)

    def check_files(self, before: dict[Path, str], may_go: set[Path], *, keeps_run: bool) -> None:
        """Raise Broken if a file of the user's is gone, or a model or run that was not to be replaced."""
        now = Counter(contents(self.folder).values())
        for content, name in self.theirs.items():
            if not now[content]:
                raise Broken(f"the user's file {name} is gone or changed")
        for path, content in before.items():
            if now[content] or path.name.endswith(".tmp") or ".tmp" in path.parent.name:
                continue
            if path.suffix == ".pt" and "checkpoints" not in path.parts and path not in may_go:
                raise Broken(f"the model {path} was replaced unasked")
            if keeps_run and path.is_relative_to(self.paths.folder):
                raise Broken(f"{path} of an earlier run is gone")

    def _check_unchanged(self, before: dict[Path, str]) -> None:
        now = contents(self.folder)
        changed = {str(path) for path in before.keys() | now.keys() if before.get(path) != now.get(path)}
        if changed:
            raise Broken(f"a refused start changed {sorted(changed)}")

    # The end of a sequence

    def finish(self) -> None:
        """Bring the world to a finished run, by the commands that its state asks for, and check that it is whole."""
        paths = self.paths
        has_run, has_checkpoint = paths.has_record, bool(list_checkpoints(paths.checkpoints))
        if has_run and has_checkpoint:
            asked = "resume"
        else:
            if has_checkpoint and self.has_output:  # the user's, who does as the message says
                shutil.move(paths.checkpoints, self.folder / "moved")
            asked = "overwrite" if self.has_output and (paths.model.exists() or paths.last_model.exists()) else "new"
        self.carry_out(Action(asked, processes=self.processes))
        self.check_finished()
        self.carry_out(Action("resume"))
        self.check_finished()

    def check_finished(self) -> None:
        """Raise Broken if the run is not whole: its steps, its files, its model."""
        paths = self.paths
        lines = read_json_lines(paths.metrics)
        steps = [line["step"] for line in lines if "loss" in line]
        if steps != list(range(1, STEPS + 1)):
            raise Broken(f"metrics.jsonl has the steps {steps}")
        evaluated = [line["step"] for line in lines if "validation_loss" in line]
        if evaluated != sorted(set(evaluated)):
            raise Broken(f"metrics.jsonl has the evaluations {evaluated}")
        newest = list_checkpoints(paths.checkpoints)[-1:]
        if f"{STEPS:08d}" not in str(newest):
            raise Broken(f"the newest checkpoint is {newest}")
        if left := [path for path in self.folder.rglob(".*.tmp") if sum_of(path) not in self.theirs]:
            raise Broken(f"unfinished files are left: {left}")
        if run_that_wrote(paths.model) != run_name(paths):
            raise Broken(f"{paths.model} is not the run's")
        model = load_model(paths.model, "cpu")
        if not generate_text(model, prompt="the ", max_new_tokens=3):
            raise Broken("the model generates nothing")


BAD_SETTINGS = ("batch_size=0", "init_from=other.pt", "init_from=absent.pt", "tokenizer.path")
ENDINGS = {
    signal.SIGKILL: (0, -9, 137),
    signal.SIGTERM: (0, -15, 143, 137),
    signal.SIGINT: (0, -2, 130, 137),
}


def contents(folder: Path) -> dict[Path, str]:
    """Return the checksum of every file, but for the locks of processes."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in (".lock", ".lock.json"):
            found[path] = sum_of(path)
    return found


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def processes_in(folder: Path) -> list[int]:
    """Return the processes that work in a folder, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")) == folder.resolve():
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)
