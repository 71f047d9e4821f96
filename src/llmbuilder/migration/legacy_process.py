"""The process that a legacy project's model runs in: started, watched, and its answer taken with care.

Whatever comes back is foreign: the texts are cleaned and cut, and what is no answer is said to be none.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmbuilder.errors import CheckpointError, MigrationError
from llmbuilder.formats.torch_files import read_torch_file
from llmbuilder.migration import legacy_confinement, legacy_isolation, legacy_program

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG")
_PACKAGE = "legacy_proof"  # what the three modules are copied to, as the process imports nothing of this package
_PROGRAM = f"""
import sys
sys.path.insert(0, sys.argv[1])
from {_PACKAGE}.legacy_isolation import main
del sys.path[0]
sys.exit(main(sys.argv[2]))
"""
_LONGEST_TEXT = 300
_ENDED = {
    "time": "was not done after {seconds:.0f} s, and was ended",
    "memory": "took more than {gibibytes:.1f} GiB of memory, and was ended",
    "processes": "started too many processes, and was ended",
}
_SPARE_SECONDS = 30.0  # for the process that keeps the limit of time to end the others by itself


def run_legacy_program(place: Path, job: dict[str, Any], inputs: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Run a job in `place`, the only folder it can write to, and return its answer with the sentences of `isolation`.

    The folder that `place` lies in is used too. Raises MigrationError if there is no answer within `seconds`.
    """
    outer = place.parent
    memory = _memory_limit(job, inputs)
    job = {
        **job, "seconds": seconds, "memory_bytes": memory, "isolation": str(outer / "isolation.json"),
        "mark": str(outer / "mark"), "socket": str(outer / "socket"), "root": str(outer / "root"),
    }  # fmt: skip
    (outer / "root").mkdir()
    (outer / "mark").write_text("what lies outside", "utf-8")
    torch.save(inputs, place / "inputs.pt")
    (place / "job.json").write_text(json.dumps(job), "utf-8")
    (place / _PACKAGE).mkdir()
    for program in (legacy_isolation, legacy_confinement, legacy_program):
        shutil.copyfile(str(program.__file__), place / _PACKAGE / Path(str(program.__file__)).name)
    status = _start(outer, place, seconds)
    report = _read_report(outer / "isolation.json")
    if report["ended"]:
        words = _ENDED[report["ended"]].format(seconds=seconds, gibibytes=memory / 2**30)
        raise MigrationError(f"the project's own model {words}")
    if not (place / "result.pt").is_file() or (place / "result.pt").stat().st_size > job["file_bytes"]:
        raise MigrationError(
            f"the project's own model ended without an answer (status {status}): {_last_words(outer / 'output.txt')}"
        )
    try:
        answer = read_torch_file(place / "result.pt")
    except CheckpointError as error:
        raise MigrationError(f"the project's own model left an answer that cannot be read: {clean(error)}") from error
    if isinstance(answer, dict) and "error" in answer:
        raise MigrationError(f"the project's own model could not be run: {clean(answer['error'])}")
    return {**_checked(answer, job["vocab_size"]), "isolation": report["isolation"]}


def clean(text: object) -> str:
    """Return a foreign text as one line of printable characters, 300 at most."""
    beginning = str(text)[: 10 * _LONGEST_TEXT]
    printable = "".join(character if character.isprintable() else " " for character in beginning)
    words = " ".join(printable.split())
    return words if len(words) <= _LONGEST_TEXT else words[: _LONGEST_TEXT - 3] + "..."


def _start(outer: Path, place: Path, seconds: float) -> int:
    """Run the program that isolates itself; return its exit status when it and all it started have ended."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {"HOME": str(place), "TMPDIR": str(place), "TEMP": str(place), "USER": "nobody", "LOGNAME": "nobody",
                    "CUDA_VISIBLE_DEVICES": "", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}  # fmt: skip
    with open(outer / "output.txt", "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _PROGRAM, str(place), str(place / "job.json")],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(seconds + _SPARE_SECONDS)
        except subprocess.TimeoutExpired:
            raise MigrationError(f"the project's own model {_ENDED['time'].format(seconds=seconds)}") from None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and its group; what left the group ends with the process that it was started from."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _memory_limit(job: dict[str, Any], inputs: dict[str, Any]) -> int:
    """Return the bytes that the model may take: several times its need, and no more than the machine can spare."""
    weights = sum(tensor.numel() * 4 for tensor in inputs["weights"].values())
    logits = inputs["tokens"].numel() * job["vocab_size"] * 4
    needed = 2 * 2**30 + 2**28 * job["threads"] + 10 * weights + 10 * logits
    return min(needed, int(0.8 * _available_memory(needed)))


def _available_memory(otherwise: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 2 * otherwise


def _read_report(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"isolation": [], "ended": ""}
    report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return report


def _last_words(path: Path) -> str:
    with open(path, "rb") as output:
        output.seek(max(0, path.stat().st_size - 4096))
        lines = output.read().decode("utf-8", errors="replace").strip().splitlines()[-3:]
    return clean(" / ".join(lines)[-_LONGEST_TEXT:])


def _checked(answer: Any, vocab_size: int) -> dict[str, Any]:
    """Return an answer of the form that is compared. Raises MigrationError for any other."""
    logits, greedy, loss = (
        answer.get(key) if isinstance(answer, dict) else None for key in ("logits", "greedy", "loss")
    )
    is_answer = (
        isinstance(logits, Tensor) and logits.dtype == torch.float32 and isinstance(greedy, Tensor)
        and greedy.dtype == torch.int64 and greedy.dim() == 1 and bool(((greedy >= 0) & (greedy < vocab_size)).all())
        and (loss is None or isinstance(loss, float))
    )  # fmt: skip
    if not is_answer:
        raise MigrationError("the project's own model left an answer of another form")
    if loss is not None and not math.isfinite(loss):
        raise MigrationError(f"the project's own model has a loss of {loss} on its validation data")
    return {"logits": logits, "greedy": greedy, "loss": loss, "program": clean(answer.get("program"))}
