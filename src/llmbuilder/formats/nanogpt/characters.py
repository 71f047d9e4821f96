"""nanoGPT's `meta.pkl`, read without trusting it, and the characters of a text as nanoGPT counts them.

The file is a pickle of plain dictionaries (`stoi`, `itos`, `vocab_size`); a pickle that asks for any class or
function is refused, so nothing in it can run. Forks write other kinds of tokenizers there, which are named.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from llmbuilder.errors import TokenizerError

CHARACTERS, BYTES = "characters", "bytes"
_ALL_BYTES = [bytes([byte]) for byte in range(256)]


@dataclass(frozen=True)
class NanoGPTMeta:
    """What a `meta.pkl` says of the tokens.

    `kind` is "characters", "bytes" (ids are the bytes of UTF-8), or the name that the file gives its tokenizer, such as
    "tiktoken". `name` is that of an encoding or model where the file has one, such as "gpt2".
    """

    kind: str
    characters: tuple[str, ...] = ()
    name: str | None = None
    vocab_size: int | None = None

    def __str__(self) -> str:
        named = f" {self.name!r}" if self.name else ""
        return f"{len(self.characters)} characters" if self.kind == CHARACTERS else f"{self.kind}{named}"


class _PlainValues(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks to load {module}.{name}")


def read_nanogpt_meta(path: Path) -> NanoGPTMeta:
    """Return what a `meta.pkl` says. Raises TokenizerError for one that is refused, or says nothing of its tokens."""
    try:
        table = _PlainValues(io.BytesIO(path.read_bytes())).load()
    except Exception as error:
        raise TokenizerError(f"{path} is refused: a character table holds plain values only, but {error}") from error
    if not isinstance(table, Mapping):
        raise TokenizerError(f"{path} is no nanoGPT character table: it has no 'stoi' dictionary")
    size = table.get("vocab_size")
    size = size if isinstance(size, int) else None
    tokens = _tokens(table, path)
    named = table.get("tokenizer") or table.get("tokenizer_type")
    if tokens == _ALL_BYTES or (named == "byte" and tokens is None):
        return NanoGPTMeta(BYTES, vocab_size=size)
    if tokens is not None and all(isinstance(token, str) and len(token) == 1 for token in tokens):
        return NanoGPTMeta(CHARACTERS, tuple(map(str, tokens)), vocab_size=size)
    if isinstance(named, str):
        return NanoGPTMeta(named, name=_encoding(table), vocab_size=size)
    if tokens is None:
        raise TokenizerError(f"{path} is no nanoGPT character table: it has no 'stoi' dictionary")
    other = next(token for token in tokens if not isinstance(token, str) or len(token) != 1)
    raise TokenizerError(
        f"{path} is no table of characters: {other!r} is one of its tokens. Train a tokenizer on the text instead, or "
        "give the one that made it"
    )


def read_nanogpt_characters(path: Path) -> list[str]:
    """Return the characters of a nanoGPT `meta.pkl` in the order of their ids; TokenizerError if it is none."""
    meta = read_nanogpt_meta(path)
    if meta.kind != CHARACTERS:
        raise TokenizerError(
            f"{path} has no characters: its tokens are those of {meta}. Give that tokenizer's own files (a folder with "
            "tokenizer.json, or GPT-2's encoder.json and vocab.bpe)"
        )
    return list(meta.characters)


_MOST_CHARACTERS = 60_000  # that ids of 16 bits have room for


def characters_of(text_files: Iterable[Path], vocab_size: int | None) -> list[str] | None:
    """Return the sorted distinct characters of texts if there are `vocab_size` of them, as nanoGPT's prepare.py does.

    Without `vocab_size` any number is right. Line ends count as `\\n`, as Python reads them. None for another number of
    characters, and for files that are no UTF-8 text.
    """
    found: set[str] = set()
    try:
        for path in text_files:
            with open(path, encoding="utf-8") as handle:
                while piece := handle.read(1 << 20):
                    found.update(piece)
                    if len(found) > (vocab_size or _MOST_CHARACTERS):
                        return None
    except UnicodeDecodeError:
        return None
    return sorted(found) if len(found) == (vocab_size or len(found)) else None


def _encoding(table: Mapping[str, Any]) -> str | None:
    names = ("tiktoken_encoding", "encoding", "hf_tokenizer_name", "hf_tokenizer_path", "model_path", "spm_model_path")
    return next((str(table[name]) for name in names if table.get(name)), None)


def _tokens(table: Mapping[str, Any], path: Path) -> list[Any] | None:
    """Return the tokens in the order of their ids: from `stoi`, else from `itos`, which may be a list."""
    stoi, itos = table.get("stoi"), table.get("itos")
    if isinstance(itos, list):
        itos = dict(enumerate(itos))
    if not isinstance(stoi, Mapping) or not stoi:
        if not isinstance(itos, Mapping) or not itos:
            return None
        _require_ids(itos, path)
        return [itos[number] for number in range(len(itos))]
    _require_ids(stoi.values(), path)
    tokens = sorted(stoi, key=lambda token: stoi[token])
    if isinstance(itos, Mapping) and len(itos) == len(tokens):
        other = next((number for number, token in enumerate(tokens) if itos.get(number) != token), None)
        if other is not None:
            raise TokenizerError(f"{path} contradicts itself: 'stoi' and 'itos' differ at id {other}")
    return tokens


def _require_ids(ids: Iterable[Any], path: Path) -> None:
    numbers = list(ids)
    if not all(isinstance(number, int) for number in numbers):
        raise TokenizerError(f"{path} is no nanoGPT character table: its ids are no numbers")
    if sorted(numbers) != list(range(len(numbers))):
        raise TokenizerError(f"{path} is no nanoGPT character table: its ids are not 0 to {len(numbers) - 1}")
