"""How the rows of a table become texts: one column, a conversation, a question with its answer, or all columns.

One rule for CSV, JSON Lines and Parquet, decided by the first rows, so that no row of a table is read otherwise than
the ones before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Values = dict[str, Any]
_TEXT_COLUMNS = ("text", "content", "body", "document", "article")
_TURNS = ("messages", "conversations", "conversation", "turns")
_QUESTIONS = ("instruction", "prompt", "question", "query", "problem")
_BETWEEN = ("input", "context")
_ANSWERS = ("output", "completion", "response", "answer", "chosen", "solution", "target")
_ROLES = {"human": "User", "gpt": "Assistant", "user": "User", "assistant": "Assistant", "system": "System",
          "model": "Assistant", "bot": "Assistant", "tool": "Tool", "function": "Tool"}  # fmt: skip
# What rows are numbered or sorted by: beside nothing but these, a column is the text, however short.
_MARKS = frozenset(("", "id", "n", "idx", "index", "no", "number", "nr", "uid", "key", "label", "score", "split",
                    "rating", "stars", "lang", "language", "year", "date", "timestamp", "url", "source"))  # fmt: skip
_MOSTLY = 0.8  # of the letters: a column with more is the text, and the others say something about it
_LEAST_MEAN = 40  # characters of such a column
_LONGEST_NOTE = 200  # characters


@dataclass(frozen=True)
class RowText:
    """Which columns of a row are its text, and how they are put together."""

    form: Literal["column", "turns", "answer", "lines"]
    columns: tuple[str, ...]

    def text(self, values: Values) -> str | None:
        """Return a row's text, None if there is none."""
        if self.form == "lines":
            lines = (f"{name}: {text}" if name else text for name in values if (text := _line(name, values[name])))
            return "\n".join(lines) or None
        if self.form == "turns":
            return _conversation(values.get(self.columns[0]))
        texts = [text_of(values.get(name)) for name in self.columns]
        if not texts[-1]:
            return None
        return "\n\n".join(text for text in texts if text)

    def is_named(self, asked: str | None = None) -> bool:
        """Whether the columns are taken by their names, `asked` among them, and not by how much they hold."""
        known = self.form == "column" and self.columns[0].casefold() in _TEXT_COLUMNS
        return self.form in ("turns", "answer") or known or self.columns == (asked,)

    def notes(self, values: Values) -> Values:
        """Return what a row says besides its text; `left_out` names the columns that are neither text nor a note."""
        if self.form == "lines":
            others = {name: value for name, value in values.items() if not written(value)}
        else:
            others = {name: value for name, value in values.items() if name not in self.columns}
        notes = {name: value for name, value in others.items() if _is_note(value)}
        left = [str(name) for name, value in others.items() if name not in notes and value not in (None, "", [], {})]
        return {**notes, "left_out": ", ".join(left)} if left else notes

    def problem(self, values: Values) -> str:
        """Return why a row has no text."""
        if self.form != "lines" and self.columns[-1] not in values:
            return f"no column {self.columns[-1]!r}; its columns are {', '.join(map(str, values)) or 'none'}"
        named = f" in column {self.columns[-1]!r} (--text-column names another)" if self.columns else ""
        return f"no text{named}"


def choose_text(rows: Iterable[Values], column: str | None = None) -> RowText:
    """Return how rows like these become texts; `column` is the one asked for."""
    if column is not None:
        return RowText("column", (column,))
    found = list(rows)
    for name in _columns(found, _TURNS):
        if any(_conversation(row.get(name)) for row in found):
            return RowText("turns", (name,))
    sizes: Counter[str] = Counter()
    for row in found:
        texts = {name: text_of(value) for name, value in row.items()}
        sizes.update({name: len(text) for name, text in texts.items() if any(map(str.isalpha, text))})
    asked, given = _columns(found, _QUESTIONS), _columns(found, _ANSWERS)
    if asked and given and all(any(text_of(row.get(name)) for row in found) for name in (asked[0], given[0])):
        return RowText("answer", (asked[0], *_columns(found, _BETWEEN)[:1], given[0]))
    named = [name for name in _columns(found, _TEXT_COLUMNS) if sizes[name]]
    if named:
        return RowText("column", (named[0],))
    if not sizes:
        return RowText("column", (_TEXT_COLUMNS[0],))
    largest, size = sizes.most_common(1)[0]
    is_dominant = size >= _MOSTLY * sizes.total() and size >= _LEAST_MEAN * len(found)
    others = {
        str(name).casefold()
        for row in found
        for name, value in row.items()
        if name != largest and value != "" and isinstance(value, str | int | float)
    }
    is_alone = len(sizes) == 1 and all(name in _MARKS or name.endswith(("_id", "_no")) for name in others)
    return RowText("column", (largest,)) if is_alone or is_dominant else RowText("lines", ())


def _columns(rows: list[Values], known: tuple[str, ...]) -> list[str]:
    """Return the columns that are called so, in small letters or large, in the order of `known`."""
    names = list(dict.fromkeys(name for row in rows for name in row if isinstance(name, str)))
    return [name for one in known for name in names if name.casefold() == one]


def text_of(value: object) -> str:
    """Return a value that is a text, "" for anything else; some programs store texts as bytes."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return ""
    return value if isinstance(value, str) else ""


def written(value: object) -> str:
    """Return a value as it stands in a line of text, "" for what has no short form."""
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return ", ".join(str(one) for one in value)
    return " ".join(text_of(value).split())


def _line(name: str, value: object) -> str:
    """Return a value as it stands in a line; "" for the numbers of rows, which some programs put before them."""
    text = written(value)
    return "" if not name and text.isdigit() else text


def _conversation(value: object) -> str:
    """Return turns of {"role", "content"} or {"from", "value"} as text; parts of a content that are no text go."""
    if not isinstance(value, list):
        return ""
    turns = []
    for turn in value:
        if not isinstance(turn, dict):
            return ""
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if isinstance(content, list):
            content = "\n".join(text_of(part.get("text")) for part in content if isinstance(part, dict))
        if isinstance(role, str) and text_of(content).strip():
            turns.append(f"{_ROLES.get(role.casefold(), role.capitalize())}: {text_of(content).strip()}")
    return "\n\n".join(turns)


def _is_note(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _LONGEST_NOTE)
