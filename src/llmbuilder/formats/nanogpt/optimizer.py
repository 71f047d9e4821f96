"""An AdamW state of a legacy training, in the order of this package's parameters.

A state is known by numbers only. Which parameter a number is follows from the order in which the legacy program handed
them over; of the orders in use, the one that fits the groups and every shape is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from llmbuilder.formats.nanogpt.arranging import Layout, arrange
from llmbuilder.formats.nanogpt.names import NamedWeights
from llmbuilder.model.building import FAMILIES


def carry_optimizer(state: Any, named: NamedWeights, layout: Layout) -> dict[str, Any] | None:
    """Return an AdamW state for a model of this package; None if it is none, or fits no known order."""
    entries, groups = _parts(state)
    if not entries or not groups:
        return None
    numbers = [number for group in groups for number in group["params"]]
    sizes = [len(group["params"]) for group in groups]
    names = next((order for order in _orders(named, sizes) if _fits(order, numbers, entries, named)), None)
    if names is None:
        return None
    by_name = {name: entries[number] for name, number in zip(names, numbers, strict=True) if number in entries}
    moments = {
        kind: arrange({name: entry[kind] for name, entry in by_name.items()}, layout)
        for kind in ("exp_avg", "exp_avg_sq")
    }
    steps = [entry["step"] for entry in by_name.values()]
    with torch.device("meta"):
        parameters = dict(FAMILIES[layout.config.model_type](layout.config).named_parameters())
    decayed = [name for name, parameter in parameters.items() if parameter.dim() >= 2]
    rest = [name for name, parameter in parameters.items() if parameter.dim() < 2]
    carried = {}
    for number, name in enumerate([*decayed, *rest]):
        if name in moments["exp_avg"]:
            step = torch.as_tensor(steps[0], dtype=torch.float32).reshape(())
            carried[number] = {"step": step.clone(), **{kind: moments[kind][name] for kind in moments}}
    settings = [{key: value for key, value in group.items() if key != "params"} for group in (groups[0], groups[-1])]
    return {
        "state": carried,
        "param_groups": [
            {**settings[0], "params": list(range(len(decayed)))},
            {**settings[1], "params": list(range(len(decayed), len(parameters)))},
        ],
    }


def _parts(state: Any) -> tuple[dict[int, Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the entries and groups of an AdamW state; nothing of any other optimizer's."""
    if not isinstance(state, Mapping):
        return {}, []
    entries, groups = state.get("state"), state.get("param_groups")
    if not isinstance(entries, Mapping) or not isinstance(groups, list):
        return {}, []
    is_adamw = all(
        isinstance(entry, Mapping)
        and all(isinstance(entry.get(kind), Tensor) for kind in ("exp_avg", "exp_avg_sq"))
        and isinstance(entry.get("step"), Tensor | int | float)
        and (not isinstance(entry["step"], Tensor) or entry["step"].numel() == 1)
        for entry in entries.values()
    )
    has_groups = all(isinstance(group, Mapping) and isinstance(group.get("params"), list) for group in groups)
    return (dict(entries), groups) if is_adamw and has_groups else ({}, [])


def _orders(named: NamedWeights, sizes: list[int]) -> Iterator[list[str]]:
    """Yield the known orders of parameters whose groups have these sizes."""
    unique: list[str] = []
    tied = _shared_head(named)
    legacy = {common: name for name, common in named.names.items()}
    for common in named.names.values():
        name = "tokens.weight" if tied and common == "head.weight" else common
        if name not in unique:
            unique.append(name)
    matrices = [name for name in unique if named.tensors[name].dim() >= 2]
    vectors = [name for name in unique if named.tensors[name].dim() < 2]
    linear = sorted((n for n in matrices if n not in ("tokens.weight", "positions.weight")), key=lambda n: legacy[n])
    others = sorted((name for name in unique if name not in linear), key=lambda name: legacy[name])
    for groups in ([matrices, vectors], [unique], [linear, others]):
        if [len(group) for group in groups] == sizes:
            yield [name for group in groups for name in group]


def _shared_head(named: NamedWeights) -> bool:
    head = named.tensors.get("head.weight")
    return head is not None and torch.equal(head, named.tensors["tokens.weight"])


def _fits(order: list[str], numbers: list[int], entries: Mapping[int, Mapping[str, Any]], named: NamedWeights) -> bool:
    return all(
        entries[number][kind].shape == named.tensors[name].shape
        for name, number in zip(order, numbers, strict=True)
        if number in entries
        for kind in ("exp_avg", "exp_avg_sq")
    )
