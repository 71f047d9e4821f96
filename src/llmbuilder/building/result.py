"""What a build ends with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from llmbuilder.export import GGUFExport, GGUFVerification
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without the step-by-step history."""
        values = asdict(self)
        values["training"].pop("history")
        return values
