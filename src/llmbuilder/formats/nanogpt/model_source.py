"""Which file of a legacy project defines the model of a checkpoint: the one that names the checkpoint's parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmbuilder.formats.nanogpt.names import find_weights, strip_wrappers
from llmbuilder.formats.nanogpt.source import imported_files

_LEAST_SHARE = 0.8  # of the names in a state dict that a source and what it imports have to have
_LARGEST = 2**20
_NO_SOURCES = {"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist", "wandb"}


def find_model_source(content: Mapping[str, Any], folder: Path) -> Path | None:
    """Return the file in a project that defines a checkpoint's model, None if no file names the model's parts."""
    parts = _parts(content)
    best: tuple[tuple[float, float, bool, int], Path] | None = None
    for path, text in _candidates(folder):
        whole, own = _shares(path, text, folder, parts)
        rank = (whole, own, path.stem == "model", -len(path.parts))
        if whole >= _LEAST_SHARE and (best is None or rank > best[0]):
            best = rank, path
    return best[1] if best is not None else None


def defines_model(path: Path, content: Mapping[str, Any], folder: Path) -> bool:
    """Whether a file of a project, with what it imports, names the parts of a checkpoint's model."""
    return _shares(path, _read(path), folder, _parts(content))[0] >= _LEAST_SHARE


def _parts(content: Mapping[str, Any]) -> set[str]:
    weights = find_weights(content) or {}
    return {part for name in strip_wrappers(weights) for part in name.split(".")[:-1] if not part.isdigit()}


def _shares(path: Path, text: str, folder: Path, parts: set[str]) -> tuple[float, float]:
    """Return the shares of the parts that a file names with what it imports, and alone."""
    texts = [text, *(_read(file) for file in imported_files(path, folder)[1:])]
    return _share(parts, "\n".join(texts)), _share(parts, text)


def _candidates(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files that define modules of PyTorch and build an embedding, with their text."""
    for path in sorted(folder.rglob("*.py")):
        places = path.relative_to(folder).parts
        if any(place.startswith(".") or place in _NO_SOURCES for place in places) or not path.is_file():
            continue
        text = _read(path)
        if re.search(r"^class \w+\(.*Module", text, re.MULTILINE) and "forward" in text:
            yield path, text


def _read(path: Path) -> str:
    return path.read_text("utf-8-sig", errors="replace") if path.stat().st_size <= _LARGEST else ""


def _share(parts: set[str], text: str) -> float:
    words = set(re.findall(r"\w+", text))
    return len(parts & words) / max(1, len(parts))
