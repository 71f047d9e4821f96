"""Checkpoints of nanoGPT, its relatives and forks, and of older LLMBuilder scripts, opened without running anything.

Known forms: nanoGPT's {'model', 'model_args', 'config', 'optimizer', 'iter_num', 'best_val_loss'}, the bare
{'model', 'config', 'iter_num'}, build-nanogpt's {'model', 'config', 'step', 'val_loss'}, {'model_state_dict', 'config'}
of the older scripts, and a plain state dict when the caller supplies the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llmbuilder.config.schema import ModelConfig
from llmbuilder.errors import CheckpointError, ConfigError
from llmbuilder.formats.nanogpt.architecture import decide_architecture
from llmbuilder.formats.nanogpt.arranging import Layout, arrange
from llmbuilder.formats.nanogpt.configuration import is_legacy, migrate_dictionary
from llmbuilder.formats.nanogpt.declared import Declared, read_declared
from llmbuilder.formats.nanogpt.evidence import Evidence
from llmbuilder.formats.nanogpt.names import NamedWeights, find_weights, name_weights, strip_wrappers
from llmbuilder.formats.nanogpt.optimizer import carry_optimizer
from llmbuilder.formats.nanogpt.source import ArchitectureFacts
from llmbuilder.model.base import LanguageModel
from llmbuilder.model.building import FAMILIES

_NANOGPT_ARGUMENTS = {"n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size", "dropout"}


@dataclass
class LegacyCheckpoint:
    """A legacy checkpoint in this package's terms."""

    config: ModelConfig
    weights: dict[str, Tensor]
    origin: str  # whose form it has, such as "nanoGPT" or "older LLMBuilder scripts"
    step: int = 0
    best_validation_loss: float | None = None
    optimizer: dict[str, Any] | None = None
    legacy_config: dict[str, Any] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)  # what nothing says of the model, in sentences
    left: list[str] = field(default_factory=list)  # what the checkpoint holds and this does not, in sentences
    is_standard: bool = False  # exactly nanoGPT's model, or the older scripts': nothing is assumed or declared besides

    def build(self) -> LanguageModel:
        """Return the model, on the CPU and ready for inference. Raises CheckpointError if the weights do not fit."""
        try:
            with torch.device("meta"):
                model = FAMILIES[self.config.model_type](self.config)
            model.load_weights(self.weights)
        except ConfigError as error:
            raise CheckpointError(str(error)) from error
        return model.eval()


def is_legacy_checkpoint(content: Any) -> bool:
    """Tell a legacy checkpoint or plain GPT state dict from anything else."""
    return isinstance(content, Mapping) and find_weights(content) is not None


def convert_checkpoint(
    content: Mapping[str, Any],
    config: ModelConfig | None = None,
    *,
    source: ArchitectureFacts | None = None,
    activation: str | None = None,
) -> LegacyCheckpoint:
    """Translate a loaded legacy checkpoint.

    `source` is what `read_architecture` found in the project's own code, `activation` ("gelu" or "gelu_tanh") what
    the caller knows of it. What neither these nor the checkpoint tell is taken as usual and listed in `assumed`.
    Raises CheckpointError, naming what is missing, for a model that this package's families cannot express or whose
    computation cannot be told.
    """
    try:
        return _convert(content, config, source, activation)
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"it is malformed: {type(error).__name__}: {str(error)[:200]}") from error


def _convert(
    content: Mapping[str, Any], config: ModelConfig | None, source: ArchitectureFacts | None, activation: str | None
) -> LegacyCheckpoint:
    found = find_weights(content)
    if found is None:
        raise CheckpointError(f"no GPT weights in it; its keys are {', '.join(map(str, list(content)[:8]))}")
    named = name_weights(found)
    _require_finite(named)
    declared = read_declared(content, source.defaults if source is not None else {}, _absent(named))
    origin = _origin(content, found, declared, named)
    evidence = Evidence(named, declared, origin, source, activation, config)
    layout = decide_architecture(evidence)
    legacy = LegacyCheckpoint(
        config=layout.config,
        # Each value of half precision is one of float32, in which models are kept, trained and compared.
        weights={name: tensor.float() for name, tensor in _complete(arrange(named.tensors, layout), layout).items()},
        origin=origin,
        step=step_of(content),
        best_validation_loss=_best_loss(content),
        legacy_config=declared.raw,
        assumed=evidence.assumed,
        is_standard=_is_standard(origin, named, layout, source),
    )
    _add_optimizer(legacy, content, named, layout)
    return legacy


def _absent(named: NamedWeights) -> set[str]:
    """Return the parts of a model that the tensors show it does not have."""
    first = {name.split(".")[2] for name in named.tensors if name.startswith("layers.0.")}
    return {"gate", "q_norm"} - first


