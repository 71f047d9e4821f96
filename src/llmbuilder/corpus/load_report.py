"""`LoadReport`: what came in and what went out, whatever reads: a loader, or one unit of a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from llmbuilder.documents.file_types import SUPPORTED_SUFFIXES
from llmbuilder.report.fates import left_out_group

_MOST_REASON = 100  # characters


class LoadReport:
    """Counts that can be added up, by group and by reason, and a list of everything that was left out.

    `counts` has the numbers of all, `groups` those by format, language, cleaning rule and the like, `reasons` those of
    what was left out by stage and reason, `dropped` the left out ones themselves: source, stage, reason, and `of`, the
    source of the document that stays instead of a duplicate.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.groups: dict[str, Counter[str]] = {}
        self.reasons: dict[str, Counter[str]] = {}
        self.dropped: list[dict[str, Any]] = []

    @classmethod
    def of_corpus(cls, description: Mapping[str, Any]) -> LoadReport:
        """Return the account of a prepared corpus, without the list of what was left out."""
        counts, groups, reasons = (description[name] for name in ("counts", "groups", "dropped"))
        return cls.from_state({"counts": counts, "groups": groups, "reasons": reasons, "dropped": []})

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LoadReport:
        """Return the report whose `to_state` this is, also after it was JSON."""
        report = cls()
        report.counts.update(state["counts"])
        report.groups = {name: Counter(values) for name, values in state["groups"].items()}
        report.reasons = {stage: Counter(values) for stage, values in state["reasons"].items()}
        report.dropped = list(state["dropped"])
        return report

    def to_state(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {**self.summary(), "dropped": self.dropped}

    def find(self, form: str | None, characters: int) -> None:
        """Count something found, with its format if it could be read, and its characters before refining."""
        self.counts["found"] += 1
        self.counts["characters found"] += characters
        self.group("formats found", form or "unreadable")

    def group(self, name: str, key: str, count: int = 1) -> None:
        """Count more of a group."""
        self.groups.setdefault(name, Counter())[key] += count

    def leave(self, notes: Mapping[str, Any]) -> None:
        """Count the columns that a document's notes say were neither its text nor a note."""
        for name in filter(None, str(notes.get("left_out", "")).split(", ")):
            self.group("columns left out", name)

    def change(self, name: str, counts: Mapping[str, int]) -> None:
        """Add up changes: "cleaning" by rule, "redacted" by kind."""
        self.groups.setdefault(name, Counter()).update(counts)

    def keep(self, form: str, characters: int) -> None:
        """Count a document that stays."""
        self.counts["documents"] += 1
        self.counts["characters"] += characters
        self.group("formats", form)

    def drop(
        self, source: str, stage: str, reason: str, *, form: str | None = None, language: str | None = None, **more: Any
    ) -> None:
        """Count and list something that is left out; `more` is kept with it."""
        self.reasons.setdefault(stage, Counter())[_general(reason)] += 1
        self.group(left_out_group("formats", stage), form or _format(source))
        if stage != "extract":
            self.group(left_out_group("languages", stage), language or "unknown")
        self.group("characters left out", stage, int(more.get("characters") or 0))
        self.dropped.append({"source": source, "stage": stage, "reason": reason, "format": form, **more})

    def summary(self) -> dict[str, Any]:
        """Return the numbers as plain values."""
        return {"counts": self.counts, "groups": self.groups, "reasons": self.reasons}

    @property
    def files(self) -> int:
        return self.counts["files"]

    @property
    def hidden(self) -> int:
        """Hidden files and folders, which were passed over."""
        return self.counts["hidden"]

    @property
    def documents(self) -> int:
        return self.counts["documents"]

    @property
    def characters(self) -> int:
        return self.counts["characters"]

    @property
    def formats(self) -> Counter[str]:
        """Documents that stay, by format."""
        return self.groups.get("formats", Counter())

    @property
    def languages(self) -> Counter[str]:
        """Documents that a filter looked at, by language."""
        return self.groups.get("languages found", Counter())

    @property
    def rules_skipped(self) -> Counter[str]:
        """Documents by filter rules that do not know their language."""
        return self.groups.get("rules skipped", Counter())

    @property
    def cleaning(self) -> Counter[str]:
        """Changes by rule."""
        return self.groups.get("cleaning", Counter())

    @property
    def redacted(self) -> Counter[str]:
        """Replaced values by kind."""
        return self.groups.get("redacted", Counter())

    @property
    def skipped(self) -> list[dict[str, str]]:
        """What could not be read or was empty: source and reason."""
        return self._left_out("reason", "extract", "clean")

    @property
    def filtered(self) -> list[dict[str, str]]:
        """What a filter or a check left out: source and reason."""
        return self._left_out("reason", "filter", "contamination")

    @property
    def duplicates(self) -> list[dict[str, str]]:
        """What repeats another document: source and the document that stays."""
        return self._left_out("of", "exact", "near")

    def _left_out(self, name: str, *stages: str) -> list[dict[str, str]]:
        return [{"source": row["source"], name: row[name]} for row in self.dropped if row["stage"] in stages]

    def to_dict(self) -> dict[str, Any]:
        """Return what a person looks for, as plain values."""
        lists = {"formats", "cleaning", "redacted", "languages", "rules_skipped"}
        names = ("files", "hidden", "documents", "characters", "formats", "skipped", "duplicates", "cleaning",
                 "filtered", "redacted", "languages", "rules_skipped")  # fmt: skip
        return {name: dict(getattr(self, name)) if name in lists else getattr(self, name) for name in names}


def _general(reason: str) -> str:
    """Reasons that quote a parser differ in detail only: what stands before its words is the reason."""
    return reason.split(": ")[0][:_MOST_REASON]


def _format(source: str) -> str:
    """Return what something that could not be read would have been, by its name or that of the file around it."""
    suffixes = (PurePath(part).suffix.lower() for part in reversed(source.split("#")))
    suffix = next(filter(None, suffixes), "")
    return SUPPORTED_SUFFIXES.get(suffix, suffix.lstrip(".")) if suffix else "unknown"


def added_up(accounts: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Return groups of counts added up, the largest first in each group."""
    total: dict[str, Counter[str]] = {}
    for account in accounts:
        for name, values in account.items():
            total.setdefault(name, Counter()).update(values)
    return {name: dict(sorted(values.items(), key=lambda i: (-i[1], i[0]))) for name, values in sorted(total.items())}
