"""Which settings of `config.tokenizer` a tokenizer that is there already keeps to; others are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmbuilder.config.in_force import differing, refuse
from llmbuilder.config.schema import TokenizerConfig
from llmbuilder.tokenizer.tokenizer import Tokenizer


def require_made_as(
    asked: TokenizerConfig, found: Tokenizer, place: str | Path, made: Mapping[str, Any] | None = None
) -> None:
    """Raise ConfigError for a setting that was asked for and that the tokenizer of `place` was not made with.

    `made` are the settings it was trained with, where they are known.
    """
    names = [f"tokenizer.{name}" for name in unlike_settings(asked, found, made)]
    refuse(names, f"the tokenizer of {place} was made otherwise, and is used as it is")
    if asked.path is not None and Path(asked.path).exists() and Tokenizer.from_pretrained(asked.path) != found:
        refuse(["tokenizer.path"], f"the tokenizer of {place} is another one, and is used")


def unlike_settings(asked: TokenizerConfig, found: Tokenizer, made: Mapping[str, Any] | None = None) -> list[str]:
    """Return the settings that were asked for and that a tokenizer was not made with.

    How often a pair had to occur cannot be told from a tokenizer itself.
    """
    is_as_asked = {
        "algorithm": found.algorithm == asked.algorithm,
        "vocab_size": asked.vocab_size is None or len(found) <= asked.vocab_size,
        "min_frequency": made is None or made.get("min_frequency") == asked.min_frequency,
        "pretokenizer": found.pretokenizer == asked.pretokenizer,
        "special_tokens": set(asked.special_tokens) <= set(found.vocabulary()),
    }
    return [name for name in differing(asked, is_as_asked) if not is_as_asked[name]]
