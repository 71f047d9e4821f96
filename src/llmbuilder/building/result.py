"""What a build ends with, and the same as plain values that a later process reads back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from llmbuilder.evaluation.proportions import Proportion
from llmbuilder.export import GGUFExport, GGUFVerification
from llmbuilder.report.card import result_card
from llmbuilder.training import TrainingResults

BASE, ADAPTED, WITH_PASSAGES = READERS = ("base", "adapted", "with_passages")


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
class Lead:
    """The reader with the most right answers, and those that may be as good: their difference may be chance."""

    best: str
    alike: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class GroupAnswers:
    """How many questions about one group of documents each reader got right."""

    group: str
    base: Proportion
    adapted: Proportion
    with_passages: Proportion
    lead: Lead

    @property
    def shares(self) -> list[Proportion]:
        """The shares in the order of `READERS`."""
        return [self.base, self.adapted, self.with_passages]


@dataclass(frozen=True)
class Answers:
    """What the base, the adapted model, and the base with passages found in the training part answer.

    Guessing gets `chance` of the questions right. `lead` is over all questions; `harm` says that the adapted model got
    fewer right than the base, and not by chance. `example` is one of the questions. Without groups, `reason` says why
    nothing was asked.
    """

    groups: list[GroupAnswers] = field(default_factory=list)
    chance: float = 0.0
    lead: Lead | None = None
    harm: bool = False
    example: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Answers:
        """Return the answers whose fields these are, also after they were JSON."""
        groups = [
            GroupAnswers(
                group["group"],
                **{reader: Proportion(**group[reader]) for reader in READERS},
                lead=Lead(**group["lead"]),
            )
            for group in values.get("groups", [])
        ]
        lead = values.get("lead")
        return cls(**{**_known(cls, values), "groups": groups, "lead": None if lead is None else Lead(**lead)})


@dataclass(frozen=True)
class Adaptation:
    """What became of a base: how it was adapted, and bits per byte before and after, on the same bytes.

    `learned` is the number of parameters that learned. `held_out` is of the owner's documents, `general` of a
    `general_text` that they do not hold; None where that was not measured. `answers` are those to questions about the
    documents, and `passes` says how often the training part was read. `warnings` say where the numbers are worse than
    they were.
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
    answers: Answers | None = None
    passes: float | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Adaptation:
        """Return the adaptation whose fields these are, also after they were JSON."""
        answers = values.get("answers")
        return cls(**{**_known(cls, values), "answers": None if answers is None else Answers.from_dict(answers)})


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
        kinds = {"export": GGUFExport, "verification": GGUFVerification}
        for name, kind in kinds.items():
            if values.get(name) is not None:
                known[name] = kind(**_known(kind, values[name]))
        for name, read in (("expected", Expectation.from_dict), ("adaptation", Adaptation.from_dict)):
            if values.get(name) is not None:
                known[name] = read(values[name])
        return cls(**known)


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {item.name: values[item.name] for item in fields(kind) if item.name in values}
