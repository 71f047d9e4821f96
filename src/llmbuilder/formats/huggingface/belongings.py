"""What lies in a Hugging Face folder beside weights and vocabulary: kept with the model, and written again.

A model's metadata hold `license` and `chat_template` for everybody, and under `huggingface` what only such folders have
a place for: defaults of generation, settings of the tokenizer, the licence's text, other chat templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from llmbuilder.errors import CheckpointError
from llmbuilder.files import write_json, write_text
from llmbuilder.formats.huggingface.stored_weights import read_json
from llmbuilder.notices import kind_of

_OWN = "huggingface"
_TEMPLATE, _TEMPLATES = "chat_template.jinja", "additional_chat_templates"
_TOKENIZER_SETTINGS = ("model_max_length", "padding_side", "truncation_side")
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_ABOUT_FILES = ("transformers_version", "_from_model_config")
_CARD = ("license", "license_name", "license_link", "base_model", "language")
_LICENCES = re.compile(r"(LICEN[CS]E|NOTICE|USE_POLICY|COPYING)(\.(md|txt))?", re.IGNORECASE)
_LARGEST = 1 << 20  # bytes of a text that is kept
_FRONT = re.compile(r"\A---\r?\n(.*?)\r?\n---\s*(\r?\n|\Z)", re.DOTALL)
# What an earlier model left, where this one has nothing of the kind.
STALE = {"special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "vocab.txt",
         "generation_config.json", _TEMPLATE, "chat_template.json", "tokenizer.json", "tokenizer_config.json",
         "spiece.model", "sentencepiece.bpe.model"}  # fmt: skip


def kept_metadata(folder: Path) -> dict[str, Any]:
    """Return a model's metadata from the files of its folder. Raises CheckpointError for damaged ones."""
    settings = _settings(folder / "tokenizer_config.json")
    templates = dict(_templates(folder, settings))
    generation = {
        key: value for key, value in _settings(folder / "generation_config.json").items() if key not in _ABOUT_FILES
    }
    card = _card(folder / "README.md")
    own = {
        "generation": generation,
        "tokenizer": {key: settings[key] for key in _TOKENIZER_SETTINGS if settings.get(key) is not None},
        "chat_templates": {name: text for name, text in templates.items() if name != "default"},
        "card": {key: value for key, value in card.items() if key != "license"},
        "licence_files": dict(_licences(folder)),
    }
    found = {"chat_template": templates.get("default"), "license": card.get("license")}
    own = {key: value for key, value in own.items() if value}
    return {key: value for key, value in {**found, _OWN: own}.items() if value}


def _settings(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _templates(folder: Path, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield chat templates by name, "default" the usual one; files of their own come last, because they win."""
    given = settings.get("chat_template")
    if isinstance(given, str):
        yield "default", given
    elif isinstance(given, list) and all(isinstance(item, dict) for item in given):
        yield from ((str(item.get("name")), str(item.get("template"))) for item in given)
    elif given is not None:
        raise CheckpointError(f"tokenizer_config.json is damaged: its chat_template is {kind_of(given)}")
    if (folder / _TEMPLATE).is_file():
        yield "default", _read_text(folder / _TEMPLATE)
    for path in sorted((folder / _TEMPLATES).glob("*.jinja")):
        yield path.stem, _read_text(path)


def _licences(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        if _LICENCES.fullmatch(path.name) and path.is_file() and path.stat().st_size <= _LARGEST:
            yield path.name, _read_text(path)


def _read_text(path: Path) -> str:
    if path.stat().st_size > _LARGEST:
        raise CheckpointError(f"{path.name} has {path.stat().st_size:,} bytes: it is no text of this kind")
    return path.read_text("utf-8-sig", errors="replace")


def _card(readme: Path) -> dict[str, Any]:
    """Return what the head of a model card says of the licence and the model's origin."""
    if not readme.is_file() or readme.stat().st_size > _LARGEST:
        return {}
    head = _FRONT.match(readme.read_text("utf-8-sig", errors="replace"))
    try:
        values = yaml.safe_load(head[1]) if head is not None else None
    except (yaml.YAMLError, RecursionError):
        return {}
    return {key: values[key] for key in _CARD if isinstance(values, dict) and _is_plain(values.get(key))}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def tokenizer_settings(metadata: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Return what goes into `tokenizer_config.json` beside what the tokenizer itself says.

    With a chat template, text that spells a special token is one for transformers, as it was where the model comes
    from: templates spell them.
    """
    settings = {"model_max_length": context, **_of(metadata, "tokenizer")}
    return {**settings, "split_special_tokens": None} if metadata.get("chat_template") else settings


def write_belongings(metadata: Mapping[str, Any], folder: Path, ids: Mapping[str, Any] | None) -> None:
    """Write chat templates, defaults of generation, the licence and a card; `ids` are the tokenizer's special ones."""
    generation = _of(metadata, "generation")
    if ids is not None:
        generation = {**{key: value for key, value in generation.items() if key not in _IDS}, **ids}
    if generation:
        write_json(folder / "generation_config.json", generation)
    if isinstance(metadata.get("chat_template"), str):
        write_text(folder / _TEMPLATE, metadata["chat_template"])
    for name, text in _of(metadata, "chat_templates").items():
        write_text(folder / _TEMPLATES / f"{Path(name).name}.jinja", text)
    for name, text in _of(metadata, "licence_files").items():
        write_text(folder / Path(name).name, text)
    card = {**({"license": metadata["license"]} if metadata.get("license") else {}), **_of(metadata, "card")}
    if card and not (folder / "README.md").exists():
        head = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
        write_text(folder / "README.md", f"---\n{head}---\n")


def _of(metadata: Mapping[str, Any], part: str) -> dict[str, Any]:
    own = metadata.get(_OWN)
    value = own.get(part) if isinstance(own, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}
