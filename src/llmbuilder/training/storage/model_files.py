"""The model files of a run: it replaces its own, and keeps what others have put in their places.

Whose a file is says the file itself: it bears the name that run.json gives the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from llmbuilder.errors import TrainingError
from llmbuilder.finetuning.peft_files import base_checksum, save_adapter
from llmbuilder.formats.model_file import save_model
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training.storage.paths import RunPaths

_RUN = "run"  # in a model's metadata


class ModelFiles:
    """Writes a run's models; for the process that writes files."""

    def __init__(self, paths: RunPaths) -> None:
        self._paths = paths
        self._known: set[Path] = set()  # written in this process
        self._base_checksum: str | None = None  # of the weights that adapters lie beside

    def is_own(self, path: Path) -> bool:
        """Whether a file is there that this run has written."""
        return path.exists() and (path in self._known or run_that_wrote(path) == run_name(self._paths))

    def remove_own(self, path: Path) -> None:
        """Delete a file if it is one that this run has written."""
        if self.is_own(path):
            path.unlink()

    def save(self, model: LanguageModel, path: Path, metadata: Mapping[str, Any], tokenizer: Tokenizer | None) -> None:
        """Write a model in place of the run's earlier one; a file that is not the run's gets a numbered name."""
        named = {**metadata, _RUN: run_name(self._paths)}
        save_model(model, path, named, tokenizer=tokenizer, overwrite=self.is_own(path))
        self._known.add(path)

    def save_adapter(self, model: LanguageModel, base: str) -> None:
        """Write the adapters of a model whose `base` has this name in place of the run's earlier ones."""
        if self._base_checksum is None:  # what is frozen stays what it is
            self._base_checksum = base_checksum(model)
        save_adapter(model, self._paths.adapter, base=base, checksum=self._base_checksum, overwrite=True)


def run_name(paths: RunPaths) -> str | None:
    """Return the name that a run's record gives it; None without one, as of a run that another program began."""
    try:
        return paths.read_record().get("name")
    except TrainingError:
        return None


def run_that_wrote(path: Path) -> str | None:
    """Return the name of the run that wrote a model file; None if it tells none, and "" if it is no model file."""
    try:
        # Mapped: a large model's weights are not read to learn whose they are.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return dict(content["metadata"]).get(_RUN)
    except Exception:  # noqa: BLE001 - bytes that are no model can make the parser raise anything
        return ""
