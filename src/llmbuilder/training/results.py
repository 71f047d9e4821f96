"""What a training run ends with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class TrainingResults:
    """The outcome of a run. Losses are nats per token; `training_time` is seconds spent in this process.

    `final_loss` is the mean training loss of the last logging interval; `perplexity` belongs to the best
    validation loss, or to the final loss when there is no validation part.
    """

    final_loss: float
    best_validation_loss: float | None
    perplexity: float
    tokens_per_second: float
    training_time: float
    steps: int
    model_path: str | None
    tokenizer_path: str | None
    history: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
