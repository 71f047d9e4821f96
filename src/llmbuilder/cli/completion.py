"""Values that the shell completes. What knows them is imported when Tab is pressed."""

from __future__ import annotations


def presets(incomplete: str) -> list[tuple[str, str]]:
    """Return the presets, each with what it is for."""
    from llmbuilder.config.presets import DESCRIPTIONS, PRESETS

    return [(name, DESCRIPTIONS[name]) for name in PRESETS if name.startswith(incomplete)]


def settings(incomplete: str) -> list[str]:
    """Return "section.key=" of the settings."""
    from llmbuilder.config.in_force import all_settings

    return [f"{name}=" for name in all_settings() if name.startswith(incomplete)]


def quantizations(incomplete: str) -> list[str]:
    """Return the types of numbers that a GGUF file is written with."""
    from llmbuilder.formats.quantizations import QUANTIZATIONS

    return [name for name in QUANTIZATIONS if name.startswith(incomplete)]
