"""How text is cut into words before byte-level BPE: only ways that llama.cpp knows by name.

GPT-2's (Radford et al. 2019), Llama 3's and Qwen 2's differ in digits (a run of them, up to three, one) and in white
space (Llama 3 and Qwen 2 keep line breaks together and a space with a word).
"""

from __future__ import annotations

from typing import Any

from llmbuilder.errors import TokenizerError, suggestion
from llmbuilder.tokenizer.engine_pretokenizing import EXPRESSIONS, cutting

_KINDS = {"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2"}
PRETOKENIZERS = tuple(_KINDS)
TAKES_WHOLE_WORDS = frozenset(("llama3",))  # a word that is a token is that token, whatever the merges say
# For a library that cuts nothing between matches and knows one expression only.
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SINGLE_DIGITS = r"\p{N}|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
# Spelled otherwise, such as with (?i:'s), libraries of expressions disagree about letters like the long s.
_WHOLE = {EXPRESSIONS[kind][0] for kind in ("llama-bpe", "qwen2")}


def make_pretokenizer(name: str) -> Any:
    """Return the pre-tokenizer of that name. Raises TokenizerError for one that is not trained here."""
    if name not in PRETOKENIZERS:
        raise TokenizerError(
            f"unknown pre-tokenizer {name!r}{suggestion(name, PRETOKENIZERS)}; llama.cpp knows "
            f"{', '.join(PRETOKENIZERS)}, and a model with another one could not be exported to it"
        )
    return cutting(_KINDS[name])


def name_of(kind: str | None) -> str | None:
    """Return the name under which a way to cut words is trained, given llama.cpp's; None if it is not."""
    return next((name for name, other in _KINDS.items() if other == kind), None)


def expression_of(description: dict[str, Any]) -> str | None:
    """Return the one expression that cuts a tokenizer's words, given its `tokenizer.json`; None if that is not known.

    It matches every character of every text.
    """
    steps = description["pre_tokenizer"] or {}
    if _is_byte_level(steps, use_regex=True):
        return _GPT2
    parts = steps.get("pretokenizers", [])
    if steps.get("type") != "Sequence" or len(parts) != 2:
        return None
    first, second = parts
    if _is_byte_level(second, use_regex=True):
        return _SINGLE_DIGITS if _cuts_digits(first) else None
    found = _split_expression(first) if _is_byte_level(second, use_regex=False) else None
    return found if found in _WHOLE else None


def _split_expression(step: dict[str, Any]) -> str | None:
    if step.get("type") != "Split" or step.get("behavior") != "Isolated" or step.get("invert"):
        return None
    return step["pattern"].get("Regex")


def _cuts_digits(step: dict[str, Any]) -> bool:
    return (step.get("type") == "Digits" and step.get("individual_digits") is True) or _split_expression(
        step
    ) == r"\p{N}"


def _is_byte_level(steps: dict[str, Any], *, use_regex: bool) -> bool:
    plain = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}
    return all(steps.get(key) == value for key, value in plain.items())
