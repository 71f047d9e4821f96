"""Tokenizers as other programs save them, made by the `tokenizers` library itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from random import Random

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from llmbuilder.tokenizer import SpecialTokens, Tokenizer
from llmbuilder.tokenizer.sentencepiece import BYTES, SPACE, merges_from_scores, sentencepiece_backend

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


def random_texts(count: int = 1500) -> list[str]:
    """Return texts of white space of every kind, digits of other scripts, combining marks, emoji and contractions."""
    pools = [
        "abc XYZ",
        "0123 ²٣½Ⅷ",
        " \t\n\r\u00a0\u2003\u2028\u3000\x0b\x85",
        "éü日本語한עב",
        "🙂👩‍👧🏳️‍🌈",
        "!@#|:<>?",
        "\u0301\u200d\ufe0f\u00ad",
        "'s't're've'm'll'd",
        "".join(map(chr, range(0x370, 0x600))),
    ]
    random = Random(0)
    return ["".join(random.choice(random.choice(pools)) for _ in range(random.randint(1, 25))) for _ in range(count)]


def pieces_like_sentencepiece(
    texts: Sequence[str], size: int, *, space_first: bool = True, more: Sequence[str] = ()
) -> Tokenizer:
    """Return a SentencePiece BPE of `size` pieces as Llama 2 has one: bytes, then learned pieces, then characters.

    `more` pieces come before the learned ones.
    """
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = tokenizers.normalizers.Replace(" ", SPACE)
    backend.pre_tokenizer = pre_tokenizers.Split(SPACE, "merged_with_next")
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, show_progress=False))
    model = json.loads(backend.to_str())["model"]
    learned_pieces = list(dict.fromkeys("".join(pair) for pair in model["merges"]))
    special = ["<unk>", "<s>", "</s>"]
    names = [*special, *BYTES, *more, *learned_pieces, *(token for token in model["vocab"] if len(token) == 1)]
    pieces = [name for name in names if name not in special and name not in BYTES]
    merges = merges_from_scores({piece: -float(number) for number, piece in enumerate(pieces)})
    vocabulary = {name: number for number, name in enumerate(names)}
    found = sentencepiece_backend(vocabulary, merges, "<unk>", space_first=space_first)
    found.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return Tokenizer(found, SpecialTokens(begin="<s>", end="</s>", unknown="<unk>", adds_begin=True))
