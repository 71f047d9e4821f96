"""What lies in a legacy project: its files, through links too, and what is not read, with the reason."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

# Folders that programs make for themselves. They are named in the report, not read.
_MADE = {
    "__pycache__": "Python's own cache", "node_modules": "packages of JavaScript",
    "site-packages": "packages of Python", "wandb": "logs of Weights & Biases", ".git": "git's own",
    ".ipynb_checkpoints": "copies that notebooks make",
}  # fmt: skip


@dataclass
class ProjectListing:
    """The files of a project by their paths from its root, in order, and what was left out and why."""

    files: list[PurePosixPath] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def list_project(root: Path) -> ProjectListing:
    """List a project; links to folders are followed, each folder is read once."""
    listing = ProjectListing()
    seen = {root.resolve()}
    for base, folders, files in os.walk(root, followlinks=True):
        here = Path(base).relative_to(root)
        kept = []
        for name in sorted(folders):
            why = _why_not(Path(base, name), seen)
            if why is None:
                kept.append(name)
            else:
                listing.left[f"{(here / name).as_posix()}/"] = why
        folders[:] = kept
        for name in sorted(files):
            path, place = Path(base, name), PurePosixPath((here / name).as_posix())
            if path.is_file():
                listing.files.append(place)
            else:
                listing.left[str(place)] = (
                    "a link to nothing" if path.is_symlink() else "no file: a pipe, socket or device"
                )
    listing.files.sort()
    return listing


def _why_not(folder: Path, seen: set[Path]) -> str | None:
    """Return why a folder is not read, or None after noting that it is."""
    if folder.name in _MADE:
        return f"{_MADE[folder.name]}: not read"
    if (folder / "pyvenv.cfg").is_file():
        return "a virtual environment: not read"
    target = folder.resolve()
    if target in seen:
        return "a link to a folder that is read already"
    if not os.access(folder, os.R_OK | os.X_OK):
        return "it may not be read"
    seen.add(target)
    return None
