"""How many of PyTorch's threads work on a step and how they wait for each other, chosen by what steps take.

Waiting threads spin, which is fastest while the processors are theirs. Beside other busy processes a spinning thread
takes the time of the one it waits for, and a step can take twenty times as long as its share of the machine allows.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmbuilder.machine import cpu_count, others_running

if TYPE_CHECKING:
    import torch

IDLE = "llmbuilder-idle"  # the name of a thread
_REMEMBERED = 5  # steps
_FEWEST = 3  # steps, to judge by
_TRIED = 3  # steps of a trial, the first of which starts threads and does not count
_HOPELESS, _DISASTROUS = 1.5, 4.0  # times as slow: a trial ends there, with its first step at the latter
_SLOWER = 1.25  # than before: something has changed
_WORTH_CHANGING = 0.92
_FIRST_RETRY, _LAST_RETRY = 20.0, 300.0  # seconds
_TRIAL_SHARE = 0.03  # of the time, for trials: a machine whose speed wavers by itself would be tried all the time
_CROWDED = 0.1  # of the time, threads that could run did not


@dataclass(frozen=True)
class Way:
    """So many threads, which spin while they wait, or sleep (`is_calm`)."""

    threads: int
    is_calm: bool = False


class FairThreads:
    """Keeps a run at the fastest of some ways to use threads while the load of the machine comes and goes.

    A context. After every step `note` is told what it took; now and then a few steps are taken another way. How threads
    wait changes no result. How many there are changes the last bits of sums: only where `may_change_number` is set.
    """

    def __init__(self, threads: int, *, may_change_number: bool, apply: Callable[[Way], None] | None = None) -> None:
        self.ways = [Way(threads)]
        if threads > 1 and sys.platform == "linux":
            self.ways.append(Way(threads, is_calm=True))
        fewer = threads // 2
        while may_change_number and fewer >= 1:
            self.ways.append(Way(fewer))
            fewer //= 2
        self._team = _IdleTeam()
        self._apply = apply or self._use
        # Beside others a spinning step can take seconds: waiting calmly is the better guess to begin with.
        self._current = 1 if len(self.ways) > 1 and self.ways[1].is_calm and others_running() else 0
        self._latest: deque[float] = deque(maxlen=_REMEMBERED)
        self._accepted = float("inf")  # seconds of a step
        self._clock, self._retry_at, self._retry_after = 0.0, float("inf"), _FIRST_RETRY
        self._trial: Iterator[None] | None = None
        self._next_trial = 0.0  # not before that
        self._delay = _waited_for_a_processor()
        self._is_judged = len(self.ways) == 1

    @classmethod
    def on(cls, device: torch.device, *, may_change_number: bool = False) -> FairThreads:
        """Return what keeps work on `device` fair to others, with the threads there are; only a CPU's are shared."""
        import torch

        is_cpu = device.type == "cpu"
        return cls(torch.get_num_threads() if is_cpu else 1, may_change_number=is_cpu and may_change_number)

    @property
    def way(self) -> Way:
        """The way in use."""
        return self.ways[self._current]

    def __enter__(self) -> FairThreads:
        if self._current:
            self._apply(self.way)  # what was found the last time
        return self

    def __exit__(self, *_: object) -> None:
        if len(self.ways) > 1:
            self._apply(self.ways[0])

    def note(self, seconds: float) -> None:
        """Tell that a step took `seconds`; the next one may be taken in another way."""
        if len(self.ways) == 1:
            return
        self._clock += seconds
        self._latest.append(seconds)
        if self._trial is None and self._is_trial_due():
            self._trial = self._try_others()
        if self._trial is not None and next(self._trial, self) is self:
            self._trial = None

    def _is_trial_due(self) -> bool:
        if len(self._latest) < _FEWEST:
            return False
        usual = statistics.median(self._latest)
        if not self._is_judged:
            self._is_judged, self._accepted = True, usual
            return self._current > 0 or self._is_crowded()
        if usual > _SLOWER * self._accepted or self._clock >= self._retry_at:
            return self._clock >= self._next_trial
        self._accepted = min(self._accepted, usual)
        return False

    def _is_crowded(self) -> bool:
        """Whether the first steps had to wait for a processor; where that is not told, it may be."""
        now = _waited_for_a_processor()
        return now is None or self._delay is None or now - self._delay > _CROWDED * self._clock

    def _try_others(self) -> Iterator[None]:
        """Take a few steps each other way, then keep the best; a step is taken at every yield.

        Spinning beside others is never the best, and a single such step can take seconds.
        """
        begin, before, usual = self._clock, self._current, statistics.median(self._latest)
        taken = {before: usual * _WORTH_CHANGING}
        for index in range(len(self.ways)):
            if index == before or (index == 0 and others_running()):
                continue
            self._change(index)
            for _ in range(_TRIED):
                yield
                if (
                    self._latest[-1] > _DISASTROUS * usual
                    or min(list(self._latest)[1:], default=0.0) > _HOPELESS * usual
                ):
                    break
            taken[index] = min(list(self._latest)[1:] or self._latest)
        best = min(taken, key=lambda index: taken[index])
        self._change(best)
        self._accepted = usual if best == before else taken[best]
        self._retry_after = _FIRST_RETRY if best != before else min(_LAST_RETRY, 2 * self._retry_after)
        self._retry_at = self._clock + self._retry_after if best else float("inf")
        self._next_trial = self._clock + (self._clock - begin) / _TRIAL_SHARE

    def _change(self, index: int) -> None:
        self._latest.clear()
        self._current = index
        self._apply(self.way)

    def _use(self, way: Way) -> None:
        import torch

        if way.is_calm:
            self._team.begin(max(1, cpu_count() - way.threads + 2))  # with more than that there are enough
        else:
            self._team.end()
        torch.set_num_threads(way.threads)


class _IdleTeam:
    """Threads that do nothing, so that there are more than processors: then GNU's OpenMP lets none of them spin.

    Its documentation of GOMP_SPINCOUNT has the rule. The variable itself is read once, when the library is loaded,
    and would make a quiet machine slower; threads come and go.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def begin(self, threads: int) -> None:
        """Have a team of so many threads, if there is none yet; the caller sets its own number again."""
        if self._thread is not None:
            return
        is_there, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=_idle, args=(threads, is_there, self._over), name=IDLE, daemon=True)
        self._thread.start()
        is_there.wait()

    def end(self) -> None:
        """End the team, if there is one."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None


def _idle(threads: int, is_there: threading.Event, over: threading.Event) -> None:
    import torch

    try:
        torch.set_num_threads(threads)
        torch.zeros(threads << 17).add_(1)  # long enough to be shared by all of them
    finally:
        is_there.set()
    over.wait()


def _waited_for_a_processor() -> float | None:
    """Return the seconds that this process's threads could have run and did not; None where the system tells it not."""
    total = 0
    try:
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                total += int((task / "schedstat").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return total * 1e-9
