"""Conversations in the forms of others, and what is none or cannot be learned from."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbuilder.conversations.files import LeftOut, conversation_files, read_conversations, unknown_fields
from llmbuilder.conversations.forms import Conversation, conversation_of
from llmbuilder.conversations.rules import LONGEST_TURN, checked, is_learned
from llmbuilder.errors import DataError, MissingDependencyError

EXCHANGE = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}


def messages_of(values: dict[str, Any]) -> list[dict[str, Any]]:
    return conversation_of(values, "x:1").messages


@pytest.mark.parametrize(
    "values",
    [
        {"messages": EXCHANGE},
        {"messages": json.dumps(EXCHANGE)},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]},
                      {"role": "assistant", "content": "So.", "tool_calls": None}]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"conversations": EXCHANGE},
        {"instruction": "Why?", "input": "", "output": "So."},
        {"instruction": "Why?", "output": "So."},
        {"prompt": "Why?", "completion": "So."},
        {"prompt": EXCHANGE[:1], "completion": EXCHANGE[1:]},
    ],
)  # fmt: skip
def test_every_form_says_the_same(values: dict[str, Any]) -> None:
    assert messages_of(values) == EXCHANGE


def test_what_stands_beside_the_turns_is_kept() -> None:
    system = {"role": "system", "content": "Be brief."}
    assert messages_of({"system": "Be brief.", "conversations": EXCHANGE})[0] == system
    alpaca = messages_of(
        {"instruction": "Add.", "input": "1 2", "output": "3", "history": [["a", "b"]], "system": "Be brief."}
    )
    assert [message["content"] for message in alpaca] == ["Be brief.", "a", "b", "Add.\n\n1 2", "3"]
    found = conversation_of({"messages": EXCHANGE, "tools": json.dumps([TOOL])}, "x:1")
    assert found.tools == [TOOL]


def test_calls_of_tools_have_their_arguments_as_values() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
    made = messages_of({"messages": [EXCHANGE[0], {"role": "assistant", "content": None, "tool_calls": [call]}]})
    assert made[1]["tool_calls"][0]["function"]["arguments"] == {"at": "sky"} and "content" not in made[1]
    spoken = messages_of({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": '{"name": "look", "arguments": {}}'},
                                            {"from": "observation", "value": "blue"}, {"from": "gpt", "value": "It is."}]})  # fmt: skip
    assert [message["role"] for message in spoken] == ["user", "assistant", "tool", "assistant"]
    assert spoken[1]["tool_calls"][0]["function"]["name"] == "look"


def test_an_answer_in_json_is_an_answer() -> None:
    assert messages_of({"prompt": "List them.", "completion": '["a", "b"]'})[1]["content"] == '["a", "b"]'


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([*EXCHANGE[:1], *EXCHANGE], "wrong order: 'user' after 'user' .message 2."),
        (EXCHANGE[::-1] + EXCHANGE[1:], "wrong order: 'assistant' at the beginning"),
        ([*EXCHANGE, {"role": "system", "content": "x"}, *EXCHANGE], "'system' after 'assistant'"),
        (EXCHANGE[:1], "no assistant turn"),
        ([{"role": "user", "content": "  "}, EXCHANGE[1]], "message 1 .user. is empty"),
        ([EXCHANGE[0], {"role": "assistant", "content": ""}], "message 2 .assistant. is empty"),
        ([{"role": "user", "content": "x" * 10_000_000}, EXCHANGE[1]], "10,000,000 characters, more than the 1,000,000"),
        ([{"role": "narrator", "content": "x"}, EXCHANGE[1]], "the role 'narrator'"),
        ([EXCHANGE[0], {"role": "assistant", "tool_calls": [{"name": "f"}]}], "message 2 .assistant. is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_said(messages: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        checked(Conversation("x:1", messages), with_calls=False)


def test_what_nobody_answers_is_left_out_at_the_end() -> None:
    found = checked(Conversation("x:1", [*EXCHANGE, {"role": "user", "content": "And?"}]), with_calls=False)
    assert found.messages == EXCHANGE
    assert len("x" * LONGEST_TURN) == LONGEST_TURN
    checked(Conversation("x:1", [{"role": "user", "content": "x" * LONGEST_TURN}, EXCHANGE[1]]), with_calls=False)


def test_answers_of_no_weight_are_not_learned() -> None:
    answer = EXCHANGE[1]
    assert [is_learned(m) for m in (answer, {**answer, "weight": 0}, {**answer, "train": False}, EXCHANGE[0])] == [
        True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, {"messages": ["hello"]},
        {"messages": [{"content": "x"}]}, {"conversations": [{"from": "narrator", "value": "x"}]}, {"messages": EXCHANGE, "tools": "{}"},
        {"messages": [{"role": "user", "content": 3}]}, {"instruction": "Add", "input": 5, "output": "6"},
        {"instruction": "Add", "history": ["a"], "output": "6"}, {"instruction": "Add", "history": 1, "output": "6"},
        {"messages": [{"role": "assistant", "tool_calls": 5}]}, {"chosen": "a", "rejected": "b"}, {"text": "x"},
    ],
)  # fmt: skip
def test_rows_of_another_kind_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        conversation_of(values, "x:1")


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_broken_lines_are_named_by_their_number_and_the_rest_is_used(tmp_path: Path) -> None:
    rows: list[Any] = [{"messages": EXCHANGE}, "{broken", "", '"text"', "[" * 100_000, {"messages": EXCHANGE}]
    file = written(tmp_path / "c.jsonl", rows)
    assert conversation_files(file) == [file]
    found = list(read_conversations([file]))
    assert [item.place for item in found] == [f"c.jsonl:{number}" for number in (1, 2, 4, 5, 6)]
    assert [isinstance(item, LeftOut) for item in found] == [False, True, True, True, False]
    assert "no JSON" in str(found[1])


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.sampled_from(["", "text", "user", "assistant", "[1]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["role", "content", "from", "value", "text", "type", "tool_calls", "function", "arguments"]), inner, max_size=4
    ),
    max_leaves=8,
)  # fmt: skip
_FIELDS = ["messages", "conversations", "instruction", "input", "output", "history", "system", "prompt", "completion",
           "tools", "functions", "label"]  # fmt: skip


@given(st.lists(st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=5), min_size=1, max_size=4))
def test_whatever_stands_in_a_row_it_is_a_conversation_or_left_out(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    file = written(tmp_path_factory.mktemp("rows") / "c.jsonl", [{"messages": EXCHANGE}, *rows])
    found = list(read_conversations([file]))
    assert len(found) == len(rows) + 1
    for item in found:
        if not isinstance(item, LeftOut):
            with contextlib.suppress(DataError):
                checked(item, with_calls=True)


def test_an_empty_cell_of_a_table_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"instruction": "Add", "input": NaN, "output": "6", "system": NaN}\n')
    (found,) = read_conversations([tmp_path / "c.jsonl"])
    assert not isinstance(found, LeftOut)
    assert [message["content"] for message in found.messages] == ["Add", "6"]


def test_lists_and_tables_and_folders_of_them(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    (tmp_path / "a.json").write_text("\ufeff" + json.dumps([{"instruction": "Why?", "output": "So."}] * 2), "utf-8")
    parquet.write_table(arrow.Table.from_pylist([{"messages": EXCHANGE}]), tmp_path / "b.parquet")
    written(tmp_path / "c.jsonl", [{"prompt": "Why?", "completion": "So."}])
    (tmp_path / "README.md").write_text("about it")
    files = conversation_files(tmp_path)
    assert files is not None
    found = list(read_conversations(files))
    assert [item.place for item in found] == ["a.json, item 1", "a.json, item 2", "b.parquet, row 1", "c.jsonl:1"]
    assert all(isinstance(item, Conversation) and item.messages == EXCHANGE for item in found)


def test_a_list_is_told_by_its_first_item(tmp_path: Path) -> None:
    rows = json.dumps([{"prompt": "Why?", "completion": "So."}] * 3)
    (tmp_path / "whole.json").write_text(rows)
    (tmp_path / "cut.json").write_text(rows[:-20])
    assert conversation_files(tmp_path / "whole.json") is not None
    cut = conversation_files(tmp_path / "cut.json")
    assert cut is not None
    with pytest.raises(DataError, match="cut.json is no JSON"):
        list(read_conversations(cut))
    (tmp_path / "texts.json").write_text('[{"text": "Why?"}, {"prompt"')
    assert conversation_files(tmp_path / "texts.json") is None


def test_text_stays_text(tmp_path: Path) -> None:
    assert conversation_files(written(tmp_path / "t.jsonl", [{"text": "x"}])) is None
    assert conversation_files(written(tmp_path / "t.txt", [{"messages": EXCHANGE}])) is None
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    written(mixed / "c.jsonl", [{"messages": EXCHANGE}])
    assert conversation_files(mixed) is not None
    (mixed / "story.txt").write_text("Once upon a time")
    assert conversation_files(mixed) is None


@pytest.mark.parametrize(
    ("row", "is_asked"),
    [
        ({"question": "1+1?", "answer": "2"}, True), ({"query": "1+1?", "response": "2", "type": "sum"}, True),
        ({"context": "", "Question": "1+1?", "answers": {"text": ["2"]}}, True), ({"text": "Hi", "role": "prompter"}, True),
        ({"title": "A day", "content": "It rained."}, False), ({"text": "It rained.", "source": "diary"}, False),
        ({"messages": EXCHANGE}, False),
    ],
)  # fmt: skip
def test_questions_and_answers_under_other_names_are_noticed(
    tmp_path: Path, row: dict[str, Any], is_asked: bool
) -> None:
    assert unknown_fields(written(tmp_path / "rows.jsonl", [row])) == (list(row) if is_asked else [])


def test_preferences_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of which one is preferred: those are learned with --objective dpo"):
        conversation_files(written(tmp_path / "p.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}]))


def test_parquet_needs_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="no complete Parquet file"):
        conversation_files(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"llmbuilder\[parquet\]"):
        conversation_files(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "values", [{"prompt": "Why?", "completion": "So.", "label": False}, {"messages": EXCHANGE, "label": False}]
)
def test_an_answer_that_is_marked_as_bad_is_not_learned(values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="marked as a bad one"):
        messages_of(values)
    assert messages_of({**values, "label": True}) == EXCHANGE


def test_two_ranked_outputs_are_not_learned_as_one_answer(tmp_path: Path) -> None:
    (tmp_path / "ranked.json").write_text(json.dumps([{"instruction": "Why?", "input": "", "output": ["So.", "No."]}]))
    with pytest.raises(DataError, match="--objective dpo"):
        conversation_files(tmp_path / "ranked.json")
