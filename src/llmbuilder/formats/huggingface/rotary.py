"""Rotary positions in a Hugging Face `config.json`: `rope_theta` with `rope_scaling` (transformers 4), or
`rope_parameters` (transformers 5).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from llmbuilder.config.model_schema import ModelConfig, RopeScaling

_OF_LAYERS = ("full_attention", "sliding_attention")  # some files have one set for each kind of layer
_HONOURED = {"rope_theta", "rope_type", "type"}
# Only some kinds read these; transformers passes over them in the others.
_OF_KINDS = {"factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
             "low_freq_factor", "high_freq_factor", "short_factor", "long_factor", "mscale", "mscale_all_dim",
             "truncate", "finetuned"}  # fmt: skip
_NEEDED = {"linear": ("factor",), "llama3": ("factor", "low_freq_factor", "high_freq_factor")}


def read_rotary(known: dict[str, Any], named: Mapping[str, Any]) -> Iterator[str]:
    """Put into `known` what `ModelConfig` calls `rope_theta` and `rope_scaling`; yield what is not supported.

    `known` are the fields of a file with those that are absent, `named` without them.
    """
    rope = known["rope_scaling"] or known["rope_parameters"] or {}
    known["rope_scaling"] = None
    if "rope_local_base_freq" in known:
        rope = yield from _by_kind(rope, known)
    elif isinstance(rope, Mapping) and any(isinstance(rope.get(kind), Mapping) for kind in _OF_LAYERS):
        sets = [rope[kind] for kind in _OF_LAYERS if rope.get(kind) is not None]
        if any(other != sets[0] for other in sets[1:]):
            yield "rotary positions that differ between kinds of layers"
            return
        rope = sets[0]
    if not isinstance(rope, Mapping):
        yield f"rope scaling {rope!r}"[:100]
        return
    for name, value in rope.items():
        whole = name == "partial_rotary_factor" and value == 1.0
        if name not in _HONOURED | _OF_KINDS and value is not None and not whole:
            yield f"rope {name} {value!r}"[:100]
    inside, outside = rope.get("rope_theta"), named.get("rope_theta")
    if inside is not None and outside is not None and inside != outside:
        yield f"two values of rope_theta ({inside} and {outside})"
    known["rope_theta"] = inside if inside is not None else known["rope_theta"]
    yield from _read_scaling(rope, known)


def _by_kind(rope: Any, known: dict[str, Any]) -> Generator[str, None, Any]:
    """Return Gemma 3's set for layers that see all, and put what those with a window turn by into `known`."""
    known["windowed_rope_theta"] = known["rope_local_base_freq"]
    if not isinstance(rope, Mapping) or rope is not known["rope_parameters"]:
        return rope  # the form of transformers 4, which is for layers that see all
    everywhere, windowed = (rope.get(kind) or {} for kind in _OF_LAYERS)
    if not isinstance(windowed, Mapping) or windowed.get("rope_type", "default") != "default":
        yield f"rope scaling {windowed!r} in layers with a window"[:100]
    elif rope.keys() - set(_OF_LAYERS):
        yield f"rope_parameters {dict(rope)!r}"[:100]
    else:
        known["windowed_rope_theta"] = windowed.get("rope_theta", known["windowed_rope_theta"])
    return everywhere


def _read_scaling(rope: Mapping[str, Any], known: dict[str, Any]) -> Iterator[str]:
    kind, context = rope.get("rope_type", rope.get("type", "default")), known["max_position_embeddings"]
    before = known["original_max_position_embeddings"] or rope.get("original_max_position_embeddings") or context
    if kind == "default" or (kind == "dynamic" and before == context):
        return  # dynamic ones change beyond the context, which no sequence is here
    if kind not in ("linear", "llama3", "yarn"):
        yield f"rope scaling ({kind})"[:100]
        return
    missing = [name for name in _NEEDED.get(kind, ()) if rope.get(name) is None]
    if missing:
        yield f"rope scaling ({kind}) without {', '.join(missing)}"
        return
    try:
        known["rope_scaling"] = _scaling(kind, rope, before, context)
    except (ValidationError, TypeError, ValueError, ArithmeticError):
        yield f"rope scaling {dict(rope)!r}"[:200]


def _scaling(kind: str, rope: Mapping[str, Any], before: int, context: int) -> RopeScaling:
    values: dict[str, Any] = {"kind": kind, "factor": rope.get("factor")}
    if kind == "llama3":
        values |= {"original_max_seq_length": before, "low_freq_factor": rope["low_freq_factor"],
                   "high_freq_factor": rope["high_freq_factor"]}  # fmt: skip
    elif kind == "yarn":
        factor = context / before if values["factor"] is None else values["factor"]
        values |= {"factor": factor, "original_max_seq_length": before, "beta_fast": rope.get("beta_fast") or 32.0,
                   "beta_slow": rope.get("beta_slow") or 1.0, "attention_factor": _attention_factor(rope, factor),
                   "truncate": rope.get("truncate", True)}  # fmt: skip
    return RopeScaling(**values)


def _attention_factor(rope: Mapping[str, Any], factor: float) -> float | None:
    """Return the factor that a file names, or DeepSeek's form of it, a ratio; None for YaRN's own."""
    above, below = rope.get("mscale"), rope.get("mscale_all_dim")
    if rope.get("attention_factor") is not None or not (above and below):
        return rope.get("attention_factor")
    if factor <= 1:
        return 1.0
    return (0.1 * above * math.log(factor) + 1.0) / (0.1 * below * math.log(factor) + 1.0)


def rotary_fields(config: ModelConfig) -> dict[str, Any]:
    """Return the fields that say how positions turn, for transformers 4 and 5."""
    scaling = config.rope_scaling
    if scaling is None:
        return {
            "rope_theta": config.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        }
    fields: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind != "linear":
        fields["original_max_position_embeddings"] = scaling.original_max_seq_length or config.max_seq_length
    if scaling.kind == "llama3":
        fields |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    elif scaling.kind == "yarn":
        fields |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow, "truncate": scaling.truncate}
        fields |= {} if scaling.attention_factor is None else {"attention_factor": scaling.attention_factor}
    return {
        "rope_theta": config.rope_theta,
        "rope_scaling": fields,
        "rope_parameters": {**fields, "rope_theta": config.rope_theta},
    }
