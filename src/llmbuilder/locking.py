"""One process at a time in a directory."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from llmbuilder.errors import LLMBuilderError
from llmbuilder.files import write_json

_LOCK, _HOLDER = ".lock", ".lock.json"


@contextlib.contextmanager
def locked_folder(folder: Path, error: type[LLMBuilderError]) -> Iterator[None]:
    """Hold an output directory; the operating system lets go of it when the process ends, however it ends.

    Raises `error`, naming the process that holds it, if another one is at work here, or if it can be no folder.
    """
    lock = FileLock(folder / _LOCK, blocking=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise error(
            f"{folder} is in use{_holder(folder)}: wait for that run, stop it, or choose another directory"
        ) from None
    except OSError as problem:
        raise error(
            f"{folder} cannot be used as a folder ({problem.strerror or problem}): choose another directory"
        ) from problem
    try:
        began = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        write_json(folder / _HOLDER, {"process": os.getpid(), "host": socket.gethostname(), "since": began})
        yield
    finally:
        (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / _HOLDER).read_text("utf-8"))
        return f" by process {holder['process']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return ""
