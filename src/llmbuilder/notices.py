"""Warnings for people, through the package's logger."""

from __future__ import annotations

import logging

logger = logging.getLogger("llmbuilder")
_told: set[str] = set()


def warn_once(message: str) -> None:
    """Log a warning the first time this exact text comes up in the process."""
    if message not in _told:
        _told.add(message)
        logger.warning(message)
