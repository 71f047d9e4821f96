"""From a configuration to a model."""

from __future__ import annotations

import torch

from llmbuilder.config.schema import Config, ModelConfig, section_of, whole_config
from llmbuilder.config.validation import require_valid
from llmbuilder.model.base import LanguageModel
from llmbuilder.model.gpt import GPTModel
from llmbuilder.model.llama import LlamaModel

FAMILIES: dict[str, type[LanguageModel]] = {"gpt": GPTModel, "llama": LlamaModel}


def build_model(
    config: ModelConfig | Config, *, device: str | torch.device | None = None, seed: int | None = None
) -> LanguageModel:
    """Return a fresh model of the configured family.

    `seed` defaults to the `system.seed` of the configuration that `config` belongs to; the global random state
    is left alone. With device "meta" the model has shapes but no storage, for models that get their weights
    from a file. Raises ConfigError for a setting that the family does not have, and for a shape that cannot be built,
    such as heads that do not divide the width.
    """
    model_config = section_of(config, ModelConfig)
    require_valid(Config(model=model_config.model_copy()), ["model"], "build this model")
    whole = config if isinstance(config, Config) else whole_config(config)
    if seed is None:
        seed = (whole or Config()).system.seed
    with torch.random.fork_rng(devices=[]), torch.device(device or "cpu"):
        torch.default_generator.manual_seed(seed)
        return FAMILIES[model_config.model_type](model_config)
