"""How many bytes of text each token stands for, so that models with different tokenizers can be compared."""

from __future__ import annotations

import json
import re

import numpy as np

from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.shards import TokenShards

NO_TEXT = -1  # a special token: it stands for no bytes, and what predicting it cost is no cost of text
_COUNTED_AT_A_TIME = 1 << 20
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>$")


def token_bytes(tokenizer: Tokenizer) -> np.ndarray:
    """Return the number of UTF-8 bytes of every token by its id, NO_TEXT for special tokens and the separator.

    Exact for byte-level BPE and characters: the bytes of a text's tokens add up to those of the text. Other kinds
    do not keep every space and letter form; theirs is what a token adds when it is decoded after another.
    """
    sizes = np.full(len(tokenizer), NO_TEXT, dtype=np.int64)
    added = {token["content"] for token in json.loads(tokenizer.to_json())["added_tokens"]}
    special = tokenizer.special_ids() | {tokenizer.end_of_text_id}
    vocabulary = {token: id for token, id in tokenizer.vocabulary().items() if id not in special}
    anchor = next((id for token, id in vocabulary.items() if token.isalnum() and token.isascii()), None)
    for token, id in vocabulary.items():
        if tokenizer.algorithm == "bpe" and token not in added:
            sizes[id] = len(token)  # byte-level BPE writes every byte as one character
        elif tokenizer.algorithm in ("bpe", "char") or anchor is None:
            sizes[id] = len(token.encode("utf-8"))
        elif _BYTE.match(token):
            sizes[id] = 1
        else:
            alone, both = tokenizer.decode([anchor]), tokenizer.decode([anchor, id])
            sizes[id] = len(both.encode("utf-8")) - len(alone.encode("utf-8"))
    return sizes


def mean_token_bytes(tokens: np.ndarray | TokenShards, sizes: np.ndarray) -> float:
    """Return the bytes of text that a token of `tokens` stands for on average; `sizes` are those of `token_bytes`."""
    counts = np.zeros(len(sizes), dtype=np.int64)
    for begin in range(0, len(tokens), _COUNTED_AT_A_TIME):  # they may be more than fit into memory
        counts += np.bincount(tokens[begin : begin + _COUNTED_AT_A_TIME].astype(np.int64), minlength=len(sizes))
    return float((counts * np.maximum(sizes, 0)).sum() / max(1, counts.sum()))
