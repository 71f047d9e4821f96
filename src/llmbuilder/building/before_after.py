"""What adapting did, measured on the same bytes before and after: the owner's held-out documents, and general text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmbuilder.building.general_text import GeneralText
from llmbuilder.building.result import Adaptation
from llmbuilder.data import TextDataset
from llmbuilder.evaluation.scoring import score
from llmbuilder.evaluation.token_bytes import token_bytes
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer

MOST_FORGOTTEN = 0.03  # of the bits per byte of general text


@dataclass(frozen=True)
class Measure:
    """What is scored: this many windows of each text, spread over it; with `general` None the held-out text alone."""

    windows: int
    general_windows: int
    general: GeneralText | None = None

    def to_dict(self) -> dict[str, int]:
        """Return the numbers as plain values."""
        return {"windows": self.windows, "general_windows": self.general_windows}


@dataclass(frozen=True)
class Scores:
    """Bits per byte; None where there is nothing to measure them on."""

    held_out: float | None
    general: float | None


def measure_scores(model: LanguageModel, dataset: TextDataset, tokenizer: Tokenizer, measure: Measure) -> Scores:
    """Score a model on the held-out part of a dataset and on a general text, one window at a time."""
    sizes = token_bytes(tokenizer)
    held_out = general = None
    if dataset.validation is not None:
        held_out = score(model, dataset.validation.in_order(1, measure.windows), sizes).bits_per_byte
    if measure.general is not None:
        windows = _spread_windows(measure.general.tokens, dataset.block_size, measure.general_windows)
        general = score(model, windows, sizes).bits_per_byte
    return Scores(_number(held_out), _number(general))


def warnings_of(found: Adaptation) -> list[str]:
    """Return in plain sentences where the numbers say that adapting did harm."""
    said = []
    before, after = found.held_out_before, found.held_out_after
    if before is not None and after is not None and after >= before:
        said.append(
            f"it predicts your documents no better than the base ({after:.3f} bits per byte, {before:.3f} before): use "
            "the base, or give it more documents or a longer time"
        )
    before, after = found.general_before, found.general_after
    if before is not None and after is not None and after > (1 + MOST_FORGOTTEN) * before:
        said.append(
            f"it predicts general text {after / before - 1:.0%} worse than the base ({after:.3f} bits per byte, "
            f"{before:.3f} before): it has forgotten some of what it knew; a smaller training.learning_rate or less "
            "time keep more"
        )
    if found.answers is not None and found.answers.harm:
        said.append(
            "it answers fewer questions about your documents than the base, and not by chance: use the base, alone or "
            "with passages found in them (generate text --documents)"
        )
    return said


def _spread_windows(tokens: np.ndarray, window: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    window = min(window, len(tokens) - 1)
    starts = np.linspace(0, len(tokens) - window - 1, max(1, count)).astype(int).tolist()
    for start in starts:
        row = torch.from_numpy(tokens[start : start + window + 1])[None]
        yield row[:, :-1], row[:, 1:]


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
