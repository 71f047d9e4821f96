"""How programs are started: what stands in front of a Python program on a command line.

A command is read from its first word: wrappers (nohup, srun) are kept, managers of environments (uv run) are not, and
launchers (torchrun, accelerate launch) say how many processes there are.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmbuilder.migration.commands.call import Launcher
from llmbuilder.migration.commands.words import Word

_PYTHON = re.compile(r"(?:python(?:w|\d(?:\.\d+)?)?|pypy3?|ipython3?|py)(?:\.exe)?$")
_PYTHON_VARIABLE = re.compile(r"\$\{?\w*PY\w*(?:[:}\[].*)?$", re.IGNORECASE)
_PYTHON_WITH_VALUE = {"-W", "-X", "--check-hash-based-pycs"}
_WRAPPERS = {
    "nohup", "time", "nice", "ionice", "taskset", "sudo", "env", "srun", "mpirun", "mpiexec", "mpiexec.hydra", "stdbuf",
    "timeout", "numactl", "exec", "command", "setsid", "xvfb-run", "caffeinate", "watch", "parallel", "xargs", "chrt",
    "nsys", "ncu", "perf", "docker", "podman", "singularity", "apptainer", "screen", "tmux", "!", "jsrun", "aprun",
    "flock", "unbuffer", "builtin", "doas", "chronic", "call", "start", "docker-compose", "coverage", "kernprof",
    "%run",
}  # fmt: skip
_MANAGERS = {"uv", "poetry", "pipenv", "conda", "mamba", "micromamba", "rye", "pdm", "hatch", "pixi"}
_LAUNCH_MODULES = {
    "torch.distributed.run": "torchrun", "torch.distributed.launch": "torchrun",
    "accelerate.commands.launch": "accelerate", "deepspeed.launcher.runner": "deepspeed",
}  # fmt: skip
# Modules that are run with -m and are no program of a project.
_OTHERS = sys.stdlib_module_names | {
    "pip", "pytest", "virtualenv", "ipykernel", "jupyter", "notebook", "black", "ruff", "mypy", "build", "twine",
    "spacy",
    "nltk", "coverage", "pre_commit", "isort", "flake8", "tensorboard", "pipx", "uv", "poetry", "uvicorn", "gunicorn",
    "streamlit", "llmbuilder", "wandb", "cython", "mkdocs", "sphinx",
}  # fmt: skip
_FACTS = {
    "nproc_per_node": "processes", "num_processes": "processes", "num_gpus": "processes", "nnodes": "nodes",
    "num_machines": "nodes", "num_nodes": "nodes", "node_rank": "rank", "machine_rank": "rank",
    "master_addr": "master_address", "main_process_ip": "master_address", "master_port": "master_port",
    "main_process_port": "master_port",
}  # fmt: skip
# What needs no counterpart: one node is what `--nproc` means, and how the processes find each other there is its own.
_NO_FACTS = {"standalone", "multi_gpu", "use_env"}
_FLAGS = _NO_FACTS | {
    "cpu", "tpu", "use_deepspeed", "use_fsdp", "mps", "debug", "same_network", "no_python", "run_path", "quiet",
    "no_local_rank", "use_xpu", "force",
}  # fmt: skip


@dataclass(frozen=True)
class Started:
    """A Python program on a command line: its path, or its name as a module, and everything around it."""

    script: str
    is_module: bool
    arguments: tuple[Word, ...]
    launcher: Launcher
    prefix: tuple[Word, ...]
    dropped: tuple[Word, ...]


def started(words: Sequence[Word]) -> Started | None:
    """Return the Python program that a command starts, or None if it starts none."""
    prefix: list[Word] = []
    dropped: list[Word] = []
    at = 0
    while at < len(words):
        found = _launched(words, at, by_name=bool(dropped))
        if found is not None:
            dropped += words[at : at + 1] if words[at].expansions and _is_python(words[at]) else []
            return replace(found, prefix=tuple(prefix), dropped=tuple(dropped))
        name = posixpath.basename(words[at])
        is_manager = name in _MANAGERS and "run" in words[at + 1 : at + 3]
        if not is_manager and name not in _WRAPPERS:
            return None
        after = _next_known(words, at + 1, managed=is_manager)
        (dropped if is_manager else prefix).extend(words[at:after])
        at = after
    return None


def _next_known(words: Sequence[Word], start: int, *, managed: bool) -> int:
    for at in range(start, len(words)):
        name = posixpath.basename(words[at])
        is_front = name in _WRAPPERS or (name in _MANAGERS and "run" in words[at + 1 : at + 3])
        if _is_launcher(words, at) or (is_front and not managed):
            return at
        if words[at].endswith(".py") and (managed or "/" in words[at]):
            return at
    return len(words)


def _is_python(word: Word) -> bool:
    return _PYTHON.fullmatch(posixpath.basename(word)) is not None or (
        _PYTHON_VARIABLE.fullmatch(word) is not None and bool(word.expansions)
    )


def _is_launcher(words: Sequence[Word], at: int) -> bool:
    name = posixpath.basename(words[at])
    is_accelerate = name == "accelerate" and "launch" in words[at + 1 : at + 2]
    return _is_python(words[at]) or name in ("torchrun", "deepspeed") or is_accelerate


def _launched(words: Sequence[Word], at: int, *, by_name: bool) -> Started | None:
    """Return the program whose launcher is the word at `at`, or which it is itself (`by_name`: without a folder)."""
    name = posixpath.basename(words[at])
    if name in ("torchrun", "deepspeed"):
        return _by_launcher(words, at + 1, name)
    if name == "accelerate" and "launch" in words[at + 1 : at + 2]:
        return _by_launcher(words, at + 2, name)
    if _is_python(words[at]):
        return _by_python(words, at + 1)
    if words[at].endswith(".py") and (by_name or re.match(r"(~|\.{0,2})/|\$", words[at])):
        return _program(words, at, False, Launcher())
    return None


def _program(words: Sequence[Word], at: int, is_module: bool, launcher: Launcher) -> Started | None:
    script = words[at].settled if at < len(words) else None
    if at >= len(words) or not words[at] or words[at].startswith("-"):
        return None
    return Started(script or str(words[at]), is_module, tuple(words[at + 1 :]), launcher, (), ())


def _by_python(words: Sequence[Word], at: int) -> Started | None:
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        if words[at] in ("-m", "-um"):
            module = words[at + 1] if at + 1 < len(words) else Word("")
            if module in _LAUNCH_MODULES:
                return _by_launcher(words, at + 2, _LAUNCH_MODULES[module])
            if module == "accelerate" and "launch" in words[at + 2 : at + 3]:
                return _by_launcher(words, at + 3, "accelerate")
            is_own = re.fullmatch(r"\w[\w.]*", module) is not None and module.partition(".")[0] not in _OTHERS
            return _program(words, at + 1, not module.endswith(".py"), Launcher()) if is_own else None
        if words[at] == "-c":
            return None
        at += 2 if words[at] in _PYTHON_WITH_VALUE else 1
    is_script = at < len(words) and (words[at].endswith(".py") or words[at].endswith("}"))
    return _program(words, at, False, Launcher()) if is_script else None


def _by_launcher(words: Sequence[Word], at: int, name: str) -> Started | None:
    """Read a launcher's options up to the program: the first word that ends in .py, or a module behind -m."""
    facts: dict[str, Word] = {}
    arguments: list[Word] = []
    left: list[Word] = []
    while at < len(words):
        word = words[at]
        if word in ("-m", "--module"):
            return _program(words, at + 1, True, _launcher(name, facts, arguments, left))
        if not word.startswith("-"):
            if _is_python(word):  # behind --no-python, or by mistake
                found = _by_python(words, at + 1)
                return replace(found, launcher=_launcher(name, facts, arguments, left)) if found is not None else None
            if word.endswith(".py") or word.expansions:
                return _program(words, at, False, _launcher(name, facts, arguments, left))
            left.append(word)
            at += 1
            continue
        option, value = word.part(2 if word.startswith("--") else 1).option()
        key = option.replace("-", "_")
        used = 1
        if value is None and key not in _FLAGS and at + 1 < len(words) and not words[at + 1].endswith(".py"):
            value, used = words[at + 1], 2
        if key in _FACTS and value is not None:
            facts[_FACTS[key]] = value
        if key in _FACTS or key in _NO_FACTS or name == "torchrun":
            arguments += words[at : at + used]
        else:
            left += words[at : at + used]
        at += used
    return None


def _launcher(name: str, facts: dict[str, Word], arguments: list[Word], left: list[Word]) -> Launcher:
    return Launcher(name, **facts, arguments=tuple(arguments), left=tuple(left))  # type: ignore[arg-type]
