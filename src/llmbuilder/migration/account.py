"""The account a migration gives: every file, every key, every command."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class MigrationReport:
    """What became of everything in a legacy project.

    `files` maps each legacy file to what it became or why it was left; `keys` does so for each configuration
    key, by file; `checkpoints` holds the proof of each conversion; `commands` each line that has a new form.
    """

    legacy: str
    new: str
    dry_run: bool
    files: list[dict[str, str]] = field(default_factory=list)  # file, result, why
    keys: list[dict[str, Any]] = field(default_factory=list)  # file, key, value, new
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    commands: list[dict[str, Any]] = field(default_factory=list)  # file, line, old, new, left
    notes: list[str] = field(default_factory=list)

    def add_file(self, file: str, result: str, why: str = "") -> None:
        """Note what became of a file."""
        self.files.append({"file": file, "result": result, "why": why})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def to_markdown(self) -> str:
        """Return the report for people."""
        parts = [f"# Migration of {self.legacy}", f"New project: {self.new}" + (" (dry run)" if self.dry_run else "")]
        parts += [f"> {note}" for note in self.notes]
        parts.append("## Files\n\n" + _table(("Legacy file", "Became", "Why"), self.files, ("file", "result", "why")))
        if self.keys:
            rows = [{**row, "new": row["new"] or "kept under `legacy`"} for row in self.keys]
            parts.append("## Configuration keys\n\n" + _table(
                ("File", "Legacy key", "Value", "New key"), rows, ("file", "key", "value", "new")))  # fmt: skip
        if self.checkpoints:
            rows = [{**row, "difference": f"{row['largest_logit_difference']:.1e}"} for row in self.checkpoints]
            parts.append(
                "## Checkpoints\n\nThe difference is the largest one between the logits of the old weights under the "
                "legacy formula and those of the new model, on random tokens.\n\n"
                + _table(
                    ("Legacy file", "New file", "Step", "Largest difference"),
                    rows,
                    ("file", "new", "step", "difference"),
                )
            )
        if self.commands:
            parts.append("## Commands\n\n" + _table(
                ("Where", "Old", "New", "Without counterpart"),
                [{**row, "where": f"{row['file']}:{row['line']}", "left": " ".join(row["left"])}
                 for row in self.commands],
                ("where", "old", "new", "left")))  # fmt: skip
        return "\n\n".join(parts) + "\n"


def _table(titles: tuple[str, ...], rows: list[dict[str, Any]], keys: tuple[str, ...]) -> str:
    def cell(value: Any) -> str:
        return str(value).replace("|", "\\|").replace("\n", " ")

    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    lines += ["| " + " | ".join(cell(row[key]) for key in keys) + " |" for row in rows]
    return "\n".join(lines)
