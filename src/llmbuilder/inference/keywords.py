"""The settings of generation as keywords, so that editors complete them and type checkers know them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class SamplingSettings(TypedDict, total=False):
    """The fields of `GenerationConfig` but `max_new_tokens` and `num_samples`; None switches a filter off."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    stop: Sequence[str]
    stop_at_eos: bool
    do_sample: bool
    seed: int | None


class GenerationSettings(SamplingSettings, total=False):
    """All of them."""

    num_samples: int
