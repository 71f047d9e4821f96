"""Tokenizers whose tokens are single characters, or single bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from llmbuilder.errors import TokenizerError
from llmbuilder.tokenizer.fast import byte_alphabet

LINE_END = re.compile(r"\r\n?")


def character_backend(alphabet: Sequence[str], end_of_text: str | None) -> tokenizers.Tokenizer:
    """Return a backend whose tokens are the given characters, with ids in that order, then `end_of_text`."""
    if not alphabet:
        raise TokenizerError("a character tokenizer needs at least one character")
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    if len(vocabulary) != len(alphabet) or any(len(character) != 1 for character in alphabet):
        raise TokenizerError("the alphabet of a character tokenizer must be distinct single characters")
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=None))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    if end_of_text is not None:
        backend.add_special_tokens([tokenizers.AddedToken(end_of_text, special=True, normalized=False)])
    return backend


def nanogpt_backend(alphabet: Sequence[str]) -> tokenizers.Tokenizer:
    """Return a backend of nanoGPT's characters: no end-of-text, and every line end is a line feed.

    Its programs read texts as Python does by default, so CRLF files have no carriage returns there. An alphabet with
    one was made otherwise and is taken as it is.
    """
    backend = character_backend(alphabet, None)
    if "\r" not in alphabet and "\n" in alphabet:
        backend.normalizer = normalizers.Replace(Regex(LINE_END.pattern), "\n")
    return backend


def byte_backend() -> tokenizers.Tokenizer:
    """Return a backend whose ids are the bytes of UTF-8."""
    backend = tokenizers.Tokenizer(models.BPE(byte_alphabet(), []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend
