"""From whole weights and optimizer state to those cut over the processes, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from llmbuilder.model import LanguageModel, build_model
from llmbuilder.training.processes.distributed import Processes


def gathered_model(model: LanguageModel, processes: Processes) -> LanguageModel:
    """Return a copy of a sharded model, with all its weights in the main process and none in the others."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights: dict[str, Any] = get_model_state_dict(model, options=options)
    whole = build_model(model.config, device="meta")
    if processes.is_main:
        whole.load_weights({name: weights[name] for name in whole.weights()})
    whole.tokenizer, whole.metadata = model.tokenizer, model.metadata
    return whole


def load_whole_state(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    weights: dict[str, Tensor],
    optimizer_state: dict[str, Any] | None,
) -> None:
    """Give this process its part of weights, and of an optimizer's state, that were saved whole."""
    options = StateDictOptions(full_state_dict=True, strict=not model.config.tie_embeddings)
    set_model_state_dict(model, dict(weights), options=options)
    if optimizer_state is not None:
        set_optimizer_state_dict(model, optimizer, _by_name(model, optimizer, optimizer_state), options=options)


def _by_name(model: LanguageModel, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's state dict with parameters named instead of counted."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ordered = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    groups = [{**group, "params": [ordered[index] for index in group["params"]]} for group in state["param_groups"]]
    return {"state": {ordered[index]: values for index, values in state["state"].items()}, "param_groups": groups}
