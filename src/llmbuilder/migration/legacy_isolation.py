"""What a legacy project's code runs in: a process that is cut off from the machine as far as the system allows.

Started by `legacy_process` as a program of its own; it stands alone, with `legacy_confinement`, and hands over to
`legacy_program`. On Linux the code gets a file system that holds the libraries (read-only) and its own folder, its own
process numbers, no network and no sockets. Where the system refuses such namespaces, Landlock and a filter of system
calls take their place. What holds is not believed but tried, in the process that the code will run in, before the code
is loaded.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import legacy_program
from .legacy_confinement import (
    NEW_MOUNTS,
    NEW_PIDS,
    can_confine,
    drop_capabilities,
    filter_system_calls,
    keep_to_folders,
    limit_resources,
    new_namespaces,
    show_only,
    system_library,
)

_MOST_PROCESSES = 256
_LONGEST_SOCKET_NAME = 107
_VIEW_WORDS = {
    "libraries": "nothing to read but the libraries and its folder",
    "system": "nothing to read but the system's folders and its own",
    "everything": "it could read whatever you can read",
}  # of the file system, the strictest view first


def main(job_path: str) -> int:
    """Run the job of one file and return the exit status; what held is written beside the job's folder."""
    job = json.loads(Path(job_path).read_text("utf-8"))
    if not can_confine():
        limits = limit_resources(job)
        _write_report(
            job, [limits, "this system keeps it neither from the network nor from reading and writing elsewhere"]
        )
        _hand_over(job_path)
        return 0
    system_library().prctl(1, int(signal.SIGKILL), 0, 0, 0)  # nothing goes on when the proof itself is ended
    system_library().prctl(36, 1, 0, 0, 0)  # what is orphaned below becomes a child of this process, which can end it
    status, deadline = 1, time.monotonic() + job["seconds"]
    with contextlib.ExitStack() as opened:
        job["listeners"] = [opened.enter_context(listener).getsockname() for listener in _listeners(job)]
        for view in _VIEW_WORDS:
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                opened.close()
                os.close(reading)
                _enter(job, job_path, view, writing, os.getppid())
            os.close(writing)
            status, ended = _watch(child, deadline, job["memory_bytes"])
            with open(reading, "rb") as pipe:
                told = pipe.read()
            if told or ended:
                _write_report(job, json.loads(told) if told else [], ended)
                break
            os.ftruncate(1, 0)  # what is said of a view that the system does not allow is no word of the project's code
    return status


def _write_report(job: dict[str, Any], sentences: Sequence[str], ended: str = "") -> None:
    Path(job["isolation"]).write_text(json.dumps({"isolation": [s for s in sentences if s], "ended": ended}), "utf-8")


def _listeners(job: dict[str, Any]) -> Iterator[socket.socket]:
    """Listen as other programs of the machine do, so that it can be tried whether they can be reached."""
    with contextlib.suppress(OSError):  # a machine may have no network
        yield socket.create_server(("127.0.0.1", 0))
    for name in (job["socket"], f"\0llmbuilder-proof-{os.getpid()}"):
        if len(os.fsencode(name)) <= _LONGEST_SOCKET_NAME:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(name)
            listener.listen()
            yield listener


# What is done by the process that starts the others, and ends them.


def _watch(child: int, deadline: float, memory_bytes: int) -> tuple[int, str]:
    """Wait for a process; return its exit status and which limit it was ended for, and leave nothing running."""
    status, ended = -signal.SIGKILL, ""
    while not ended:
        finished, raw = os.waitpid(child, os.WNOHANG)
        if finished:
            status = os.waitstatus_to_exitcode(raw)
            break
        running = _descendants()
        if time.monotonic() > deadline:
            ended = "time"
        elif len(running) > _MOST_PROCESSES:
            ended = "processes"
        elif sum(running.values()) > memory_bytes + 2**30:  # the libraries themselves take a part of it
            ended = "memory"
        else:
            time.sleep(0.1)
    while running := _descendants():
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)
    return status, ended


def _descendants() -> dict[int, int]:
    """Return every process below this one, with the bytes of memory that it holds."""
    parents, memory = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = Path("/proc", entry, "stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
                parents[int(entry)], memory[int(entry)] = int(fields[1]), int(fields[21]) * os.sysconf("SC_PAGESIZE")
    below = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in below} - below:
        below |= more
    return {process: memory[process] for process in below - {os.getpid()}}


