"""Where a run keeps its files.

With an output directory everything is in it. Without one, `model.pt` and `tokenizer/` appear in the current
directory, ready for `generate_text`, and the rest in `llmbuilder-run/`; earlier ones are kept under numbered names.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmbuilder.errors import CheckpointError, TrainingError
from llmbuilder.files import write_json

_DEFAULT_FOLDER = "llmbuilder-run"


@dataclass(frozen=True)
class RunPaths:
    """The places of a run's files; `keep_earlier` renames what stands in the way instead of refusing."""

    folder: Path
    model: Path
    tokenizer: Path
    keep_earlier: bool = False

    @classmethod
    def choose(cls, output_dir: str | Path | None) -> RunPaths:
        if output_dir is None:
            return cls(Path(_DEFAULT_FOLDER), Path("model.pt"), Path("tokenizer"), keep_earlier=True)
        folder = Path(output_dir)
        return cls(folder, folder / "model.pt", folder / "tokenizer")

    @classmethod
    def of_run(cls, folder: str | Path) -> RunPaths:
        """Return the paths of an existing run. Raises TrainingError if the folder holds none."""
        folder = Path(folder)
        record = cls(folder, folder, folder).read_record()
        return cls(folder, _back(folder, record["model"]), _back(folder, record["tokenizer"]))

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens"

    @property
    def last_model(self) -> Path:
        return self.model.with_name("last.pt" if self.model.parent == self.folder else f"{self.model.stem}.last.pt")

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def record(self) -> Path:
        return self.folder / "run.json"

    def require_free(self, *, overwrite: bool) -> None:
        """Raise CheckpointError if an earlier run is here and may neither be kept aside nor replaced."""
        if overwrite or self.keep_earlier:
            return
        if self.model.exists() or self.record.exists() or self.checkpoints.exists():
            raise CheckpointError(
                f"{self.folder} already holds a run: continue it with `llmbuilder train resume {self.folder}`, "
                "replace it with --overwrite (overwrite=True), or choose another directory"
            )

    def remove_earlier_state(self) -> None:
        """Delete checkpoints and metrics of a run that is being replaced."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        for path in (self.metrics, self.last_model):
            path.unlink(missing_ok=True)

    def remove_unfinished_writes(self) -> None:
        """Delete the temporary files that a killed process left behind."""
        for folder in (self.folder, self.checkpoints, self.tokens):
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def write_record(self, values: dict[str, Any]) -> None:
        """Write run.json: where things are and how the run came to be."""
        places = {
            "model": os.path.relpath(self.model, self.folder),
            "tokenizer": os.path.relpath(self.tokenizer, self.folder),
        }
        write_json(self.record, {**places, **values})

    def read_record(self) -> dict[str, Any]:
        """Return run.json. Raises TrainingError if it is missing or damaged."""
        try:
            return json.loads(self.record.read_text("utf-8"))
        except FileNotFoundError:
            raise TrainingError(f"{self.folder} holds no run: there is no run.json in it") from None
        except json.JSONDecodeError as error:
            raise TrainingError(f"{self.record} is damaged: {error}") from None


def _back(folder: Path, relative: str) -> Path:
    return Path(os.path.normpath(folder / relative))
