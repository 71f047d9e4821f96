"""A byte-level BPE from a vocabulary and a list of merges, with what the files beside them add.

Those two do not say how words are cut: the name of the class that reads them does, in `tokenizer_config.json`, or else
the model's family, in `config.json`. Added tokens have ids of their own, which may leave holes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from llmbuilder.errors import TokenizerError
from llmbuilder.tokenizer.pretokenizing import make_pretokenizer
from llmbuilder.tokenizer.special import END_OF_TEXT, SIDE_FILES, read_side_file

_GPT2, _QWEN2 = "gpt2", "qwen2"
_CLASSES = {"GPT2Tokenizer": _GPT2, "Qwen2Tokenizer": _QWEN2}
_FAMILIES = {None: _GPT2, "gpt2": _GPT2, "qwen2": _QWEN2, "qwen3": _QWEN2}
_RULES = ("single_word", "lstrip", "rstrip", "normalized", "special")


def backend_from_files(vocabulary: Path, merges: Path) -> tokenizers.Tokenizer:
    """Return the backend of a vocabulary, its merges, and the tokens that the files beside them add.

    Raises TokenizerError for damaged files, ids that contradict each other, and other ways to cut words.
    """
    folder = vocabulary.parent
    settings = read_side_file(folder / SIDE_FILES[0])
    kind = _kind(settings, folder)
    try:
        known, pairs = models.BPE.read_file(str(vocabulary), str(merges))
    except Exception as error:
        raise TokenizerError(f"{folder}: damaged GPT-2 tokenizer files: {error}") from error
    added = _added_tokens(settings, folder)
    for number, token in added.items():
        if known.setdefault(token.content, number) != number:
            raise TokenizerError(
                f"{folder}: the token {token.content!r} has the id {known[token.content]} in {vocabulary.name} and "
                f"{number} among the added tokens: they do not belong together"
            )
    try:
        backend = tokenizers.Tokenizer(models.BPE(known, pairs))
    except Exception as error:
        raise TokenizerError(f"{folder}: damaged GPT-2 tokenizer files: {error}") from error
    if kind == _QWEN2:
        backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = make_pretokenizer(_QWEN2)
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get("add_prefix_space")))
    backend.decoder = decoders.ByteLevel()
    for _, token in sorted(added.items()):
        backend.add_special_tokens([token]) if token.special else backend.add_tokens([token])
    if END_OF_TEXT in known or not any((folder / name).is_file() for name in SIDE_FILES):
        backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return backend


def _kind(settings: dict[str, Any], folder: Path) -> str:
    """Return how words are cut."""
    named = settings.get("tokenizer_class")
    if isinstance(named, str):
        found, by = _CLASSES.get(named.removesuffix("Fast")), f"tokenizer_class {named}"
    else:
        family = read_side_file(folder / "config.json").get("model_type")
        found, by = (_FAMILIES.get(family) if isinstance(family, str | None) else None), f"model_type {family!r}"
    if found is None:
        raise TokenizerError(
            f"{folder} has no tokenizer.json, and how words are cut is not known for {by}: write one with transformers "
            "(AutoTokenizer.from_pretrained(folder).save_pretrained(folder))"
        )
    return found


def _added_tokens(settings: dict[str, Any], folder: Path) -> dict[int, AddedToken]:
    """Return the added tokens by id: from `tokenizer_config.json`, or from the `added_tokens.json` of older folders."""
    try:
        listed = settings.get("added_tokens_decoder")
        if listed is not None:
            return {int(number): _token(values) for number, values in listed.items()}
        special = set(map(str, _special_names(folder)))
        older = _read_object(folder / "added_tokens.json")
        return {int(number): _token({"content": token, "special": token in special}) for token, number in older.items()}
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise TokenizerError(f"{folder}: damaged tokenizer files: its added tokens cannot be read ({error})") from error


def _read_object(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8-sig")) if path.is_file() else {}


def _special_names(folder: Path) -> list[Any]:
    values = read_side_file(folder / "special_tokens_map.json").values()
    found = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [item.get("content") if isinstance(item, dict) else item for item in found]


def _token(values: dict[str, Any]) -> AddedToken:
    rules = {rule: bool(values[rule]) for rule in _RULES if rule in values}
    return AddedToken(str(values["content"]), **{"normalized": False, **rules})
