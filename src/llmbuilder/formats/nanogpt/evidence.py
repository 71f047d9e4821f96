"""What no tensor shows: activations, epsilons, rotary bases and pairs; from what is given, declared, read or usual.

What is taken because a project of that form usually has it is written down in `assumed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from llmbuilder.config.schema import ModelConfig
from llmbuilder.errors import CheckpointError
from llmbuilder.formats.nanogpt.declared import Declared
from llmbuilder.formats.nanogpt.names import NamedWeights
from llmbuilder.formats.nanogpt.source import ArchitectureFacts

Activation = Literal["gelu", "gelu_tanh"]
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu", "gelu_exact": "gelu", "gelu_erf": "gelu", "gelu_tanh": "gelu_tanh", "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_approx": "gelu_tanh", "newgelu": "gelu_tanh",
}  # fmt: skip
_GATES = ("silu", "swish", "swiglu")
_SMALLEST_EPSILON = 1e-12  # for norms that add nothing
FORMS = {
    "nanoGPT": ("gelu", 1e-5),
    "older LLMBuilder scripts": ("gelu", 1e-5),
    "build-nanogpt": ("gelu_tanh", 1e-5),
    "minGPT": ("gelu_tanh", 1e-5),
    "llama2.c": (None, 1e-5),
}


@dataclass
class Evidence:
    """Everything that tells what a checkpoint's model computes."""

    named: NamedWeights
    declared: Declared
    origin: str
    source: ArchitectureFacts | None = None
    activation: str | None = None
    given: ModelConfig | None = None
    assumed: list[str] = field(default_factory=list)

    @property
    def is_given_llama(self) -> bool:
        return self.given is not None and self.given.model_type == "llama"


def dropout_of(evidence: Evidence) -> float:
    value = evidence.given.dropout if evidence.given else evidence.declared.fraction("dropout")
    return value if value is not None else 0.0


def default_of(evidence: Evidence, *names: str) -> int | None:
    """Return what the source's configuration class has where the checkpoint says nothing."""
    defaults: Mapping[str, object] = evidence.source.defaults if evidence.source is not None else {}
    for name in names:
        value = defaults.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            evidence.assumed.append(f"{name} is {value}, the default of the project's own configuration")
            return value
    return None


def epsilon_of(evidence: Evidence, kind: str) -> float:
    declared = evidence.given.norm_eps if evidence.given else evidence.declared.fraction("norm_eps")
    if evidence.origin == "older LLMBuilder scripts":
        declared = None  # its configuration has the key, and its model does not read it
    if declared is not None:
        return declared
    found = evidence.source.norm_epsilons.get(kind, set()) if evidence.source is not None else set()
    if len(found) == 1:
        return max(next(iter(found)), _SMALLEST_EPSILON)
    if evidence.origin not in FORMS or evidence.source is not None:
        evidence.assumed.append("its norms add an epsilon of 1e-05; neither the checkpoint nor the source says so")
    return 1e-5


