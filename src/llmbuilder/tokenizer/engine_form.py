"""Whether llama.cpp can tokenize exactly like a tokenizer, and what a GGUF file has to say for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import tokenizers

from llmbuilder.tokenizer.engine_pretokenizing import engine_name, kind_of
from llmbuilder.tokenizer.sentencepiece import adds_space, scores_from_merges


@dataclass(frozen=True)
class EngineForm:
    """A tokenizer in llama.cpp's terms.

    `model` is its kind; `pretokenizer` the name for how words are cut (gpt2); `scores` those of the pieces, and
    `adds_space` whether a space comes before every text (llama). `normalizer` is what is done to a text first, which
    llama.cpp leaves to others: texts in that form are tokenized exactly.
    """

    model: Literal["gpt2", "llama", "rwkv"]
    pretokenizer: str | None = None
    scores: Mapping[str, float] | None = None
    adds_space: bool = False
    normalizer: str | None = None


def engine_form(backend: tokenizers.Tokenizer, description: dict[str, Any], algorithm: str) -> EngineForm | None:
    """Return a tokenizer's form in llama.cpp, None if it has none.

    It finds added words as they are spelled; ones that take blanks with them, or stand alone only, it cannot.
    """
    words = [token for token in description["added_tokens"] if not token["special"]]
    if any(token[rule] for token in words for rule in ("single_word", "lstrip", "rstrip")):
        return None
    if algorithm == "char":
        return EngineForm("rwkv")
    if algorithm == "bpe":
        normalizer = _normalizer(description)
        name = engine_name(kind_of(backend, description), description) if normalizer in (None, "NFC") else None
        return None if name is None else EngineForm("gpt2", name, normalizer=normalizer)
    scores = scores_from_merges(description)
    return None if scores is None else EngineForm("llama", scores=scores, adds_space=bool(adds_space(description)))


def _normalizer(description: dict[str, Any]) -> str | None:
    steps = description["normalizer"]
    if steps is not None and steps["type"] == "Sequence" and len(steps["normalizers"]) < 2:
        steps = next(iter(steps["normalizers"]), None)
    return None if steps is None else str(steps["type"])
