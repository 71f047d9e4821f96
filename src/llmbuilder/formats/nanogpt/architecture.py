"""Which model a checkpoint holds: decided by its tensors, by what it declares and by the project's source together.

What this package's two families can express is loaded as what it is. Everything else is refused with what is missing;
what nothing tells is asked for, or assumed and said so.
"""

from __future__ import annotations

import torch

from llmbuilder.config.schema import ModelConfig
from llmbuilder.errors import CheckpointError
from llmbuilder.formats.nanogpt.arranging import Layout
from llmbuilder.formats.nanogpt.declared import Declared
from llmbuilder.formats.nanogpt.evidence import (
    FORMS,
    Evidence,
    activation_of,
    default_of,
    dropout_of,
    epsilon_of,
    is_interleaved,
    require_silu,
    theta_of,
)
from llmbuilder.formats.nanogpt.names import NamedWeights

_NORMS = {"layernorm": "LayerNorm", "layer_norm": "LayerNorm", "ln": "LayerNorm", "rmsnorm": "RMSNorm",
          "rms_norm": "RMSNorm", "rms": "RMSNorm"}  # fmt: skip


def decide_architecture(evidence: Evidence) -> Layout:
    """Return the model a checkpoint holds. Raises CheckpointError if no family of this package computes it."""
    named, declared = evidence.named, evidence.declared
    if named.left:
        raise CheckpointError(f"it holds tensors that this package has no place for: {', '.join(named.left[:6])}")
    _require_known_source(evidence)
    _require_parts(named)
    positions, norm, is_gated = _positions(evidence), _norm(evidence), "layers.0.gate.weight" in named.tensors
    found = (positions, norm, "gated MLP" if is_gated else "plain MLP")
    if found == ("learned positions", "LayerNorm", "plain MLP"):
        layout = Layout(_gpt(evidence))
    elif found == ("rotary positions", "RMSNorm", "gated MLP"):
        layout = _llama(evidence)
    else:
        raise CheckpointError(
            f"{positions} with {norm} and a {found[2]}: this package has no such family (it has learned positions with "
            "LayerNorm and a plain MLP, and rotary positions with RMSNorm and a gated one)"
        )
    _require_shape(layout.config, declared, evidence.given)
    return layout


def _require_known_source(evidence: Evidence) -> None:
    source = evidence.source
    if source is None:
        if evidence.origin not in FORMS:
            evidence.assumed.append(
                "the project's source was not read: norms before each part and plain attention are taken for given"
            )
        return
    if source.always:
        raise CheckpointError(f"the project's model {source.always[0]}, which no model of this package does")
    for sentence in {sentence.partition(" (")[0]: sentence for sentence in source.sometimes}.values():
        evidence.assumed.append(f"the project's model {sentence} under a condition, which is taken not to hold here")


def _require_parts(named: NamedWeights) -> None:
    """Raise CheckpointError, naming what is missing, unless every layer has all of a transformer's parts."""
    tensors = named.tensors
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.dim() not in (1, 2) or not tensor.numel():
            raise CheckpointError(f"its {name} is no weight: {tensor.dtype} of shape {tuple(tensor.shape)}")
        if tensor.dim() != (2 if _is_matrix(name) else 1):
            raise CheckpointError(f"its {name} has the shape {tuple(tensor.shape)}, which no such weight has")
    layers = named.layers
    if layers < 1:
        raise CheckpointError("it has a token embedding, but no transformer layers")
    wanted = ["tokens.weight", "final_norm.weight"]
    first = {name.split(".", 2)[2] for name in tensors if name.startswith("layers.0.")}
    attention = ["qkv.weight"] if "qkv.weight" in first else ["q.weight", "k.weight", "v.weight"]
    for layer in range(layers):
        parts = {"norm1.weight", "norm2.weight", "out.weight", "up.weight", "down.weight", *attention}
        parts |= {part for part in first if part.endswith("weight")}
        wanted += [f"layers.{layer}.{part}" for part in sorted(parts)]
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise CheckpointError(f"its weights lack what a layer of this package's models has: {', '.join(missing[:6])}")
    if sum(name.startswith("layers.") and name.endswith(".weight") for name in tensors) != len(wanted) - 2:
        raise CheckpointError("its layers differ from each other, which those of this package's models do not")


def _is_matrix(name: str) -> bool:
    return name.endswith(".weight") and "norm" not in name


