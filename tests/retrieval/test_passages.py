"""Documents cut into passages, and passages put before a prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbuilder.errors import GenerationError
from llmbuilder.retrieval import Passage, cut_passages, fit_passages, join_passages

TEXT = "\n\n".join(f"Paragraph {number} says something. It says a little more, too." for number in range(12))


def test_a_text_is_cut_between_paragraphs() -> None:
    found = list(cut_passages(TEXT, "a.txt", 150))
    assert all(passage.text.startswith("Paragraph") and passage.text.endswith("too.") for passage in found)
    assert [passage.line for passage in found] == [1, 5, 9, 13, 17, 21]
    assert found[1].place == "a.txt, line 5"


def test_a_paragraph_is_cut_between_sentences_and_a_sentence_between_words() -> None:
    assert [one.text for one in cut_passages("One two three. Four five six. Seven eight.", size=24)] == [
        "One two three.", "Four five six.", "Seven eight.",
    ]  # fmt: skip
    assert all(one.text.split()[0] == "word" for one in cut_passages("word " * 50, size=24))
    assert [len(one.text) for one in cut_passages("x" * 50, size=24)] == [24, 24, 2]
    assert [one.text for one in cut_passages("一二三四五。六七八九十。", size=8)] == ["一二三四五。", "六七八九十。"]


@given(st.text(alphabet=st.sampled_from("ab .\n\t。é\x0c"), max_size=300), st.integers(1, 60))
def test_nothing_is_lost_and_lines_are_those_of_the_text(text: str, size: int) -> None:
    found = list(cut_passages(text, size=size))
    assert "".join("".join(one.text.split()) for one in found) == "".join(text.split())
    assert all(0 < len(one.text) <= size for one in found)
    lines = text.split("\n")
    assert all(one.text.split("\n")[0] in lines[one.line - 1] for one in found)


def test_as_many_passages_as_fit_and_the_best_is_nearest() -> None:
    passages = [Passage("best"), Passage("second"), Passage("third")]
    assert join_passages(passages, "prompt") == "third\n\nsecond\n\nbest\n\nprompt"
    assert fit_passages(passages, "prompt", lambda text: len(text) <= 20) == passages[:2]
    assert fit_passages([], "prompt", lambda text: False) == []
    with pytest.raises(GenerationError, match="too little text for a passage"):
        fit_passages(passages, "prompt", lambda text: False)
