"""Durations as people write them."""

from __future__ import annotations

import re

from llmbuilder.errors import ConfigError


def parse_duration(text: str) -> float:
    """Return the seconds of "90", "90s", "3m", "1h30m" or "2.5m". Raises ConfigError for anything else."""
    match = re.fullmatch(r"\s*(?:([\d.]+)h)?\s*(?:([\d.]+)m(?:in)?)?\s*(?:([\d.]+)s?)?\s*", text)
    try:
        if match and any(match.groups()):
            hours, minutes, seconds = (float(part or 0) for part in match.groups())
            if (total := 3600 * hours + 60 * minutes + seconds) > 0:
                return total
    except ValueError:
        pass
    raise ConfigError(f"{text!r} is no duration: write 90s, 3m or 1h30m")
