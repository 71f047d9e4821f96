"""Configuration: `Config` and its sections, loading, validation, presets, legacy formats."""

from llmbuilder.config.loading import load_config, migrate_legacy_config
from llmbuilder.config.presets import PRESETS
from llmbuilder.config.schema import (
    Config,
    DataConfig,
    FinetuningConfig,
    GenerationConfig,
    ModelConfig,
    SystemConfig,
    TokenizerConfig,
    TrackingConfig,
    TrainingConfig,
    json_schema,
    section_of,
    whole_config,
)
from llmbuilder.config.validation import ConfigProblem, fix_config, validate_config

__all__ = [
    "PRESETS",
    "Config",
    "ConfigProblem",
    "DataConfig",
    "FinetuningConfig",
    "GenerationConfig",
    "ModelConfig",
    "SystemConfig",
    "TokenizerConfig",
    "TrackingConfig",
    "TrainingConfig",
    "fix_config",
    "json_schema",
    "load_config",
    "migrate_legacy_config",
    "section_of",
    "validate_config",
    "whole_config",
]
