"""Training a tokenizer from text."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from llmbuilder.errors import TokenizerError
from llmbuilder.notices import warn_once
from llmbuilder.tokenizer.pretokenizing import TAKES_WHOLE_WORDS, make_pretokenizer
from llmbuilder.tokenizer.special import END_OF_TEXT
from llmbuilder.tokenizer.tokenizer import Tokenizer

_UNKNOWN = "<|unknown|>"
_LONGEST_RUN = 500  # characters
_LONGEST_PIECE = 1 << 20  # characters, or up to twice as many
# Where every pre-tokenizer cuts: behind a line break between visible characters, before a space between words.
_BETWEEN_WORDS = (re.compile(r"\S\n(?=\S)"), re.compile(r"[^\W\d_](?= [^\W\d_])"))
# Pre-tokenizers cut between letters, digits, signs and blanks: what stays together is a run of one kind.
_KINDS = (r"[^\W\d_]", r"\d", r"(?:[^\w\s]|_)", r"\s")
_LONG_BLANKS = re.compile(rf"\s{{{_LONGEST_RUN}}}")
_LONG_RUN = re.compile("|".join(f"{kind}{{{_LONGEST_RUN}}}(?={kind})" for kind in _KINDS))


def choose_vocab_size(characters: int) -> int:
    """Return a vocabulary size for a corpus: a power of two near the square root of its characters, 512 to 32768."""
    return 2 ** min(15, max(9, round(math.log2(math.sqrt(max(1, characters)) * 1.2))))


def train_tokenizer(
    texts: Iterable[str],
    *,
    algorithm: str = "bpe",
    vocab_size: int = 16000,
    min_frequency: int = 2,
    pretokenizer: str = "gpt2",
    special_tokens: Sequence[str] = (),
    show_progress: bool = False,
) -> Tokenizer:
    """Learn a tokenizer of at most `vocab_size` tokens from `texts`, which are read once.

    'bpe' is byte-level (Radford et al. 2019), cut by `pretokenizer` (gpt2, llama3, qwen2), with no unknown character;
    'char' has one token per distinct character; 'unigram' (Kudo 2018) and 'wordpiece' (Schuster & Nakajima
    2012) have an unknown token. A small text yields fewer tokens than asked for.
    Raises TokenizerError for an unknown algorithm, no text, or a vocabulary too small for the alphabet.
    """
    trainers_by_name = {"bpe": _train_bpe, "unigram": _train_unigram, "wordpiece": _train_wordpiece}
    checked = _with_breaks(_in_pieces(_not_empty(texts)))
    cut = make_pretokenizer(pretokenizer)
    if min_frequency != 2 and algorithm in ("char", "unigram"):
        raise TokenizerError(f"min_frequency {min_frequency} would not act: algorithm {algorithm!r} counts no pairs")
    if pretokenizer != "gpt2" and algorithm != "bpe":
        raise TokenizerError(f"pretokenizer {pretokenizer!r} is for algorithm 'bpe', not {algorithm!r}")
    reserved = [token for token in dict.fromkeys(special_tokens) if token != END_OF_TEXT]
    if algorithm == "char":
        return _with_reserved(_train_characters(checked, vocab_size - len(reserved)), reserved)
    if algorithm not in trainers_by_name:
        raise TokenizerError(f"unknown tokenizer algorithm {algorithm!r}; there are bpe, unigram, wordpiece, char")
    train = trainers_by_name[algorithm]
    backend = train(checked, vocab_size - len(reserved), min_frequency, show_progress, cut)
    if algorithm == "bpe" and pretokenizer in TAKES_WHOLE_WORDS:
        backend.model.ignore_merges = True
    # As it will be read back: scores lose digits when written.
    return _with_reserved(Tokenizer.from_json(backend.to_str()), reserved)


def _with_reserved(tokenizer: Tokenizer, reserved: Sequence[str]) -> Tokenizer:
    """Return a tokenizer with more special tokens, behind all others."""
    if not reserved:
        return tokenizer
    known = tokenizer.vocabulary()
    taken = next((token for token in reserved if token in known or not token.strip()), None)
    if taken is not None:
        raise TokenizerError(f"{taken!r} cannot be reserved as a special token: it is empty, or an ordinary token")
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    backend.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in reserved])
    return Tokenizer(backend, tokenizer.special)


def _not_empty(texts: Iterable[str]) -> Iterator[str]:
    seen = False
    for text in texts:
        seen = seen or bool(text.strip())
        yield text
    if not seen:
        raise TokenizerError("there is no text to learn a tokenizer from")


def _in_pieces(texts: Iterable[str]) -> Iterator[str]:
    """Cut texts of many megabytes between words: training takes some eighty bytes for each character of a text."""
    for text in texts:
        begin = 0
        while len(text) - begin > 2 * _LONGEST_PIECE:
            first, last = begin + _LONGEST_PIECE, begin + 2 * _LONGEST_PIECE
            place = next(filter(None, (cut.search(text, first, last) for cut in _BETWEEN_WORDS)), None)
            end = place.end() if place else last
            yield text[begin:end]
            begin = end
        yield text[begin:] if begin else text


def _with_breaks(texts: Iterable[str]) -> Iterator[str]:
    """Cut runs without a break, of DNA or base64 for example: training takes the square of a run's length."""
    for text in texts:
        if max(map(len, text.split()), default=0) <= _LONGEST_RUN and _LONG_BLANKS.search(text) is None:
            yield text  # told faster than by the whole expression
            continue
        begin = 0
        for run in _LONG_RUN.finditer(text):
            warn_once(
                f"the text has runs of more than {_LONGEST_RUN} characters without a break: the tokenizer learns them "
                "in parts"
            )
            yield text[begin : run.end()]
            begin = run.end()
        yield text[begin:]


