from __future__ import annotations

from pathlib import Path

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


def test_set_aside_counts_up(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "model.pt").write_text(content)
        set_aside(tmp_path / "model.pt")
    assert (tmp_path / "model.1.pt").read_text() == "first"
    assert (tmp_path / "model.2.pt").read_text() == "second"
    assert set_aside(tmp_path / "model.pt") is None


def test_output_that_exists_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"already exists.*--overwrite"):
        require_absent(tmp_path, overwrite=False)
    require_absent(tmp_path, overwrite=True)
    require_absent(tmp_path / "absent", overwrite=False)
