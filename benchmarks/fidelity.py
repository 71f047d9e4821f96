"""How much of every file's text comes out, measured without an answer key, on files that nobody here made.

python benchmarks/fidelity.py FOLDER [FOLDER ...] [--kinds docx pdf ...] [--peers markitdown docling] [--list 40]

Each file is read twice: by the package, and by an independent, dumb way that knows only where a format keeps its text
and nothing of layout (`llmbuilder.auditing`). Compared are letters and words, so that layout does not matter:

- kept: the longest common subsequence of letters and digits, as a share of the file's own
- whole: the same over words, so that a word that was split or fused with its neighbour counts as lost
- added: letters of the output that are not in that subsequence, as a share of the file's own

A table by format, weighted by letters, and every file below the goals. `docling` is what its tests publish for their
own files: only those are compared beside it.
"""

from __future__ import annotations

import argparse
import functools
import html
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmbuilder.auditing.fidelity import Fidelity, compare, words_of
from llmbuilder.auditing.own_text import KINDS, own_text
from llmbuilder.documents.document import Document
from llmbuilder.documents.html_blocks import decode_page, page_text
from llmbuilder.documents.reading import DocumentReader


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


def published(path: Path) -> Path | None:
    """Return the file in which docling's tests keep what it makes of another one, None if there is none."""
    places = (parent / "groundtruth" / f"{path.name}.md" for parent in list(path.parents)[:3])
    return next((place for place in places if place.is_file()), None)


def by_docling(path: Path) -> str:
    """Return docling's published Markdown, without what only Markdown needs."""
    place = published(path)
    assert place is not None
    text = re.sub(r"<!--.*?-->", "", place.read_text("utf-8"), flags=re.S)
    return html.unescape(re.sub(r"\\([_*#`])", r"\1", text))


READERS: dict[str, Callable[[Path], str]] = {
    "llmbuilder": by_llmbuilder, "markitdown": by_markitdown, "docling": by_docling,
}  # fmt: skip


def files_in(folders: list[Path], kinds: set[str], peers: list[str]) -> list[Path]:
    """Return the files of these kinds; beside docling those that it published something for."""
    found = (path for folder in folders for path in ([folder] if folder.is_file() else sorted(folder.rglob("*"))))
    files = [path for path in found if path.is_file() and path.suffix.lower().lstrip(".") in kinds]
    return [path for path in files if published(path) is not None] if "docling" in peers else files


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
    for path in files_in(given.folders, set(given.kinds), given.peers):
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
        kept, whole, added = Fidelity.of_all(found).shares
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
