"""Blocks of text as the readers of office files write them: paragraphs, list items, headings, Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def joined(blocks: Iterable[str]) -> str:
    """Return the text of blocks: an empty line between them, but for items that follow each other in a list."""
    text, before = "", ""
    for block in (block for block in blocks if block.strip()):
        between = "" if not text else "\n" if _is_item(before) and _is_item(block) else "\n\n"
        text += between + block
        before = block
    return text


class Item(str):
    """A block that is an item of a list."""


def _is_item(block: str) -> bool:
    return isinstance(block, Item)


def heading(text: str, level: int) -> str:
    """Return a heading of that level (1 is the highest); one of several lines becomes one."""
    line = " ".join(text.split())
    return f"{'#' * min(6, max(1, level))} {line}" if line else ""


def item(text: str, level: int, mark: str) -> Item:
    """Return an item of a list; `level` counts from 0."""
    if not text.strip():
        return Item("")
    first, *others = text.strip("\n").split("\n")
    indent = "  " * level
    return Item("\n".join([f"{indent}{mark} {first}", *(f"{indent}  {line}" if line else "" for line in others)]))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first row is its head; rows and columns that hold nothing are left out."""
    kept = [[_cell(text) for text in row] for row in rows]
    kept = [row for row in kept if any(row)]
    width = max((len(row) for row in kept), default=0)
    kept = [row + [""] * (width - len(row)) for row in kept]
    filled = [column for column in range(width) if any(row[column] for row in kept)]
    lines = ["| " + " | ".join(row[column] for column in filled) + " |" for row in kept]
    if len(filled) == 1 and len(lines) == 1:
        return kept[0][filled[0]]
    return "\n".join([*lines[:1], "|" + " --- |" * len(filled), *lines[1:]]) if lines else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def counted(number: int, form: str | None) -> str:
    """Return a list's number as Office's numbering formats write it ("decimal", "lowerLetter", "upperRoman", ...)."""
    if form in ("lowerLetter", "upperLetter") and number > 0:
        text = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
    elif form in ("lowerRoman", "upperRoman") and 0 < number < 4000:
        text = _roman(number)
    else:
        return str(number)
    return text.upper() if form.startswith("upper") else text


def _roman(number: int) -> str:
    signs = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"),
             (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip
    text = ""
    for value, sign in signs:
        text += sign * (number // value)
        number %= value
    return text
