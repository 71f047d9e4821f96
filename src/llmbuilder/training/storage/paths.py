"""Where a run keeps its files.

With an output directory everything is in it. Without one, `model.pt` and `tokenizer/` appear in the current
directory, ready for `generate_text`, and the rest in `llmbuilder-run/`; earlier ones are kept under numbered names.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmbuilder.errors import TrainingError
from llmbuilder.files import write_json

BAD_STEP_NAME = "bad-step.json"
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
        is_beside = Path(record["model"]).parent != Path()
        return cls(folder, _back(folder, record["model"]), _back(folder, record["tokenizer"]), is_beside)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens"

    @property
    def unfinished_tokens(self) -> Path:
        # Beside a folder that may yet be renamed.
        if self.keep_earlier:
            return self.folder.with_name(f".{self.folder.name}.tokens.tmp")
        return self.folder / ".tokens.tmp"

    @property
    def last_model(self) -> Path:
        return self.model.with_name(f"{self.model.stem}.last.pt" if self.keep_earlier else "last.pt")

    @property
    def base(self) -> Path:
        """The model that the run's adapters lie beside."""
        return self.folder / "base.safetensors"

    @property
    def reference(self) -> Path:
        """What preference pairs were to the model that the run began from."""
        return self.folder / "reference.safetensors"

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def record(self) -> Path:
        return self.folder / "run.json"

    @property
    def has_record(self) -> bool:
        """Whether run.json is there and is one of this program's."""
        try:
            return bool(self.read_record())
        except TrainingError:
            return False

    def write_record(self, values: dict[str, Any]) -> None:
        """Write run.json: where things are and how the run came to be."""
        places = {
            "model": os.path.relpath(self.model, self.folder),
            "tokenizer": os.path.relpath(self.tokenizer, self.folder),
        }
        write_json(self.record, {**places, **values})

    def read_record(self) -> dict[str, Any]:
        """Return run.json. Raises TrainingError if it is missing, damaged, or none of this program's."""
        try:
            record = json.loads(self.record.read_text("utf-8"))
        except FileNotFoundError:
            raise TrainingError(f"{self.folder} holds no run: there is no run.json in it") from None
        except (OSError, ValueError) as error:
            raise TrainingError(f"{self.record} is damaged: {error}") from None
        if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("model", "tokenizer")):
            raise TrainingError(f"{self.record} is no record of a run of this program: it names no model and tokenizer")
        return record


def _back(folder: Path, relative: str) -> Path:
    return Path(os.path.normpath(folder / relative))
