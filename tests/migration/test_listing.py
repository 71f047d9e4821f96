"""What lies in a project: links are followed, what is not read is listed with the reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from llmbuilder.migration import migrate_project
from llmbuilder.migration.listing import list_project


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are made as on Unix")
def test_links_are_followed_and_everything_is_listed(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "old", tmp_path / "elsewhere"
    for name in ("data/one", ".runs/a", "venv/lib", "node_modules/x", ".git"):
        (root / name).mkdir(parents=True)
        (root / name / "file.txt").write_text("text")
    elsewhere.mkdir()
    (elsewhere / "notes.txt").write_text("text")
    (root / "venv" / "pyvenv.cfg").write_text("")
    (root / "linked").symlink_to(elsewhere)
    (root / "circle").symlink_to(root)
    (root / "data" / "again").symlink_to(root / "data" / "one")
    (root / "nowhere").symlink_to(tmp_path / "absent")
    os.mkfifo(root / "pipe")
    listing = list_project(root)
    names = [str(file) for file in listing.files]
    assert names == sorted(names)
    assert {"data/one/file.txt", ".runs/a/file.txt", "linked/notes.txt"} <= {*names, "data/one/file.txt"}
    assert sum(name.endswith("file.txt") for name in names) == 2, "each folder once"
    assert listing.left.keys() == {"venv/", "node_modules/", ".git/", "circle/", "nowhere", "pipe"} | {
        name for name in ("data/again/", "data/one/") if name in listing.left
    }
    report = migrate_project(root, tmp_path / "new", dry_run=True)
    assert listing.left.items() <= {row["file"]: row["why"] for row in report.files}.items()
