"""What a new command is started with: the words before `llmbuilder`, and how many processes there are."""

from __future__ import annotations

import re

from llmbuilder.migration.commands.call import Launcher
from llmbuilder.migration.commands.command_line import Draft
from llmbuilder.migration.commands.words import Word, joined, quoted, separated

_TORCHRUN_FACTS = {
    "nodes": "--nnodes", "processes": "--nproc_per_node", "rank": "--node_rank", "master_address": "--master_addr",
    "master_port": "--master_port",
}  # fmt: skip


def in_front(draft: Draft) -> list[str]:
    """Return the environment and the wrappers of a call, quoted; what is left out is noted."""
    call = draft.call
    if call.dropped:
        draft.note(f"{separated(call.dropped)} is left out: llmbuilder is started where it is installed")
    assigned = [f"{name}={quoted(value) if value else ''}" for name, value in call.environment]
    return assigned + [quoted(word) for word in call.prefix]


_SEVERAL = ("srun", "mpirun", "mpiexec", "jsrun", "aprun")


def launched(draft: Draft) -> list[str]:
    """Return how `llmbuilder` is started: by torchrun where several machines take part, else by its name."""
    launcher = draft.call.launcher
    draft.left += [str(word) for word in launcher.left]
    several = [word for word in draft.call.prefix if word in _SEVERAL]
    if several and launcher.processes is None:
        draft.note(f"{several[0]} starts each task by itself: for one training of several processes, let it start "
                   "torchrun once on each machine")  # fmt: skip
    if not launcher.is_multi_node:
        return ["llmbuilder"]
    words = launcher.arguments if launcher.name == "torchrun" else _as_torchrun(launcher)
    return ["torchrun", *(quoted(word) for word in words), "-m", "llmbuilder"]


def _as_torchrun(launcher: Launcher) -> tuple[Word, ...]:
    facts = {name: getattr(launcher, name) for name in _TORCHRUN_FACTS}
    return tuple(
        joined([Word(f"{_TORCHRUN_FACTS[name]}="), value]) for name, value in facts.items() if value is not None
    )


def add_processes(draft: Draft) -> None:
    """Add `--nproc` for the processes of one machine."""
    launcher = draft.call.launcher
    if launcher.is_multi_node or launcher.processes is None or launcher.processes == "1":
        return
    if launcher.processes.settled is None or re.fullmatch(r"\d+", launcher.processes.settled):
        draft.option("--nproc", launcher.processes)
    else:
        draft.left.append(f"--nproc_per_node={launcher.processes}")
        draft.note(f"--nproc takes a number: put that of the devices in the place of {launcher.processes!r}")


def refuse_processes(draft: Draft, what: str) -> None:
    """Note that something is done by one process, whatever started the old program."""
    launcher = draft.call.launcher
    if launcher.processes is not None and launcher.processes != "1":
        draft.left.append(f"{launcher.name} --nproc_per_node={launcher.processes}")
        draft.note(f"{what} runs in one process")
