"""One document through cleaning, redaction, filter and contamination check, in this order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

from llmbuilder.config.schema import DataConfig
from llmbuilder.documents.document import Document
from llmbuilder.refining.cleaning import CLEANING_RULES, clean_document, require_known_rules
from llmbuilder.refining.contamination import ContaminationCheck, describe_hits
from llmbuilder.refining.filtering import DocumentFilter, Verdict
from llmbuilder.refining.redaction import KINDS, check_kinds, redact
from llmbuilder.stages import NOTHING_LEFT


@dataclass(frozen=True)
class Refined:
    """A document as it became, what acted on it, and the stage and reason for dropping it (None if it stays)."""

    document: Document
    cleaning: Counter[str]
    redacted: Counter[str]
    stage: str | None = None
    reason: str | None = None
    verdict: Verdict | None = None


class Refiner:
    """Applies the stages that look at one document at a time; each is optional. ConfigError for unknown names."""

    def __init__(
        self,
        *,
        cleaning_rules: Collection[str] = CLEANING_RULES,
        redact_kinds: Collection[str] = (),
        document_filter: DocumentFilter | None = None,
        contamination: ContaminationCheck | None = None,
    ) -> None:
        require_known_rules(cleaning_rules)
        check_kinds(redact_kinds)
        self._cleaning_rules = tuple(cleaning_rules)
        self._redact_kinds = tuple(redact_kinds)
        self._filter = document_filter
        self._contamination = contamination

    @classmethod
    def from_config(cls, data: DataConfig) -> Refiner:
        """Return the refiner that a configuration describes. Raises ConfigError for unknown names."""
        rules = (CLEANING_RULES if data.cleaning_rules is None else data.cleaning_rules) if data.clean_text else ()
        return cls(
            cleaning_rules=rules,
            redact_kinds=KINDS if "all" in data.redact else data.redact,
            document_filter=DocumentFilter.from_config(data),
            contamination=ContaminationCheck.from_files(data.evaluation_files) if data.evaluation_files else None,
        )

    def refine(self, document: Document) -> Refined:
        """Return what becomes of one document."""
        cleaning: Counter[str] = Counter()
        redacted: Counter[str] = Counter()
        if self._cleaning_rules:
            document, cleaning = clean_document(document, self._cleaning_rules)
        if self._redact_kinds:
            text, redacted = redact(document.text, self._redact_kinds)
            document = replace(document, text=text, pages=None if redacted else document.pages)
        if not document.text.strip():
            return Refined(document, cleaning, redacted, "clean", NOTHING_LEFT)
        verdict = self._filter.judge(document) if self._filter is not None else None
        if verdict is not None and verdict.reason is not None:
            return Refined(document, cleaning, redacted, "filter", verdict.reason, verdict)
        hits = self._contamination.find(document) if self._contamination is not None else []
        if hits:
            return Refined(document, cleaning, redacted, "contamination", describe_hits(hits), verdict)
        return Refined(document, cleaning, redacted, verdict=verdict)
