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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llmbuilder.config.schema import DataConfig
from llmbuilder.documents.document import Document
from llmbuilder.documents.extraction import extract_file
from llmbuilder.documents.file_types import needs_parser
from llmbuilder.errors import DataError

Outcome = list[Document] | DataError
_AHEAD = 4  # files a worker may be ahead of the reader


@dataclass(frozen=True)
class ExtractionLimits:
    """What one file may cost: seconds, bytes of memory of the process that reads it, and its own size in bytes."""

    seconds: float = 120.0
    memory_bytes: int = 4 << 30
    file_bytes: int = 1 << 30

    @classmethod
    def from_config(cls, data: DataConfig) -> ExtractionLimits:
        """Return the limits that a configuration sets."""
        return cls(data.file_seconds, data.file_memory_mb << 20, data.file_mb << 20)


class _Worker:
    """A process that reads one file at a time; it is replaced when it dies."""

    def __init__(self, limits: ExtractionLimits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[str] | None = None
        self._timed_out = False

    def read(self, path: Path, options: dict[str, str | None]) -> list[Document]:
        """Return the documents in a file. Raises DataError if it cannot be read within the limits."""
        process = self._started()
        timer = threading.Timer(self._limits.seconds, self._give_up, [process])
        timer.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"path": str(path), **options}) + "\n")
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
                [sys.executable, "-m", "llmbuilder.documents.reader_worker", str(self._limits.memory_bytes)],
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
                    with suppress(BrokenPipeError):  # a request that was never read
                        pipe.close()


class ExtractionPool:
    """Reads files in order; formats that need a parser in `workers` processes (default: one for each CPU).

    `text_column` and `ocr` are those of `extract_file`.
    A context manager; the processes start with the first file that needs one and live until it ends.
    """

    def __init__(
        self,
        *,
        text_column: str | None = None,
        ocr: str | None = None,
        limits: ExtractionLimits | None = None,
        workers: int | None = None,
    ) -> None:
        self._options = {"text_column": text_column, "ocr": ocr}
        self._limits = limits or ExtractionLimits()
        self._count = workers or os.cpu_count() or 1
        self._pool = [_Worker(self._limits) for _ in range(self._count)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._pool:
            self._idle.put(worker)
        self._executor = ThreadPoolExecutor(self._count, thread_name_prefix="extraction")

    def __enter__(self) -> ExtractionPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        for worker in self._pool:
            worker.stop()
        self._executor.shutdown()

    def extract(self, files: Iterable[Path]) -> Iterator[tuple[Path, Outcome]]:
        """Yield each file with its documents, or with the error that says why there are none, in the order given."""
        waiting: deque[tuple[Path, Future[Outcome] | None]] = deque()
        try:
            for file in files:
                waiting.append((file, self._begin(file)))
                if len(waiting) > _AHEAD * self._count:
                    yield self._take(waiting)
            while waiting:
                yield self._take(waiting)
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()

    def _begin(self, file: Path) -> Future[Outcome] | None:
        """Start reading in a worker; None for a file that is read here when its turn comes."""
        try:
            _check_size(file, self._limits)
            return self._executor.submit(self._read, file) if needs_parser(file) else None
        except DataError as error:
            future: Future[Outcome] = Future()
            future.set_result(error)
            return future

    def _take(self, waiting: deque[tuple[Path, Future[Outcome] | None]]) -> tuple[Path, Outcome]:
        file, future = waiting.popleft()
        if future is not None:
            return file, future.result()
        try:
            return file, extract_file(file, **self._options)
        except DataError as error:
            return file, error

    def _read(self, file: Path) -> Outcome:
        worker = self._idle.get()
        try:
            return worker.read(file, self._options)
        except DataError as error:
            return error
        finally:
            self._idle.put(worker)


def _check_size(file: Path, limits: ExtractionLimits) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
    if size > limits.file_bytes:
        raise DataError(f"{file}: it is {size:,} bytes, more than the {limits.file_bytes:,} a file may have: split it")
