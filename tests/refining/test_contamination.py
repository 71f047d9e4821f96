"""Evaluation texts in a corpus are found by their n-grams."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmbuilder.data import Document
from llmbuilder.errors import DataError
from llmbuilder.refining.contamination import ContaminationCheck, describe_hits

QUESTION = "A train leaves the station at nine and travels sixty miles an hour for two hours; how far does it go?"
SHORT = "What is the capital of the republic of Malta?"


def test_a_copied_question_is_found_whatever_its_case_and_punctuation(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in (QUESTION, SHORT)))
    check = ContaminationCheck.from_files([file])
    copied = "Exercises.\n" + QUESTION.upper().replace(";", " -") + "\nSolutions follow."
    (hit,) = check.find(Document(copied, "exercises.txt"))
    assert (hit.source, hit.evaluation) == ("exercises.txt", f"{file}#1")
    assert hit.count == len(QUESTION.split()) - 13 + 1
    assert hit.example == "a train leaves the station at nine and travels sixty miles an hour"
    assert describe_hits([hit, hit]) == (
        f"shares 13-grams with {file}#1: {hit.count}, such as '{hit.example}'; and with {file}#1"
    )
    (short,) = check.find(Document(f"Quiz: {SHORT} Valletta.", "quiz.txt"))
    assert (short.evaluation, short.count) == (f"{file}#2", 1)


def test_twelve_common_words_are_no_hit() -> None:
    check = ContaminationCheck([Document(QUESTION, "test")])
    twelve = " ".join(QUESTION.split()[:12])
    assert check.find(Document(f"{twelve} never", "book")) == []


def test_nothing_to_compare_with_is_an_error() -> None:
    with pytest.raises(DataError, match="at least 8 words"):
        ContaminationCheck([Document("too short", "test")])
