"""What a folder holds, to see that nothing in it was changed."""

from __future__ import annotations

import hashlib
from pathlib import Path


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    """Return the bytes' checksum and the time of the last change of everything in a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in [folder, *folder.rglob("*")]
    }
