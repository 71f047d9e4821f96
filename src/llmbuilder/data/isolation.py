"""Reading many files under limits: rich formats in worker processes, plain text here, the order kept."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from llmbuilder.data.documents import Document
from llmbuilder.data.extraction import extract_file
from llmbuilder.data.file_types import needs_parser
from llmbuilder.errors import DataError

Outcome = list[Document] | DataError
_AHEAD = 4  # files a worker may be ahead of the reader


@dataclass(frozen=True)
class ExtractionLimits:
    """What one file may cost: seconds, bytes of memory of the process that reads it, and its own size in bytes."""

    seconds: float = 120.0
    memory_bytes: int = 4 << 30
    file_bytes: int = 1 << 30


class _Worker:
    """A process that reads one file at a time; it is replaced when it dies."""

    def __init__(self, limits: ExtractionLimits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[str] | None = None
        self._timed_out = False

    def read(self, path: Path, text_column: str | None) -> list[Document]:
        """Return the documents in a file. Raises DataError if it cannot be read within the limits."""
        process = self._started()
        timer = threading.Timer(self._limits.seconds, self._give_up, [process])
        timer.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"path": str(path), "text_column": text_column}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            raise DataError(f"{path}: {self._cause_of_death(process)}")
        answer = json.loads(line)
        if "error" in answer:
            raise DataError(answer["error"])
        return [Document(**values) for values in answer["documents"]]

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._timed_out = False
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llmbuilder.data.extraction_worker", str(self._limits.memory_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                env={**os.environ, "RAYON_NUM_THREADS": "1"},  # the workers are the parallelism
            )
        return self._process

    def _give_up(self, process: subprocess.Popen[str]) -> None:
        self._timed_out = True
        process.kill()

    def _cause_of_death(self, process: subprocess.Popen[str]) -> str:
        code = process.wait()
        if self._timed_out:
            return f"reading it took longer than {self._limits.seconds:g} seconds and was given up"
        return (
            f"its reader crashed (exit code {code}): the file is damaged, or needs more than "
            f"{self._limits.memory_bytes / (1 << 30):.3g} GB of memory"
        )

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()


def extract_files(
    files: Iterable[Path],
    *,
    text_column: str | None = None,
    limits: ExtractionLimits | None = None,
    workers: int | None = None,
) -> Iterator[tuple[Path, Outcome]]:
    """Yield each file with its documents, or with the error that says why there are none, in the order given.

    `workers` processes (default: one for each CPU) read the formats that need a parser; they start with the first.
    """
    limits = limits or ExtractionLimits()
    count = workers or os.cpu_count() or 1
    pool = [_Worker(limits) for _ in range(count)]
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    for worker in pool:
        idle.put(worker)

    def read(file: Path) -> Outcome:
        worker = idle.get()
        try:
            return worker.read(file, text_column)
        except DataError as error:
            return error
        finally:
            idle.put(worker)

    executor = ThreadPoolExecutor(count, thread_name_prefix="extraction")
    waiting: deque[tuple[Path, Future[Outcome] | None]] = deque()

    def take() -> tuple[Path, Outcome]:
        file, future = waiting.popleft()
        return file, future.result() if future is not None else _read_here(file, text_column)

    try:
        for file in files:
            future: Future[Outcome] | None = None
            try:
                _check_size(file, limits)
                if needs_parser(file):
                    future = executor.submit(read, file)
            except DataError as error:
                future = Future()
                future.set_result(error)
            waiting.append((file, future))
            if len(waiting) > _AHEAD * count:
                yield take()
        while waiting:
            yield take()
    finally:
        for _, future in waiting:
            if future is not None:
                future.cancel()
        for worker in pool:
            worker.stop()
        executor.shutdown()


def _check_size(file: Path, limits: ExtractionLimits) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
    if size > limits.file_bytes:
        raise DataError(f"{file}: it is {size:,} bytes, more than the {limits.file_bytes:,} a file may have: split it")


def _read_here(file: Path, text_column: str | None) -> Outcome:
    try:
        return extract_file(file, text_column=text_column)
    except DataError as error:
        return error
