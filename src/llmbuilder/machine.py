"""What the machine at hand offers: devices, memory, fast number formats.

Nothing here changes a setting: callers decide, this module only knows.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmbuilder.errors import ConfigError, MissingDependencyError
from llmbuilder.notices import warn_once

if TYPE_CHECKING:
    import torch

_LONGEST_PASS_ON_CPU = 3 << 30  # bytes
CROWDED = 1.1  # times as long as alone: others need the processors
_INSTRUCTIONS = ("fma", "avx2", "avx512", "avx_vnni", "amx", "asimd", "sve", "sme", "bf16", "i8mm")


def resolve_device(name: str = "auto") -> torch.device:
    """Turn a configured device name into one this machine has.

    "auto" takes cuda, then xpu, then mps, then cpu. A named device that is absent falls back to the best
    present one with a single warning, because a configuration often comes from another machine.
    Raises ConfigError for a name PyTorch does not know.
    """
    import torch

    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "xpu", "mps", "cpu") if _available(kind)))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"system.device: {name!r} is no device; use auto, cpu, cuda, cuda:N, mps or xpu") from error
    if _available(device.type, device.index):
        return device
    fallback = resolve_device("auto")
    warn_once(f"system.device is {name!r}, which this machine does not have: using {fallback.type} instead")
    return fallback


def slowdown() -> float:
    """Return how many times longer than alone one busy thread takes now; measuring takes 0.1 s of its own time."""
    begin, begin_own = time.perf_counter(), time.thread_time()
    while (own := time.thread_time() - begin_own) < 0.1:
        pass
    return max(1.0, (time.perf_counter() - begin) / own)


def others_running() -> int:
    """Return how many threads of other processes run, or would run, right now; 0 where the system does not tell."""
    try:
        running = int(Path("/proc/loadavg").read_text("ascii").split()[3].split("/")[0])
        own = sum(_is_running(task) for task in Path("/proc/self/task").iterdir())
    except (OSError, ValueError, IndexError):
        return 0
    return max(0, running - own)


def _is_running(task: Path) -> bool:
    try:
        return (task / "stat").read_text("utf-8", "replace").rpartition(") ")[2].startswith("R")
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return False


def is_crowded() -> bool:
    """Whether other processes need the processors now, as far as one busy thread can tell."""
    return slowdown() > CROWDED


def require_device(name: str, place: str = "system.device") -> None:
    """Raise ConfigError for a device that this machine does not have; PyTorch is loaded only to ask for one."""
    if name in ("auto", "cpu"):
        return
    kind, _, number = name.partition(":")
    if kind not in ("cuda", "xpu", "mps", "cpu") or not (number.isdigit() if ":" in name else True):
        raise ConfigError(f"{place}: {name!r} is no device; use auto, cpu, cuda, cuda:N, mps or xpu")
    if not _available(kind, int(number) if number else None):
        raise ConfigError(f"{place}: this machine has no {name}; leave it out, or use auto or cpu")


def _available(kind: str, index: int | None = None) -> bool:
    import torch

    if kind == "cpu":
        return True
    backend = {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.backends.mps}.get(kind)
    if backend is None or not backend.is_available():
        return False
    return index is None or kind == "mps" or index < backend.device_count()


def resolve_precision(requested: str, device: torch.device) -> torch.dtype:
    """Return the dtype of matrix products for `training.mixed_precision` on `device`.

    "auto" means bfloat16 on GPUs that have it and float32 elsewhere. A format the device would only emulate
    (hundreds of times slower on a CPU without it) falls back to float32 with one warning.
    """
    import torch

    if requested == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float32
    if requested == "no":
        return torch.float32
    wanted = torch.bfloat16 if requested == "bf16" else torch.float16
    if device.type == "cpu" and not (wanted == torch.bfloat16 and has_fast_bfloat16()):
        # fp16 training on CPUs also lacks a gradient scaler's benefit, so only bfloat16 ever counts
        warn_once(f"mixed_precision {requested!r} is not fast on this CPU: training in float32")
        return torch.float32
    return wanted


def has_fast_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def memory_bytes(device: torch.device | None = None) -> int:
    """Return the memory the process may use: the device's for a GPU, else the machine's or its control group's."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    limits = [_physical_memory()]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as handle:
                limits.append(int(handle.read()))
        except (OSError, ValueError):
            continue
    return min(limits)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 8 << 30  # Windows has no sysconf; a careful guess keeps estimates usable


def cpu_count() -> int:
    """Return the number of processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> dict[str, Any]:
    """Return facts worth keeping beside a result: versions, processor, devices, memory."""
    import torch

    from llmbuilder import __version__

    return {
        "llmbuilder": __version__,
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        **_processor(),
        "processors": cpu_count(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "device": str(resolve_device("auto")),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _processor() -> dict[str, Any]:
    """Return the processor's name and the instructions that decide how sums are rounded, as far as the system tells."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:  # Linux has it
        for line in lines:
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    name = facts.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in facts:  # virtual machines often have one name for all processors
        name = f"{name}, family {facts['cpu family']}, model {facts.get('model')}"
    return {"processor": name, "instructions": sorted(flag for flag in flags if flag.startswith(_INSTRUCTIONS))}


def used_memory_bytes(device: torch.device) -> int:
    """Return the most memory this process has used: of the device for a GPU, else of the machine."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def pass_bytes(device: torch.device | None = None) -> int:
    """Return the bytes that a forward pass may keep for its gradients: half of a GPU's memory.

    A CPU is no faster with passes of more than some thousand tokens, and others need its memory, too.
    """
    memory = memory_bytes(device)
    return memory // 2 if device is not None and device.type != "cpu" else min(memory // 8, _LONGEST_PASS_ON_CPU)


def require_four_bits() -> None:
    """Raise MissingDependencyError without the library that holds matrices in four bits."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError("bitsandbytes", "qlora", "finetuning.method 'qlora'")
