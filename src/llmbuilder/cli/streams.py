"""What the program writes to: a console of any encoding, a pipe whose reader leaves, a full disk, or nothing at all.

Results go to standard output, and losing them is said. Messages go to standard error, and hours of work do not end
because nobody reads them.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO

_STANDARD = (0, 1, 2)


class LostOutput(Exception):
    """Standard output takes no more; `reason` is the system's."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason

    @property
    def is_closed_pipe(self) -> bool:
        """Whether the reader of a pipe, such as `head`, has what it wanted."""
        return self.reason.errno == errno.EPIPE


class _Results(io.FileIO):
    """Standard output. An exception of its own tells what goes wrong here from what goes wrong with other files."""

    def write(self, data: Any, /) -> int:
        try:
            return _write_all(super().write, data, self.fileno())
        except OSError as error:
            raise LostOutput(error) from error


class _Messages(io.FileIO):
    """Standard error. What cannot be written is dropped."""

    def write(self, data: Any, /) -> int:
        try:
            return _write_all(super().write, data, self.fileno())
        except OSError:
            return len(data)


def _write_all(write: Any, data: Any, handle: int) -> int:
    """Write at least some of `data`; where others have made a pipe non-blocking, wait until there is room."""
    while (written := write(data)) is None:
        select.select([], [handle], [])
    return int(written)


def open_streams() -> None:
    """Make standard output and error such that no text and no reader ends the program with a traceback.

    Characters that the console's encoding lacks are written as escapes. Streams that are closed become the null device:
    else the next file opened would take their place, and libraries would print into it.
    """
    for handle in _STANDARD:
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _opened(sys.stdout, 1, _Results)
    sys.stderr = _opened(sys.stderr, 2, _Messages)


def _opened(stream: TextIO | None, handle: int, kind: type[io.FileIO]) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # another program's, which has put its own in the place
    try:
        number = stream.fileno()
    except OSError:
        return stream
    if number != handle or (os.name == "nt" and stream.isatty()):  # a Windows console is no file of bytes
        stream.reconfigure(errors="backslashreplace")
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(kind(handle, "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
    )


def is_unicode(stream: TextIO) -> bool:
    """Whether a stream can be written every character."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-").startswith("utf")


def knows_cursor(stream: TextIO) -> bool:
    """Whether lines that renew themselves can be shown: in a terminal that moves its cursor."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def discard_output() -> None:
    """Let what is still to be written to standard output go nowhere: the interpreter flushes it when it ends."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
