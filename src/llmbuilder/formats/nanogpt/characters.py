"""nanoGPT's `meta.pkl`, read without trusting it.

The file is a pickle of plain dictionaries (`stoi`, `itos`, `vocab_size`); a pickle that asks for any class or
function is refused, so nothing in it can run.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from llmbuilder.errors import TokenizerError


class _PlainValues(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks to load {module}.{name}")


def read_nanogpt_characters(path: Path) -> list[str]:
    """Return the characters of a nanoGPT `meta.pkl` in the order of their ids; TokenizerError if it is none."""
    try:
        table = _PlainValues(io.BytesIO(path.read_bytes())).load()
    except Exception as error:
        raise TokenizerError(f"{path} is refused: a character table holds plain values only, but {error}") from error
    if not isinstance(table, dict) or not isinstance(table.get("stoi"), dict):
        raise TokenizerError(f"{path} is no nanoGPT character table: it has no 'stoi' dictionary")
    return _ordered(table["stoi"], path)


def _ordered(stoi: dict[Any, Any], path: Path) -> list[str]:
    characters = sorted(stoi, key=lambda character: stoi[character])
    if [stoi[character] for character in characters] != list(range(len(characters))):
        raise TokenizerError(f"{path} is no nanoGPT character table: its ids are not 0 to {len(characters) - 1}")
    return characters


def characters_of(texts, vocab_size):
    return None
