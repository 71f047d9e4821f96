"""A vocabulary with more tokens than it was made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import tokenizers

from llmbuilder.errors import TokenizerError
from llmbuilder.tokenizer.added import backend_from
from llmbuilder.tokenizer.tokenizer import Tokenizer


def with_special_tokens(tokenizer: Tokenizer, names: Sequence[str]) -> Tokenizer:
    """Return a tokenizer that has these special tokens, too, behind all others. Raises TokenizerError if it cannot."""
    backend = backend_from(tokenizer.to_json())
    rows = len(tokenizer)
    missing = [name for name in names if tokenizer.id_of(name) is None]
    backend.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in missing])
    found = [backend.token_to_id(name) for name in missing]
    if found != list(range(rows, rows + len(missing))):
        raise TokenizerError(f"this tokenizer takes no more tokens: {missing} would get the ids {found}")
    additional = (*tokenizer.special.additional, *(n for n in names if n not in tokenizer.special.additional))
    return Tokenizer(backend, replace(tokenizer.special, additional=additional))


def ending_with(tokenizer: Tokenizer, name: str) -> Tokenizer:
    """Return a tokenizer with which a generated text ends at this token, too."""
    special = tokenizer.special
    if name in (special.end, *special.other_ends):
        return tokenizer
    return Tokenizer(backend_from(tokenizer.to_json()), replace(special, other_ends=(*special.other_ends, name)))
