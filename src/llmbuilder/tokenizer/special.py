"""Which tokens have a part to play: begin and end a text, stand for the unknown, fill up batches.

A `tokenizer.json` does not say. Hugging Face folders say it in the files beside it, in this order of trust:
`tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json`, `config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from llmbuilder.errors import TokenizerError

END_OF_TEXT = "<|endoftext|>"
_NAMES = {"begin": "bos_token", "end": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
_OTHER_ENDS = "other_eos_tokens"
_LISTS = ("additional_special_tokens", "extra_special_tokens")
SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "config.json")


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens that play a part, by name; None where a vocabulary has none.

    `other_ends` end a generated text as `end` does; `adds_begin` says that the model expects `begin` before every text.
    """

    begin: str | None = None
    end: str | None = None
    unknown: str | None = None
    padding: str | None = None
    additional: tuple[str, ...] = ()
    other_ends: tuple[str, ...] = ()
    adds_begin: bool = False

    @classmethod
    def ending_with(cls, end: str | None) -> SpecialTokens:
        """Return what this package's own tokenizers have: one token that separates documents."""
        return cls(begin=end, end=end)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], backend: tokenizers.Tokenizer) -> SpecialTokens:
        """Return what `to_dict` wrote. Raises TokenizerError if a token has another id in this vocabulary."""

        def names(key: str) -> list[str]:
            stored = values.get(key) or []
            return [_checked(token, backend) for token in (stored if isinstance(stored, list) else [stored])]

        parts: dict[str, Any] = {key: next(iter(names(name)), None) for key, name in _NAMES.items()}
        return cls(
            **parts,
            additional=tuple(names(_LISTS[0])),
            other_ends=tuple(names(_OTHER_ENDS)),
            adds_begin=bool(values.get("add_bos_token")),
        )

    def to_dict(self, backend: tokenizers.Tokenizer) -> dict[str, Any]:
        """Return plain values, each token with its id: a name alone would not show that a vocabulary was changed."""

        def entry(token: str) -> dict[str, Any]:
            return {"content": token, "id": backend.token_to_id(token)}

        named = {name: getattr(self, key) for key, name in _NAMES.items()}
        return {
            **{name: entry(token) for name, token in named.items() if token is not None},
            _LISTS[0]: [entry(token) for token in self.additional],
            _OTHER_ENDS: [entry(token) for token in self.other_ends],
            "add_bos_token": self.adds_begin,
        }

    def settings(self) -> dict[str, Any]:
        """Return the values for a `tokenizer_config.json`."""
        named = {name: getattr(self, key) for key, name in _NAMES.items()}
        given: dict[str, Any] = {name: token for name, token in named.items() if token is not None}
        if self.additional:
            given[_LISTS[0]] = list(self.additional)
        return given | ({"add_bos_token": True} if self.adds_begin else {})

    def known_to(self, backend: tokenizers.Tokenizer) -> SpecialTokens:
        """Return these tokens without those that a vocabulary does not have."""

        def known(token: str | None) -> str | None:
            return token if token and backend.token_to_id(token) is not None else None

        begin = known(self.begin)
        return SpecialTokens(
            begin, known(self.end), known(self.unknown), known(self.padding),
            tuple(filter(known, self.additional)), tuple(filter(known, self.other_ends)),
            self.adds_begin and begin is not None,
        )  # fmt: skip


def _checked(token: Mapping[str, Any], backend: tokenizers.Tokenizer) -> str:
    """Return a token's name. Raises TokenizerError if it has another id here than where it was written."""
    name, number = str(token["content"]), backend.token_to_id(token["content"])
    if number != token["id"]:
        raise TokenizerError(
            f"the special token {name!r} has the id {token['id']} in the model and {number} in its tokenizer: "
            "they do not belong together"
        )
    return name


def read_special_tokens(folder: Path, backend: tokenizers.Tokenizer) -> SpecialTokens:
    """Return the special tokens that the files beside a `tokenizer.json` name. Raises TokenizerError if damaged."""
    files = [read_side_file(folder / name) for name in SIDE_FILES]
    if not any(files):
        return default_special_tokens(backend)
    names, ids = files[:2], files[2:]
    found = {key: _by_name(name, names) or _by_id(f"{name}_id", ids, backend) for key, name in _NAMES.items()}
    ends = _ends(ids, backend)
    if found["end"] is None and ends:
        found["end"] = ends[0]
    listed = [_text(token) for values in names for key in _LISTS for token in _items(values.get(key))]
    adds = names[0].get("add_bos_token")
    first = _added_first(backend)
    return SpecialTokens(
        **{**found, "begin": found["begin"] or first},
        additional=tuple(dict.fromkeys(token for token in listed if token)),
        other_ends=tuple(token for token in ends if token != found["end"]),
        adds_begin=first is not None if adds is None else bool(adds),
    ).known_to(backend)


def default_special_tokens(backend: tokenizers.Tokenizer) -> SpecialTokens:
    """Return what a `tokenizer.json` alone tells: GPT-2's end, and the token its post-processor puts first."""
    first = _added_first(backend)
    return SpecialTokens(begin=first or END_OF_TEXT, end=END_OF_TEXT, adds_begin=first is not None).known_to(backend)


def _added_first(backend: tokenizers.Tokenizer) -> str | None:
    """Return the one token that the post-processor puts before every text, if it does."""
    if backend.post_processor is None:
        return None
    # Templates may end texts, too; one that is to go on gets only what stands before it.
    word = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a")).encode("a")
    framed = backend.post_processor.process(word)
    return framed.tokens[0] if framed.special_tokens_mask[0] else None


def put_first(backend: tokenizers.Tokenizer, special: SpecialTokens) -> None:
    """Let the post-processor begin texts as `special` says.

    Settings beside a file can contradict it, and then other readers of the file would obey the post-processor.
    """
    wanted = special.begin if special.adds_begin else None
    if _added_first(backend) == wanted:
        return
    if wanted is None:
        backend.post_processor = None
        return
    named = (wanted, backend.token_to_id(wanted))
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{wanted}:0 $A:0", pair=f"{wanted}:0 $A:0 {wanted}:1 $B:1", special_tokens=[named]
    )


def _ends(ids: list[dict[str, Any]], backend: tokenizers.Tokenizer) -> list[str]:
    """Return every token that ends generation: the newest of these files lists all."""
    given: Any = next((values["eos_token_id"] for values in ids if values.get("eos_token_id") is not None), [])
    tokens = [_token_of(number, backend) for number in (given if isinstance(given, list) else [given])]
    return [token for token in tokens if token is not None]


def _by_name(name: str, files: list[dict[str, Any]]) -> str | None:
    return next((text for values in files if (text := _text(values.get(name)))), None)


def _by_id(name: str, files: list[dict[str, Any]], backend: tokenizers.Tokenizer) -> str | None:
    numbers = (values.get(name) for values in files)
    return next((_token_of(number, backend) for number in numbers if isinstance(number, int)), None)


def _token_of(number: Any, backend: tokenizers.Tokenizer) -> str | None:
    return backend.id_to_token(number) if isinstance(number, int) and 0 <= number < 1 << 32 else None


def _items(value: Any) -> list[Any]:
    """Return a list's items, or the values of a mapping of names to tokens (transformers 5)."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _text(token: Any) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def read_side_file(path: Path) -> dict[str, Any]:
    """Return the settings of a file beside a tokenizer; none if it is not there or holds something else.

    Raises TokenizerError for a file that is no JSON.
    """
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is damaged: {str(error)[:200]}") from error
    return values if isinstance(values, dict) else {}
