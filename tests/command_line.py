"""The command line, called in this process, or as the program that people start."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from llmbuilder import notices
from llmbuilder.cli import main


def run(*arguments: object, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Call the command in this process, as its program would, and return what it said.

    Starting an interpreter and importing PyTorch takes seconds, most commands a fraction of one. Where a process of its
    own matters (signals, exit statuses of the real program, modules imported anew), use `run_program`.
    """
    logger = logging.getLogger("llmbuilder")
    handlers, propagate = logger.handlers[:], logger.propagate
    out, err = io.StringIO(), io.StringIO()
    ended: object = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["llmbuilder", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        notices._told.clear()  # a new process has said nothing yet
        try:
            main.run()
        except SystemExit as exit:
            ended = exit.code or 0
        finally:
            logger.handlers[:], logger.propagate = handlers, propagate
    return _checked(subprocess.CompletedProcess(sys.argv, ended, out.getvalue(), err.getvalue()), status)  # type: ignore[arg-type]


def run_program(
    *arguments: object, cwd: Path, status: int = 0, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Start the program in a process of its own and return what it said."""
    command = [sys.executable, "-m", "llmbuilder", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, input=stdin, check=False, env=environment)
    return _checked(done, status)


def _checked(done: subprocess.CompletedProcess[str], status: int) -> subprocess.CompletedProcess[str]:
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done
