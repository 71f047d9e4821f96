"""The one family of exceptions a user of this package meets.

Every message says what was wrong, where, and what to do about it; the command line prints it without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LLMBuilderError(Exception):
    """Something the user can act on; the base of every error raised on purpose."""


class ConfigError(LLMBuilderError):
    """A configuration file, key or value that cannot be used."""


class DataError(LLMBuilderError):
    """Documents, text or token files that cannot be used."""


class LockedError(DataError):
    """A document that cannot be read without a password or a key, by whatever reader."""


class TokenizerError(LLMBuilderError):
    """A tokenizer that is missing, malformed or does not fit."""


class CheckpointError(LLMBuilderError):
    """A model or checkpoint file that cannot be read or written."""


class NoCheckpointError(CheckpointError):
    """A run without a checkpoint to go on from: none was written, or none is whole."""


class TrainingError(LLMBuilderError):
    """Training that cannot start or cannot go on."""


class LostProcessError(TrainingError):
    """One of the processes that trained together is gone."""


class GenerationError(LLMBuilderError):
    """A request for text that the model cannot serve."""


class ExportError(LLMBuilderError):
    """A model that a target format cannot hold, or an export that failed its check."""


class MigrationError(LLMBuilderError):
    """A legacy project that cannot be moved."""


class MissingDependencyError(LLMBuilderError):
    """An optional library is needed for what was asked."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}, which is not installed: pip install 'llmbuilder[{extra}]'")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the known name nearest to an unknown one, or nothing if none is near."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


OVERRIDE = "the override "  # what a message calls a setting that was given with the call
# Messages are written for Python; these are the same things on the command line.
_ON_THE_COMMAND_LINE = {OVERRIDE: "--set ", "overwrite=True": "--overwrite", "allow_code=True": "--allow-code"}


def for_command_line(message: str) -> str:
    """Return a message as the command line says it: --overwrite instead of overwrite=True, and the like."""
    for python, option in _ON_THE_COMMAND_LINE.items():
        message = message.replace(python, option)
    return message