def _positions(evidence: Evidence) -> str:
    declared, source = evidence.declared, evidence.source
    kind, has_table = declared.text("positions"), "positions.weight" in evidence.named.tensors
    is_rotary = bool(declared.values.get("rotary")) or kind in ("rope", "rotary", "rotary_embedding")
    if has_table:
        return "learned positions and rotary ones together" if is_rotary else "learned positions"
    if is_rotary or evidence.origin == "llama2.c" or evidence.is_given_llama:
        return "rotary positions"
    if kind is not None:
        return f"positions by {kind}"
    if "rotary" in declared.values:
        return "no positions at all"
    if evidence.named.frequencies is not None or (source is not None and source.rotary):
        return "rotary positions"
    if "rope_theta" in declared.values:
        return "rotary positions"
    raise CheckpointError(
        "it has no table of positions, and nothing says whether they are rotary or missing: give the project's model "
        "source as well, as `llmbuilder migrate` does"
    )


def _norm(evidence: Evidence) -> str:
    declared, source, tensors = evidence.declared, evidence.source, evidence.named.tensors
    named = {str(declared.values[key]).lower() for key in ("norm", "output_norm") if key in declared.values}
    kinds = {_NORMS.get(name, f"norms of the kind {name}") for name in named}
    if kinds <= {"LayerNorm"} and any(n.endswith("norm1.bias") or n == "final_norm.bias" for n in tensors):
        return "LayerNorm"
    if kinds:
        return " and ".join(sorted(kinds))
    if isinstance(declared.values.get("rmsnorm"), bool | int):
        return "RMSNorm" if declared.values["rmsnorm"] else "LayerNorm"
    if source is not None and len(source.norms) == 1:
        return "RMSNorm" if source.norms == {"rmsnorm"} else "LayerNorm"
    if evidence.origin == "llama2.c" or evidence.is_given_llama:
        return "RMSNorm"
    guess = "LayerNorm" if "positions.weight" in tensors else "RMSNorm"
    if evidence.origin != "nanoGPT" or source is not None:
        evidence.assumed.append(f"norms without biases are {guess}, as is usual for such a model; nothing says so")
    return guess


def _gpt(evidence: Evidence) -> ModelConfig:
    named, declared = evidence.named, evidence.declared
    tensors = named.tensors
    vocab_size, width = tensors["tokens.weight"].shape
    heads = _heads(evidence)
    rows = sum(tensors[f"layers.0.{part}.weight"].shape[0] for part in _attention_parts(named))
    if width % heads or rows != 3 * width:
        raise CheckpointError(
            f"attention of {heads} heads over {rows} rows of a width of {width}: this package's models with learned "
            "positions have as many key and value heads as query heads, of width / heads elements"
        )
    if any(name.split(".")[-2] in ("q_norm", "k_norm") for name in tensors) or declared.values.get("qk_norm"):
        raise CheckpointError("normalised queries and keys with learned positions: this package has no such family")
    if evidence.given is not None and not evidence.given.bias and any(name.endswith(".bias") for name in tensors):
        raise CheckpointError("it has biases, and the configuration given for it says that there are none")
    has_bias = any(name.endswith(".bias") for name in tensors) or bool(evidence.given and evidence.given.bias)
    inner = tensors["layers.0.up.weight"].shape[0]
    return ModelConfig(
        model_type="gpt",
        vocab_size=vocab_size,
        num_layers=named.layers,
        num_heads=heads,
        embedding_dim=width,
        max_seq_length=tensors["positions.weight"].shape[0],
        intermediate_size=inner if inner != 4 * width else None,
        dropout=dropout_of(evidence),
        bias=has_bias,
        activation=activation_of(evidence),
        norm_eps=epsilon_of(evidence, "layernorm"),
        tie_embeddings=_is_tied(evidence),
    )


def _llama(evidence: Evidence) -> Layout:
    named, declared = evidence.named, evidence.declared
    tensors = named.tensors
    biases = [name for name, tensor in tensors.items() if name.endswith(".bias") and bool(tensor.any())]
    if biases:
        raise CheckpointError(f"biases ({biases[0]}) with rotary positions: this package has no such family")
    require_silu(evidence)
    gate = next(legacy for legacy, name in named.names.items() if name == "layers.0.gate.weight")
    if "gate" not in gate and evidence.origin != "llama2.c":
        evidence.assumed.append(f"its MLP is gated by {gate}, as weights of that name are in Llama; nothing says so")
    vocab_size, width = tensors["tokens.weight"].shape
    heads = _heads(evidence)
    head_width, kv_heads = _head_shape(evidence, heads, width)
    has_qk_norm = "layers.0.q_norm.weight" in tensors
    if bool(declared.values.get("qk_norm")) and not has_qk_norm:
        raise CheckpointError("normalised queries and keys without weights: this package's have weights")
    if has_qk_norm and any(tensors[f"layers.0.{part}.weight"].shape[0] != head_width for part in ("q_norm", "k_norm")):
        raise CheckpointError("queries and keys normalised over all heads at once: this package's are head by head")
    context = evidence.given.max_seq_length if evidence.given else declared.number("max_seq_length")
    if context is None:
        context = default_of(evidence, "max_seq_length", "block_size", "max_seq_len", "context_length")
    if context is None:
        raise CheckpointError("nothing says how long its longest context is, as rotary positions have no table")
    config = ModelConfig(
        model_type="llama",
        vocab_size=vocab_size,
        num_layers=named.layers,
        num_heads=heads,
        num_key_value_heads=kv_heads if kv_heads != heads else None,
        head_dim=head_width if head_width * heads != width else None,
        embedding_dim=width,
        max_seq_length=context,
        intermediate_size=tensors["layers.0.up.weight"].shape[0],
        dropout=dropout_of(evidence),
        bias=False,
        qk_norm=has_qk_norm,
        rope_theta=theta_of(evidence, head_width),
        norm_eps=epsilon_of(evidence, "rmsnorm"),
        tie_embeddings=_is_tied(evidence),
    )
    return Layout(config, is_interleaved=is_interleaved(evidence))


