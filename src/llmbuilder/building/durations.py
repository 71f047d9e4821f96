"""Durations as people write and say them."""

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


def in_words(seconds: float) -> str:
    """Return a time as it is said, to two digits: "40 seconds", "2.5 minutes", "3 hours"."""
    for size, name in ((3600.0, "hour"), (60.0, "minute"), (1.0, "second")):
        if seconds >= size or size == 1:
            value = f"{seconds / size:.2g}" if seconds / size < 99.5 else f"{seconds / size:.0f}"
            return f"{value} {name}" if value == "1" else f"{value} {name}s"
    raise AssertionError(seconds)
