"""From a configuration to a model."""

from __future__ import annotations

import torch

from llmbuilder.config.schema import Config, ModelConfig, section_of, whole_config
from llmbuilder.config.sizes import count_parameters
from llmbuilder.config.validation import require_valid
from llmbuilder.errors import ConfigError
from llmbuilder.machine import memory_bytes
from llmbuilder.model.base import LanguageModel
from llmbuilder.model.gemma import GemmaModel
from llmbuilder.model.gpt import GPTModel
from llmbuilder.model.llama import LlamaModel

FAMILIES: dict[str, type[LanguageModel]] = {"gpt": GPTModel, "llama": LlamaModel, "gemma3": GemmaModel}


def build_model(
    config: ModelConfig | Config, *, device: str | torch.device | None = None, seed: int | None = None
) -> LanguageModel:
    """Return a fresh model of the configured family.

    `seed` defaults to the `system.seed` of the configuration that `config` belongs to; the global random state
    is left alone. With device "meta" the model has shapes but no storage, for models that get their weights
    from a file. Raises ConfigError for a setting that the family does not have, for a shape that cannot be built,
    such as heads that do not divide the width, and for more weights than this machine has memory for.
    """
    model_config = section_of(config, ModelConfig)
    require_valid(Config(model=model_config.model_copy()), ["model"], "build this model")
    if device is None or torch.device(device).type == "cpu":
        _require_room(model_config)
    whole = config if isinstance(config, Config) else whole_config(config)
    if seed is None:
        seed = (whole or Config()).system.seed
    with torch.random.fork_rng(devices=[]), torch.device(device or "cpu"):
        torch.default_generator.manual_seed(seed)
        return FAMILIES[model_config.model_type](model_config)


def _require_room(config: ModelConfig) -> None:
    """Refuse what the system would end the process for, without a word."""
    parameters, memory = count_parameters(config), memory_bytes()
    if 4 * parameters > memory:
        raise ConfigError(
            f"a model of {config.num_layers:,} layers and a width of {config.embedding_dim:,} has "
            f"{parameters / 1e9:,.1f} billion parameters, which take {4 * parameters / 2**30:,.1f} GiB, and this "
            f"machine has {memory / 2**30:.1f}: choose a smaller model.embedding_dim or model.num_layers"
        )
