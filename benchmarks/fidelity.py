"""How much of every file's text comes out, measured without an answer key, on files that nobody here made.

python benchmarks/fidelity.py FOLDER [FOLDER ...] [--peers markitdown] [--below 0.999]

Each file is read twice: by the package, and by an independent, dumb way that knows only where a format keeps its text
and nothing of layout (`oracle.py`). Compared are letters and words, so that layout does not matter:

- kept: the longest common subsequence of letters and digits, as a share of the file's own
- whole: the same over words, so that a word that was split or fused with its neighbour counts as lost
- added: letters of the output that are not in that subsequence, as a share of the file's own

A table by format, weighted by letters, and every file below the goals.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oracle import KINDS, own_text
from rapidfuzz.distance import LCSseq

from llmbuilder.documents.document import Document
from llmbuilder.documents.html_blocks import decode_page, page_text
from llmbuilder.documents.reading import DocumentReader

KEPT, WHOLE, ADDED = 0.999, 0.995, 0.002
PDF_KEPT = 0.99
LONGEST = 300_000  # letters compared at once; longer texts are compared in parts that both cut at the same share


_MARK = re.compile(r"^[\s|]*(?:\d+|[a-z]{1,2}|[ivxlc]+)\.\s", re.I | re.M)
# Commands of LaTeX, but for the functions that are written as their names.
_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm)?(?![a-zA-Z])|(?:begin|end)\{\w+\}(?:\{[lcr]+\})?|"
    r"(?!(?:sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|coth|arc\w+|log|ln|lg|exp|lim|max|min|sup|inf|det|dim|gcd|ker)(?![a-zA-Z]))"
    r"[a-zA-Z]+)"
)


@dataclass(frozen=True)
class Fidelity:
    """Letters and words of a file, and how many of them came out; `added` letters came out of nowhere."""

    letters: int
    letters_kept: int
    words: int
    words_whole: int
    added: int

    @property
    def shares(self) -> tuple[float, float, float]:
        letters, words = max(1, self.letters), max(1, self.words)
        return self.letters_kept / letters, self.words_whole / words, self.added / letters

    def is_good(self, kind: str) -> bool:
        kept, whole, added = self.shares
        if kind == "pdf":
            return kept >= PDF_KEPT
        return kept >= KEPT and whole >= WHOLE and (added <= ADDED or self.added <= 2)


def words_of(text: str) -> list[str]:
    """Return runs of letters and digits; marks that stand above or below a letter belong to it."""
    words, word = [], ""
    for character in text.casefold():
        if character.isalnum():
            word += character
        elif word:
            words.append(word)
            word = ""
    return [*words, word] if word else words


def compare(own: str, found: str) -> Fidelity:
    """Return how much of `own` is in `found`; LaTeX's commands and the numbers of lists are not counted."""
    a, b = (words_of(_MARK.sub("", _COMMAND.sub(" ", text))) for text in (own, found))
    letters, kept, added = "".join(a), 0, 0
    others = "".join(b)
    parts = max(1, len(letters) // LONGEST)
    for part in range(parts):
        one = letters[len(letters) * part // parts : len(letters) * (part + 1) // parts]
        other = others[len(others) * part // parts : len(others) * (part + 1) // parts]
        common = LCSseq.similarity(one, other)
        kept = kept + common
        added += max(0, len(other) - common - sum(map(str.isdigit, other)) + sum(map(str.isdigit, one)))
    return Fidelity(len(letters), kept, len(a), LCSseq.similarity(a, b), added)


def by_llmbuilder(path: Path) -> str:
    """Return what the package makes of a file; of a web page, the whole of it, as its main part is a choice."""
    if path.suffix.lower() in (".html", ".htm"):
        return page_text(decode_page(path.read_bytes(), str(path)))
    with DocumentReader(workers=1, ocr=None) as reader:
        found = [outcome for _, outcomes in reader.read_files([path]) for outcome in outcomes]
    texts = [outcome.text for outcome in found if isinstance(outcome, Document)]
    if not texts:
        raise ValueError("; ".join(getattr(outcome, "reason", "") for outcome in found))
    return "\n\n".join(texts)


@functools.cache
def _markitdown() -> Any:
    from markitdown import MarkItDown

    return MarkItDown()


def by_markitdown(path: Path) -> str:
    return _markitdown().convert(path).text_content


READERS: dict[str, Callable[[Path], str]] = {"llmbuilder": by_llmbuilder, "markitdown": by_markitdown}


def files_in(folders: list[Path], kinds: set[str]) -> list[Path]:
    found = (path for folder in folders for path in ([folder] if folder.is_file() else sorted(folder.rglob("*"))))
    return [path for path in found if path.is_file() and path.suffix.lower().lstrip(".") in kinds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--kinds", nargs="*", default=sorted(KINDS))
    parser.add_argument("--peers", nargs="*", default=[], choices=[name for name in READERS if name != "llmbuilder"])
    parser.add_argument("--list", type=int, default=40, help="files below the goals to list")
    given = parser.parse_args()
    sums: dict[tuple[str, str], list[Fidelity]] = defaultdict(list)
    failed: dict[tuple[str, str], list[tuple[Path, str]]] = defaultdict(list)
    poor: list[tuple[float, Path, Fidelity]] = []
    for path in files_in(given.folders, set(given.kinds)):
        kind = path.suffix.lower().lstrip(".")
        try:
            own = own_text(path)
        except Exception as error:  # noqa: BLE001 - a file that the dumb way cannot read either is no test
            print(f"left out: {path}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        for name in ("llmbuilder", *given.peers):
            try:
                fidelity = compare(own, READERS[name](path))
            except Exception as error:  # noqa: BLE001 - what a reader refuses is a line of the report
                if words_of(own):
                    failed[name, kind].append((path, str(error)))
                continue
            sums[name, kind].append(fidelity)
            if name == "llmbuilder" and not fidelity.is_good(kind):
                poor.append((min(fidelity.shares[:2]) - fidelity.shares[2], path, fidelity))
    print("| format | by | files | refused | letters kept | words whole | letters added | below the goals |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, kind in sorted(set(sums) | set(failed), key=lambda key: (key[1], key[0] != "llmbuilder")):
        found = sums[name, kind]
        total = Fidelity(*(sum(getattr(one, field) for one in found) for field in Fidelity.__dataclass_fields__))
        kept, whole, added = total.shares
        below = sum(not one.is_good(kind) for one in found)
        shares = f"{kept:.4f} | {whole:.4f} | {added:.4f}"
        print(f"| {kind} | {name} | {len(found)} | {len(failed[name, kind])} | {shares} | {below} |")
    for _, path, fidelity in sorted(poor, key=lambda one: one[0])[: given.list]:
        print("below: kept {:.4f}, whole {:.4f}, added {:.4f}".format(*fidelity.shares), path)
    for (name, kind), refusals in failed.items():
        for path, reason in refusals if name == "llmbuilder" else ():
            print(f"refused as {kind}: {path}: {reason[:200]}")


if __name__ == "__main__":
    main()
