"""Worker processes that answer lines of JSON under limits of time and memory.

What a worker does for a request can hang, crash or grow without bound: that costs its process, and nothing else.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from llmbuilder.errors import LLMBuilderError

_LOOKED_AFTER = 0.1  # seconds between looks at whether an answer takes too long


class WorkerEndedError(LLMBuilderError):
    """A worker ended without an answer; `took_too_long` if it was given up."""

    def __init__(self, exit_code: int, *, took_too_long: bool) -> None:
        super().__init__(f"a worker process ended with exit code {exit_code}")
        self.exit_code = exit_code
        self.took_too_long = took_too_long


class Worker:
    """A process of `python -m module MEMORY_BYTES` that answers one request at a time, each within `seconds`.

    `environment` is added to this process's own.
    """

    def __init__(
        self, module: str, memory_bytes: int, seconds: float, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = [sys.executable, "-m", module, str(memory_bytes)]
        self._environment = dict(environment or {})
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._took_too_long = False
        self._deadline = math.inf

    def start(self) -> bool:
        """Start the process unless it is there, also after it has ended, and return whether that was to be done."""
        if self._process is not None and self._process.poll() is None:
            return False
        self._took_too_long, self._deadline = False, math.inf
        self._process = subprocess.Popen(
            self._command, env={**os.environ, **self._environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8",
        )  # fmt: skip
        threading.Thread(target=self._watch, args=[self._process], daemon=True).start()
        return True

    def ask(self, request: Any) -> Any:
        """Return the answer of a started worker. Raises WorkerEndedError if it ends, or is ended, without one."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        self._deadline = time.monotonic() + self._seconds
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            self._deadline = math.inf
        if not line.endswith("\n"):
            raise WorkerEndedError(process.wait(), took_too_long=self._took_too_long)
        return json.loads(line)

    def _watch(self, process: subprocess.Popen[str]) -> None:
        """End a process that has not answered in time; one thread for all answers, as starting one takes longer."""
        while process.poll() is None:
            if time.monotonic() > self._deadline:
                self._took_too_long = True
                process.kill()
            time.sleep(_LOOKED_AFTER)

    def stop(self) -> None:
        """End the process; it can be started again."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # a request that was never read
                    pipe.close()


def begin_work() -> None:
    """Make this process a worker: it keeps to the memory that its first argument names, and its parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    with suppress(ImportError, ValueError, OSError):  # not every system has such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
