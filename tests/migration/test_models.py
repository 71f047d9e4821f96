"""One checkpoint that cannot be used takes nothing else with it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from llmbuilder.migration import models
from llmbuilder.migration.account import MigrationReport
from llmbuilder.migration.experiments import FoundCheckpoint
from llmbuilder.migration.understanding import LegacyProject


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate\x00 memory\n" * 99)]
)
def test_a_checkpoint_that_does_not_fit_in_memory_is_left_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(models, "_content", fail)
    checkpoint = FoundCheckpoint(PurePosixPath("out/ckpt.pt"), name="out")
    report = MigrationReport("old", "new", dry_run=False)
    models.migrate_checkpoint(LegacyProject(tmp_path, []), checkpoint, tmp_path / "new", models.Proving(), report)
    assert [(line["file"], line["result"]) for line in report.files] == [("out/ckpt.pt", "left")]
    why = report.files[0]["why"]
    assert why.startswith("it cannot be computed with: ")
    assert type(error).__name__ in why
    assert why.isprintable()
    assert checkpoint.problem == why
