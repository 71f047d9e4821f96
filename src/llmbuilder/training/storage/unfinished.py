"""What a killed process leaves behind: files and folders under temporary names that only this program gives."""

from __future__ import annotations

import re
from pathlib import Path

from llmbuilder.files import remove_path
from llmbuilder.training.storage.paths import RunPaths

_FILES = r"config\.json|run\.json|metrics\.jsonl|report\.html|bad-step\.json|\.lock\.json"
_WEIGHTS = r"model\.pt|last\.pt|reference\.safetensors"
_OF_RUN = re.compile(rf"\.({_FILES}|{_WEIGHTS})\.\w{{8}}\.tmp$|\.tokens\.tmp$")
_OF_CHECKPOINTS = re.compile(r"\.step-\d+(\.pt\.\w{8}|\.old)?\.tmp$")
_OF_TOKENS = re.compile(r"\.(train|validation|val)(\.ends|\.learned|\.chosen)?\.(bin|json)\.\w{8}\.tmp$")
_OF_TOKENIZER = re.compile(r"\.(tokenizer|tokenizer_config|generation_config)\.json\.\w{8}\.tmp$")


def remove_unfinished_writes(paths: RunPaths, keep: Path | None = None) -> None:
    """Delete the temporary files, and folders of a sharded checkpoint, that a killed process left behind.

    A checkpoint that only lacked its name gets it. Other people's hidden files stay, and so does `keep`.
    """
    models = "|".join(re.escape(path.name) for path in (paths.model, paths.last_model))
    for path in paths.checkpoints.glob(".step-*.tmp"):
        whole = path.with_name(path.name[1:].removesuffix(".tmp"))
        if (path / "state.json").is_file() and not whole.exists():
            path.rename(whole)
    for folder, pattern in (
        (paths.folder, _OF_RUN),
        (paths.checkpoints, _OF_CHECKPOINTS),
        (paths.tokens, _OF_TOKENS),
        (paths.tokenizer, _OF_TOKENIZER),
        (paths.model.parent, re.compile(rf"\.({models})\.\w{{8}}\.tmp$")),
    ):
        remove_temporary(folder, pattern, keep)


def remove_temporary(folder: Path, pattern: re.Pattern[str], keep: Path | None = None) -> None:
    """Delete what lies in a folder under a temporary name of the pattern, but for `keep`."""
    for path in folder.glob(".*.tmp"):
        if pattern.match(path.name) and path != keep:
            remove_path(path)


def remove_empty_folder(folder: Path) -> None:
    """Delete a run directory in which there is nothing but the lock of the process that calls this."""
    if {path.name for path in folder.iterdir()} <= {".lock", ".lock.json"}:
        remove_path(folder)
