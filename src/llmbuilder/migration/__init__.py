"""Moving a whole legacy project: configuration, data, tokenizer, checkpoints, scripts."""

from llmbuilder.migration.formula import compare_with_legacy
from llmbuilder.migration.project import migrate_project
from llmbuilder.migration.report import MigrationReport

__all__ = ["MigrationReport", "compare_with_legacy", "migrate_project"]
