"""Writing files so that a crash, a full disk or a second run never costs data that was already there.

Everything is written to a temporary name in the same folder, flushed to the disk, then renamed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from llmbuilder.errors import DataError, LLMBuilderError

logger = logging.getLogger("llmbuilder")
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it and rename it to `path`, on failure remove it.

    Raises LLMBuilderError, naming the file, when the disk is full or the folder cannot be written; an earlier file of
    that name is untouched then. What goes wrong inside the block for other reasons is raised as it is.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise LLMBuilderError(f"cannot write {path}: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        try:
            yield temporary
        except OSError as error:
            if not _is_about_writing(error, temporary):
                raise
            raise _not_written(path, error) from error
        try:
            _flush_to_disk(temporary)
            temporary.chmod(0o666 & ~_umask())
            os.replace(temporary, path)
        except OSError as error:
            raise _not_written(path, error) from error
        _flush_folder(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _is_about_writing(error: OSError, temporary: Path) -> bool:
    """Whether an error inside the block is the output's: the disk is full, or the file itself is named."""
    return error.errno in _WRITING or (error.filename is not None and Path(os.fsdecode(error.filename)) == temporary)


def _not_written(path: Path, error: OSError) -> LLMBuilderError:
    return LLMBuilderError(f"cannot write {path}: {error.strerror or error}; what was there before is unchanged")


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Like `atomic_path`, yielding an open binary file."""
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        yield handle
        handle.flush()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically; bytes of file names that are no UTF-8 are written as JSON spells them."""
    with atomic_file(path) as handle:
        handle.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def link_file(source: Path, path: Path) -> None:
    """Let `path` be the file that `source` is, or a copy of it where the file system cannot give it two names."""
    with atomic_path(path) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or no such links
            shutil.copyfile(source, temporary)


def set_aside(path: Path) -> Path | None:
    """Rename an existing file or folder to the first free `name.N.suffix`, say so, and return it; None if absent."""
    if not path.exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(kept)
    logger.warning(f"{path} was there already: the earlier one is kept as {kept}")
    return kept


def remove_path(path: Path) -> None:
    """Delete a file or a folder with all in it; nothing happens if it is not there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file, none if there is no file; a line cut short by a kill ends it."""
    lines: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return lines


def require_absent(path: Path, *, overwrite: bool, error: type[LLMBuilderError] = DataError) -> None:
    """Raise `error` if `path` holds something and `overwrite` is false. An empty folder counts as absent."""
    if overwrite or not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    raise error(f"{path} already exists; choose another name, or pass overwrite=True to replace it")


def require_writable(path: Path, *, bytes_needed: int = 0, error: type[LLMBuilderError] = DataError) -> None:
    """Raise `error` if nothing could be written at `path`, or if its volume has less free than is surely needed.

    Nothing is made: the nearest folder that is there is looked at.
    """
    if not str(path).strip() or "\0" in str(path):
        raise error(f"{str(path)!r} is no name to write to: choose another")
    place = path if path.is_dir() else path.parent
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise error(f"cannot write {path}: {place} is a file, not a folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise error(f"cannot write {path}: the folder {place} is not yours to write in, or read-only")
        volume = shutil.disk_usage(place)
    except OSError as problem:  # a name that is too long, a volume that is gone
        raise error(f"cannot write {path}: {problem.strerror or problem}") from problem
    if volume.free < bytes_needed:
        if not volume.total:
            raise error(f"cannot write {path}: {place} is the system's own and holds no files: choose another place")
        raise error(
            f"cannot write {path}: at least {bytes_needed / 1e6:,.0f} MB are needed and {volume.free / 1e6:,.0f} MB "
            "are free on its volume; make room, or choose another place"
        )


def require_other(output: Path, inputs: Iterable[str | Path], *, error: type[LLMBuilderError] = DataError) -> None:
    """Raise `error` if an output is one of the inputs it is made from."""
    whole = os.path.realpath(output)
    for name in inputs:
        if os.path.realpath(name) == whole:
            raise error(f"{output} is both input and output: choose another name for the output")


def require_file(path: Path, what: str, *, error: type[LLMBuilderError] = DataError) -> None:
    """Raise `error` unless there is a file at `path` that can be read; `what` is what it should be, in words."""
    if path.is_dir():
        raise error(f"{path} is a folder: name {what}")
    if not path.exists():
        raise error(f"no such file: {str(path)!r}; name {what}")
    if not os.access(path, os.R_OK):
        raise error(f"{path} is not yours to read")


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as handle:  # Windows flushes only what is open for writing
        os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    """Flush the entry of a renamed file; Windows opens no folders, and the file is in its place already."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
