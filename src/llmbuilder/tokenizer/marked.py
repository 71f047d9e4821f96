"""Texts in which special tokens are spelled, as chat templates write them; everywhere else such letters are text.

What people say can have the same letters in it. `as_text` puts a mark into these, a character that Unicode reserves for
such use and no text has, so that they are told from the tokens that a template writes, and stay text.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from llmbuilder.errors import TokenizerError
from llmbuilder.tokenizer.added import backend_from
from llmbuilder.tokenizer.tokenizer import Tokenizer

_MARK = "\ufdd2"  # behind the first letter of what is text and spells a special token


def without_marks(text: str) -> str:
    """Return a text as it is read by people."""
    return text.replace(_MARK, "")


class MarkedEncoder:
    """A tokenizer that takes the names of special tokens in a text for those tokens, where they are not marked."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._backend = backend_from(tokenizer.to_json())
        self._backend.encode_special_tokens = False
        self._backend.no_truncation()
        self._backend.no_padding()
        added = self._backend.get_added_tokens_decoder().values()
        self._names = _any_of([token.content for token in added])
        self._special = _any_of([token.content for token in added if token.special])

    def as_text(self, value: Any) -> Any:
        """Return a value as JSON has it, with marks in all texts inside that spell special tokens."""
        if isinstance(value, str):
            return value if self._special is None else self._special.sub(_marked, value)
        if isinstance(value, dict):
            return {name: self.as_text(item) for name, item in value.items()}
        return [self.as_text(item) for item in value] if isinstance(value, list | tuple) else value

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the token ids of a text, and where in it each token begins and ends.

        Raises TokenizerError for characters that a character tokenizer does not have, and for no valid Unicode.
        """
        plain = without_marks(text)
        if self._tokenizer.algorithm == "char":
            for part in self._names.split(text) if self._names is not None else [text]:
                self._tokenizer.encode(without_marks(part))
        ids, places = self._encode(plain, marked=False)
        if _MARK not in text or self._special is None:
            return ids, places
        return self._with_text(text, ids, places)

    def _encode(self, text: str, *, marked: bool) -> tuple[list[int], list[tuple[int, int]]]:
        self._backend.encode_special_tokens = marked
        try:
            found = self._backend.encode(text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            raise TokenizerError(f"text with lone surrogates is not valid Unicode: {error}") from error
        finally:
            self._backend.encode_special_tokens = False
        return found.ids, found.offsets

    def _with_text(
        self, text: str, ids: list[int], places: list[tuple[int, int]]
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the tokens of a text with marks: what stands with one between two special tokens is encoded as text.

        `ids` and `places` are those of the text without marks, in which everything that spells one is a special token.
        """
        assert self._special is not None
        is_mark = np.array([character == _MARK for character in text])
        plain_of = np.append(0, np.cumsum(~is_mark))  # place in the text -> place without marks
        marked_of = np.append(np.flatnonzero(~is_mark), len(text))  # and back
        begin, cuts = 0, list[tuple[int, int]]()
        for special in [*self._special.finditer(text), None]:
            end = len(text) if special is None else special.start()
            if _MARK in text[begin:end]:
                cuts.append((int(plain_of[begin]), int(plain_of[end])))
            begin = end if special is None else special.end()
        plain, made, at = without_marks(text), list[tuple[int, tuple[int, int]]](), 0
        tokens = list(zip(ids, places, strict=True))
        for first, stop in cuts:
            while at < len(tokens) and tokens[at][1][0] < first:
                made.append(tokens[at])
                at += 1
            own_ids, own_places = self._encode(plain[first:stop], marked=True)
            made += [(token, (a + first, b + first)) for token, (a, b) in zip(own_ids, own_places, strict=True)]
            while at < len(tokens) and tokens[at][1][0] < stop:
                at += 1
        made += tokens[at:]
        return [token for token, _ in made], [(int(marked_of[a]), int(marked_of[b])) for _, (a, b) in made]


def _any_of(names: list[str]) -> re.Pattern[str] | None:
    """Return what finds these names, the longest first; None for no names."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True)))) if names else None


def _marked(spelled: re.Match[str]) -> str:
    return spelled.group()[:1] + _MARK + spelled.group()[1:]
