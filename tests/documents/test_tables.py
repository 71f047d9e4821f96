"""Rows of CSV, JSON Lines and Parquet: one reader each, the same rules, a reason for each row that is no document."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbuilder.documents.document import Document, Outcome, Unreadable
from llmbuilder.documents.tables import iter_parquet_rows, read_csv, read_json_lines, read_parquet
from llmbuilder.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"id": "1", "text": "The first row.", "title": "One"},
    {"id": "2", "text": "", "title": ""},
    {"id": "3", "text": 'The third, with "quotes", and\na line break.', "title": "Three"},
]


def write(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "csv":
        with open(path, "w", newline="") as handle:
            table = csv.DictWriter(handle, rows[0])
            table.writeheader()
            table.writerows(rows)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def read(path: Path, column: str | None = None) -> Iterator[Outcome]:
    reader = {".csv": read_csv, ".jsonl": read_json_lines, ".parquet": read_parquet}[path.suffix]
    return reader(path, path.name, column)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_all_tables_follow_the_same_rules(tmp_path: Path, kind: str) -> None:
    found = list(read(write(tmp_path, kind, ROWS)))
    name = f"rows.{kind}"
    assert found == [
        Document(ROWS[0]["text"], f"{name}#1", kind, "One", notes={"id": "1", "title": "One"}),
        Unreadable(f"{name}#2", "no text in column 'text' (--text-column names another)"),
        Document(ROWS[2]["text"], f"{name}#3", kind, "Three", notes={"id": "3", "title": "Three"}),
    ]
    (first, *_) = read(tmp_path / name, "title")
    assert isinstance(first, Document)
    assert first.text == "One"
    assert {o.reason for o in read(tmp_path / name, "x") if isinstance(o, Unreadable)} == {
        "no column 'x'; its columns are id, text, title"
    }


@pytest.mark.parametrize("value", [None, 5, ["a", "b"], {"a": 1}])
def test_what_is_no_text_never_becomes_one(tmp_path: Path, value: object) -> None:
    path = write(tmp_path, "jsonl", [{"text": value}, {"text": "words"}])
    bad, good = read(path)
    assert bad == Unreadable("rows.jsonl#1", "no text in column 'text' (--text-column names another)")
    assert isinstance(good, Document)


def test_rows_of_other_encodings_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [
        b"\xef\xbb\xbf" + b'{"text": "plain"}',
        '{"text": "Grüße aus Köln, schöne Straße"}'.encode("latin-1"),
        b"{}",
    ]
    path.write_bytes(b"\n".join(lines))
    first, second, third = read(path)
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert (first.text, second.text) == ("plain", "Grüße aus Köln, schöne Straße")
    assert third == Unreadable("rows.jsonl#3", "no column 'text'; its columns are none")


def test_an_empty_first_row_does_not_decide_the_column(tmp_path: Path) -> None:
    found = list(read(write(tmp_path, "jsonl", [{}, {"n": 1, "note": "a long story of the sea"}])))
    assert [o.text for o in found if isinstance(o, Document)] == ["a long story of the sea"]


def test_compressed_rows_are_read_in_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(gzip.compress(b'{"text": "small"}\n'))
    (document,) = read(path)
    assert isinstance(document, Document)
    path.write_bytes(gzip.compress(b'{"text": "small"}\n' * 100)[:-20])
    with pytest.raises(DataError, match=r"rows\.jsonl: it is damaged"):
        list(read(path))


def texts_of(path: Path, column: str | None = None) -> list[str]:
    return [outcome.text for outcome in read(path, column) if isinstance(outcome, Document)]


def test_rows_before_the_damage_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(gzip.compress(b"".join(b'{"text": "row %d"}\n' % n for n in range(30))) + b"garbage here")
    found = []
    with pytest.raises(DataError, match="it is damaged"):
        for outcome in read(path):
            found.append(outcome)
    assert len(found) == 30


def test_a_number_too_long_for_python_costs_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two", "n": ' + "9" * 5000 + '}\n{"text": "three"}\n')
    assert texts_of(path) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        ([{"instruction": "Count the ships.", "embedding": [0.5] * 60}], ["Count the ships."]),
        ([{"text": None, "abstract": "What it is about."}], ["What it is about."]),
        ([{"TEXT": "Short.", "url": "https://example.org/a/long/address"}], ["Short."]),
    ],
)
def test_the_text_column_is_one_with_text(tmp_path: Path, rows: list[dict[str, Any]], texts: list[str]) -> None:
    assert texts_of(write(tmp_path, "jsonl", rows)) == texts


def test_utf_16_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "Čas"}\n{"text": "Zwei"}\n', encoding="utf-16")
    assert texts_of(path) == ["Čas", "Zwei"]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("sep=;\nid;text\n1;one, two\n", ["one, two"]),
        ('id, text\n1, "a, b"\n', ["a, b"]),
        ("id,text\n1,one,\n", ["one"]),
        ("The first row is prose " * 5 + "and no header.\nThe second one is shorter.\n", None),
    ],
)
def test_tables_as_programs_write_them(tmp_path: Path, content: str, texts: list[str] | None) -> None:
    (tmp_path / "a.csv").write_text(content)
    assert texts_of(tmp_path / "a.csv") == (texts or content.splitlines())


def test_what_a_table_would_lose_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,the keeper counted, and then, more\n2,fine\n")
    first, second = read(path)
    assert first == Unreadable("a.csv#1", "it has more fields (2) than the header: quote those with delimiters")
    assert isinstance(second, Document)
    nested = write(tmp_path, "jsonl", [{"name": "ship", "cargo": {"salt": 3}, "port": "Kiel"}])
    (document,) = read(nested)
    assert isinstance(document, Document)
    assert (document.text, document.notes) == ("name: ship\nport: Kiel", {"left_out": "cargo"})


def test_columns_nobody_asked_for_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    stamps = pyarrow.array([1, 2], pyarrow.timestamp("ns"))
    broken = pyarrow.array([b"fine", b"\xff\xfe"], pyarrow.binary())
    parquet.write_table(
        pyarrow.table({"text": ["one", "two"], "when": stamps, "picture": [{"bytes": b"1"}] * 2, "raw": broken}), path
    )
    assert texts_of(path) == ["one", "two"]
    spoiled = pyarrow.StringArray.from_buffers(2, *broken.buffers()[1:])
    parquet.write_table(pyarrow.table({"text": spoiled, "title": ["A", "B"]}), path)
    first, second = read(path)
    assert isinstance(first, Document)
    assert second == Unreadable("rows.parquet#2", "no text in column 'text' (--text-column names another)")
    parquet.write_table(pyarrow.table({"caption": pyarrow.array([b"bytes of text"], pyarrow.binary())}), path)
    assert texts_of(path) == ["bytes of text"]


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"rows\.parquet: cannot be read as Parquet"):
        list(read(path))
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        list(iter_parquet_rows(path))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), min_size=1, max_size=12),
       st.integers(1, 60))  # fmt: skip
def test_parts_of_a_file_give_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], step: int
) -> None:
    path = write(tmp_path_factory.mktemp("parts"), "jsonl", [{"text": text} for text in texts])
    size = path.stat().st_size
    parts = [
        outcome
        for begin in range(0, size, step)
        for outcome in read_json_lines(path, "rows", begin=begin, end=min(size, begin + step))
    ]
    assert [outcome.text for outcome in parts if isinstance(outcome, Document)] == texts


def notes_of(path: Path) -> list[dict[str, Any]]:
    return [outcome.notes for outcome in read(path) if isinstance(outcome, Document)]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"instruction": "Add.", "input": "1 and 2", "output": "3"}, "Add.\n\n1 and 2\n\n3"),
        ({"instruction": "Greet.", "input": "", "output": "Hello!"}, "Greet.\n\nHello!"),
        ({"prompt": "The sky is", "completion": "blue today."}, "The sky is\n\nblue today."),
        ({"question": "Why?", "answer": "Because of it."}, "Why?\n\nBecause of it."),
        ({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
                       {"role": "assistant", "content": "Hello."}]}, "System: Be kind.\n\nUser: Hi\n\nAssistant: Hello."),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
         "User: Hi\n\nAssistant: Hello."),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image"}]}]}, "User: Look"),
    ],
)  # fmt: skip
def test_questions_and_conversations_are_whole(tmp_path: Path, row: dict[str, Any], text: str) -> None:
    assert texts_of(write(tmp_path, "jsonl", [row])) == [text]


def test_rows_without_a_text_column_are_written_out(tmp_path: Path) -> None:
    rows = [{"name": f"Ship {n}", "port": "Riga", "crates": n, "notes": "needs paint"} for n in range(3)]
    path = write(tmp_path, "jsonl", rows)
    assert texts_of(path)[1] == "name: Ship 1\nport: Riga\ncrates: 1\nnotes: needs paint"
    assert texts_of(path, "port") == ["Riga"] * 3


def test_small_tables_stay_together_and_large_ones_become_rows(tmp_path: Path) -> None:
    rows = [{"name": f"Ship {n}", "port": "a | b", "crates": str(n)} for n in range(3)]
    assert texts_of(write(tmp_path, "csv", rows)) == [
        "| name | port | crates |\n| --- | --- | --- |\n| Ship 0 | a \\| b | 0 |\n| Ship 1 | a \\| b | 1 |\n| Ship 2 | a \\| b | 2 |"
    ]
    many = [{"name": f"Ship {n}", "port": "Riga", "crates": str(n)} for n in range(3000)]
    found = texts_of(write(tmp_path, "csv", many))
    assert len(found) == 3000
    assert found[7] == "name: Ship 7\nport: Riga\ncrates: 7"


def test_what_is_neither_text_nor_note_is_named(tmp_path: Path) -> None:
    path = write(
        tmp_path, "jsonl", [{"text": "The text.", "summary": "long " * 60, "tags": ["a"], "empty": None, "id": 4}]
    )
    assert notes_of(path) == [{"id": 4, "left_out": "summary, tags"}]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('text,n\n"He said ""no"".",1\n' + "plain,2\n" * 2000 + '"and ""yes""",3\n', 'and "yes"'),
        ('id,text\n1,"He said \\"no\\" twice"\n2,"and, \\"yes\\"!"\n', 'and, "yes"!'),
        ("# made by a program\n# in 2024\nid,text\n1,first row\n2,second row\n", "second row"),
        ("#id,text\n1,first row\n2,second row\n", "second row"),
    ],
)
def test_quotes_and_comments_as_programs_write_them(tmp_path: Path, content: str, texts: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    assert texts_of(tmp_path / "a.csv")[-1] == texts


@pytest.mark.parametrize(
    "first", ["1,The keeper counted the ships today.", "3.5,12", "2024-01-03,Riga is a port in the north."]
)
def test_a_table_without_a_header_keeps_its_first_row(tmp_path: Path, first: str) -> None:
    (tmp_path / "a.csv").write_text(f"{first}\n4,And he counted the boats as well.\n")
    assert first.split(",")[1] in "\n".join(texts_of(tmp_path / "a.csv"))


def test_a_quote_that_is_not_closed_is_said(tmp_path: Path) -> None:
    rows = "".join(f'{n},"row {n}",x\n' for n in range(2, 40))
    (tmp_path / "a.csv").write_text(f'id,text,more\n1,"never closed,x\n{rows.replace(chr(34), "")}')
    (bad,) = read(tmp_path / "a.csv")
    assert isinstance(bad, Unreadable)
    assert "never closed takes in 38 more rows" in bad.reason


LONG = "a story of {} that is longer than any cell of a table that would be kept as a table" + " and more" * 60


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["city,people,area", "Rome,2800000,1285", "Paris,2100000,105"],
         "| city | people | area |\n| --- | --- | --- |\n| Rome | 2800000 | 1285 |\n| Paris | 2100000 | 105 |"),
        (["x,x,", "a,b,c"], "| x | x |  |\n| --- | --- | --- |\n| a | b | c |"),
        (["Cups,,", ",,", "Team,Cups,", "Blues,1,"], "Cups\n\n| Team | Cups |\n| --- | --- |\n| Blues | 1 |"),
        (["1,2", "a,b", "c,d,e"], "| 1 | 2 |  |\n| --- | --- | --- |\n| a | b |  |\n| c | d | e |"),
        (["id,word", "1,ship", "2,sea"], None),
    ],
)  # fmt: skip
def test_small_tables_keep_every_cell(tmp_path: Path, lines: list[str], text: str | None) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines))
    assert texts_of(path) == ([text] if text else ["ship", "sea"])


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f",note,note,\n0,{LONG.format('a')},{LONG.format('b')},more\n")
    assert texts_of(path) == [f"note: {LONG.format('a')}\nnote (2): {LONG.format('b')}\ncolumn 4: more"]
