"""Tokens that were added to a vocabulary: the ids that their file says, and rows of the model that they may not have.

The library numbers added tokens anew when it reads a file, which moves those behind holes. A text that spells a token
without a row would be an index outside the model's table; without the token the same is ordinary text.
"""

from __future__ import annotations

import json

import tokenizers

from llmbuilder.errors import TokenizerError


def backend_from(description: str) -> tokenizers.Tokenizer:
    """Return the backend that the text of a `tokenizer.json` describes, with the ids that it says.

    Raises TokenizerError for a text that describes none.
    """
    try:
        backend = tokenizers.Tokenizer.from_str(description)
        renumbered = _with_stated_ids(description, backend)
        return backend if renumbered is None else tokenizers.Tokenizer.from_str(renumbered)
    except TokenizerError:
        raise
    except Exception as error:
        raise TokenizerError(f"not a tokenizer description: {error}") from error


def _with_stated_ids(description: str, backend: tokenizers.Tokenizer) -> str | None:
    """Return a description that the library reads with the ids that it says; None if it has done so."""
    values = json.loads(description)
    stated = {token["content"]: token["id"] for token in values.get("added_tokens") or ()}
    moved = {token: number for token, number in stated.items() if backend.token_to_id(token) != number}
    if not moved:
        return None
    vocabulary = values["model"]["vocab"]
    if not isinstance(vocabulary, dict) or set(moved.values()) & set(vocabulary.values()):
        raise TokenizerError(f"its added tokens have ids that its vocabulary has no place for: {[*moved][:3]}")
    vocabulary.update(moved)
    return json.dumps(values, ensure_ascii=False)


def without_rowless(description: str, rows: int) -> tuple[str, list[str]]:
    """Return the text of a `tokenizer.json` without the added tokens whose ids are `rows` or more, and their names.

    Raises TokenizerError if other tokens have such ids: then the tokenizer is another model's.
    """
    values = json.loads(description)
    left_out = [token["content"] for token in values["added_tokens"] if token["id"] >= rows]
    values["added_tokens"] = [token for token in values["added_tokens"] if token["id"] < rows]
    vocabulary = values["model"]["vocab"]
    if isinstance(vocabulary, dict):
        values["model"]["vocab"] = kept = {
            token: number for token, number in vocabulary.items() if token not in left_out
        }
        size = 1 + max(kept.values(), default=-1)
    else:
        size = len(vocabulary)
    if size > rows:
        raise TokenizerError(
            f"the tokenizer has {size:,} tokens and the model has rows for {rows:,}: it is another model's tokenizer"
        )
    return json.dumps(values, ensure_ascii=False), left_out
