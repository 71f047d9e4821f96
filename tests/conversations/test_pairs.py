"""Preference pairs in the forms of others, and what is no pair or cannot be learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmbuilder.conversations.files import LeftOut, conversation_files, pair_files, read_rows
from llmbuilder.conversations.pairs import Pair, checked_pair, pair_of
from llmbuilder.errors import DataError

ASKED = {"role": "user", "content": "Why?"}
GOOD, BAD = {"role": "assistant", "content": "So."}, {"role": "assistant", "content": "No."}
BEFORE = [ASKED, {"role": "assistant", "content": "How?"}, {"role": "user", "content": "Well?"}]
HUMAN = "\n\nHuman: Why?\n\nAssistant:"


def read(values: dict[str, Any]) -> Pair:
    return checked_pair(pair_of(values, "x:1"), with_calls=False)


def shown(values: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    pair = read(values)
    return pair.chosen.messages, pair.rejected.messages


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},  # TRL, an explicit prompt
        {"prompt": "Why?", "chosen": " So.", "rejected": " No.\n"},  # made to be joined
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},  # TRL, an implicit prompt
        {"prompt": "Why?", "prompt_id": "7", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD], "messages": [ASKED, GOOD],
         "score_chosen": 8.0, "score_rejected": 3.0},  # UltraFeedback, binarized
        {"chosen": f"{HUMAN} So.", "rejected": f"{HUMAN} No."},  # Anthropic's HH-RLHF
        {"prompt": HUMAN, "chosen": " So.", "rejected": " No."},
        {"system": "", "question": "Why?", "chosen": "So.", "rejected": "No."},  # Intel's Orca pairs
        {"system": None, "input": "Why?", "chosen": "So.", "rejected": "No.", "rating": [9.0, 2.0]},  # Argilla's
        {"instruction": "Why?", "chosen_response": "So.", "rejected_response": "No."},
        {"qid": 1, "question": "Why?", "response_j": "So.", "response_k": "No."},  # Stack Exchange
        {"instruction": "Why?", "input": "", "chosen": "So.", "rejected": "No."},  # LLaMA-Factory, Alpaca
        {"instruction": "Why?", "input": "", "output": ["So.", "No."]},  # LLaMA-Factory until 2024
        {"conversations": [{"from": "human", "value": "Why?"}], "chosen": {"from": "gpt", "value": "So."},
         "rejected": {"from": "gpt", "value": "No."}},  # LLaMA-Factory, ShareGPT
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}],
         "chosen": {"from": "gpt", "value": "So."}, "rejected": {"from": "gpt", "value": "No."}},
        {"messages": [ASKED], "chosen": GOOD, "rejected": BAD},  # Axolotl
        {"input": {"messages": [ASKED]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},  # OpenAI
        {"prompt": json.dumps([ASKED]), "chosen": json.dumps([GOOD]), "rejected": json.dumps([BAD])},
    ],
)  # fmt: skip
def test_every_form_says_the_same(values: dict[str, Any]) -> None:
    assert shown(values) == ([ASKED, GOOD], [ASKED, BAD])
    assert read(values).shared == 1


def test_what_stands_before_is_kept_and_not_learned() -> None:
    system = {"role": "system", "content": "Be brief."}
    seen = {**BEFORE[1], "weight": 0}
    chosen, rejected = shown({"system": "Be brief.", "prompt": BEFORE, "chosen": "So.", "rejected": "No."})
    assert chosen == [system, ASKED, seen, BEFORE[2], GOOD] and rejected[:-1] == chosen[:-1]
    chosen, _ = shown({"system": "Be brief.", "chosen": [*BEFORE, GOOD], "rejected": [*BEFORE, BAD]})
    assert chosen == [system, ASKED, seen, BEFORE[2], GOOD]
    dialogue = "\n\nHuman: Why?\n\nAssistant: How?\n\nHuman: Well?\n\nAssistant: {}\n\nHuman: Thanks!"
    assert shown({"chosen": dialogue.format("So."), "rejected": dialogue.format("No.")})[0] == chosen[1:]
    values = {"instruction": "Well?", "history": [["Why?", "How?"]], "chosen": "So.", "rejected": "No."}
    assert shown(values)[0] == chosen[1:]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    pair = read(
        {"input": {"messages": [ASKED], "tools": tools}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}
    )
    assert pair.chosen.tools == pair.rejected.tools == tools


def test_conversations_may_part_before_their_last_answer() -> None:
    more = [{"role": "user", "content": "And?"}, GOOD]
    pair = read({"chosen": [ASKED, GOOD, *more], "rejected": [ASKED, BAD, *more]})
    assert pair.shared == 1 and "weight" not in pair.chosen.messages[1]


def test_a_text_that_only_looks_like_something_else_is_an_answer() -> None:
    chosen, _ = shown({"prompt": "List them.", "chosen": '["a", "b"]', "rejected": "{none}"})
    assert chosen[1]["content"] == '["a", "b"]'
    said = "Write it like this:\n\nHuman: hello\n\nAssistant: hi"
    assert shown({"prompt": "How?", "chosen": said, "rejected": "No."})[0][1]["content"] == said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"chosen": "So.", "rejected": "No."}, "nothing says what its answers are answers to"),
        ({"prompt": "", "chosen": "So.", "rejected": "No."}, "nothing says what its answers are answers to"),
        ({"prompt": "Why?", "chosen": "So."}, "no preference pair: it has the fields prompt, chosen"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": " So. "}, "its two answers are the same"),
        ({"chosen": [ASKED, GOOD], "rejected": [ASKED, GOOD, ASKED]}, "its two answers are the same"),
        ({"chosen": [ASKED, GOOD], "rejected": [ASKED, GOOD, ASKED, BAD]}, "one of its conversations is the beginning"),
        ({"chosen": [ASKED, GOOD], "rejected": [{"role": "user", "content": "How?"}, BAD]}, "differ before an answer, in message 1"),
        ({"chosen": [ASKED, GOOD], "rejected": "No."}, "a whole conversation, and the other an answer alone"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": ""}, "rejected: message 2 .assistant. is empty"),
        ({"prompt": "Why?", "chosen": None, "rejected": "No."}, "its chosen is null, and neither"),
        ({"prompt": "Why?", "chosen": ["So."], "rejected": ["No."]}, "its chosen is a list, and neither text nor messages"),
        ({"prompt": [ASKED, ASKED], "chosen": "So.", "rejected": "No."}, "chosen: its roles are in the wrong order"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": "No.", "tools": "{}"}, "its tools are an object"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_said(values: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(values)


ROW = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
TALK = {"messages": [ASKED, GOOD]}


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_broken_lines_are_named_by_their_number_and_the_rest_is_used(tmp_path: Path) -> None:
    file = written(tmp_path / "p.jsonl", [ROW, "{broken", TALK, "", "[1]", ROW])
    found = list(read_rows(pair_files(file), pair_of))
    assert [isinstance(item, LeftOut) for item in found] == [False, True, True, True, False]
    assert [item.place for item in found] == [f"p.jsonl:{number}" for number in (1, 2, 3, 5, 6)]
    assert "no preference pair: it has the fields messages" in str(found[2])


def test_lists_and_tables_and_folders_of_them(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    (tmp_path / "a.json").write_text(json.dumps([ROW] * 2), "utf-8")
    whole = {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}
    parquet.write_table(arrow.Table.from_pylist([whole]), tmp_path / "b.parquet")
    written(tmp_path / "c.jsonl", [{"chosen": f"{HUMAN} So.", "rejected": f"{HUMAN} No."}])
    (tmp_path / "README.md").write_text("about it")
    found = list(read_rows(pair_files(tmp_path), pair_of))
    assert [item.place for item in found] == ["a.json, item 1", "a.json, item 2", "b.parquet, row 1", "c.jsonl:1"]
    assert all(isinstance(item, Pair) and item.rejected.messages == [ASKED, BAD] for item in found)


def test_each_kind_is_told_from_the_other(tmp_path: Path) -> None:
    pairs, talk = written(tmp_path / "pairs.jsonl", [ROW]), written(tmp_path / "talk.jsonl", [TALK])
    assert pair_files(pairs) == [pairs]
    with pytest.raises(DataError, match="pairs.jsonl holds pairs of answers.*--objective dpo"):
        conversation_files(pairs)
    with pytest.raises(DataError, match="talk.jsonl holds conversations, and no pairs.*leave out --objective dpo"):
        pair_files(talk)
    with pytest.raises(DataError, match="talk.jsonl holds conversations"):
        pair_files(tmp_path)
    for path, content in (("text.txt", "Once upon a time"), ("text.jsonl", '{"text": "x"}\n')):
        (tmp_path / path).write_text(content)
        with pytest.raises(DataError, match="holds no preference pairs: --objective dpo .* learns from rows with"):
            pair_files(tmp_path / path)
    with pytest.raises(DataError, match="no such file or folder"):
        pair_files(tmp_path / "nowhere")
