"""What a GGUF file says of its model besides how it computes: kept with the model, and written again.

A model's metadata hold `name`, `license` and `chat_template` for everybody, and under `gguf` whatever else only this
format has a place for: who made it, from what, and how its text is best sampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmbuilder.tokenizer import Tokenizer

CHAT_TEMPLATE = "tokenizer.chat_template"
_NAMED = {"name": "general.name", "license": "general.license", "chat_template": CHAT_TEMPLATE}
_KEPT = (
    "general.author", "general.organization", "general.license.", "general.url", "general.repo_url", "general.version",
    "general.base_model.", "general.dataset.", "general.source.", "general.tags", "general.languages",
    "general.sampling.", "tokenizer.chat_templates", f"{CHAT_TEMPLATE}.",
)  # fmt: skip
# Which tokens end a turn or stand for parts of code: ids there, here the tokens themselves.
_TOKEN_PARTS = (
    "eot",
    "eom",
    "fim_pre",
    "fim_suf",
    "fim_mid",
    "fim_pad",
    "fim_rep",
    "fim_sep",
    "seperator",
    "cls",
    "mask",
)
_SAMPLING = {
    "temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "penalty_repeat": "repetition_penalty",
}  # fmt: skip
_ADDS_END = "tokenizer.ggml.add_eos_token"


def kept_metadata(fields: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return a model's metadata from the fields of its file."""
    named = {key: fields[field] for key, field in _NAMED.items() if isinstance(fields.get(field), str)}
    others = {key: value for key, value in fields.items() if key.startswith(_KEPT) and _is_plain(value)}
    tokens = tokenizer.tokens()
    parts: dict[str, Any] = {}
    for part in _TOKEN_PARTS:
        number = fields.get(_token_key(part))
        if isinstance(number, int) and 0 <= number < len(tokens) and tokens[number] is not None:
            parts[_token_key(part)] = tokens[number]
    if fields.get(_ADDS_END) is True:
        parts[_ADDS_END] = True
    return {**named, **({"gguf": {**others, **parts}} if others or parts else {})}


def written_metadata(metadata: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the fields that `kept_metadata` was made from, but the name; ids are those of `tokenizer`."""
    named = {_NAMED[key]: metadata[key] for key in ("license", "chat_template") if isinstance(metadata.get(key), str)}
    kept = metadata.get("gguf")
    found = dict(kept) if isinstance(kept, dict) else {}
    found = {**_sampling(metadata), **found}
    for part in _TOKEN_PARTS:
        token = found.pop(_token_key(part), None)
        if isinstance(token, str) and (number := tokenizer.id_of(token)) is not None:
            found[_token_key(part)] = number
    return {**named, **found}


def _sampling(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of generation that came with a Hugging Face folder, if it samples."""
    folder = metadata.get("huggingface")
    generation = folder.get("generation") if isinstance(folder, dict) else None
    if not isinstance(generation, dict) or generation.get("do_sample") is not True:
        return {}
    given = {name: generation.get(theirs) for name, theirs in _SAMPLING.items()}
    return {
        f"general.sampling.{name}": value
        for name, value in given.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _token_key(part: str) -> str:
    return f"tokenizer.ggml.{part}_token_id"


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bool | int | float) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )
