"""How this machine computes fastest, found by measuring it: matrix kernels, number format, threads, memory.

PyTorch takes float32 matrix products on CPUs from MKL, which leaves half of the speed of some processors unused;
oneDNN, in the same PyTorch, does not. Which one is faster is measured, and so is whether its results are as exact:
on processors with matrix units the same switch would round the inputs to bfloat16, and then it is left off.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmbuilder.machine import cpu_count

if TYPE_CHECKING:
    import torch

_EXACT_ERROR = 3e-6  # relative to the largest value; float32 products of this size stay under 1e-6
_WORTH_SWITCHING = 1.25  # what is nearly as fast would be chosen one time and not the next
_PROBE = (512, 384, 768)
_WIDTH_FOR_BFLOAT16 = 64  # docs/explanation/speed.md has the measurements
_BFLOAT16_GAIN = 1.5
_MOST_THREADS_UNMEASURED = 4

# Dense bfloat16 (or else float16) peak in TFLOP/s, from the makers' data sheets, without sparsity.
_GPU_PEAKS = {
    "B200": 2250, "H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "A10G": 125, "A10": 125, "A40": 150,
    "L40S": 362, "L4": 121, "RTX 5090": 210, "RTX 4090": 165, "RTX 3090": 71, "V100": 125, "T4": 65, "MI300X": 1307,
}  # fmt: skip


@dataclass(frozen=True)
class Acceleration:
    """Settings of the process while it trains; the same ones on resuming give the same numbers.

    `peak_flops` is what the device's matrix products reach: measured on CPUs, the data sheet's on GPUs, None where
    neither is known.
    """

    matmul: str = "default"  # or "onednn"
    threads: int | None = None
    keep_memory: bool = False
    peak_flops: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for the run's record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Acceleration:
        """Return the settings of a record, ignoring names this version does not know."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def with_threads(self, threads: int) -> Acceleration:
        """Return these settings with another number of threads."""
        return dataclasses.replace(self, threads=threads)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Compute with these settings inside the block.

        Afterwards everything is as it was, but for one: the C library has no way to tell what it did with freed
        memory before, so that with `keep_memory` it keeps large freed blocks until the process ends.
        """
        import torch

        flushed = _denormals_are_flushed()
        torch.set_flush_denormal(True)
        if self.keep_memory:
            _keep_freed_memory()
        try:
            with limited_threads(self.threads), _onednn_products(self.matmul == "onednn"):
                yield
        finally:
            torch.set_flush_denormal(flushed)


def bfloat16_pays(width: int) -> bool:
    """Whether a model of this `width` trains faster with products in bfloat16, on a CPU that has instructions for them.

    They must be faster than float32's, each taken from where it is fastest, by enough to pay for the conversions, which
    narrow models spend more on.
    """
    import torch

    if width < _WIDTH_FOR_BFLOAT16:
        return False
    exact, rounded = (_fastest_products(precision)[1] for precision in (torch.float32, torch.bfloat16))
    return rounded > _BFLOAT16_GAIN * exact


def measure_acceleration(device: torch.device, precision: torch.dtype) -> Acceleration:
    """Return the fastest settings for training on `device` with products in `precision`.

    It takes about 0.1 s, once in a process: runs compute alike, whatever else the machine does.
    """
    import torch

    if device.type != "cpu":
        return Acceleration(peak_flops=_gpu_peak(device))
    matmul, peak = _fastest_products(precision)
    threads = torch.get_num_threads()
    return Acceleration(matmul, threads, sys.platform == "linux", threads * peak)


@functools.cache
def _fastest_products(precision: torch.dtype) -> tuple[str, float]:
    """Return where products are best taken from, and the operations per second of one thread."""
    import torch

    default, _ = _probe(precision)
    with _onednn_products(True):
        onednn, error = _probe(precision)
    switches = precision == torch.float32 and error < _EXACT_ERROR and onednn > _WORTH_SWITCHING * default
    return ("onednn", onednn) if switches else ("default", default)


def fixed_acceleration(device: torch.device, precision: torch.dtype, threads: int) -> Acceleration:
    """Return settings that depend on no measurement, so that a run repeats another bit for bit on the same machine."""
    if device.type != "cpu":
        return Acceleration(peak_flops=_gpu_peak(device))
    return Acceleration(threads=threads, keep_memory=sys.platform == "linux", peak_flops=threads * _probe(precision)[0])


@contextlib.contextmanager
def limited_threads(number: int | None) -> Iterator[None]:
    """Let PyTorch use `number` threads inside the block; None leaves its own choice."""
    import torch

    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Let PyTorch take only kernels that repeat themselves inside the block, where it has them."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    if enabled:
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


def _denormals_are_flushed() -> bool:
    import torch

    return (torch.tensor([1e-40]) * 0.5).item() == 0.0  # PyTorch cannot be asked


def choose_threads(work: Callable[[], object], most: int | None = None) -> int:
    """Return the number of threads with which `work` is fastest, halving from `most` while that helps.

    Small models lose more to many threads' waiting for each other than they win. With few processors there is
    nothing to choose and nothing is measured.
    """
    import torch

    before = torch.get_num_threads()
    threads = best = most or min(before, cpu_count())
    fastest = float("inf")
    try:
        while threads >= _MOST_THREADS_UNMEASURED:
            torch.set_num_threads(threads)
            seconds = statistics.median(_seconds(work, 3))
            if seconds > 0.95 * fastest:
                break
            best, fastest = threads, seconds
            threads //= 2
    finally:
        torch.set_num_threads(before)
    return best


def _probe(dtype: torch.dtype) -> tuple[float, float]:
    """Return the speed of a matrix product of one thread, in operations per second, and its largest relative error.

    What counts is the thread's own time: the machine may be busy, and what is chosen must not depend on that.
    """
    import torch

    rows, inner, columns = _PROBE
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(rows, inner, generator=generator), torch.randn(columns, inner, generator=generator)
    exact = a.double() @ b.double().mT
    a, b = a.to(dtype), b.to(dtype)
    error = ((a @ b.mT).double() - exact).abs().max() / exact.abs().max()
    with limited_threads(1):
        seconds = min(_seconds(lambda: torch.nn.functional.linear(a, b), 15, time.thread_time))
    return 2 * rows * inner * columns / seconds, error.item()


def _seconds(work: Callable[[], object], runs: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    work()
    times = []
    for _ in range(runs):
        begin = clock()
        work()
        times.append(clock() - begin)
    return times


@contextlib.contextmanager
def _onednn_products(enabled: bool) -> Iterator[None]:
    """Take float32 products from oneDNN, where this PyTorch offers the switch."""
    import torch

    settings = getattr(torch.backends.mkldnn, "matmul", None)
    if not enabled or settings is None or not torch.backends.mkldnn.is_available():
        yield
        return
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


@functools.cache
def _keep_freed_memory() -> None:
    """Let the C library reuse large freed blocks instead of returning them and faulting in new pages every step."""
    mmap_threshold, trim_threshold, largest = -3, -1, 1 << 30
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        library = ctypes.CDLL(None)
        library.mallopt(mmap_threshold, largest)
        library.mallopt(trim_threshold, largest * 2 - 1)


def _gpu_peak(device: torch.device) -> float | None:
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((1e12 * peak for known, peak in _GPU_PEAKS.items() if known in name), None)
