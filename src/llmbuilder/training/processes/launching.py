"""Several processes of this machine that train one model: started, stopped and waited for together.

They find each other as torchrun's processes do. torchrun itself is not used, because it kills processes 30 seconds
after a signal, in the middle of a checkpoint if that takes longer, and hides how they ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from llmbuilder.machine import cpu_count

_PATIENCE = 30.0  # seconds from the failure of one process until the others, which may wait for it, are killed
_LIFELINE = "LLMBUILDER_LIFELINE"  # a pipe's end that only ends when the process that started this one does
_Child = subprocess.Popen[bytes]


def launch(processes: int, arguments: list[str]) -> int:
    """Run `llmbuilder` with `arguments` in several processes and return the exit status of the first that failed.

    SIGINT, SIGTERM and SIGHUP go on to the processes, which save before they end; what they end with is returned.
    """
    import torch.distributed as dist

    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {
        "OMP_NUM_THREADS": str(max(1, cpu_count() // processes)),
        **os.environ,
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is this process's, none of them need open one
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    command = [sys.executable, "-m", "llmbuilder", *arguments]
    children: list[_Child] = []
    with _signals_passed_on(children) as passed, _lifeline() as line:
        for rank in range(processes):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), **({} if line is None else {_LIFELINE: str(line)})}
            # In sessions of their own, or a terminal's Ctrl-C would reach them twice: the second one stops at once.
            children.append(
                subprocess.Popen(
                    command, env={**common, **own}, start_new_session=True, pass_fds=() if line is None else (line,)
                )
            )
        return _wait(children, passed)


@contextlib.contextmanager
def _lifeline() -> Iterator[int | None]:
    """Yield the reading end of a pipe that nobody writes to: it ends with this process, however that ends."""
    if os.name == "nt":  # which hands no pipes on
        yield None
        return
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def end_with_the_launcher() -> None:
    """Let this process end as by SIGTERM when the one that `launch`ed it is gone without having said so."""
    line = os.environ.pop(_LIFELINE, None)
    if line is not None:
        threading.Thread(target=_watch, args=(int(line),), name="lifeline", daemon=True).start()


def _watch(line: int) -> None:
    with contextlib.suppress(OSError):
        os.read(line, 1)
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _signals_passed_on(children: Sequence[_Child]) -> Iterator[set[int]]:
    """Send what would end this process to its children instead; yield the signals sent."""
    passed: set[int] = set()

    def pass_on(number: int, _frame: Any) -> None:
        number = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        passed.add(number)
        for child in children:
            child.send_signal(number)

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    for name, handler in before.items():
        if handler != signal.SIG_IGN:  # as under nohup
            signal.signal(getattr(signal, name), pass_on)
    try:
        yield passed
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _wait(children: Sequence[_Child], passed: set[int]) -> int:
    """Return when all children have ended; one that failed takes those with it that do not notice by themselves."""
    failure, deadline = 0, float("inf")
    while any(child.poll() is None for child in children):
        if not failure and (failure := _failure(children, passed)):
            deadline = time.monotonic() + _PATIENCE
        if time.monotonic() > deadline:
            for child in children:
                child.kill()
        time.sleep(0.05)
    return failure or max(_statuses(children))


def _failure(children: Sequence[_Child], passed: set[int]) -> int:
    """Return the exit status of a child that ended neither well nor because it was asked to; 0 if none did."""
    expected = {0, *(128 + number for number in passed)}
    return next((status for status in _statuses(children) if status not in expected), 0)


def _statuses(children: Sequence[_Child]) -> list[int]:
    codes = [child.returncode for child in children if child.returncode is not None]
    return [128 - code if code < 0 else code for code in codes]
