"""What can be seen of a command, and the walk over settings that compares it with and without each of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from llmbuilder.files import read_json_lines
from llmbuilder.tokens.windows import TokenWindows
from tests.command_line import run

Settings = dict[str, Any]
# What the command did, or the error it ended with.
Seen = dict[str, Any]
Command = Callable[[Settings], Seen]
_COMPUTED = (
    "step", "loss", "recent_loss", "learning_rate", "grad_norm", "tokens", "max_steps", "validation_loss", "sample",
)  # fmt: skip
_TIMED = re.compile(r"second|flops|memory")


def walk(command: Command, base: Settings, cases: Mapping[str, tuple[Any, Settings]]) -> list[str]:
    """Return the settings that change nothing that can be seen and are not refused by name.

    Each is compared with a call that differs from it in this setting alone.
    """
    without: dict[str, Seen] = {}
    ignored = []
    for name, (value, context) in cases.items():
        around = {**base, **context}
        around.pop(name, None)
        if context.get(name, base.get(name)) is not None and name in base:
            around[name] = base[name]
        key = json.dumps(around, sort_keys=True, default=str)
        before = without.get(key) or without.setdefault(key, command(around))
        assert "refused" not in before, (name, before)
        after = command({**around, name: value})
        refused = after.get("refused")
        if (refused is not None and name not in refused) or (refused is None and after == before):
            ignored.append(f"{name}: {refused or 'nothing changed'}")
    return ignored


def overrides(settings: Settings) -> list[str]:
    """Return the settings as options of the command line."""
    return [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]


def called(*arguments: object, cwd: Path) -> Seen:
    """Call a command and return what it said, or that it was refused."""
    try:
        done = run(*arguments, cwd=cwd)
    except AssertionError as refusal:  # of another status than 0
        line = next(line for line in str(refusal).splitlines() if "Error: " in line)
        return {"failed" if line.startswith(("TrainingError", "DataError")) else "refused": line.replace(str(cwd), "")}
    said = [line for line in done.stderr.splitlines() if not _TIMED.search(line)]
    return {"said": [line.replace(str(cwd), "") for line in said], "out": done.stdout}


def tree(folder: Path) -> dict[str, str]:
    """Return the names of all files, and a checksum of those whose bytes follow from what was computed."""
    exact = (".txt", ".bin", ".jsonl", ".parquet")
    return {
        str(path.relative_to(folder)).partition(".tfevents")[0]: hashlib.sha256(path.read_bytes()).hexdigest()
        if (path.suffix in exact and path.name != "metrics.jsonl") or path.name == "tokenizer.json"
        else ""
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def run_seen(folder: Path) -> Seen:
    """Return what a run left: its files, its losses and rates, the checksum of its weights."""
    lines = read_json_lines(folder / "metrics.jsonl") if (folder / "metrics.jsonl").is_file() else []
    metrics = [{key: line[key] for key in _COMPUTED if key in line} for line in lines]
    weights = [torch.load(path, weights_only=True)["checksum"] for path in sorted(folder.glob("*.pt"))]
    return {"files": tree(folder), "metrics": metrics, "weights": weights}


@contextlib.contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """Count what computes: calls of modules, threads, kernels, compiling, batches fetched, calls of other services."""
    seen: dict[str, Any] = {"calls": Counter(), "states": set(), "services": []}

    def count(module: torch.nn.Module, _inputs: Any, _output: Any) -> None:
        seen["calls"][type(module).__name__] += 1
        exact = torch.are_deterministic_algorithms_enabled()
        seen["states"].add((torch.get_num_threads(), exact, torch.is_autocast_enabled("cpu")))

    def compiled(module: Any, **_: Any) -> Any:
        seen["services"].append("compiled")
        return module

    gather = TokenWindows.gather

    def gathered(self: TokenWindows, starts: Any) -> Any:
        seen["calls"]["gather"] += 1
        return gather(self, starts)

    def service(name: str) -> types.ModuleType:
        module = types.ModuleType(name)
        logger = types.SimpleNamespace(log=lambda *_, **__: None, finish=lambda: None)

        def init(project: str, name: str | None = None, **_: Any) -> Any:
            seen["services"].append((module.__name__, project, name))
            return logger

        module.init, module.log, module.finish = init, logger.log, logger.finish  # type: ignore[attr-defined]
        return module

    hook = register_module_forward_hook(count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", compiled)
        patch.setattr(TokenWindows, "gather", gathered)
        for name in ("wandb", "trackio"):
            patch.setitem(sys.modules, name, service(name))
        try:
            yield seen
        finally:
            hook.remove()
