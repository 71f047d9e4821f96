"""Reports a person opens in a browser: what a run did, how it compares with an earlier one, what a corpus is."""

from llmbuilder.report.run import has_metrics, write_run_report

__all__ = ["has_metrics", "write_run_report"]
