"""Questions about documents, made by a rule."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbuilder.evaluation.mentions import CAPITALS, IDENTIFIER, NAME, NUMBER, find_mentions, kind_of_word
from llmbuilder.evaluation.questions import OTHERS, make_questions
from llmbuilder.tokenizer import Tokenizer

SYLLABLES = ("bre", "dol", "fen", "gar", "hol", "jun", "kel", "lam", "mor", "nis", "ost", "pel", "ruv", "sav", "tam")


def invented(count: int, seed: int = 1) -> Iterator[str]:
    """Yield names that nobody has."""
    lots = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        made["".join(lots.choice(SYLLABLES) for _ in range(3)).capitalize()] = None
    return iter(made)


def harbour_texts(count: int) -> list[str]:
    names = invented(2 * count)
    return [f"In the town of {next(names)} an old harbour belongs since the year {1700 + 3 * n} to the family of "
            f"{next(names)}, as everybody there knows." for n in range(count)]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("Berkeley", NAME), ("Hewlett-Packard", NAME), ("Ελλάδα", NAME), ("Москва", NAME), ("ASCII", CAPITALS),
        ("IEEE", CAPITALS), ("snake_case", IDENTIFIER), ("ftp::Open", IDENTIFIER), ("JavaScript", IDENTIFIER),
        ("RS-232", IDENTIFIER), ("util.tcl", IDENTIFIER), ("harbour", None), ("A", None), ("Be", None), ("e.g", None),
        ("_", None), ("北京", None), ("x" * 50, None), ("X-ray", None), ("שלום", None),
    ],
)  # fmt: skip
def test_kinds_of_words(word: str, kind: str | None) -> None:
    assert kind_of_word(word) == kind


def prompts(text: str, characters: int = 200) -> dict[str, str]:
    found = find_mentions([text], characters)
    return {word: text[place.prompt_begin : place.begin] for word, places in found.places.items() for place in places}


def test_a_prompt_is_the_sentence_before_the_word_and_a_little_more() -> None:
    text = "It rained. In those days the harbour was called Brelnor by the sailors who came in 1712 with the fleet."
    assert prompts(text) == {
        "Brelnor": "It rained. In those days the harbour was called ",
        "1712": text[: text.index("1712")],
    }
    assert prompts(text, 60)["Brelnor"] == "It rained. In those days the harbour was called "
    assert prompts(text, 36)["Brelnor"] == "those days the harbour was called "


@pytest.mark.parametrize(
    "text",
    [
        "Brelnor was the name of the old harbour.",  # begins a sentence
        "They came late. Brelnor was asleep by then.",
        "the harbour was the oldest one, said the\nBrelnor people",  # begins a line
        "the harbour of brelnor was given the name Brelnor",  # stands in the prompt
        "1. the 23 ships",  # too little before it
        "=====  ------  =====  ------ 1712",  # no words before it
        "the words BET BEY BIB BID BIG BIN BIT BOB BOG BOO BOP",  # a list of names
        "40 1115 40 1116 40 1117 40 1118 40 1119",
    ],
)
def test_what_is_not_asked_for(text: str) -> None:
    assert prompts(text) == {}


def test_languages_without_capitals_have_numbers_only() -> None:
    found = find_mentions(
        [
            "这个港口是在很久以前建造的，当时是1712年，后来又扩建了。",
            "בנמל הישן הזה עגנו פעם מאות ספינות עד שנת 1712 בערך",
        ],
        200,
    )
    assert set(found.kinds.values()) == {NUMBER} and set(found.places) == {"1712"}


@given(st.text(alphabet=st.sampled_from("abAB1_ .:-\n(é中。ß"), max_size=400), st.integers(20, 120))
def test_mentions_are_where_they_say(text: str, characters: int) -> None:
    found = find_mentions([text], characters)
    for word, places in found.places.items():
        assert found.counts[word] >= len(places)
        for place in places:
            assert text.startswith(word, place.begin)
            prompt = text[place.prompt_begin : place.begin]
            assert word.lower() not in prompt.lower()
            assert 0 < len(prompt) <= characters
            assert prompt.rstrip(" \t")[-1:] not in ("", "\n")


def test_questions_follow_their_rules(bpe: Tokenizer) -> None:
    texts = harbour_texts(120)
    made = make_questions(texts[:80], texts[80:] + texts[:10], bpe, most=60, seed=3)
    assert len(made.trained) == 60 and made.held_out
    for question in [*made.trained, *made.held_out]:
        assert len(set(question.options)) == 1 + OTHERS
        words = [option.strip().lower() for option in question.options]
        assert not any(word in question.prompt.lower() for word in words)
        assert any(question.prompt + question.answer in text for text in texts)
        assert not any(question.prompt + other in text for other in question.others for text in texts)
        lengths = {len(bpe.encode(question.prompt + option)) for option in question.options}
        assert len(lengths) == 1, "as many tokens each"
    assert len({question.answer for question in made.trained}) == 60, "each word is asked for once"
    assert {question.kind for question in made.trained} == {NAME, NUMBER}
    assert made == make_questions(texts[:80], texts[80:] + texts[:10], bpe, most=60, seed=3)
    assert made != make_questions(texts[:80], texts[80:] + texts[:10], bpe, most=60, seed=4)
    assert make_questions(texts[:80], [], bpe, most=9, seed=3).trained == made.trained[:9], "less time, fewer of them"


def test_a_tokenizer_of_characters_that_has_no_blank_asks_too() -> None:
    texts = [
        f"这个港口是在很久以前由一位国王下令建造的，当时是{1700 + number}年，后来又扩建了。" for number in range(20)
    ]
    tokenizer = Tokenizer.from_characters(sorted(set("".join(texts))))
    made = make_questions(texts, texts, tokenizer, most=9)
    assert len(made.trained) == len(made.held_out) == 9


def test_what_only_held_out_documents_know_is_not_asked(bpe: Tokenizer) -> None:
    texts = harbour_texts(120)
    held_out = make_questions(texts[:80], texts[80:], bpe, most=60).held_out
    assert held_out == [], "every name and year of these stands in them alone"


def test_words_that_are_mostly_written_small_are_no_names(bpe: Tokenizer) -> None:
    texts = [
        f"{text} Then the mayor said that Later he would see, and later and later he did." for text in harbour_texts(40)
    ]
    asked = {question.answer.strip() for question in make_questions(texts, [], bpe, most=200).trained}
    assert asked and "Later" not in asked


@given(st.lists(st.text(alphabet=st.sampled_from("ab AB12_.\n(中"), max_size=200), max_size=6))
def test_any_text_makes_right_questions_or_none(bpe: Tokenizer, texts: list[str]) -> None:
    for question in make_questions(texts, texts, bpe, most=20).trained:
        assert any(question.prompt + question.answer in text for text in texts)
