"""Names in the new project: taken from the old ones, and each of them given once."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

# Names that say nothing of what a file belongs to: the folder's name does.
_SAYING_NOTHING = {"ckpt", "checkpoint", "model", "pytorch_model", "best", "last", "latest", "final", "weights"}


class Names:
    """Gives each owner a name that no other has, on file systems that ignore case, too."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._owners = {_folded(name): "" for name in reserved}

    def take(self, owner: PurePosixPath, candidates: Iterable[str]) -> str:
        """Return the first candidate that is free, or that this owner has already."""
        given = owner.as_posix()
        for name in candidates:
            if self._owners.setdefault(_folded(name), given) == given:
                return name
        raise AssertionError("the candidates have to be endless")

    def short(self, path: PurePosixPath, *, owner: PurePosixPath) -> str:
        """Return the last part of a path, or as many of its last parts as no other owner has."""
        parts = [part for part in path.parts if part not in ("/", "..", ".")] or ["project"]
        return self.take(owner, _numbered("-".join(parts[-count:]) for count in range(1, len(parts) + 1)))

    def whole(self, path: PurePosixPath, *, owner: PurePosixPath) -> str:
        """Return the path itself, with a number in its name if another owner has it."""
        numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
        return self.take(owner, (str(candidate) for candidate in itertools.chain([path], numbered)))


def _numbered(candidates: Iterable[str]) -> Iterator[str]:
    name = ""
    for name in candidates:
        yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"


def _folded(name: str) -> str:
    """Return what file systems without case, or with one form of Unicode, take for the same name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def naming_path(file: PurePosixPath, checkpoints: Sequence[PurePosixPath]) -> PurePosixPath:
    """Return the path that names a checkpoint: its folder's, if its own name says nothing and it is the only such one.

    `out-alpha/ckpt.pt` is `out-alpha`; `log/model_05000.pt` is `log-model_05000`; a `model.pt` that lies in no folder
    is `model`.
    """
    if len(file.parts) == 1:
        return file.with_suffix("")
    alike = [path for path in checkpoints if path.parent == file.parent and path.stem.lower() in _SAYING_NOTHING]
    if alike == [file]:
        return file.parent
    return file.parent.with_name(f"{file.parent.name}-{file.stem}")
