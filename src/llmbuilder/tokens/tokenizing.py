"""Texts to token files."""

from __future__ import annotations

from collections.abc import Iterable

from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.shards import TokenWriter

_TOGETHER = 1 << 20  # characters


def write_tokens(
    pieces: Iterable[tuple[str, bool]], tokenizer: Tokenizer, writer: TokenWriter, *, threads: int | None = None
) -> None:
    """Encode pieces of text, each with whether a document ends there, and write their tokens.

    `threads` encode at a time (default: one for each CPU).
    """
    batch: list[tuple[str, bool]] = []
    waiting = 0
    for piece in pieces:
        batch.append(piece)
        waiting += len(piece[0])
        if waiting >= _TOGETHER:
            _write(batch, tokenizer, writer, threads)
            batch, waiting = [], 0
    _write(batch, tokenizer, writer, threads)


def _write(batch: list[tuple[str, bool]], tokenizer: Tokenizer, writer: TokenWriter, threads: int | None) -> None:
    encoded = tokenizer.encode_arrays([text for text, _ in batch], threads=threads)
    for (text, ends), ids in zip(batch, encoded, strict=True):
        writer.add(ids, len(text) if text.isascii() else len(text.encode("utf-8")))
        if ends:
            writer.end_document()