# What is done on the way in, by the processes below.


def _enter(job: dict[str, Any], job_path: str, view: str, writing: int, supervisor: int) -> NoReturn:
    """Go through the namespaces to the foreign code; does not return."""
    try:
        spaces = new_namespaces()
        if view != "everything" and not spaces & NEW_MOUNTS:
            os._exit(1)
        first = _fork_dependent()
        if first:
            _leave_as(first)
        if view != "everything":
            show_only(job["folder"], Path(job["root"]), view)
        inner = _fork_dependent()  # the first process of a namespace ends all others with it, and has signals ignored
        if inner:
            _leave_as(inner)
        _contain(job, view, bool(spaces & NEW_PIDS), writing, supervisor)
        _hand_over(job_path)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - nothing may go back to the code of the process that this is a copy of
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


def _fork_dependent() -> int:
    """Fork a process that ends with this one."""
    child = os.fork()
    if child == 0:
        system_library().prctl(1, int(signal.SIGKILL), 0, 0, 0)
    return child


def _leave_as(child: int) -> NoReturn:
    """Wait for a process, reaping others, and end with its status."""
    while True:
        finished, raw = os.wait()
        if finished == child:
            status = os.waitstatus_to_exitcode(raw)
            os._exit(status if status >= 0 else 128 - status)


def _contain(job: dict[str, Any], view: str, is_alone: bool, writing: int, supervisor: int) -> None:
    """Give up what this process may still do, and tell what held."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # short of memory, the system ends this one first
    if view != "everything":
        drop_capabilities()
    folders = [job["folder"]] if view == "everything" else [job["folder"], "/dev/shm"]
    system_library().prctl(38, 1, 0, 0, 0)  # no new privileges, which the next two ask for
    keep_to_folders(folders)
    filter_system_calls(is_alone and view != "everything")
    if importlib.util.find_spec("torch") is None:
        raise ImportError("PyTorch is out of sight")
    import torch

    torch.zeros(2, 2) @ torch.zeros(2, 2)
    sentences = [_VIEW_WORDS[view], limit_resources(job), _try_writing(job), _try_sockets(job["listeners"]),
                 _try_signals(is_alone, supervisor)]  # fmt: skip
    with open(writing, "wb") as pipe:
        pipe.write(json.dumps(sentences).encode())


# What holds is tried.


def _is_possible(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError:
        return False
    return True


def _try_writing(job: dict[str, Any]) -> str:
    mark, library = job["mark"], os.__file__
    acts: dict[str, Callable[[], object]] = {
        "write": lambda: open(mark, "r+b").close(),
        "create": lambda: open(f"{mark}.new", "xb").close(),
        "truncate": lambda: os.truncate(mark, 0),
        "change rights": lambda: os.chmod(mark, 0o600),
        "change rights of libraries": lambda: os.chmod(library, os.stat(library).st_mode & 0o7777),
        "change owners": lambda: os.chown(mark, os.getuid(), os.getgid()),
        "change times": lambda: os.utime(mark, (0, 0)),
        "rename": lambda: os.rename(mark, f"{mark}.renamed"),
        "remove": lambda: os.unlink(mark),
    }
    possible = [name for name, act in acts.items() if _is_possible(act)]
    return f"it could {', '.join(possible)} elsewhere" if possible else "no writing or changing outside its folder"


def _try_sockets(addresses: Sequence[Any]) -> str:
    def connect(address: Any) -> None:
        with socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(address)

    reached = [address for address in addresses if _is_possible(functools.partial(connect, address))]
    network = any(isinstance(address, tuple) for address in reached)
    others = any(not isinstance(address, tuple) for address in reached)
    first = "it could reach the network" if network else "no network"
    return f"{first}, {'it could reach sockets of other programs' if others else 'no sockets of other programs'}"


def _try_signals(is_alone: bool, supervisor: int) -> str:
    if is_alone:
        return "no sight of other processes"
    can_signal = _is_possible(lambda: os.kill(supervisor, 0))
    return "it could signal other processes" if can_signal else "no signals to other processes"


def _hand_over(job_path: str) -> None:
    legacy_program.main(job_path)
    sys.stdout.flush()
    sys.stderr.flush()
