"""SentencePiece's BPE (Kudo & Richardson 2018): pieces with scores, and bytes for characters that are none.

There, of all neighbours that form a piece, the piece with the best score is made first, the leftmost of equal ones. A
tokenizer.json has merges in an order instead. They say the same if every way to make a piece of two stands there, in
the order of the pieces' scores; that is how merges are made of scores here, and the only form that scores are made of.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers

from llmbuilder.errors import TokenizerError

SPACE = "\u2581"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def merges_from_scores(scores: Mapping[str, float], others: Collection[str] = ()) -> list[tuple[str, str]]:
    """Return the merges that make the pieces with these scores, of each other and of `others`, which nothing makes.

    Raises TokenizerError for scores that no order of merges equals.
    """
    parts = {*scores, *others}
    ways = {piece: found for piece in scores if (found := _ways(piece, parts))}
    for piece in scores:
        lacking = next((sign for sign in piece if sign not in parts), None) if len(piece) > 1 else None
        if lacking is not None:
            raise TokenizerError(f"the piece {piece!r} has the character {lacking!r}, which is no piece itself")
    ordered = sorted(ways, key=lambda piece: -scores[piece])
    for one, other in itertools.pairwise(ordered):
        if scores[one] == scores[other]:
            raise TokenizerError(f"the pieces {one!r} and {other!r} have the same score, {scores[one]}")
    return [way for piece in ordered for way in ways[piece]]


def _ways(piece: str, parts: Collection[str]) -> list[tuple[str, str]]:
    """Return the pairs that form a piece, those with the longer beginning first: of overlapping ones the leftmost."""
    cuts = range(len(piece) - 1, 0, -1)
    return [(piece[:cut], piece[cut:]) for cut in cuts if piece[:cut] in parts and piece[cut:] in parts]


def scores_from_merges(description: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the scores that say what a `tokenizer.json` says by merges; None if none do."""
    model = description["model"]
    if adds_space(description) is None:
        return None
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    scores: dict[str, float] = {}
    for left, right in merges:
        scores.setdefault(left + right, -float(len(scores)))
    added = {token["content"] for token in description["added_tokens"]}
    pieces = [token for token in model["vocab"] if token not in added and token not in BYTES]
    single = {token: -float(len(scores)) for token in pieces if token not in scores}
    try:
        same = merges_from_scores({**scores, **single}, added) == merges
    except TokenizerError:
        return None
    return {**scores, **single} if same else None


def adds_space(description: Mapping[str, Any]) -> bool | None:
    """Whether a tokenizer puts a space before texts; None if it is none of this kind."""
    model, normalizer = description["model"], description["normalizer"] or {}
    if model["type"] != "BPE" or not model.get("byte_fallback") or model.get("ignore_merges") or model.get("dropout"):
        return None
    if description["pre_tokenizer"] not in (None, _AT_SPACES) or not set(BYTES) <= set(model["vocab"]):
        return None
    steps = normalizer.get("normalizers", [normalizer])
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    return {1: False, 2: True}[len(steps)] if steps in ([spaces], [_PREPENDED, spaces]) else None


# Gemma's, which cuts nowhere: no space is left when it comes to it.
_AT_SPACES = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
_PREPENDED = {"type": "Prepend", "prepend": SPACE}


def sentencepiece_backend(
    vocabulary: Mapping[str, int], merges: list[tuple[str, str]], unknown: str | None, *, space_first: bool
) -> tokenizers.Tokenizer:
    """Return a tokenizer of pieces; `space_first` puts a space before every text and takes it away again."""
    model: Any = models.BPE(vocab=dict(vocabulary), merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    spaces: Any = normalizers.Replace(" ", SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if space_first else spaces
    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if space_first else steps)
    return backend
