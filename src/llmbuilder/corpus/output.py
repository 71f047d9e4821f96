"""The folder of a corpus: which may be written to, and which files in it are the engine's own."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from llmbuilder.documents.sources import is_remote
from llmbuilder.errors import DataError
from llmbuilder.files import set_aside

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
    record = folder / "work" / "inputs.json"
    try:
        earlier = json.loads(record.read_text("utf-8"))
    except FileNotFoundError:
        _require_nothing_else(folder, overwrite=overwrite)
        return
    except json.JSONDecodeError:
        return
    if not overwrite and sorted(earlier) != sorted(inputs):
        raise DataError(
            f"{folder} was prepared from {', '.join(earlier)}: documents of other inputs would be removed from it; "
            "choose another folder, or pass --overwrite (overwrite=True)"
        )


def _require_nothing_else(folder: Path, *, overwrite: bool) -> None:
    if not overwrite and any(folder.iterdir()):
        raise DataError(f"{folder} holds something else: choose another name, or pass --overwrite (overwrite=True)")
    for name in _RESULTS:
        set_aside(folder / name)


def _require_apart(folder: Path, inputs: Iterable[str]) -> None:
    """A corpus among its own sources would read itself; sources in a corpus would be taken for its files."""
    output = folder.resolve()
    for name in inputs:
        source = Path(name).resolve()
        if is_remote(name):
            continue
        if output == source or output in source.parents or (source in output.parents and source.is_dir()):
            raise DataError(
                f"{folder} and {name} lie in each other: choose a folder for the corpus outside its sources"
            )


def remove_own_files(folder: Path, keep: Collection[Path]) -> None:
    """Delete the engine's own files but those to keep. Files of any other name stay."""
    for place, names in _OWN.items():
        for path in (folder / place).glob("*"):
            if path not in keep and names.fullmatch(path.name) and path.is_file():
                path.unlink()
