from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbuilder.data import Document, clean_document
from llmbuilder.errors import ConfigError
from llmbuilder.refining.cleaning import TEXT_RULES, remove_page_furniture, remove_table_of_contents


@pytest.mark.parametrize(
    ("rule", "before", "after", "count"),
    [
        ("repair_unicode", "cafÃ© naÃ¯ve", "café naïve", 1),
        ("repair_unicode", "e\u0301", "é", 1),
        ("repair_unicode", "&lt;b&gt; stays “quoted”", "&lt;b&gt; stays “quoted”", 0),
        ("join_broken_words", "an exam-\nple and well-\nKnown", "an example and well-\nKnown", 1),
        ("join_broken_words", "from 10-\n20 pages", "from 10-\n20 pages", 0),
        ("remove_control_characters", "a\x00b\x07c\u200bd\ufeff\te\n", "abcd\te\n", 4),
        ("remove_control_characters", "a\r\nb\rc", "a\nb\nc", 0),
        ("normalize_whitespace", "a\u00a0b  \n\n\n\n    c\t\n", "a b\n\n    c", 4),
    ],
)
def test_each_rule(rule: str, before: str, after: str, count: int) -> None:
    assert TEXT_RULES[rule](before) == (after, count)


def test_rules_can_be_chosen_and_are_counted() -> None:
    document = Document("cafÃ©  \n\n\n\nend")
    cleaned, acted = clean_document(document, ["normalize_whitespace"])
    assert cleaned.text == "cafÃ©\n\nend"
    assert acted == {"normalize_whitespace": 2}
    assert clean_document(document, [])[0].text == document.text
    with pytest.raises(ConfigError, match="unknown cleaning rule 'polish'"):
        clean_document(document, ["polish"])


def test_furniture_needs_repetition() -> None:
    body = [f"Line {n} of a chapter that says something new" for n in range(9)]
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota"]
    pages = [
        f"HEADER\n{words[n]} begins\n" + "\n".join(f"{w} {words[n]}" for w in words) + f"\n- {n + 1} -"
        for n in range(5)
    ]
    cleaned, removed = remove_page_furniture(pages)
    assert removed == 10
    assert all("HEADER" not in page and f"{words[n]} begins" in page for n, page in enumerate(cleaned))
    single, removed = remove_page_furniture(["\n".join(body)])
    assert removed == 0
    assert single == ["\n".join(body)]


def test_pages_of_one_line_are_no_furniture() -> None:
    pages = [f"Slide {n} shows lighthouse number {n}" for n in range(6)]
    assert remove_page_furniture(pages) == (pages, 0)
    headed = [f"Collected slides\n{page}\nfor the society" for page in pages]
    cleaned, removed = remove_page_furniture([*headed, "Collected slides", "7"])
    assert removed == 6 + 6 + 2
    assert cleaned == [*pages, "", ""]


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    rules = ["remove_control_characters", "normalize_whitespace"]
    once = clean_document(Document(text), rules)[0].text
    assert clean_document(Document(once), rules)[0].text == once


def test_lines_of_a_table_of_contents_are_removed() -> None:
    lines = ["Contents", "1 Rivers ........ 3", "1.1 Of bridges . . . . . . . 12", "Preface.......... xii"]
    prose = ["It was 1999...", "Wait ..... what?", "..........12", "The end. 5"]
    kept, removed = remove_table_of_contents(["\n".join([*lines, *prose]), "." * 100_000])
    assert removed == 3
    assert kept[0].split("\n") == ["Contents", *prose]
