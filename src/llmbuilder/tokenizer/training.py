"""Training a tokenizer from text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from llmbuilder.errors import TokenizerError
from llmbuilder.tokenizer.tokenizer import END_OF_TEXT, Tokenizer

_UNKNOWN = "<|unknown|>"


def choose_vocab_size(characters: int) -> int:
    """Return a vocabulary size for a corpus: a power of two near the square root of its characters, 512 to 32768."""
    return 2 ** min(15, max(9, round(math.log2(math.sqrt(max(1, characters)) * 1.2))))


def train_tokenizer(
    texts: Iterable[str],
    *,
    algorithm: str = "bpe",
    vocab_size: int = 16000,
    min_frequency: int = 2,
    show_progress: bool = False,
) -> Tokenizer:
    """Learn a tokenizer of at most `vocab_size` tokens from `texts`, which are read once.

    'bpe' is byte-level with GPT-2's pre-tokenizer (Radford et al. 2019) and never meets an unknown character;
    'char' has one token per distinct character; 'unigram' (Kudo 2018) and 'wordpiece' (Schuster & Nakajima
    2012) have an unknown token. A small text yields fewer tokens than asked for.
    Raises TokenizerError for an unknown algorithm, no text, or a vocabulary too small for the alphabet.
    """
    trainers_by_name = {"bpe": _train_bpe, "unigram": _train_unigram, "wordpiece": _train_wordpiece}
    checked = _not_empty(texts)
    if algorithm == "char":
        return _train_characters(checked, vocab_size)
    if algorithm not in trainers_by_name:
        raise TokenizerError(f"unknown tokenizer algorithm {algorithm!r}; there are bpe, unigram, wordpiece, char")
    backend = trainers_by_name[algorithm](checked, vocab_size, min_frequency, show_progress)
    return Tokenizer.from_json(backend.to_str())  # as it will be read back: scores lose digits when written


def _not_empty(texts: Iterable[str]) -> Iterator[str]:
    seen = False
    for text in texts:
        seen = seen or bool(text.strip())
        yield text
    if not seen:
        raise TokenizerError("there is no text to learn a tokenizer from")


def _train_bpe(texts: Iterable[str], vocab_size: int, min_frequency: int, progress: bool) -> tokenizers.Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size <= len(alphabet):
        raise TokenizerError(
            f"vocab_size {vocab_size} is too small for byte-level BPE, which needs 256 bytes and {END_OF_TEXT}: "
            f"use at least {len(alphabet) + 1}, or algorithm 'char'"
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
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


def _train_unigram(texts: Iterable[str], vocab_size: int, _frequency: int, progress: bool) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size - 1, special_tokens=[_UNKNOWN], unk_token=_UNKNOWN, show_progress=progress
    )
    backend.train_from_iterator(texts, trainer)
    # Outside the model's own pieces: a Unigram model would otherwise find it in ordinary text.
    backend.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return backend


def _train_wordpiece(texts: Iterable[str], vocab_size: int, frequency: int, progress: bool) -> tokenizers.Tokenizer:
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
