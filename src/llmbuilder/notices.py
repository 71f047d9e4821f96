"""Words for people: warnings through the package's logger, counts, and commands that can be pasted."""

from __future__ import annotations

import logging
import os
import shlex

logger = logging.getLogger("llmbuilder")
_told: set[str] = set()


def warn_once(message: str) -> None:
    """Log a warning the first time this exact text comes up in the process."""
    if message not in _told:
        _told.add(message)
        logger.warning(message)


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Return "1 step" or "2,000 steps"; `things` is the plural where it is not made by an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def kind_of(value: object) -> str:
    """Return what a value is in the words of JSON, with its article: "a list", "an object", "null"."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return next((kind for type_, kind in kinds.items() if isinstance(value, type_)), f"a {type(value).__name__}")


def command(*words: object) -> str:
    """Return a command of this program that a shell takes as it stands, whatever blanks and bytes its names have."""
    return " ".join(["llmbuilder", *(quoted(word) for word in words)])


def quoted(name: object) -> str:
    """Return a word as a shell takes it."""
    word = str(name)
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:  # bytes of a file name that are no UTF-8
        return "$'" + "".join(f"\\x{byte:02x}" if byte > 126 or byte in b"'\\" else chr(byte)
                              for byte in os.fsencode(word)) + "'"  # fmt: skip
    return shlex.quote(word)
