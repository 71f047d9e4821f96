"""Moving a whole legacy project: configuration, data, tokenizer, checkpoints, scripts."""

from llmbuilder.formats.nanogpt.formula import compare_with_legacy
from llmbuilder.migration.account import MigrationReport
from llmbuilder.migration.project import migrate_project

__all__ = ["MigrationReport", "compare_with_legacy", "migrate_project"]