def _require_finite(named: NamedWeights) -> None:
    counts = {name: int((~named.tensors[common].isfinite()).sum()) for name, common in named.names.items()}
    broken = {name: count for name, count in counts.items() if count}
    if broken:
        shown = ", ".join(list(broken)[:3]) + (f" and {len(broken) - 3} more tensors" if len(broken) > 3 else "")
        raise CheckpointError(
            f"{sum(broken.values()):,} weights are not finite: {shown}. Its training had diverged; "
            "take an earlier checkpoint"
        )


def _origin(
    content: Mapping[str, Any], found: Mapping[str, Tensor], declared: Declared, named: NamedWeights
) -> str:  # fmt: skip
    """Name the program whose form a checkpoint has; it decides only what is usual where nothing is said."""
    names = strip_wrappers(found)
    if "tok_embeddings.weight" in names and any(".feed_forward.w3." in name for name in names):
        return "llama2.c"
    if "token_embedding.weight" in names:
        # The older scripts' own MLP; a fork of theirs with other names is none of theirs.
        return "older LLMBuilder scripts" if any(".mlp.fc1." in name for name in names) else "a GPT of another project"
    is_plain = "transformer.wte.weight" in names and "transformer.wpe.weight" in names
    if not is_plain:
        return "a GPT of another project"
    if declared.arguments - {"dropout"} and not declared.arguments <= _NANOGPT_ARGUMENTS:
        return "a fork of nanoGPT"
    if "val_loss" in content and "step" in content and "model_args" not in content:
        return "build-nanogpt"
    head = named.tensors.get("head.weight")
    if head is not None and not torch.equal(head, named.tensors["tokens.weight"]):  # nanoGPT's are one and the same
        return "minGPT" if named.has_masks else "a GPT of another project"
    return "nanoGPT"


def _is_standard(origin: str, named: NamedWeights, layout: Layout, source: ArchitectureFacts | None) -> bool:
    """Whether nanoGPT's formula, or that of the older scripts, is all there is to the model."""
    config = layout.config
    return (
        origin in ("nanoGPT", "older LLMBuilder scripts")
        and config.model_type == "gpt"
        and config.activation == "gelu"
        and config.norm_eps == 1e-5
        and "layers.0.qkv.weight" in named.tensors
        and (source is None or not source.sometimes)
    )


def _complete(weights: dict[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Add zeros for the biases that a checkpoint has in some places only: a zero bias is no bias."""
    if layout.config.model_type != "gpt" or not layout.config.bias:
        return {name: tensor for name, tensor in weights.items() if name != "lm_head.bias" and not (
            layout.config.model_type == "llama" and name.endswith(".bias"))}  # fmt: skip
    complete = {}
    for name, tensor in weights.items():
        if name == "lm_head.bias":
            continue
        complete[name] = tensor
        bias = name.removesuffix("weight") + "bias"
        if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")) or (".h." in name and name.endswith("weight")):
            complete[bias] = weights.get(bias, tensor.new_zeros(tensor.shape[0]))
    return complete


_STEPS = ("iter_num", "step", "global_step", "iter", "iteration", "iterations", "steps", "it", "current_iter",
         "current_step", "step_num", "num_steps_done")  # fmt: skip
_STATES = ("training_state", "trainer_state", "train_state", "state", "meta", "metadata", "export_meta", "progress")


def step_of(content: Mapping[str, Any]) -> int:
    """Return the step that a checkpoint was written at, or what is beside its weights; 0 if nothing says so."""
    inner = [value for key, value in content.items() if isinstance(value, Mapping) and key in _STATES]
    values = [group.get(key) for group in (content, *inner) for key in _STEPS]
    return next((int(number) for value in values if (number := _finite(value)) is not None and number > 0), 0)


def _best_loss(content: Mapping[str, Any]) -> float | None:
    groups = [content, *(value for key, value in content.items() if isinstance(value, Mapping) and key in _STATES)]
    losses = (_finite(group.get(key)) for group in groups for key in ("best_val_loss", "val_loss"))
    return next((loss for loss in losses if loss is not None), None)


def _finite(value: Any) -> float | None:
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 and not value.is_complex() else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e15 and math.isfinite(value) else None


def _add_optimizer(legacy: LegacyCheckpoint, content: Mapping[str, Any], named: NamedWeights, layout: Layout) -> None:
    state = content.get("optimizer") or content.get("optimizer_state_dict")
    if state is None or (isinstance(state, Mapping) and not state):
        return
    legacy.optimizer = carry_optimizer(state, named, layout)
    if legacy.optimizer is None:
        legacy.left.append(
            "The optimizer state is left: it is no AdamW's, or does not say which of its parts belongs to which weight."
        )


def training_settings(checkpoint: LegacyCheckpoint) -> dict[str, Any]:
    """Return the checkpoint's own training configuration in the new format; empty if it holds none."""
    settings = checkpoint.legacy_config
    try:
        return migrate_dictionary(settings).values if is_legacy(settings) else {}
    except ConfigError:
        return {}
