"""Whether every id of a GGUF file is the token, and has the rows, that it has in the model: special ones, too.

Texts reach some hundreds of tokens only. A row that moved by one elsewhere in the vocabulary would be seen by nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from llmbuilder.errors import ExportError
from llmbuilder.formats.gguf.file import GGUFFile
from llmbuilder.formats.gguf.names import TABLES
from llmbuilder.formats.gguf.tokenizer_writing import engine_texts, tokenizer_fields
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer

_TOGETHER = 128  # ids in a request
_LARGEST_ERROR = 0.2  # of a row's length: four bits stay below half of that, another row is off by more than all of it


def requests_for_ids(tokenizer: Tokenizer, between: int) -> list[list[int]]:
    """Return lists of tokens that name every id once, with the token `between` behind each."""
    ids = range(len(tokenizer))
    return [[token for one in ids[at : at + _TOGETHER] for token in (one, between)] for at in ids[::_TOGETHER]]


def require_same_ids(path: Path, tokenizer: Tokenizer, between: int, answers: Sequence[str]) -> None:
    """Compare llama.cpp's answers to `requests_for_ids`, and the file's own list. Raises ExportError if ids differ."""
    expected = engine_texts(tokenizer)
    for request, answer in zip(requests_for_ids(tokenizer, between), answers, strict=True):
        if _comparable(answer) != _comparable("".join(expected[token] for token in request)):
            raise ExportError(
                f"{path}: llama.cpp reads other tokens than this tokenizer's between the ids {request[0]} and "
                f"{request[-2]}: {answer[:80]!r}; the file belongs to another tokenizer or was changed: export it again"
            )
    ours = next(list(arguments[0]) for name, arguments in tokenizer_fields(tokenizer) if name == "add_token_list")
    # Halves of characters look alike when written as text: the file's own list tells them apart.
    theirs = GGUFFile(path).fields["tokenizer.ggml.tokens"]
    wrong = [number for number, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    if wrong:
        raise ExportError(
            f"{path}: {len(wrong):,} of {len(ours):,} ids are other tokens in the file; id {wrong[0]} is "
            f"{theirs[wrong[0]]!r}, not {ours[wrong[0]]!r}: export it again"
        )


def _comparable(text: str) -> str:
    """Libraries differ in how many signs they write for bytes that are no character."""
    return re.sub("\ufffd+", "\ufffd", text)


def require_same_rows(path: Path, model: LanguageModel, size: int) -> None:
    """Compare the rows of the file's token tables with the model's. Raises ExportError for one that is another's."""
    file = GGUFFile(path)
    for name, table in zip(TABLES, (model.embedding.weight, model.lm_head.weight), strict=True):
        if name not in file.tensors:
            continue
        wrong = _wrong_rows(file.read_rows(name), table[:size])
        if wrong:
            raise ExportError(
                f"{path}: {len(wrong):,} of the {size:,} rows of {name} are not the model's, the first one that "
                f"of id {wrong[0]}: export it again"
            )


def _wrong_rows(pieces: Iterable[np.ndarray], table: Tensor) -> list[int]:
    wrong: list[int] = []
    begin = 0
    for theirs in pieces:
        ours = table[begin : begin + len(theirs)].detach().float().cpu().numpy()
        error = np.linalg.norm(theirs - ours, axis=1)
        allowed = _LARGEST_ERROR * np.linalg.norm(ours, axis=1) + 1e-6
        wrong += (begin + np.flatnonzero(~(error <= allowed))).tolist()
        begin += len(theirs)
    return wrong
