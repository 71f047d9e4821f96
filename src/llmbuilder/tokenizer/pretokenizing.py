"""How text is cut into words before byte-level BPE: only ways that llama.cpp knows by name.

The expressions are the models' own, as llama.cpp writes them: GPT-2's (Radford et al. 2019), Llama 3's, Qwen 2's.
They differ in digits (a run of them, up to three, one) and in white space (Llama 3 and Qwen 2 keep line breaks together
and a space with a word).
"""

from __future__ import annotations

from typing import Any

from tokenizers import Regex, pre_tokenizers

from llmbuilder.errors import TokenizerError, suggestion

_WORDS = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_EXPRESSIONS = {"llama3": _WORDS.format(digits=r"\p{N}{1,3}"), "qwen2": _WORDS.format(digits=r"\p{N}")}
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PRETOKENIZERS = ("gpt2", *_EXPRESSIONS)
_IN_GGUF = {"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2"}
TAKES_WHOLE_WORDS = frozenset(("llama3",))  # a word that is a token is that token, whatever the merges say


def make_pretokenizer(name: str) -> Any:
    """Return the pre-tokenizer of that name. Raises TokenizerError for one that llama.cpp does not know."""
    if name not in PRETOKENIZERS:
        raise TokenizerError(
            f"unknown pre-tokenizer {name!r}{suggestion(name, PRETOKENIZERS)}; llama.cpp knows "
            f"{', '.join(PRETOKENIZERS)}, and a model with another one could not be exported to it"
        )
    if name == "gpt2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = pre_tokenizers.Split(Regex(_EXPRESSIONS[name]), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def gguf_name(description: dict[str, Any]) -> str | None:
    """Return llama.cpp's name of a tokenizer's pre-tokenizer, given its `tokenizer.json`; None if it has none."""
    name = name_of(description)
    whole_words = bool(description["model"].get("ignore_merges"))
    return _IN_GGUF[name] if name is not None and whole_words == (name in TAKES_WHOLE_WORDS) else None


def expression_of(description: dict[str, Any]) -> str | None:
    """Return the expression that cuts a tokenizer's words, given its `tokenizer.json`; None if it is none of ours."""
    name = name_of(description)
    return None if name is None else _EXPRESSIONS.get(name, _GPT2)


def name_of(description: dict[str, Any]) -> str | None:
    """Return the name of a tokenizer's pre-tokenizer, given its `tokenizer.json`; None if it is none of ours."""
    steps = description["pre_tokenizer"] or {}
    if description["model"]["type"] != "BPE":
        return None
    if _is_byte_level(steps, use_regex=True):
        return "gpt2"
    parts = steps.get("pretokenizers", [])
    if steps.get("type") != "Sequence" or len(parts) != 2 or not _is_byte_level(parts[1], use_regex=False):
        return None
    if parts[0].get("type") != "Split" or parts[0].get("behavior") != "Isolated" or parts[0].get("invert"):
        return None
    return next((name for name, regex in _EXPRESSIONS.items() if parts[0]["pattern"] == {"Regex": regex}), None)


def _is_byte_level(steps: dict[str, Any], *, use_regex: bool) -> bool:
    plain = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}
    return all(steps.get(key) == value for key, value in plain.items())
