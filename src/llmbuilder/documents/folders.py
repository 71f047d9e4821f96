"""What lies in a folder: files to read in the order of their names, and an account of everything that is none."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from llmbuilder.documents.document import Unreadable
from llmbuilder.documents.text import valid_text
from llmbuilder.errors import DataError

_COMMON = ".pdf, .docx, .txt, .md, .html, .epub, .csv, .jsonl"
CORPUS_RECORD, CORPUS_INPUTS = "corpus.json", Path("work") / "inputs.json"  # of a folder that `data prepare` makes
_RUN_FILES, _BUILD_FILE, _LOOKED_AT = ("run.json", "config.json"), "build.json", 200  # of a model's run, and bytes
MANIFEST = ".manifest.json"  # ends the name of what `data load` says beside a corpus of one file
LeaveOut = Callable[[Path], bool]  # whether a file or folder is what is being made, and no input
_KINDS = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISBLK: "a device", stat.S_ISCHR: "a device"}
_UNKNOWN_BYTE = re.compile("[\udc80-\udcff]")  # as Python names files whose names are no UTF-8


@dataclass
class Listing:
    """The files below a folder, what is none and why, and how many hidden files and folders were passed over."""

    files: list[Path] = field(default_factory=list)
    left_out: list[Unreadable] = field(default_factory=list)
    hidden: int = 0


def list_folder(folder: Path, leave_out: LeaveOut = lambda path: False, *, may_be_empty: bool = False) -> Listing:
    """Return what lies below a folder, or the one file that it is. Raises DataError for no folder, or an empty one."""
    if folder.is_file():
        return Listing([folder])
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}")
    listing = Listing()
    _look_into(folder, listing, leave_out)
    if not listing.files and not listing.left_out and not may_be_empty:
        raise DataError(
            f"{folder} is empty: put documents there (.pdf, .docx, .txt, .md, .html, .epub, .csv, .jsonl, ...)"
        )
    listing.files.sort(key=lambda file: by_name(str(file)))
    listing.left_out.sort(key=lambda item: by_name(item.source))
    return listing


def _look_into(folder: Path, listing: Listing, leave_out: LeaveOut) -> None:
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            entries = list(os.scandir(place))
        except OSError as error:
            why = f"the folder cannot be looked into: {error.strerror or error}"
            listing.left_out.append(Unreadable(readable_name(str(place)), why))
            continue
        for entry in entries:
            path = Path(entry.path)
            if leave_out(path):
                continue
            if entry.name.startswith((".", "~$")):
                listing.hidden += 1
            elif (reason := _problem(entry, path)) is not None:
                listing.left_out.append(Unreadable(readable_name(str(path)), reason))
            elif entry.is_dir():
                waiting.append(path)
            else:
                listing.files.append(path)


def _problem(entry: os.DirEntry[str], path: Path) -> str | None:
    """Return why an entry is neither a file nor a folder to look into."""
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        if not entry.is_symlink():
            return f"cannot be read: {error.strerror or error}"
        return f"it is a link to {os.readlink(path)}, which cannot be followed: {error.strerror or error}"
    if stat.S_ISDIR(mode):
        if entry.is_symlink():
            return f"it is a link to a folder, which is another input if you name it: {os.readlink(path)}"
        if _is_corpus(path):
            return "it is a prepared corpus, not documents: name it as an input to read it"
        if _is_run(path):
            return "it is the run of a model, not documents: name a file in it to read that"
        return None
    return next((f"it is {words}, not a file" for is_one, words in _KINDS.items() if is_one(mode)), None)


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a finished corpus, as `data prepare` makes it."""
    # These of `os.path` are false, too, for what must not be looked at.
    return os.path.isfile(folder / CORPUS_RECORD) and os.path.isdir(folder / "documents")


def _is_corpus(folder: Path) -> bool:
    """Whether a folder is a corpus that is finished or being made."""
    return is_prepared(folder) or os.path.isfile(folder / CORPUS_INPUTS)


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run or a build of this program, by what it keeps of itself there."""
    return all(os.path.isfile(folder / name) for name in _RUN_FILES) or _says(folder / _BUILD_FILE, b'"format_version"')


def _says(path: Path, words: bytes) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return words in file.read(_LOOKED_AT)
    except OSError:
        return False


def by_name(name: str) -> bytes:
    """Return what sources are sorted by: the first of equal documents stays, whoever reads them."""
    return name.encode("utf-8", "surrogatepass")


def readable_name(name: str) -> str:
    r"""Return a file's name as Unicode: a byte that no known encoding explains becomes \xNN, so no two look alike."""
    return valid_text(_UNKNOWN_BYTE.sub(lambda byte: f"\\x{ord(byte.group()) - 0xDC00:02x}", name))
