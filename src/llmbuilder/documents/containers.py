"""Files that hold files: archives, compressed files, mailboxes, web archives.

Members are copied one at a time to a file of our own naming, never to the name they carry, so no name can lead out of
the folder; sizes are counted while copying, never believed.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from llmbuilder.documents.emails import attachments
from llmbuilder.documents.file_types import RICH_SUFFIXES, is_document_archive
from llmbuilder.documents.text import decode_text
from llmbuilder.documents.web_archives import iter_pages
from llmbuilder.errors import DataError, MissingDependencyError

_BLOCK = 1 << 20
_GZIP, _ZSTD, _BZIP2, _XZ = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ"
_COMPRESSED_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd", ".bz2", ".bzip2", ".xz", ".lzma")
_COMPRESSED = {_GZIP: "gzip", _ZSTD: "zstd", _BZIP2: "bzip2", _XZ: "xz"}
_NAMES_ARE_UTF8 = 0x800  # a flag of a zip archive's entry
_READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, ValueError,
                NotImplementedError, RuntimeError)  # fmt: skip


_OCTAL = re.compile(rb" *[0-7]{1,7}[\0 ]*")
# "From sender Thu Jan  1 00:00:00 1970": what begins a message (RFC 4155), and no sentence looks like.
_FROM_LINE = re.compile(rb"From \S+.*\d\d:\d\d.*\b\d{4}\b")


@dataclass(frozen=True)
class ContainerLimits:
    """What a container may unpack to: bytes a member, members, times its own size in all (and at least 256 MB)."""

    member_bytes: int = 1 << 30
    members: int = 1_000_000
    ratio: int = 100


@dataclass(frozen=True)
class Member:
    """A member's name and the file it was copied to, or why it was not; the file is replaced by the next one."""

    name: str
    path: Path | None
    error: str | None = None


def compression_of(path: Path) -> str | None:
    """Return "gzip", "zstd", "bzip2", "xz" or None by the file's first bytes."""
    head = _head(path, 8)
    return next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), None)


