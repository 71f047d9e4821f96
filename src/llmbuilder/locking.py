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

_LOCK = ".lock"


@contextlib.contextmanager
def locked_folder(folder: Path, error: type[LLMBuilderError], name: str = _LOCK) -> Iterator[None]:
    """Hold an output directory; the operating system lets go of it when the process ends, however it ends.

    `name` is that of the lock: what holds the whole of a build has another than the training within it.

    Raises `error`, naming the process that holds it, if another one is at work here, or if it can be no folder.
    """
    lock, holder = FileLock(folder / name, blocking=False), folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise error(
            f"{folder} is in use{_holder(holder)}: wait for that run, stop it, or choose another directory"
        ) from None
    except OSError as problem:
        raise error(
            f"{folder} cannot be used as a folder ({problem.strerror or problem}): choose another directory"
        ) from problem
    try:
        began = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        write_json(holder, {"process": os.getpid(), "host": socket.gethostname(), "since": began})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _holder(file: Path) -> str:
    try:
        holder = json.loads(file.read_text("utf-8"))
        return f" by process {holder['process']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return ""
