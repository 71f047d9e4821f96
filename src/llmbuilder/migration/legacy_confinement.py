"""How Linux takes from a process what it may do: namespaces, mounts, capabilities, Landlock, a filter, limits.

It stands alone, as `legacy_isolation`, which calls it on the way to a legacy project's code.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_NEW_USER, NEW_MOUNTS, _NEW_NETWORK, NEW_PIDS, _NEW_IPC = 0x10000000, 0x00020000, 0x40000000, 0x20000000, 0x08000000
_ALL_SPACES = NEW_MOUNTS | _NEW_NETWORK | NEW_PIDS | _NEW_IPC
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_AUDITED = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_BIND, _RECURSIVE, _PRIVATE, _NO_SETUID, _NO_DEVICES = 0x1000, 0x4000, 0x40000, 2, 4
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store", "/etc/passwd",
           "/etc/group", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
           "/etc/alternatives", "/sys/devices/system")  # fmt: skip
_HIDDEN = {"/tmp", "/run", "/var", "/home", "/root", "/mnt", "/media", "/dev", "/proc", "/sys", "/boot", "/lost+found"}
_DEVICES = ("null", "zero", "full", "random", "urandom")
# System calls by number, on x86_64 and on aarch64.
_SOCKETS_AND_POWERS = {
    "x86_64": (
        41,
        53,
        101,
        133,
        155,
        165,
        166,
        248,
        249,
        250,
        259,
        272,
        298,
        304,
        308,
        311,
        321,
        323,
        425,
        428,
        429,
        442,
    ),
    "aarch64": (33, 39, 40, 41, 97, 117, 198, 199, 217, 218, 219, 241, 265, 268, 271, 280, 282, 425, 428, 429, 442),
}  # socket, mounts, namespaces, keys, tracing, devices, io_uring
_CHANGES_AND_SIGNALS = {
    "x86_64": (62, 76, 90, 91, 92, 93, 94, 129, 132, 188, 189, 190, 197, 198, 199, 200, 234, 235, 260, 261, 268, 280,
               297, 424, 452, 463, 466),
    "aarch64": (5, 6, 7, 14, 15, 16, 45, 52, 53, 54, 55, 88, 129, 130, 131, 138, 240, 424, 452, 463, 466),
}  # fmt: skip  # truncate, chmod, chown, utime, attributes, kill


def can_confine() -> bool:
    """Whether this is a system that the functions below know."""
    return sys.platform == "linux" and os.uname().machine in _AUDITED


def system_library() -> Any:
    """Return the C library."""
    return ctypes.CDLL(None, use_errno=True)


def new_namespaces() -> int:
    """Move to namespaces of its own; return which the system allowed."""
    user, group = os.getuid(), os.getgid()
    for spaces in (_ALL_SPACES, _ALL_SPACES & ~_NEW_NETWORK, _ALL_SPACES & ~NEW_MOUNTS, NEW_PIDS, _NEW_NETWORK):
        if system_library().unshare(spaces) == 0:
            return spaces
        if system_library().unshare(spaces | _NEW_USER) == 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
            return spaces
    return 0


def _mount(source: str, target: Path | str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [os.fsencode(value) if value is not None else None for value in (source, target, kind)]
    if system_library().mount(*encoded, ctypes.c_ulong(flags), options.encode() if options else None) != 0:
        raise OSError(ctypes.get_errno(), f"{os.strerror(ctypes.get_errno())}: mounting {target}")


def show_only(folder: str, root: Path, view: str) -> None:
    """Make a file system of what the code needs, read-only but for its folder, and leave the rest behind."""
    _mount("none", "/", None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NO_SETUID | _NO_DEVICES, "mode=755,size=16m")
    shown: list[Path] = []
    for path in sorted(_needed(view)):
        if path.exists() and not any(other == path or other in path.parents for other in shown):
            shown.append(path)
            _show(path, root)
    for device in _DEVICES:
        _show(Path("/dev", device), root)
    inner = root / folder.lstrip("/")
    for place in (inner, root / "dev/shm", root / "proc", root / "tmp"):
        place.mkdir(parents=True, exist_ok=True)
    try:
        _mount("proc", root / "proc", "proc", _NO_SETUID | _NO_DEVICES)
    except OSError:  # where parts of it are hidden, as in containers, there is only the one that is there
        _mount("/proc", root / "proc", None, _BIND | _RECURSIVE)
    read_only = struct.pack("4Q", 1 | _NO_SETUID, 0, 0, 0)
    if system_library().syscall(442, -100, os.fsencode(root), 0x8000, read_only, ctypes.c_size_t(len(read_only))) != 0:
        raise OSError(ctypes.get_errno(), "this system cannot make mounts read-only")
    _mount(folder, inner, None, _BIND)
    _mount("tmpfs", root / "dev/shm", "tmpfs", _NO_SETUID | _NO_DEVICES, "size=256m")
    os.chdir(root)
    if (
        system_library().syscall(_PIVOT_ROOT[os.uname().machine], b".", b".") != 0
        or system_library().umount2(b".", 2) != 0
    ):
        raise OSError(ctypes.get_errno(), "this system cannot change the root")
    os.chdir(folder)


def _needed(view: str) -> Iterator[Path]:
    """Yield what Python and its libraries are read from; with the system's other folders where that is not enough."""
    yield from map(Path, _SYSTEM)
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(sys.executable), *sys.path,
           os.path.dirname(os.path.realpath(sys.executable)),
           *os.environ.get("LD_LIBRARY_PATH", "").split(":")]  # fmt: skip
    for name in own:
        if os.path.isabs(name) and name != "/":
            yield from (Path(name), Path(os.path.realpath(name)))
    if view == "system":
        yield from (path for path in Path("/").iterdir() if str(path) not in _HIDDEN)