def theta_of(evidence: Evidence, head_width: int) -> float:
    frequencies = evidence.named.frequencies
    stored = None
    if frequencies is not None and frequencies.dim() == 1 and len(frequencies) == head_width // 2 > 1:
        stored = float(frequencies[1]) ** (-head_width / 2)
        usual = stored ** -(torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
        if not torch.allclose(usual, frequencies.double(), rtol=1e-3):
            raise CheckpointError("its rotary frequencies are scaled, which this package's are not")
        stored = float(f"{stored:.4g}")
    declared = evidence.given.rope_theta if evidence.given else evidence.declared.fraction("rope_theta")
    if declared is not None and stored is not None and abs(declared / stored - 1) > 1e-2:
        raise CheckpointError(f"it declares a rotary base of {declared}, and its frequencies have one of {stored}")
    if declared is not None or stored is not None:
        return declared if declared is not None else float(stored or 0)
    thetas = evidence.source.rope_thetas if evidence.source is not None else set()
    if len(thetas) == 1:
        return next(iter(thetas))
    if evidence.origin != "llama2.c" or evidence.source is not None:
        evidence.assumed.append("the base of its rotary positions is 10000; neither checkpoint nor source says so")
    return 10000.0


def is_interleaved(evidence: Evidence) -> bool:
    kinds = evidence.source.rotary if evidence.source is not None else set()
    if len(kinds) == 1:
        return kinds == {"interleaved"}
    if evidence.origin == "llama2.c":
        return True
    raise CheckpointError(
        "nothing says whether its rotary positions pair neighbouring elements or those half a head apart, which cannot "
        "be seen in weights: give the project's model source as well, as `llmbuilder migrate` does"
    )


def require_silu(evidence: Evidence) -> None:
    declared, source = evidence.declared.text("activation"), evidence.source
    if declared is not None and declared not in _GATES and not evidence.is_given_llama:
        raise CheckpointError(f"a gated MLP with the activation {declared}: this package's is gated by SiLU")
    if source is not None and source.activations and "silu" not in source.activations and declared is None:
        raise CheckpointError(f"a gated MLP with {', '.join(sorted(source.activations))}: this package's has SiLU")


def _read_activation(evidence: Evidence) -> str | None:
    """Return the one activation that the project's source has for a plain MLP with the checkpoint's parts.

    Of several classes that have these parts, the one that the checkpoint names is meant; of several activations in it,
    the one that the checkpoint names, in whichever form the source has it.
    """
    source, declared = evidence.source, evidence.declared
    if source is None:
        return None
    legacy = [name.split(".") for name, common in evidence.named.names.items()
              if common in ("layers.0.up.weight", "layers.0.down.weight")]  # fmt: skip
    parts = {next(word for word in reversed(words[:-1]) if not word.isdigit()) for words in legacy}
    classes = {name: found for name in source.classes if (found := source.activations_with(name, parts))}
    words = {str(value).lower() for value in declared.raw.values() if isinstance(value, str)}
    chosen = [found for name, found in classes.items() if name.lower() in words] or list(classes.values())
    activations = set().union(*chosen) or source.activations
    said = str(declared.values.get("activation", "")).lower()
    alike = {one for one in activations if said and one.partition("_")[0] == said.partition("_")[0]}
    narrowed = alike or activations
    return next(iter(narrowed)) if len(narrowed) == 1 else None


def activation_of(evidence: Evidence) -> Activation:
    """Return the form of GELU in a plain MLP. Raises CheckpointError for another activation, or if nothing tells."""
    declared = evidence.declared.values.get("activation")
    read = _read_activation(evidence)
    for said in (declared, read if declared is None else None):
        if said is not None and str(said).lower() not in _ACTIVATIONS:
            word = "by the project's own default, " if "activation" in evidence.declared.by_default else ""
            raise CheckpointError(f"{word}an MLP with the activation {said}: this package's have GELU")
    if evidence.activation is not None:
        if evidence.activation not in _ACTIVATIONS:
            raise CheckpointError(f"the activation {evidence.activation!r} is not known: give gelu or gelu_tanh")
        return _ACTIVATIONS[evidence.activation]
    if evidence.given is not None and "activation" in evidence.given.model_fields_set:
        return evidence.given.activation
    if "activation" in evidence.declared.held:  # the pickled model's own module
        return _ACTIVATIONS[str(declared).lower()]
    if read in _ACTIVATIONS:  # the source says which form the word "gelu" of its configuration means
        return _ACTIVATIONS[read]
    if declared is not None:
        return _ACTIVATIONS[str(declared).lower()]
    usual = FORMS.get(evidence.origin, (None, 0))[0]
    if usual is None or (evidence.source is not None and evidence.source.activations):
        raise CheckpointError(
            "nothing says whether its GELU is the exact form or the tanh form, which weights do not show: give "
            "--activation gelu or --activation gelu_tanh (activation=...), or the project's model source"
        )
    form = "the exact form of GELU" if usual == "gelu" else "the tanh form of GELU"
    evidence.assumed.append(f"its MLP computes {form}, as in {evidence.origin}; the checkpoint does not say so")
    return _ACTIVATIONS[usual]
