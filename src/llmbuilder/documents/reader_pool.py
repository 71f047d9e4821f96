"""Reading files under limits of time, memory and size: what needs a parser in worker processes, plain text here."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from llmbuilder.config.schema import DataConfig
from llmbuilder.documents.document import Document
from llmbuilder.documents.file_types import needs_parser
from llmbuilder.documents.readers import read_document
from llmbuilder.errors import DataError
from llmbuilder.workers import Worker, WorkerEndedError

_AHEAD = 4  # files a worker may be ahead of the reader


@dataclass(frozen=True)
class ReadingLimits:
    """What one file may cost: seconds, bytes of memory of the process that reads it, and its own size in bytes."""

    seconds: float = 120.0
    memory_bytes: int = 4 << 30
    file_bytes: int = 1 << 30

    @classmethod
    def from_config(cls, data: DataConfig) -> ReadingLimits:
        """Return the limits that a configuration sets."""
        return cls(data.file_seconds, data.file_memory_mb << 20, data.file_mb << 20)


class _Reader:
    """A process that reads one file at a time; it is replaced when it dies."""

    def __init__(self, limits: ReadingLimits) -> None:
        self._limits = limits
        one_thread = {"RAYON_NUM_THREADS": "1"}  # the workers are the parallelism
        self._worker = Worker(
            "llmbuilder.documents.reader_worker", limits.memory_bytes, limits.seconds, environment=one_thread
        )
        self.stop = self._worker.stop

    def read(self, path: Path, ocr: str | None) -> Document:
        """Return the document that a file is. Raises DataError if it cannot be read within the limits."""
        self._worker.start()
        try:
            answer = self._worker.ask({"path": str(path), "ocr": ocr})
        except WorkerEndedError as ended:
            raise DataError(f"{path}: {self._cause_of_death(ended)}") from None
        if "error" in answer:
            raise DataError(answer["error"])
        return Document(**answer["document"])

    def _cause_of_death(self, ended: WorkerEndedError) -> str:
        if ended.took_too_long:
            return f"reading it took longer than {self._limits.seconds:g} seconds and was given up"
        return (
            f"its reader crashed (exit code {ended.exit_code}): the file is damaged, or needs more than "
            f"{self._limits.memory_bytes / (1 << 30):.3g} GB of memory"
        )


class ReaderPool:
    """Reads files; those that need a parser in `workers` processes (default: one for each CPU).

    `ocr` is that of `read_document`. The processes start with the first file that needs one and end with `close`.
    """

    def __init__(
        self, *, ocr: str | None = None, limits: ReadingLimits | None = None, workers: int | None = None
    ) -> None:
        self.limits = limits or ReadingLimits()
        self._ocr = ocr
        count = workers or os.cpu_count() or 1
        self.depth = _AHEAD * count  # files worth beginning before the first one is taken
        self._pool = [_Reader(self.limits) for _ in range(count)]
        self._idle: queue.SimpleQueue[_Reader] = queue.SimpleQueue()
        for worker in self._pool:
            self._idle.put(worker)
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="reader")

    def close(self) -> None:
        """Give up what is being read and end the processes."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for worker in self._pool:
            worker.stop()
        self._executor.shutdown()

    def begin(self, file: Path) -> Callable[[], Document]:
        """Begin to read a file and return the function that waits for its document.

        That function raises DataError if the file cannot be read; text is read when it is called. Raises DataError at
        once for a file that is too large or cannot be opened.
        """
        require_size(file, self.limits)
        if needs_parser(file):
            return self._executor.submit(self._read, file).result
        return partial(read_document, file, ocr=self._ocr)

    def _read(self, file: Path) -> Document:
        worker = self._idle.get()
        try:
            return worker.read(file, self._ocr)
        finally:
            self._idle.put(worker)


def require_size(file: Path, limits: ReadingLimits) -> None:
    """Raise DataError for a file that is larger than the limits allow, or cannot be looked at."""
    try:
        size = file.stat().st_size
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
    if size > limits.file_bytes:
        raise DataError(f"{file}: it is {size:,} bytes, more than the {limits.file_bytes:,} a file may have: split it")
