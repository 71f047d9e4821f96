"""Learning rates as a pure function of where a run is on its course (`RunState.course`)."""

from __future__ import annotations

import math

from llmbuilder.config.schema import TrainingConfig

_STABLE_SHARE = 0.5  # 'linear' holds the peak for this share of the run


def learning_rate_factor(step: float, max_steps: int, config: TrainingConfig) -> float:
    """Return the share of the peak learning rate at `step` (counted from 0).

    Linear warm-up, then 'cosine' decay (Loshchilov & Hutter 2017; nanoGPT's formula), 'linear' (flat, then a
    straight line down) or 'constant'. After the decay the minimum holds.
    """
    minimum = 0.1 if config.min_learning_rate is None else config.min_learning_rate / config.learning_rate
    end = config.lr_decay_steps or max_steps
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    if config.lr_schedule == "constant":
        return 1.0
    if step > end:
        return minimum
    progress = (step - config.warmup_steps) / max(1, end - config.warmup_steps)
    if config.lr_schedule == "cosine":
        return minimum + 0.5 * (1 + math.cos(math.pi * progress)) * (1 - minimum)
    return 1.0 if progress < _STABLE_SHARE else 1 - (1 - minimum) * (progress - _STABLE_SHARE) / (1 - _STABLE_SHARE)


def muon_momentum(step: float, max_steps: int) -> float:
    """Return Muon's momentum: from 0.85 to its end over the first 15% of the run, at most 300 steps.

    The end is 0.95, less for runs of under 1,000 steps, which such a long memory would slow down.
    """
    end = 0.85 + 0.10 * min(1.0, max_steps / 1000)
    ramp = max(1, min(300, round(0.15 * max_steps)))
    return 0.85 + (end - 0.85) * min(1.0, step / ramp)


def is_due(every: int, before: float, after: float) -> bool:
    """Return whether a multiple of `every` lies in the piece of the course that a step has covered; 0 is never."""
    return every > 0 and int(after // every) > int(before // every)
