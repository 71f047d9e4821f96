"""Things that are made once for all tests that only read them, however many worker processes run the tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` has filled, in this process or in another one of the same test run.

    Session fixtures live once in each worker of pytest-xdist. The workers' temporary folders lie in one folder,
    which belongs to the run: what is made there under a lock is made once.
    """
    base = factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    folder, done = place / name, place / f"{name}.done"
    place.mkdir(exist_ok=True)
    with FileLock(place / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a failed attempt left
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