def _attention_parts(named: NamedWeights) -> list[str]:
    return ["qkv"] if "layers.0.qkv.weight" in named.tensors else ["q", "k", "v"]


def _heads(evidence: Evidence) -> int:
    if evidence.given is not None:
        return evidence.given.num_heads
    heads = evidence.declared.number("num_heads")
    if heads is None:
        raise CheckpointError(
            "the checkpoint does not say how many attention heads the model has (no 'model_args' or 'config'): "
            "pass config=ModelConfig(...), or put a legacy config.json beside it and use `llmbuilder migrate`"
        )
    return heads


def _head_shape(evidence: Evidence, heads: int, width: int) -> tuple[int, int]:
    """Return the width of a head and the number of key and value heads."""
    named, declared = evidence.named, evidence.declared
    parts = {part: named.tensors[f"layers.0.{part}.weight"].shape[0] for part in _attention_parts(named)}
    if "qkv" not in parts:
        if parts["q"] % heads or parts["k"] != parts["v"]:
            raise CheckpointError(f"{heads} heads do not divide its {parts['q']} rows of queries")
        head_width = parts["q"] // heads
        kv_rows = parts["k"]
    else:
        head_width = declared.number("head_dim") or width // heads
        kv_rows = (parts["qkv"] - heads * head_width) // 2
    declared_kv = evidence.given.num_key_value_heads if evidence.given else declared.number("kv_heads")
    kv_heads = kv_rows // head_width if head_width else 0
    if head_width < 2 or head_width % 2 or kv_heads < 1 or kv_rows != kv_heads * head_width or heads % kv_heads:
        raise CheckpointError(f"{heads} heads of {head_width} elements do not fit its attention weights")
    if declared_kv is not None and declared_kv != kv_heads:
        raise CheckpointError(f"it declares {declared_kv} key and value heads, and its weights have {kv_heads}")
    partial = declared.number("rotary_width")
    if partial is not None and partial != head_width:
        raise CheckpointError(f"rotary positions on {partial} of a head's {head_width} elements: not in this package")
    return head_width, kv_heads


def _is_tied(evidence: Evidence) -> bool:
    tensors = evidence.named.tensors
    head, tokens = tensors.get("head.weight"), tensors["tokens.weight"]
    bias = tensors.get("head.bias")
    if bias is not None and bool(bias.any()):
        raise CheckpointError("its output projection has a bias, which no model of this package has")
    if head is None:
        return True
    if head.shape != tokens.shape:
        raise CheckpointError(f"its output projection has {tuple(head.shape)} elements, not {tuple(tokens.shape)}")
    declared = evidence.given.tie_embeddings if evidence.given else evidence.declared.values.get("tied")
    return torch.equal(head, tokens) and declared is not False


def _require_shape(config: ModelConfig, declared: Declared, given: ModelConfig | None) -> None:
    """Raise CheckpointError where what was declared and what the tensors are do not agree."""
    for key in ("num_layers", "embedding_dim"):
        said = getattr(given, key) if given is not None else declared.number(key)
        if said is not None and said != getattr(config, key):
            raise CheckpointError(f"it declares {key} = {said}, and its weights have {getattr(config, key)}")
    if given is not None and given.model_type != config.model_type:
        raise CheckpointError(f"the configuration given for it says {given.model_type}, and it is {config.model_type}")
    kind = str(declared.values.get("model_type", "gpt")).lower()
    if not kind.startswith(("gpt", "llama", "baseline", "modern", "openai-gpt", "gopher")):
        raise CheckpointError(f"it declares model_type = {kind!r}, which this package does not know")
