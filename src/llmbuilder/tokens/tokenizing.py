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

    Documents begin with a begin-of-text token where the tokenizer's models expect one, as prompts do.
    `threads` encode at a time (default: one for each CPU).
    """
    batch: list[tuple[bool, str, bool]] = []
    waiting = 0
    begins = True
    for text, ends in pieces:
        batch.append((begins, text, ends))
        begins = ends
        waiting += len(text)
        if waiting >= _TOGETHER:
            _write(batch, tokenizer, writer, threads)
            batch, waiting = [], 0
    _write(batch, tokenizer, writer, threads)


def _write(batch: list[tuple[bool, str, bool]], tokenizer: Tokenizer, writer: TokenWriter, threads: int | None) -> None:
    encoded = tokenizer.encode_arrays([text for _, text, _ in batch], threads=threads)
    for (begins, text, ends), ids in zip(batch, encoded, strict=True):
        if begins:
            writer.add(tokenizer.beginning_ids, 0)
        writer.add(ids, len(text) if text.isascii() else len(text.encode("utf-8")))
        if ends:
            writer.end_document()
