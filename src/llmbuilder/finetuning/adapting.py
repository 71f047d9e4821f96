"""What learns in a run that begins from a model: all of it, or adapters beside matrices that stay as they are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from llmbuilder.config.schema import Config
from llmbuilder.config.sizes import is_adapted
from llmbuilder.errors import ConfigError
from llmbuilder.machine import require_four_bits
from llmbuilder.model import LanguageModel
from llmbuilder.model.adapters import AdapterShape, add_adapters, hold_frozen, linear_layers


def adapt_model(model: LanguageModel, config: Config) -> LanguageModel:
    """Put the adapters beside a model's matrices that `config.finetuning` asks for, and return the model.

    Raises ConfigError for names that are the ends of none.
    """
    return add_adapters(
        model, adapter_shapes(model, config), dropout=config.finetuning.dropout, seed=config.system.seed
    )


def hold_base(
    model: LanguageModel, config: Config, precision: torch.dtype, read_whole: Callable[[str], Tensor]
) -> None:
    """Hold the matrices that adapters lie beside as briefly as `config` and the type that is computed in allow.

    `read_whole` is that of `hold_frozen`.
    """
    if config.finetuning.method == "qlora":
        hold_frozen(model, None, read_whole)
    elif precision != torch.float32:
        hold_frozen(model, precision, read_whole)


def adapter_shapes(model: LanguageModel, config: Config) -> dict[str, AdapterShape]:
    """Return the adapters that `config.finetuning` asks for, by the names of the matrices. Raises as `adapt_model`."""
    asked = config.finetuning
    if asked.method == "qlora":
        require_four_bits()
    names = linear_layers(model)
    chosen = [name for name in names if is_adapted(name, asked)]
    for end in asked.layers:
        if not any(name.endswith(f".{end}") for name in names):
            there = ", ".join(sorted({name.rpartition(".")[2] for name in names}))
            raise ConfigError(f"finetuning.layers: no matrix of this model ends in {end!r}; there are {there}")
    alpha = 2.0 * asked.rank if asked.alpha is None else asked.alpha
    shape = AdapterShape(asked.rank, alpha / asked.rank, asked.method == "dora")
    return dict.fromkeys(chosen, shape)
