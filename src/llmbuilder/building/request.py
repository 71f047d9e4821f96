"""What a build was asked for, in a form that tells whether another one asks for the same."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmbuilder.building.bases import base_fingerprint, resolved_base
from llmbuilder.building.durations import in_words
from llmbuilder.config.schema import Config
from llmbuilder.corpus.output import is_output
from llmbuilder.documents.folders import CORPUS_RECORD, is_prepared, list_folder, readable_name
from llmbuilder.errors import DataError
from llmbuilder.files import file_checksum
from llmbuilder.notices import command

_NAMES = {"time_budget": "the time budget", "quantization": "the quantization",
          "base": "the base", "method": "the method"}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """The documents, with a digest of their names, sizes and times; the settings before any is chosen; the rest.

    `explicit` are the settings that were given with the command or the environment, which win over what is chosen.
    `chooses` says whether the model is to be chosen. `base` is the model to begin from, with a digest of its files, and
    `method` how it is adapted; None for a build from nothing.
    """

    documents: list[str] | None
    files: int
    digest: str
    settings: dict[str, Any]
    explicit: dict[str, Any]
    chooses: bool
    time_budget: float | None
    quantization: str
    base: str | None = None
    base_digest: str | None = None
    method: str | None = None

    @classmethod
    def of(
        cls, documents: Sequence[str | Path] | None, folder: Path, config: Config, explicit: Mapping[str, Any],
        *, chooses: bool, time_budget: float | None, quantization: str,
        base: str | Path | None = None, method: str | None = None,
    ) -> Request:  # fmt: skip
        """Return the request for documents as they are now. Raises DataError for one that is not there."""
        digest, files = hashlib.sha256(), 0
        for line in _descriptions(documents, folder):
            digest.update(line.encode("utf-8") + b"\n")
            files += 1
        names = None if documents is None else [str(Path(source).resolve()) for source in documents]
        return cls(
            names, files, digest.hexdigest(), config.to_dict(), dict(explicit), chooses, time_budget, quantization,
            None if base is None else resolved_base(base), None if base is None else base_fingerprint(base), method,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def differences(self, earlier: Mapping[str, Any]) -> list[str]:
        """Return in words what an earlier request, as plain values, asked for otherwise."""
        found = []
        if self.documents != earlier["documents"]:
            found.append(f"the documents: {_sources(earlier['documents'])} then, {_sources(self.documents)} now")
        elif self.digest != earlier["digest"]:
            counts = f"{earlier['files']:,} files then, {self.files:,} now"
            same = "as many files, of which some are newer or of another size"
            found.append(f"the documents have changed ({same if earlier['files'] == self.files else counts})")
        found += [
            f"{words}: {_in_words(name, earlier.get(name))} then, {_in_words(name, getattr(self, name))} now"
            for name, words in _NAMES.items()
            if getattr(self, name) != earlier.get(name)
        ]
        if self.base is not None and self.base == earlier.get("base") and self.base_digest != earlier["base_digest"]:
            found.append(f"the base has changed: {self.base}")
        for section, values in self.settings.items():
            before = earlier["settings"].get(section, {})
            if isinstance(values, dict):
                changed = [key for key in values if values[key] != before.get(key)]
                found += [
                    f"{section}.{key}: {_in_words(key, before.get(key))} then, {_in_words(key, values[key])} now"
                    for key in changed
                ]
        if self.chooses != earlier["chooses"]:
            found.append("the model is chosen by the one and given to the other")
        return found

    def require_same(self, earlier: Mapping[str, Any], folder: Path) -> None:
        """Raise DataError, saying what differs, if an earlier request was another."""
        found = self.differences(earlier)
        if found:
            raise DataError(
                f"{folder} holds a build that was asked for otherwise, so this one cannot go on with it:\n"
                + "\n".join(f"  {line}" for line in found)
                + f"\nto finish it as it was begun: {command('train', 'resume', folder)}; or choose another folder, "
                "or pass overwrite=True to begin again in its place"
            )


def _in_words(name: str, value: Any) -> str:
    if value is None:
        return "not given"
    return in_words(value) if name == "time_budget" else str(value)


def _sources(documents: Sequence[str] | None) -> str:
    return "this Python's documentation" if documents is None else ", ".join(documents)


def _descriptions(documents: Sequence[str | Path] | None, folder: Path) -> Iterator[str]:
    if documents is None:
        yield f"the documentation of Python {sys.version}"
        return
    for source in map(Path, documents):
        if not source.exists():
            raise DataError(f"no such file or folder: {source}")
        if is_prepared(source):
            yield f"{source.resolve()} {file_checksum(source / CORPUS_RECORD)}"
            continue
        for file in list_folder(source, is_output(folder)).files:
            status = file.stat()
            yield f"{readable_name(str(file.resolve()))} {status.st_size} {status.st_mtime_ns}"
