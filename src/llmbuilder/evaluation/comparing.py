"""Several models on several texts, in what can be compared between any two of them: bits per byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmbuilder.errors import ConfigError
from llmbuilder.evaluation.intervals import Interval, change_interval
from llmbuilder.evaluation.perplexity import Evaluation, Sliding, score_text
from llmbuilder.evaluation.scoring import Score
from llmbuilder.inference.generation import load_generator
from llmbuilder.stages import Progress, no_progress


@dataclass(frozen=True)
class ComparedText:
    """One text and what each model makes of it, in the order in which the models were named.

    `changes` are the bits per byte less (below zero) or more than the first model takes, as a share of its own, and
    `change_intervals` where they would lie, 19 times of 20, on other text of the same kind; None of too short a text.
    """

    data: str
    evaluations: list[Evaluation]
    change_intervals: list[Interval | None]

    @property
    def changes(self) -> list[float]:
        first = self.evaluations[0].bits_per_byte
        return [found.bits_per_byte / first - 1 for found in self.evaluations]


def compare_models(
    models: Sequence[str | Path],
    data: Sequence[str | Path],
    *,
    window: int | None = None,
    stride: int | None = None,
    apart: bool = False,
    batch_size: int = 8,
    device: str | None = None,
    progress: Progress = no_progress,
) -> list[ComparedText]:
    """Measure every model on every text, one model in memory at a time, as `evaluate_model` does.

    Loss and perplexity are per token, which models with other tokenizers cut otherwise: bits per byte are not. Raises
    ConfigError for less than two models, and what `evaluate_model` raises.
    """
    if len(models) < 2:
        raise ConfigError("name two models or more to compare")
    sliding = Sliding(window, stride, batch_size, apart)
    columns = []
    for model in models:
        generator = load_generator(model, None, device)
        columns.append([score_text(generator, text, sliding, progress) for text in data])
    return [_compared(str(text), list(row)) for text, row in zip(data, zip(*columns, strict=True), strict=True)]


def _compared(data: str, scores: Sequence[Score]) -> ComparedText:
    intervals = [change_interval(scores[0].blocks, found.blocks) for found in scores]
    return ComparedText(data, [Evaluation.of(found) for found in scores], intervals)
