"""What a finished model is asked to go on from: how documents begin that it was not trained on."""

from __future__ import annotations

import numpy as np

from llmbuilder.data import TextDataset
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.shards import TokenShards

_SEARCHED = 1 << 20  # tokens, from the first on
_TOKENS, _CHARACTERS = 32, 80  # of a beginning at most
_SHORT = 15  # characters


def held_out_beginnings(dataset: TextDataset, count: int) -> list[str]:
    """Return how `count` held-out documents begin, spread over all of them; fewer if there are fewer.

    They end between words where the script has spaces. Documents that are very short come only where there are no
    others. Without a validation part it is the training part's documents, without a token between documents any place.
    """
    assert dataset.tokenizer is not None
    tokens = (dataset.validation or dataset.train).tokens
    starts = _document_starts(tokens, dataset.tokenizer.end_of_text_id, count)
    texts = [_beginning(tokens, start, dataset.tokenizer) for start in starts]
    longer = [text for text in texts if len(text) >= _SHORT] or [text for text in texts if text] or [""]
    chosen = np.linspace(0, len(longer) - 1, min(count, len(longer))).astype(int).tolist()
    return [longer[number] for number in chosen]


def _document_starts(tokens: np.ndarray | TokenShards, separator: int | None, count: int) -> list[int]:
    """Return where some documents begin, more than `count` because not all will do."""
    searched = tokens[: min(len(tokens), _SEARCHED)]
    if separator is None:
        return np.linspace(0, max(0, len(searched) - _TOKENS), 4 * count).astype(int).tolist()
    starts = np.append(0, np.flatnonzero(searched == separator) + 1)
    starts = starts[starts < len(searched)]
    return starts[np.linspace(0, len(starts) - 1, min(8 * count, len(starts))).astype(int)].tolist()


def _beginning(tokens: np.ndarray | TokenShards, start: int, tokenizer: Tokenizer) -> str:
    found = tokens[start : start + _TOKENS].tolist()
    if tokenizer.end_of_text_id in found:
        found = found[: found.index(tokenizer.end_of_text_id)]
    text = tokenizer.decode_document(found).strip()
    is_whole = len(found) < _TOKENS and len(text) <= _CHARACTERS
    text = text[:_CHARACTERS].rstrip("\ufffd")  # half a character at the end is none
    last = max(text.rfind(space) for space in " \n\t")
    return text if is_whole or last < len(text) // 2 else text[:last].rstrip()
