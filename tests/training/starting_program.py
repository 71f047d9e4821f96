"""The program that the fuzz of starting starts: `llmbuilder`, or a script that trains without an output directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What the command imports when it runs: in a process that others are forked from, so that each starts at once.
import llmbuilder.evaluation
import llmbuilder.report
import llmbuilder.training
import llmbuilder.training.storage.sharded_checkpoints  # noqa: F401 - for what it imports
from llmbuilder import build_model, load_config
from llmbuilder.cli import main
from llmbuilder.data import TextDataset
from llmbuilder.training import train_model

SCRIPT = "script"


def script() -> None:
    """Train as a user's script does that names no directory: script DATA [way] [section.key=value ...]."""
    data, *more = sys.argv[2:]
    config = load_config("config.yaml", overrides=[word for word in more if "=" in word])
    ways = {word: True for word in more if "=" not in word}
    train_model(build_model(config), TextDataset.from_config(data, config), config, callbacks=[], **ways)  # type: ignore[arg-type]


def meet(sent: int, operation: int) -> None:
    """Send this process a signal before it changes a name on the disk for the `operation`th time."""
    left = operation

    def counting(change: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), sent)
            return change(*arguments, **options)

        return counted

    for name in ("replace", "rename", "unlink", "mkdir", "rmdir", "link"):
        setattr(os, name, counting(getattr(os, name)))


def enter(arguments: list[str], folder: str, said: str, sent: int = 0, operation: int = 0) -> None:
    """Become the program: work in `folder`, and speak into the file `said`, which is there when it begins."""
    os.chdir(folder)
    with open(f"{said}.new", "wb") as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    sys.argv = ["llmbuilder", *arguments]
    if arguments[0] == SCRIPT:
        main.app = lambda **_: script()  # type: ignore[assignment]
    Path(f"{said}.new").rename(said)
    if operation:
        meet(sent, operation)
    main.run()
