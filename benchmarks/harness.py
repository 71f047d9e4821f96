"""Timing two things fairly: alternating (A B A B ...), after a warm-up, medians and their ratio."""

from __future__ import annotations

import datetime
import platform
import statistics
import time
from collections.abc import Callable


def compare(
    title: str, ours: Callable[[], object], peer: Callable[[], object], *, runs: int = 5, peer_name: str = "peer"
) -> float:
    """Print the median seconds of both and return the ratio peer/ours: above 1 means we are faster.

    One that returns a float has measured itself, in seconds. With a single run there is no warm-up.
    """
    if runs > 1:
        ours(), peer()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for seconds, run in zip(times, (ours, peer), strict=True):
            begin = time.perf_counter()
            measured = run()
            seconds.append(measured if isinstance(measured, float) else time.perf_counter() - begin)
    a, b = (statistics.median(seconds) for seconds in times)
    print(f"| {title} | {a:.4f} s | {b:.4f} s ({peer_name}) | {b / a:.2f} |", flush=True)
    return b / a


def print_environment(command: str) -> None:
    """Print when, where and how the numbers below were made."""
    print(f"{datetime.date.today()}, {platform.platform()}, {platform.processor() or platform.machine()}: {command}\n")


def print_header(command: str) -> None:
    """Print what a row of RESULTS.md needs to be understood."""
    print_environment(command)
    print("| what | ours | peer | ratio |\n| --- | --- | --- | --- |")
