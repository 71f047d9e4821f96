"""Texts in which special tokens are spelled, as chat templates write them; everywhere else such letters are text."""

from __future__ import annotations

import re

from llmbuilder.errors import TokenizerError
from llmbuilder.tokenizer.added import backend_from
from llmbuilder.tokenizer.tokenizer import Tokenizer


class MarkedEncoder:
    """A tokenizer that takes the names of special tokens in a text for those tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._backend = backend_from(tokenizer.to_json())
        self._backend.encode_special_tokens = False
        self._backend.no_truncation()
        self._backend.no_padding()
        names = [token.content for token in self._backend.get_added_tokens_decoder().values()]
        self._marks = re.compile("|".join(map(re.escape, names))) if names else None

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the token ids of a text, and where in it each token begins and ends.

        Raises TokenizerError for characters that a character tokenizer does not have, and for no valid Unicode.
        """
        if self._tokenizer.algorithm == "char":
            for part in self._marks.split(text) if self._marks is not None else [text]:
                self._tokenizer.encode(part)
        try:
            found = self._backend.encode(text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            raise TokenizerError(f"text with lone surrogates is not valid Unicode: {error}") from error
        return found.ids, found.offsets
