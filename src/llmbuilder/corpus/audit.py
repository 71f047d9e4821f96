"""A sample of a corpus's files, read a second time in an independent way and compared with what was extracted."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmbuilder.auditing.fidelity import Fidelity, compare
from llmbuilder.auditing.own_text import KINDS, own_text
from llmbuilder.corpus.schemas import extracted_text
from llmbuilder.corpus.store import Part, part_sizes, read_slice
from llmbuilder.documents.sources import Source, is_remote
from llmbuilder.errors import LLMBuilderError
from llmbuilder.files import write_json
from llmbuilder.report.corpus_audit import AUDIT

# Of a web page the main part is taken, of a table the columns with texts: a choice, not a loss.
_CHOSEN_PARTS = frozenset(("html", "htm", "csv", "jsonl"))
_MOST_NAMED = 20


@dataclass
class Audit:
    """What the compared files come to by format, which of them are below the goals, and what could not be compared."""

    found: dict[str, list[Fidelity]] = field(default_factory=lambda: defaultdict(list))
    below: list[dict[str, Any]] = field(default_factory=list)
    not_compared: list[dict[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        formats = {}
        for kind, items in sorted(self.found.items()):
            kept, whole, added = (round(share, 5) for share in Fidelity.of_all(items).shares)
            formats[kind] = {"files": len(items), "kept": kept, "whole": whole, "added": added}
        return {"formats": formats, "below": self.below[:_MOST_NAMED], "not_compared": self.not_compared}


def audit_sample(
    units: Sequence[Sequence[Source]], extracted: Sequence[Path], count: int, seed: str, folder: Path
) -> Audit:
    """Compare `count` files, drawn at random, with what was extracted of them, and keep the result with the corpus."""
    places = [(unit, number) for unit, sources in enumerate(units) for number, source in enumerate(sources)
              if _can_be_compared(source)]  # fmt: skip
    result = Audit()
    for unit, number in sorted(random.Random(seed).sample(places, min(count, len(places)))):
        source = units[unit][number]
        texts, reasons = _extracted(extracted[unit], number)
        if texts:
            _compare(source, "\n\n".join(texts), result)
        else:
            result.not_compared.append({"source": source.name, "reason": "; ".join(reasons) or "nothing was read"})
    result.below.sort(key=lambda item: item["kept"])
    write_json(folder / AUDIT, result.to_dict())
    return result


def _can_be_compared(source: Source) -> bool:
    is_a_file = source.end is None and source.problem is None and not is_remote(source.name)
    return is_a_file and _kind(source) in KINDS.keys() - _CHOSEN_PARTS


def _kind(source: Source) -> str:
    return Path(source.name).suffix.lower().lstrip(".")


def _extracted(path: Path, number: int) -> tuple[list[str], list[str]]:
    """Return the texts that came of the source of that number in a unit, and the reasons for what gave none."""
    sizes = [rows for _, rows in part_sizes(path)]
    part = Part(str(path), sum(sizes[:number]), sizes[number])
    rows = [row for table in read_slice(part) for row in table.to_pylist()]
    texts = [extracted_text(row) for row in rows if row["error"] is None]
    return texts, [row["error"] for row in rows if row["error"] is not None]


def _compare(source: Source, text: str, result: Audit) -> None:
    kind = _kind(source)
    try:
        own = own_text(Path(source.name))
    except Exception as error:  # noqa: BLE001 - what the second way cannot read is no measure of the first
        said = str(error) if isinstance(error, LLMBuilderError) else f"{type(error).__name__}: {error}"
        result.not_compared.append({"source": source.name, "reason": said})
        return
    fidelity = compare(own, text)
    result.found[kind].append(fidelity)
    if not fidelity.is_good(kind):
        kept, whole, added = (round(share, 5) for share in fidelity.shares)
        result.below.append({"source": source.name, "kept": kept, "whole": whole, "added": added})
