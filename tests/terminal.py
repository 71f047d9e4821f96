"""The program in a terminal of its own, as a person at a keyboard has it."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
_IN_A_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'llmbuilder', *sys.argv[1:]])"
)


class Terminal:
    """`llmbuilder` with `arguments` in a pseudo-terminal of so many columns; `kind` is its TERM."""

    def __init__(self, *arguments: object, cwd: Path, columns: int = 80, kind: str = "xterm", **more: str) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._handle, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _IN_A_TERMINAL, *(os.fsencode(str(one)) for one in arguments)],
            cwd=cwd, stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
            env={**environment, "TERM": kind, **more},
        )  # fmt: skip
        os.close(inner)
        self._bytes = b""

    @property
    def raw(self) -> bytes:
        """All that was printed, with what moves the cursor."""
        return self._bytes

    @property
    def text(self) -> str:
        """All that was printed, without what moves the cursor."""
        return _CONTROL.sub(b"", self._bytes).decode("utf-8", "replace")

    def type(self, keys: str) -> None:
        """Press keys; "\\x03" is Ctrl-C and "\\x04" Ctrl-D."""
        os.write(self._handle, keys.encode("utf-8"))

    def wait_until(self, is_seen: Callable[[Terminal], bool], seconds: float = 60) -> None:
        """Read until what was printed is as wanted."""
        until = time.monotonic() + seconds
        while not is_seen(self):
            if not self._read() or time.monotonic() > until:
                self.process.kill()
                raise AssertionError(f"what was waited for did not come; the terminal shows:\n{self.text}")

    def end(self, seconds: float = 300) -> int:
        """Read until the program ends, and return its exit status."""
        until = time.monotonic() + seconds
        while self._read():
            if time.monotonic() > until:
                self.process.kill()
        os.close(self._handle)
        return self.process.wait()

    def _read(self) -> bool:
        if not select.select([self._handle], [], [], 1)[0]:
            return True
        try:
            found = os.read(self._handle, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            return False
        self._bytes += found
        return bool(found)
