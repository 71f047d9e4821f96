from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmbuilder.data import DataLoader
from llmbuilder.documents.document import Document, Outcome, Unreadable
from llmbuilder.documents.json_files import NO_ROWS
from llmbuilder.documents.reader_pool import ReadingLimits
from llmbuilder.documents.reading import DocumentReader
from llmbuilder.errors import DataError

ASKED = {"instruction": "Name a port.", "input": "", "output": "Kiel."}
TALK = {"id": "a", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}


def read(path: Path, **options: Any) -> list[Outcome]:
    with DocumentReader(workers=1, **options) as reader:
        return [outcome for _, outcomes in reader.read_files([path]) for outcome in outcomes]


def written(folder: Path, content: object) -> Path:
    path = folder / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ([ASKED, ASKED], {"#1": "Name a port.\n\nKiel.", "#2": "Name a port.\n\nKiel."}),
        ([TALK], {"#1": "User: Hi\n\nAssistant: Hello"}),
        ({"version": "1", "data": [{"text": "One"}, {"text": "Two"}]}, {"#1": "One", "#2": "Two"}),
        ({"title": "T", "text": "A text of its own."}, {"": "A text of its own."}),
        ({"messages": [{"role": "user", "content": "Hi"}]}, {"": "User: Hi"}),
        ('{"text": "line one"}\n{"text": "line two"}\n', {"#1": "line one", "#2": "line two"}),
        ('\ufeff [ {"text": "a",\n "n": ' + "9" * 5000 + "} ]", {"#1": "a"}),
    ],
)
def test_texts_in_json(tmp_path: Path, content: object, texts: dict[str, str]) -> None:
    path = written(tmp_path, content)
    found = {one.source.removeprefix(str(path)): one.text for one in read(path) if isinstance(one, Document)}
    assert found == texts


@pytest.mark.parametrize(
    "content",
    [
        {"name": "x", "contributors": [{"name": "A"}, {"name": "B"}], "dependencies": {"a": "1"}},
        {"compilerOptions": {"target": "es2020"}, "files": ["a"]},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"coordinates": [1, 2]}}] * 5},
        ["a", "b"],
        5,
        "",
    ],
)
def test_json_for_programs_is_refused(tmp_path: Path, content: object) -> None:
    assert read(path := written(tmp_path, content)) == [Unreadable(str(path), NO_ROWS)]


def test_what_is_damaged_gives_the_rows_before(tmp_path: Path) -> None:
    first, damage = read(written(tmp_path, '[{"text": "whole"}, {"text": "cu'))
    assert isinstance(first, Document) and first.text == "whole"
    assert isinstance(damage, Unreadable) and damage.reason.startswith("it is damaged: Unterminated string")
    for content in ('{"a": ', "[" * 100_000, '[{"text": "a"} {"text": "b"}]'):
        assert "it is damaged" in str(read(written(tmp_path, content))[-1])


def test_rows_without_a_text_have_a_reason(tmp_path: Path) -> None:
    _, number, other, last = read(written(tmp_path, [{"text": "one"}, 5, {"x": 1}, {"text": "two"}]))
    assert isinstance(number, Unreadable) and number.reason == "it is not a JSON object"
    assert isinstance(other, Unreadable) and other.reason.startswith("no column 'text'")
    assert isinstance(last, Document)
    (empty,) = read(written(tmp_path, "[]"))
    assert isinstance(empty, Unreadable) and empty.reason == "no rows in it"


def test_limits_and_columns_are_those_of_other_tables(tmp_path: Path) -> None:
    path = written(tmp_path, [{"text": "one", "story": "two"}])
    (document,) = read(path, text_column="story")
    assert isinstance(document, Document) and document.text == "two"
    (refused,) = read(path, limits=ReadingLimits(file_bytes=10))
    assert isinstance(refused, Unreadable) and "more than the 10 a file may have" in refused.reason


def test_what_describes_a_corpus_is_none(tmp_path: Path) -> None:
    manifest = tmp_path / "a.txt.manifest.json"
    manifest.write_text(json.dumps([{"text": "a"}]))
    with pytest.raises(DataError, match="it describes a corpus"):
        DataLoader().load_file(manifest)
