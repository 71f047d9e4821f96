"""Stopping between steps: the first SIGINT or SIGTERM is noted, the second one acts as usual."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger("llmbuilder")


@contextlib.contextmanager
def noted_interruption() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; outside the main thread it never is."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: Any) -> None:
        logger.warning("finishing this step, then saving; once more to stop at once")
        event.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
