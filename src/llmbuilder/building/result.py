"""What a build ends with, and the same as plain values that a later process reads back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from llmbuilder.export import GGUFExport, GGUFVerification
from llmbuilder.report.card import result_card
from llmbuilder.training import TrainingResults


@dataclass(frozen=True)
class Expectation:
    """What a plan foresees: steps, tokens and seconds of training, and bits per byte with their 80% interval.

    Where a model is adapted there is no law that foresees the bits: they are None. `longer` names larger budgets:
    seconds for the whole build, and the bits per byte to expect with them.
    """

    steps: int
    tokens: int
    tokens_per_second: float
    bits_per_byte: float | None = None
    bits_low: float | None = None
    bits_high: float | None = None
    training_seconds: float = 0.0
    longer: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Expectation:
        """Return the expectation whose fields these are, also after they were JSON."""
        longer = [(seconds, bits) for seconds, bits in values.get("longer", [])]
        return cls(**{**_known(cls, values), "longer": longer})


@dataclass(frozen=True)
class Sample:
    """A beginning that was given to the model, and what it wrote after it; `base` is what its base wrote."""

    prompt: str
    continuation: str
    base: str | None = None

    def __str__(self) -> str:
        return self.prompt + self.continuation


@dataclass(frozen=True)
class Adaptation:
    """What became of a base: how it was adapted, and bits per byte before and after, on the same bytes.

    `learned` is the number of parameters that learned. `held_out` is of the owner's documents, `general` of a
    `general_text` that they do not hold; None where that was not measured. `warnings` say where the numbers are worse
    than they were.
    """

    base: str
    method: str
    rank: int | None
    learned: int
    held_out_before: float | None
    held_out_after: float | None
    general_text: str
    general_before: float | None
    general_after: float | None
    warnings: list[str] = field(default_factory=list)


@dataclass
class BuildResult:
    """Everything a build ends with; `bits_per_byte` and `perplexity` are of the validation part.

    `ability` says in a sentence what the model can do, and `copied_share` is the share of what it wrote in its
    samples that stands in its corpus word for word, 0 to 1. `held_out` names the documents that were kept out of
    training; it is empty where they have no names. `longest_copied` is the longest piece of its corpus that it wrote in
    its samples. `modelfile` is what Ollama makes its model from. `adaptation` is there where it began from a base.
    """

    output: str
    model_path: str
    gguf_path: str | None
    documents: dict[str, Any]
    plan: str | None
    training: TrainingResults
    bits_per_byte: float | None
    samples: list[Sample]
    export: GGUFExport | None
    verification: GGUFVerification | None
    seconds: float
    machine: dict[str, Any] = field(default_factory=dict)
    expected: Expectation | None = None
    held_out: list[str] = field(default_factory=list)
    ability: str = ""
    copied_share: float | None = None
    longest_copied: str = ""
    adaptation: Adaptation | None = None
    modelfile: str | None = None
    parameters: int | None = None

    def _repr_html_(self) -> str:
        """Return a card with the loss curve, which notebooks show."""
        best = self.training.best_validation_loss
        facts = {
            "documents": self.documents.get("documents"),
            "validation loss": None if best is None else f"{best:.3f} nats per token",
            "bits per byte": None if self.bits_per_byte is None else f"{self.bits_per_byte:.3f}",
            "model": self.model_path,
            "GGUF": self.gguf_path,
            "what it can do": self.ability or None,
            "sample": str(self.samples[0])[:200] if self.samples else None,
        }
        return result_card("Build", facts, self.training.history)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without the step-by-step history."""
        values = asdict(self)
        values["training"].pop("history")
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BuildResult:
        """Return the result that `to_dict` gave, also after it was JSON; names of other versions are passed over."""
        known = _known(cls, values)
        known["training"] = TrainingResults(**_known(TrainingResults, values["training"]))
        known["samples"] = [Sample(**_known(Sample, sample)) for sample in values["samples"]]
        kinds = {"export": GGUFExport, "verification": GGUFVerification, "adaptation": Adaptation}
        for name, kind in kinds.items():
            if values.get(name) is not None:
                known[name] = kind(**_known(kind, values[name]))
        if (expected := values.get("expected")) is not None:
            known["expected"] = Expectation.from_dict(expected)
        return cls(**known)


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {item.name: values[item.name] for item in fields(kind) if item.name in values}
