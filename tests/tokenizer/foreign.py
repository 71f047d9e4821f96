"""Tokenizers as other programs save them, made by the `tokenizers` library itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_level(merges: Sequence[tuple[str, str]], vocabulary: dict[str, int] | None = None) -> tokenizers.Tokenizer:
    """Return a byte-level BPE with these merges; ids are the alphabet, then the merges in order."""
    names = dict.fromkeys([*ALPHABET, *("".join(pair) for pair in merges)])
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary or {token: number for number, token in enumerate(names)}, merges=list(merges))
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def learned(texts: Iterable[str], size: int = 600, special: Sequence[str] = ()) -> tokenizers.Tokenizer:
    """Return a byte-level BPE as the library's own trainer makes it, special tokens first."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), initial_alphabet=ALPHABET, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def with_holes(texts: Iterable[str]) -> tokenizers.Tokenizer:
    """Return a byte-level BPE whose ids 100 to 106 and 300 have no token, and a special token far behind them."""
    model = learned(texts, 400)
    merges = json.loads(model.to_str())["model"]["merges"]
    vocabulary = {}
    for token, number in sorted(model.get_vocab().items(), key=lambda item: item[1]):
        vocabulary[token] = number + (7 if number >= 100 else 0) + (1 if number >= 293 else 0)
    vocabulary["<|endoftext|>"] = 420
    backend = byte_level([tuple(pair) for pair in merges], vocabulary)
    backend.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    return backend
