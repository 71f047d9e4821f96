"""What a build ends with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from llmbuilder.export import GGUFExport, GGUFVerification
from llmbuilder.report.card import result_card
from llmbuilder.training import TrainingResults


@dataclass
class BuildResult:
    """Everything a build ends with; `bits_per_byte` and `perplexity` are of the validation part."""

    output: str
    model_path: str
    gguf_path: str | None
    documents: dict[str, Any]
    plan: str | None
    training: TrainingResults
    bits_per_byte: float | None
    samples: list[str]
    export: GGUFExport | None
    verification: GGUFVerification | None
    seconds: float
    machine: dict[str, Any] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Return a card with the loss curve, which notebooks show."""
        best = self.training.best_validation_loss
        facts = {
            "documents": self.documents.get("documents"),
            "validation loss": None if best is None else f"{best:.3f} nats per token",
            "bits per byte": None if self.bits_per_byte is None else f"{self.bits_per_byte:.3f}",
            "model": self.model_path,
            "GGUF": self.gguf_path,
            "sample": self.samples[0][:200] if self.samples else None,
        }
        return result_card("Build", facts, self.training.history)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without the step-by-step history."""
        values = asdict(self)
        values["training"].pop("history")
        return values
