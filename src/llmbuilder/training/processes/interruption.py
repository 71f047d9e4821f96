"""Stopping between steps: the first SIGINT or SIGTERM is noted, the second one acts as usual."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("llmbuilder")


@dataclass
class Interruption:
    """Which signal asked the run to stop; None while none did."""

    signal: signal.Signals | None = None

    @property
    def is_set(self) -> bool:
        """Whether the run was asked to stop."""
        return self.signal is not None


@contextlib.contextmanager
def raised_termination() -> Iterator[None]:
    """Let SIGTERM raise SystemExit inside the block, so that what is at work can say where it stands; as 143 tells."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def noted_interruption() -> Iterator[Interruption]:
    """Yield what notes the first SIGINT or SIGTERM; outside the main thread there never is one."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: Any) -> None:
        logger.warning("finishing this step, then saving; once more to stop at once")
        interruption.signal = signal.Signals(number)
        signal.signal(number, before[interruption.signal])

    for number in before:
        signal.signal(number, note)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