def _train_bpe(
    texts: Iterable[str], vocab_size: int, min_frequency: int, progress: bool, cut: Any
) -> tokenizers.Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size <= len(alphabet):
        raise TokenizerError(
            f"vocab_size {vocab_size} is too small for byte-level BPE, which needs 256 bytes and {END_OF_TEXT}: "
            f"use at least {len(alphabet) + 1}, or algorithm 'char'"
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = cut
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=alphabet,
        show_progress=progress,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _train_unigram(
    texts: Iterable[str], vocab_size: int, _frequency: int, progress: bool, _cut: Any
) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size - 1, special_tokens=[_UNKNOWN], unk_token=_UNKNOWN, show_progress=progress
    )
    seen: set[str] = set()
    try:
        backend.train_from_iterator(_noting_characters(texts, seen), trainer)
    except Exception as error:
        if vocab_size >= _least_unigram_size(seen):
            raise
        raise _too_small_for_unigram(vocab_size, seen) from error
    # Outside the model's own pieces: a Unigram model would otherwise find it in ordinary text.
    backend.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, special=True, normalized=False)])
    if backend.get_vocab_size() > vocab_size:  # near the least size the trainer gives more than it was asked for
        raise _too_small_for_unigram(vocab_size, seen)
    return backend


def _noting_characters(texts: Iterable[str], seen: set[str]) -> Iterator[str]:
    for text in texts:
        seen.update(unicodedata.normalize("NFC", text).replace(" ", "\u2581"))
        yield text


def _too_small_for_unigram(vocab_size: int, characters: set[str]) -> TokenizerError:
    return TokenizerError(
        f"vocab_size {vocab_size} is too small for unigram: the text has {len(characters)} distinct characters, each "
        f"of them a token; use at least {_least_unigram_size(characters)}, or algorithm 'bpe'"
    )


def _least_unigram_size(characters: set[str]) -> int:
    """Every character, the unknown token, end-of-text, and one more that the trainer keeps for itself."""
    return len(characters) + 3


def _train_wordpiece(
    texts: Iterable[str], vocab_size: int, frequency: int, progress: bool, _cut: Any
) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=frequency,
        special_tokens=[_UNKNOWN, END_OF_TEXT],
        show_progress=progress,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _train_characters(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    if len(characters) + 1 > vocab_size:
        raise TokenizerError(
            f"the text has {len(characters)} distinct characters, more than vocab_size {vocab_size} can hold "
            f"beside {END_OF_TEXT}: use vocab_size {len(characters) + 1} or more, or algorithm 'bpe'"
        )
    return Tokenizer.from_characters(sorted(characters))