def open_decompressed(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressing what is compressed."""
    kind = compression_of(path)
    if kind == "zstd":
        try:
            import pyarrow
        except ImportError:
            raise MissingDependencyError("pyarrow", "corpus", "reading zstd-compressed files") from None
        # PyArrow's stream reads no lines; a buffered reader around it does.
        stream: Any = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
        return io.BufferedReader(_Raw(stream), _BLOCK)  # type: ignore[return-value]
    if kind == "gzip":
        return io.BufferedReader(_Gzip(open(path, "rb")), _BLOCK)  # type: ignore[return-value]
    openers: dict[str | None, Callable[..., Any]] = {"bzip2": bz2.open, "xz": lzma.open, None: open}
    opened: IO[bytes] = openers[kind](path, "rb")
    return opened


class _Gzip(io.RawIOBase):
    """Gzip's members one after the other."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._member = zlib.decompressobj(wbits=31)
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._member.eof:
                self._held = self._member.unused_data or self._file.read(_BLOCK)
                if len(self._held) < 2:
                    self._held += self._file.read(_BLOCK)
                if not self._held.strip(b"\0"):  # padding, as on tapes
                    return 0
                if not self._held.startswith(_GZIP):
                    raise OSError("what stands behind its compressed data is none")
                self._member = zlib.decompressobj(wbits=31)
            packed = self._held or self._file.read(_BLOCK)
            data = self._member.decompress(packed, len(buffer))
            self._held = self._member.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not packed and not self._member.eof:
                raise EOFError("the file ends before its compressed data does")

    def close(self) -> None:
        self._file.close()
        super().close()


class _Raw(io.RawIOBase):
    """PyArrow's compressed stream as Python's raw one."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def container_kind(path: Path) -> str | None:
    """Return "zip", "tar", "mbox", "warc", "compressed", or None for a plain document."""
    head = _head(path, 4)
    if head == b"PK\x03\x04":
        is_archive = path.suffix.lower() not in RICH_SUFFIXES and not is_document_archive(path)
        return "zip" if is_archive else None
    if path.suffix.lower() in (".zip", ".exe") and zipfile.is_zipfile(path):  # a program that unpacks itself
        return "zip"
    compressed = compression_of(path) is not None
    try:
        with open_decompressed(path) as handle:
            start = handle.read(512)
    except _READ_ERRORS:
        return "compressed"  # reading it will say what is wrong
    if start[257:262] == b"ustar" or _is_old_tar(start):
        return "tar"
    if start.startswith(b"WARC/"):
        return "warc"
    is_mailbox = start.startswith(b"From ") and (path.suffix.lower() == ".mbox" or _FROM_LINE.match(start))
    if is_mailbox and not compressed:
        return "mbox"
    return "compressed" if compressed else None


def _is_old_tar(start: bytes) -> bool:
    """Whether a file begins with a header of tar as it was before POSIX: without a name for itself, but with a sum."""
    if _OCTAL.fullmatch(start[148:156]) is None:
        return False
    try:
        return bool(tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape").name)
    except (tarfile.TarError, ValueError):
        return False


def without_compression(name: str) -> str:
    """Return what a compressed file is called inside: its name without a suffix that only says how it is compressed."""
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in _COMPRESSED_SUFFIXES else name


def iter_members(path: Path, kind: str, folder: Path, limits: ContainerLimits, name: str) -> Iterator[Member]:
    """Yield the members of a container, each copied into `folder` for as long as it is looked at.

    `name` is what the one member of a compressed file is called.
    Raises DataError if the container itself cannot be read, also when members were yielded before.
    """
    readers = {"zip": _zip, "tar": _tar, "mbox": _mbox, "warc": _warc, "email": _email}
    copier = _Copier(path, folder, limits)
    try:
        yield from _compressed(path, copier, name) if kind == "compressed" else readers[kind](path, copier)
    except _READ_ERRORS as error:
        raise DataError(f"{path}: it is damaged: {error or type(error).__name__}") from error


class _Copier:
    def __init__(self, path: Path, folder: Path, limits: ContainerLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._most = max(256 << 20, limits.ratio * path.stat().st_size)
        self._path = path
        self._copied = self._members = 0

    @property
    def largest(self) -> int:
        return self._limits.member_bytes

    def copy(self, name: str, stream: IO[bytes]) -> Member:
        """Copy a member, counting; a member over the limit is reported, a container over it ends with DataError."""
        self._members += 1
        if self._members > self._limits.members:
            raise DataError(f"{self._path}: it has more than {self._limits.members:,} members: unpack it")
        target = self._folder / f"member{_suffix(name)}"
        size = 0
        with open(target, "wb") as handle:
            while block := stream.read(_BLOCK):
                size += len(block)
                self._copied += len(block)
                if self._copied > self._most:
                    raise DataError(
                        f"{self._path}: it unpacks to more than {self._most:,} bytes "
                        f"({self._limits.ratio} times its size): the rest is left out"
                    )
                if size > self._limits.member_bytes:
                    return Member(name, None, f"it unpacks to more than {self._limits.member_bytes:,} bytes")
                handle.write(block)
        return Member(name, target)


def _suffix(name: str) -> str:
    suffix = Path(name.rstrip(". ")).suffix.lower()
    return suffix if suffix[1:].isalnum() and len(suffix) < 12 else ""


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "~$", "__MACOSX")) and part not in (".", "..") for part in name.split("/"))


def _zip(path: Path, copier: _Copier) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry, name in zip(entries, _names(entries), strict=True):
            if entry.is_dir() or _is_hidden(name):
                continue
            if entry.flag_bits & 1:
                yield Member(name, None, "it is encrypted: a copy without a password can be read")
                continue
            try:
                with archive.open(entry) as stream:
                    member = copier.copy(name, stream)
            except NotImplementedError:
                reason = f"it is packed by method {entry.compress_type}, which is not supported: pack it with deflate"
                member = Member(name, None, reason)
            except _READ_ERRORS as error:
                member = Member(name, None, f"it is damaged: {error or type(error).__name__}")
            yield member


def _names(entries: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Return the names in an archive; those not said to be UTF-8 are in whatever its maker's system had.

    All of them together tell what that was; in doubt it is what the format demands, code page 437.
    """
    undeclared = [entry for entry in entries if not entry.flag_bits & _NAMES_ARE_UTF8]
    raw = b"\n".join(entry.orig_filename.encode("cp437") for entry in undeclared)
    names = [entry.filename for entry in entries]
    if raw.isascii():
        return names
    try:
        found = decode_text(raw, "names").split("\n")
    except DataError:
        return names
    if len(found) != len(undeclared):  # a name with a line break in it
        return names
    decoded = iter(found)
    return [entry.filename if entry.flag_bits & _NAMES_ARE_UTF8 else next(decoded) for entry in entries]


def _tar(path: Path, copier: _Copier) -> Iterator[Member]:
    with open_decompressed(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            if entry.isdir() or _is_hidden(entry.name):
                continue
            content = archive.extractfile(entry) if entry.isfile() else None
            if content is None:
                yield Member(entry.name, None, "it is a link or a device, not a file")
            else:
                yield copier.copy(entry.name, content)


def _mbox(path: Path, copier: _Copier) -> Iterator[Member]:
    """Messages of a mailbox; a line of a message that begins with "From " does not begin another one."""
    with open_decompressed(path) as stream:
        for number, message in enumerate(_messages(stream), start=1):
            yield copier.copy(f"{number}.eml", io.BytesIO(message))


def _messages(stream: IO[bytes]) -> Iterator[bytes]:
    lines: list[bytes] = []
    after_blank = True
    for line in stream:
        if after_blank and _FROM_LINE.match(line):
            if lines:
                yield b"".join(lines)
            lines = []
        else:
            lines.append(line.removeprefix(b">") if line.startswith(b">From ") else line)
        after_blank = not line.strip()
    if lines:
        yield b"".join(lines)


def _email(path: Path, copier: _Copier) -> Iterator[Member]:
    for name, content in attachments(path):
        yield copier.copy(name, io.BytesIO(content))


def _compressed(path: Path, copier: _Copier, name: str) -> Iterator[Member]:
    with open_decompressed(path) as stream:
        yield copier.copy(name, stream)


def _warc(path: Path, copier: _Copier) -> Iterator[Member]:
    with open_decompressed(path) as stream:
        for page in iter_pages(stream, copier.largest):
            if page.error is not None:
                yield Member(page.url, None, page.error)
            else:
                member = copier.copy(f"page{page.suffix}", io.BytesIO(page.content))
                yield Member(page.url, member.path, member.error)


def _head(path: Path, size: int) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read(size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
