from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from llmbuilder.errors import DataError, LLMBuilderError
from llmbuilder.files import atomic_file, atomic_path, require_absent, set_aside, write_json


def test_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"kept": True})
    with pytest.raises(RuntimeError), atomic_file(path) as handle:
        handle.write(b"half")
        raise RuntimeError("the program died")
    assert path.read_text() == '{\n  "kept": true\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_operating_system_errors_become_a_message_with_the_path(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(LLMBuilderError, match="cannot write .*nested"), atomic_path(blocked / "nested"):
        pass


def test_errors_of_inputs_are_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), atomic_file(tmp_path / "out") as handle:
        handle.write((tmp_path / "absent").read_bytes())
    with pytest.raises(LLMBuilderError, match=r"cannot write .*out: No space left"), atomic_path(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    flush, rename = os.fsync, os.replace

    def noted_flush(handle: Any) -> None:
        happened.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        flush(handle)

    def noted_rename(source: Path, target: Path) -> None:
        happened.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_flush)
    monkeypatch.setattr(os, "replace", noted_rename)
    write_json(tmp_path / "value.json", 1)
    assert happened == ["file", "rename", "folder"]


def test_set_aside_counts_up(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "model.pt").write_text(content)
        set_aside(tmp_path / "model.pt")
    assert (tmp_path / "model.1.pt").read_text() == "first"
    assert (tmp_path / "model.2.pt").read_text() == "second"
    assert set_aside(tmp_path / "model.pt") is None


def test_output_that_exists_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"already exists.*overwrite=True"):
        require_absent(tmp_path, overwrite=False)
    require_absent(tmp_path, overwrite=True)
    require_absent(tmp_path / "absent", overwrite=False)
