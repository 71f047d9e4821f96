"""Which settings of `config.data` act on a source; one that was asked for and would not act is refused.

A text that is read already cannot be read differently: silently ignoring `data.redact` there would train on the very
addresses that were to be kept out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmbuilder.config.in_force import differing, idle_settings, refuse
from llmbuilder.config.schema import Config, DataConfig
from llmbuilder.corpus.prepared import PreparedCorpus
from llmbuilder.documents.file_types import TABLE_SUFFIXES
from llmbuilder.documents.folders import is_prepared

_TEXT_COLUMN = ("text_column",)
_SWITCHES = ("clean_text", "remove_duplicates")  # asked to be off, which they are for a text that is taken as it is
_READING = (
    "ocr", "file_seconds", "file_memory_mb", "file_mb", "cleaning_rules", "redact", "filter", "filter_limits",
    "filter_without", "languages", "min_language_score", "classifier", "classifier_label", "min_score",
    "evaluation_files", "near_duplicates", "near_duplicate_ngram", "near_duplicate_permutations",
)  # fmt: skip
_PREPARING = ("semantic_duplicates", "semantic_model", "repeated_lines", "mixture", "tokenize")
_SPLIT = ("train_split",)
_NEAR = ("near_duplicate_ngram", "near_duplicate_permutations")


def is_token_folder(path: Path) -> bool:
    """Whether a folder holds token files, as nanoGPT or a run of this package wrote them."""
    return path.is_dir() and (path / "train.bin").is_file()


def require_in_force(data: DataConfig, source: str | Path | None) -> None:
    """Raise ConfigError for a setting that was asked for and does not act on `source`; None is texts in memory."""
    path = Path(source) if source is not None else None
    if path is None:
        _refuse(data, _READING + _TEXT_COLUMN + _PREPARING, "texts that are given are taken as they are")
    elif is_prepared(path):
        made = PreparedCorpus(path).description["settings"]
        others = [name for name in _READING + _TEXT_COLUMN + _PREPARING + _SPLIT if not _same(data, made, name)]
        _refuse(data, others, f"{path} was prepared with another value: prepare it again (`llmbuilder data prepare`)")
    elif is_token_folder(path):
        names = _READING + _TEXT_COLUMN + _PREPARING + _SPLIT
        _refuse(data, names, f"the tokens in {path} are used as they are: name the documents instead")
    elif path.is_dir():
        require_in_force_on_documents(data)
    else:
        column = () if path.suffix.lower() in TABLE_SUFFIXES else _TEXT_COLUMN
        _refuse(
            data,
            _READING + column + _PREPARING,
            f"{path} is taken as it is: name the folder of documents, or prepare them (`llmbuilder data prepare`)",
        )


def require_in_force_on_documents(data: DataConfig) -> None:
    """Raise ConfigError for a setting that was asked for and does not act on documents that `DataLoader` reads."""
    _refuse(data, _PREPARING, "it acts in `llmbuilder data prepare`: prepare a corpus, and name that")
    if data.near_duplicates == "auto":
        _refuse(data, _NEAR, "data.near_duplicates is off here: give a similarity, such as 0.8")
    for name, _, reason in idle_settings(Config(data=data.model_copy())):
        refuse([name], reason)


def _same(data: DataConfig, made: dict[str, Any], name: str) -> bool:
    return bool(data.model_dump(mode="json")[name] == made.get(name))


def _refuse(data: DataConfig, names: Iterable[str], reason: str) -> None:
    refuse([f"data.{name}" for name in differing(data, names)], reason)
