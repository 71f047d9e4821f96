"""A GGUF file's tokenizer as one of this package.

Byte-level BPE (`gpt2`) keeps every id, and its words are cut as llama.cpp cuts them; SentencePiece's BPE (`llama`) has
merges for its scores; characters (`rwkv`, as this package writes them) become characters again. Other kinds are refused
by name. Unlike in llama.cpp, no merge makes a special token of its spelling in a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models

from llmbuilder.errors import TokenizerError
from llmbuilder.formats.gguf.file import GGUFFile
from llmbuilder.formats.gguf.tokenizer_writing import NO_MERGE, UNREACHABLE
from llmbuilder.tokenizer import SpecialTokens, Tokenizer
from llmbuilder.tokenizer.engine_pretokenizing import engine_pretokenizer
from llmbuilder.tokenizer.sentencepiece import BYTES, SPACE, merges_from_scores, sentencepiece_backend

_PREFIX = "tokenizer.ggml."
_NORMAL, _UNKNOWN, _CONTROL, _WORD, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
# llama.cpp takes these for the ends of texts and turns by their names alone, whatever the file says of them.
_ENDS = frozenset((
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "</s>",
    "<|eom_id|>",
    "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<｜end▁of▁sentence｜>",
))  # fmt: skip
_PARTS = {"begin": "bos", "end": "eos", "unknown": "unknown", "padding": "padding"}
_OTHER_ENDS = ("eot", "eom")
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})|\\([tnr\\])|([^\\])", re.DOTALL)
_SHORT = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}


def read_tokenizer(file: GGUFFile) -> Tokenizer:
    """Return the tokenizer of a file. Raises TokenizerError if it has none, or one that cannot be exactly the same."""
    model = file.fields.get(f"{_PREFIX}model")
    if model is None or (isinstance(model, str) and model in ("no_vocab", "none")):
        raise TokenizerError("there is no tokenizer in it (tokenizer.ggml.model)")
    readers = {"gpt2": _byte_level, "llama": _sentencepiece, "rwkv": _characters}
    if not isinstance(model, str) or model not in readers:
        raise TokenizerError(
            f"tokenizer.ggml.model {str(model)[:60]!r} is not supported: only {', '.join(readers)} are"
        )
    return readers[model](_Vocabulary(file))


class _Vocabulary:
    """The lists of a file, checked against each other."""

    def __init__(self, file: GGUFFile) -> None:
        self._fields = file.fields
        self.tokens = self.texts("tokens")
        if not self.tokens:
            raise TokenizerError("there are no tokens in it (tokenizer.ggml.tokens)")
        self.kinds = self._kinds()
        self._require_distinct()

    def _require_distinct(self) -> None:
        seen: set[str] = set()
        for token in filter(None, self.tokens):
            if token in seen:
                raise TokenizerError(f"tokenizer.ggml.tokens has {token!r} twice")
            seen.add(token)

    def field(self, name: str) -> Any:
        return self._fields.get(f"{_PREFIX}{name}")

    def texts(self, name: str) -> list[str]:
        found = self.field(name)
        if found is None or (isinstance(found, np.ndarray) and not len(found)):
            return []
        if not isinstance(found, list):
            raise TokenizerError(f"tokenizer.ggml.{name} is no list of texts")
        return found

    def flag(self, name: str, default: bool) -> bool:
        found = self.field(name)
        if found is not None and not isinstance(found, bool):
            raise TokenizerError(f"tokenizer.ggml.{name} is {found!r}, neither true nor false")
        return default if found is None else found

    def token(self, part: str) -> str | None:
        """Return the token that plays a part, None if the file names none. Raises TokenizerError for an absent id."""
        number = self.field(f"{part}_token_id")
        if number is None:
            return None
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(self.tokens):
            raise TokenizerError(f"tokenizer.ggml.{part}_token_id is {number!r}: there are {len(self.tokens):,} tokens")
        return self.tokens[number] or None

    def _kinds(self) -> list[int]:
        found = self.field("token_type")
        if found is None:
            found = np.full(len(self.tokens), _NORMAL)
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "iu" or len(found) != len(self.tokens):
            count = len(found) if isinstance(found, list | np.ndarray) else found
            raise TokenizerError(f"tokenizer.ggml.token_type has {count!r} entries for {len(self.tokens):,} tokens")
        return [_CONTROL if token in _ENDS else kind for token, kind in zip(self.tokens, found.tolist(), strict=True)]

    def is_hole(self, number: int) -> bool:
        """Whether an id stands for no token: nothing, or a name that only fills the place."""
        token = self.tokens[number]
        return not token or (self.kinds[number] == _UNUSED and token.strip("[]") == f"PAD{number}")

    def of_kind(self, *kinds: int) -> list[str]:
        return [
            token
            for number, (token, kind) in enumerate(zip(self.tokens, self.kinds, strict=True))
            if kind in kinds and not self.is_hole(number)
        ]

    def special(self, *, begins: bool) -> SpecialTokens:
        """Return the parts that the file gives to tokens; `begins` is what its kind does if it does not say."""
        parts = {part: self.token(name) for part, name in _PARTS.items()}
        control = self.of_kind(_CONTROL, _UNKNOWN)
        ends = [*(self.token(name) for name in _OTHER_ENDS), *(token for token in control if token in _ENDS)]
        return SpecialTokens(
            **parts,
            additional=tuple(token for token in control if token not in parts.values()),
            other_ends=tuple(dict.fromkeys(token for token in ends if token and token != parts["end"])),
            adds_begin=self.flag("add_bos_token", begins) and parts["begin"] is not None,
        )


def _byte_level(vocabulary: _Vocabulary) -> Tokenizer:
    name = vocabulary.field("pre")
    cut, known = engine_pretokenizer("default" if name is None else str(name)[:60] or "default")
    if vocabulary.of_kind(_BYTE):
        raise TokenizerError(
            f"tokenizer.ggml.token_type calls {vocabulary.of_kind(_BYTE)[0]!r} a byte, as no gpt2 does"
        )
    tokens = {token: number for number, token in enumerate(vocabulary.tokens) if not vocabulary.is_hole(number)}
    model: Any = models.BPE(vocab=tokens, merges=_merges(vocabulary, tokens), ignore_merges=known.whole_words)
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = cut
    backend.decoder = decoders.ByteLevel()
    return _with_added(backend, vocabulary, begins=known.begins)


def _merges(vocabulary: _Vocabulary, tokens: dict[str, int]) -> list[tuple[str, str]]:
    """Return the pairs in the order of their rank; llama.cpp cuts at the first blank behind the first character."""
    found: dict[tuple[str, str], None] = {}
    for number, merge in enumerate(vocabulary.texts("merges")):
        if merge == NO_MERGE:
            continue
        place = merge.find(" ", 1)
        left, right = merge[:place], merge[place + 1 :]
        if place < 0 or left not in tokens or right not in tokens or left + right not in tokens:
            raise TokenizerError(f"entry {number} of tokenizer.ggml.merges, {merge!r}, makes no token of two tokens")
        found.setdefault((left, right))
    if not found and len(tokens) > 512:
        raise TokenizerError("there are no merges in it (tokenizer.ggml.merges)")
    return list(found)


def _sentencepiece(vocabulary: _Vocabulary) -> Tokenizer:
    scores, tokens = vocabulary.field("scores"), vocabulary.tokens
    if not isinstance(scores, np.ndarray) or len(scores) != len(tokens):
        count = len(scores) if isinstance(scores, list | np.ndarray) else scores
        raise TokenizerError(f"tokenizer.ggml.scores has {count!r} entries for {len(tokens):,} tokens")
    there = set(vocabulary.of_kind(_BYTE))
    lacking = next((byte for byte in BYTES if byte not in there), None)
    if lacking is not None:
        raise TokenizerError(f"tokenizer.ggml.tokens lacks the byte {lacking}")
    words = vocabulary.of_kind(_WORD)
    spaced = {word for word in words if SPACE in word}  # which no text spells: they are pieces, too, as Gemma's are
    pieces = {*vocabulary.of_kind(_NORMAL), *spaced}
    scored = {token: score for token, score in zip(tokens, scores.tolist(), strict=True) if token in pieces}
    if not all(map(math.isfinite, scored.values())):
        raise TokenizerError("tokenizer.ggml.scores has values that are no numbers")
    backend = sentencepiece_backend(
        {token: number for number, token in enumerate(tokens) if not vocabulary.is_hole(number)},
        merges_from_scores(scored, words),
        vocabulary.token("unknown"),
        space_first=vocabulary.flag("add_space_prefix", True),
    )
    return _with_added(backend, vocabulary, begins=True)


def _with_added(backend: tokenizers.Tokenizer, vocabulary: _Vocabulary, *, begins: bool) -> Tokenizer:
    backend.add_special_tokens(_added(vocabulary.of_kind(_CONTROL, _UNKNOWN, _UNUSED), special=True))
    backend.add_tokens(_added(vocabulary.of_kind(_WORD), special=False))
    return Tokenizer(backend, vocabulary.special(begins=begins))


def _added(tokens: Sequence[str], *, special: bool) -> list[AddedToken]:
    return [AddedToken(token, special=special, normalized=False) for token in tokens]


def _characters(vocabulary: _Vocabulary) -> Tokenizer:
    """Return the character tokenizer that this package wrote; RWKV's own vocabulary has tokens of many characters."""
    alphabet: list[str] = []
    added: list[str] = []
    for number, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True)):
        if kind == _NORMAL and not added:
            alphabet.append(_unescaped(token, number))
        elif kind == _CONTROL and token.startswith(UNREACHABLE):
            added.append(token.removeprefix(UNREACHABLE))
        else:
            raise TokenizerError(f"token {number} of tokenizer.ggml.tokens, {token!r}, is no character: rwkv is read "
                                 "only as this package writes it")  # fmt: skip
    plain = Tokenizer.from_characters(alphabet, end_of_text=None)
    if not added:
        return plain
    backend = tokenizers.Tokenizer.from_str(plain.to_json())
    backend.add_special_tokens(_added(added, special=True))
    named = vocabulary.special(begins=False)
    begin, end, padding = (
        None if token is None else token.removeprefix(UNREACHABLE) for token in (named.begin, named.end, named.padding)
    )
    return Tokenizer(backend, SpecialTokens(begin, end, padding=padding, adds_begin=named.adds_begin))


def _unescaped(token: str, number: int) -> str:
    """Return the text of a token written with escapes for its bytes."""
    found = bytearray()
    for part in _ESCAPE.finditer(token):
        code, short, plain = part.groups()
        found += bytes.fromhex(code) if code else (_SHORT[short] if short else plain).encode("utf-8")
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError:
        raise TokenizerError(f"token {number} of tokenizer.ggml.tokens, {token!r}, is no text in UTF-8") from None
