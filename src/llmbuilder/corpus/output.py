"""The folder of a corpus: which may be written to, and which files in it are the engine's own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from llmbuilder.documents.folders import CORPUS_INPUTS, LeaveOut
from llmbuilder.documents.sources import is_remote
from llmbuilder.errors import DataError
from llmbuilder.files import set_aside, write_json
from llmbuilder.notices import warn_once

# The engine names files by what went into them; nobody else's file is called so.
_DIGEST = "[0-9a-f]"
_OWN = {
    "documents": re.compile(rf"{_DIGEST}{{24}}\.parquet"),
    "dropped": re.compile(rf"{_DIGEST}{{24}}\.parquet"),
    "tokens": re.compile(rf"(train|validation)-{_DIGEST}{{24}}\.(bin|json)"),
    **{
        f"work/{name}": re.compile(rf"{_DIGEST}{{32}}\.[a-z.]+")
        for name in ("extracted", "refined", "compared", "written", "tokenized")
    },
}
_RESULTS = ("corpus.json", "report.html", "tokenizer")


def require_output(folder: Path, inputs: Collection[str], *, overwrite: bool) -> None:
    """Raise DataError if a corpus of these inputs must not be written to `folder`.

    With `overwrite`, what is there and is not of this engine stays where it is, or, where a result has its name, under
    a numbered one.
    """
    _require_apart(folder, inputs)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder} is a file: name a folder for the corpus")
    record = folder / CORPUS_INPUTS
    try:
        earlier = json.loads(record.read_text("utf-8"))
    except FileNotFoundError:
        _require_nothing_else(folder, overwrite=overwrite)
        return
    except json.JSONDecodeError:
        return
    if all(isinstance(item, str) for item in earlier):  # names alone, as they were kept earlier
        earlier = places_of(folder, earlier)
    if not overwrite and not _are_same(earlier, places_of(folder, inputs)):
        named = ", ".join(item["absolute"] for item in earlier)
        raise DataError(
            f"{folder} was prepared from {named}: documents of other inputs would be removed from it; "
            "choose another folder, or pass overwrite=True"
        )


def record_inputs(folder: Path, inputs: Collection[str]) -> None:
    """Keep what a corpus is made of, for the next time that one is written to its folder."""
    write_json(folder / CORPUS_INPUTS, places_of(folder, inputs))


def places_of(folder: Path, inputs: Collection[str]) -> list[dict[str, str]]:
    """Return where each input lies: on this machine, and as seen from the corpus, in case both move together."""
    here = folder.resolve()
    places = []
    for name in inputs:
        whole = name if is_remote(name) else os.path.realpath(name)
        places.append({"absolute": whole, "relative": name if is_remote(name) else os.path.relpath(whole, here)})
    return places


def _are_same(earlier: list[Any], inputs: list[dict[str, str]]) -> bool:
    def places(items: list[dict[str, str]], kind: str) -> list[str]:
        return sorted(item[kind] for item in items)

    return any(places(earlier, kind) == places(inputs, kind) for kind in ("absolute", "relative"))


def is_output(folder: Path) -> LeaveOut:
    """Return what says of a path that it is the folder being written, which may lie in a folder that it is made of."""
    whole = folder.resolve()

    def found(path: Path) -> bool:
        if path.name != folder.name or path.resolve() != whole:
            return False
        warn_once(f"{path} is what is being made: it is left out of its own sources")
        return True

    return found


def _require_nothing_else(folder: Path, *, overwrite: bool) -> None:
    if not overwrite and any(folder.iterdir()):
        raise DataError(f"{folder} holds something else: choose another name, or pass overwrite=True")
    for name in _RESULTS:
        set_aside(folder / name)


def _require_apart(folder: Path, inputs: Iterable[str]) -> None:
    """Sources in a corpus would be taken for its files."""
    output = folder.resolve()
    for name in inputs:
        if is_remote(name):
            continue
        source = Path(name).resolve()
        if output == source or output in source.parents:
            raise DataError(f"{name} lies in {folder}: choose another folder for the corpus")


def remove_own_files(folder: Path, keep: Collection[Path]) -> None:
    """Delete the engine's own files but those to keep. Files of any other name stay."""
    for place, names in _OWN.items():
        for path in (folder / place).glob("*"):
            if path not in keep and names.fullmatch(path.name) and path.is_file():
                path.unlink()