def _show(path: Path, root: Path) -> None:
    target = root / str(path).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        target.symlink_to(os.readlink(path))
        return
    if path.is_dir():
        target.mkdir()
    else:
        target.touch()
    _mount(str(path), target, None, _BIND | _RECURSIVE)


def drop_capabilities() -> None:
    libc = system_library()
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)
    libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24))


def keep_to_folders(folders: Sequence[str]) -> None:
    """Let the system refuse writing anywhere but in these folders (Landlock, with all that this kernel knows of it)."""
    libc = system_library()
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    writing = 0b1111111110010  # write, remove and make everything that a file system has
    writing |= sum(bit for bit, since in ((1 << 13, 2), (1 << 14, 3), (1 << 15, 5)) if version >= since)
    handled = [writing, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]  # TCP; other's sockets, signals
    attributes = struct.pack(f"{len(handled)}Q", *handled)
    ruleset = libc.syscall(444, attributes, ctypes.c_size_t(len(attributes)), 0)
    on_files = writing & (1 << 1 | 1 << 14 | 1 << 15)
    for path, allowed in [*((f, writing) for f in folders), *((f"/dev/{d}", on_files) for d in _DEVICES)]:
        if os.path.exists(path):
            place = os.open(path, os.O_PATH)
            libc.syscall(445, ruleset, 1, struct.pack("=Qi", allowed, place), 0)
            os.close(place)
    libc.syscall(446, ruleset, 0)
    os.close(ruleset)


def filter_system_calls(is_elsewhere_out_of_reach: bool) -> None:
    """Let the system refuse sockets and powers over it; and changes that Landlock misses, where nothing else does."""
    machine = os.uname().machine
    denied = _SOCKETS_AND_POWERS[machine] + (() if is_elsewhere_out_of_reach else _CHANGES_AND_SIGNALS[machine])
    refuse, allow = (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)
    filters = [
        (0x20, 0, 0, 4),
        (0x15, 1, 0, _AUDITED[machine]),
        refuse,
        (0x20, 0, 0, 0),
        (0x35, 0, 1, 0x40000000),
        refuse,
    ]
    for number in denied:
        filters += [(0x15, 0, 1, number), refuse]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in [*filters, allow]))
    program = struct.pack("HxxxxxxP", len(filters) + 1, ctypes.addressof(code))
    system_library().prctl(22, 2, program, 0, 0)


def limit_resources(job: dict[str, Any]) -> str:
    """Set limits on top of what the libraries have taken by now."""
    try:
        import resource
    except ImportError:
        return "this system sets no limits on memory and CPU time"
    memory, taken = resource.RLIMIT_DATA, 0
    if sys.platform == "linux":
        memory, taken = (
            resource.RLIMIT_AS,
            int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize(),
        )
    wanted = {resource.RLIMIT_CPU: job["cpu_seconds"], memory: taken + job["memory_bytes"],
              resource.RLIMIT_FSIZE: job["file_bytes"], resource.RLIMIT_CORE: 0}  # fmt: skip
    refused = []
    for kind, most in wanted.items():
        hard = resource.getrlimit(kind)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (limit, limit))
        except (ValueError, OSError):
            refused.append(kind)
    if refused:
        return "this system refused limits on memory or CPU time"
    return f"at most {job['cpu_seconds']} s of CPU time and {job['memory_bytes'] / 2**30:.1f} GiB of memory"
