"""The account a migration gives: every experiment, file, key, checkpoint and command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from llmbuilder.notices import counted

NOT_KNOWN = "not a configuration, data or checkpoint of a known form"


@dataclass
class MigrationReport:
    """What became of everything in a legacy project.

    `experiments` says which configuration, data, checkpoints and commands belong together; `files` maps each legacy
    file to what it became or why it was left; `keys` does so for each configuration key, by file; `checkpoints` holds
    the proof of each conversion; `commands` each line that has a new form.
    """

    legacy: str
    new: str
    dry_run: bool
    experiments: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, str]] = field(default_factory=list)  # file, result, why
    keys: list[dict[str, Any]] = field(default_factory=list)  # file, key, value, new, new_value, default_of
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # checkpoints that were left, and why
    commands: list[dict[str, Any]] = field(default_factory=list)  # file, line, old, new, left, notes
    notes: list[str] = field(default_factory=list)

    def add_file(self, file: str, result: str, why: str = "") -> None:
        """Note what became of a file."""
        self.files.append({"file": file, "result": result, "why": why})

    def add_note(self, note: str) -> None:
        """Say something once."""
        if note not in self.notes:
            self.notes.append(note)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def to_markdown(self) -> str:
        """Return the report for people."""
        parts = [f"# Migration of {self.legacy}", f"New project: {self.new}" + (" (dry run)" if self.dry_run else "")]
        parts += [f"> {note}" for note in self.notes]
        parts += [self._experiments(), self._checkpoints(), self._commands(), self._files(), self._keys()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def unproven(self) -> list[str]:
        """Return the checkpoints that the project's own code did not certify, or that were left out."""
        carried = {row["file"] for row in self.checkpoints if row["proof"] and row["proof"]["against"] == "code"}
        return [file for file in (*self.refused, *(row["file"] for row in self.checkpoints)) if file not in carried]

    def to_text(self) -> str:
        """Return what a person wants to know first, in lines: models, runs, commands, what was left out."""
        lines = [f"{row['file']} -> {row['new']}  ({describe_proof(row['proof'])})" for row in self.checkpoints]
        lines += [f"  go on with it: {row['resume']}" for row in self.checkpoints if row["resume"]]
        lines += [f"{file} is left: {why}" for file, why in self.refused.items()]
        models = {*self.refused, *(row["file"] for row in self.checkpoints)}
        others = [row for row in self.files if row["file"] not in models and row["why"] != NOT_KNOWN]
        lines += [f"{row['file']} -> {row['result']}" + (f"  ({row['why']})" if row["why"] else "") for row in others]
        for row in self.commands:
            lines += [f"{row['file']}:{row['line']}: {row['old']}", f"    -> {row['new'] or 'nothing'}"]
            if row["left"]:
                lines.append(f"    without counterpart: {' '.join(row['left'])}")
            lines += [f"    note: {note}" for note in row["notes"]]
        unknown = sum(row["why"] == NOT_KNOWN for row in self.files)
        found = len(self.checkpoints) + len(self.refused)
        lines += self.notes
        if unknown:
            lines.append(f"{counted(unknown, 'other file')} of no known form: left alone.")
        if found:
            lines.append(f"{len(self.checkpoints)} of {counted(found, 'model')} carried over.")
        return "\n".join(lines)

    def _experiments(self) -> str:
        return _section("Experiments", "", [
            ("Wrote to", "wrote"), ("Configuration", "configuration"), ("New configuration", "new_configuration"),
            ("Data", "data"), ("Tokenizer", "tokenizer"), ("Models", "models"), ("Run", "run"), ("Train anew", "train"),
            ("Commands", "commands"),
        ], self.experiments)  # fmt: skip

    def _files(self) -> str:
        return _section("Files", "", [("Legacy file", "file"), ("Became", "result"), ("Why", "why")], self.files)

    def _keys(self) -> str:
        rows = [
            {**row, "new": row["new"] or "kept under `legacy`: no effect here",
             "from": f"default of {row['default_of']}" if row["default_of"] else row["file"]}
            for row in self.keys
        ]  # fmt: skip
        return _section("Configuration keys", "Keys without effect here stand first in their file, what changes the "
                        "result most on top; values filled from a program's own defaults last.", [
            ("New file", "new_file"), ("Legacy key", "key"), ("Legacy value", "value"), ("New key", "new"),
            ("New value", "new_value"), ("From", "from"),
        ], rows)  # fmt: skip

    def _checkpoints(self) -> str:
        rows = [{**row, "proof": describe_proof(row["proof"]), "assumed": "; ".join(row["assumed"])}
                for row in self.checkpoints]  # fmt: skip
        summary = f"{len(self.checkpoints)} of {len(self.checkpoints) + len(self.refused)} models were carried over. "
        if self.refused and not rows:
            return "## Checkpoints\n\n" + summary + "The files below say why not."
        return _section("Checkpoints", f"{summary}The difference is the largest one between logits on random tokens.", [
            ("Legacy file", "file"), ("New model", "new"), ("Step", "step"), ("Goes on with", "resume"),
            ("Proof", "proof"), ("Assumed", "assumed"),
        ], rows)  # fmt: skip

    def _commands(self) -> str:
        rows = [{**row, "where": f"{row['file']}:{row['line']}", "old": f"`{row['old']}`",
                 "new": f"`{row['new']}`" if row["new"] else "", "left": " ".join(row["left"]),
                 "notes": "; ".join(row["notes"])} for row in self.commands]  # fmt: skip
        return _section("Commands", "", [
            ("Where", "where"), ("Old", "old"), ("New", "new"), ("Without counterpart", "left"), ("Notes", "notes"),
        ], rows)  # fmt: skip


def describe_proof(proof: dict[str, Any] | None) -> str:
    """Return in words what a conversion was compared with, the outcome, and on what condition it holds."""
    if proof is None:
        return "not compared: it is not nanoGPT's standard form, and the project's own code was not run"
    not_run = f"; the project's own code could not be run: {proof['not_run']}" if "not_run" in proof else ""
    if proof["against"] is None:
        return f"not compared{not_run}"
    number = f"{proof['largest_logit_difference']:.1e}"
    only_if = f"; this holds only if it was trained {' and '.join(proof['only_if'])}" if proof.get("only_if") else ""
    if proof["against"] == "formula":
        not_run = not_run or " (the project's own code was not run)"
        return f"{number} from nanoGPT's standard formula{only_if}{not_run}"
    losses = ""
    if proof["legacy_loss"] is not None:
        losses = f", loss {proof['legacy_loss']:.4f} there and {proof['new_loss']:.4f} here"
    outcome = "computes the same as" if only_if else "certified against"
    return f"{outcome} {proof['program']}: {number}{losses}, the same greedy text{only_if}"


def _section(title: str, words: str, columns: Sequence[tuple[str, str]], rows: Iterable[dict[str, Any]]) -> str:
    rows = list(rows)
    if not rows:
        return ""
    shown = [(name, key) for name, key in columns if any(_cell(row[key]) for row in rows)]
    lines = ["| " + " | ".join(name for name, _ in shown) + " |", "|" + " --- |" * len(shown)]
    lines += ["| " + " | ".join(_cell(row[key]) for _, key in shown) + " |" for row in rows]
    return "\n\n".join(part for part in (f"## {title}", words, "\n".join(lines)) if part)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return str(value).replace("|", "\\|").replace("\n", " ")
