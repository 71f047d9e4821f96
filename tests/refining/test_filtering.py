"""Quality signals against their definitions, presets against texts that everyone would judge alike."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbuilder.data import Document
from llmbuilder.errors import ConfigError
from llmbuilder.refining.filtering import FILTER_PRESETS, SIGNALS, DocumentFilter
from llmbuilder.refining.languages import detect_language
from llmbuilder.refining.quality import TextQuality

PROSE = """The lighthouse keeper had lived on the island for thirty years, and in that time he had learned to read the
weather from the colour of the water. Visitors came in summer, when the sea was calm, and asked him the same questions.

He told them about the winter storms, which could last for weeks. "You have to keep the lamp burning," he said, "that
is all there is to it." Few of them believed him. They went back to the mainland with photographs of the tower and of
the gulls that nested below it.

In the autumn a letter arrived from the ministry. It announced that a machine would take over his duties, and that a
boat would be sent to fetch him with his belongings before the end of November."""
MENU = "\n".join(["Home", "Products", "About us", "Contact", "Log in", "Cart (0)", "Terms"] * 8)
CODE = inspect.getsource(Counter)


def reason(text: str, preset: str, **options) -> str | None:
    return DocumentFilter(preset, **options).judge(Document(text)).reason


def test_presets_keep_prose_and_drop_what_is_none() -> None:
    assert all(reason(PROSE, preset) is None for preset in ("none", "notes", "books", "web"))
    assert reason(MENU, "web") == "stop_words below 2"
    assert reason("x " * 400, "web") == "mean_word_length below 3"
    assert reason("Buy the best shoes and that is it. " * 60, "web") == "top_2_gram_share above 0.2"
    assert reason(PROSE + "\n\nLorem ipsum dolor sit amet.", "web") == "lorem_ipsum above 0"
    assert reason(CODE, "code") is None
    assert reason("var a=" + "[1,2]," * 500, "code") == "longest_line above 1000"
    assert reason("milk", "notes") == "characters below 20"
    assert reason("milk", "none") is None


def test_thresholds_rules_languages_and_classifier_are_adjustable() -> None:
    assert reason(PROSE, "web", thresholds={"words": (500, None)}) == "words below 500"
    assert reason(MENU, "web", without=["stop_words", "words"]) == "sentences below 3"
    assert reason(PROSE, "none", languages=["de", "fr"]) == "language is not de or fr"
    assert reason(PROSE, "none", languages=["en"]) is None
    verdict = DocumentFilter(classifier=lambda text: text.count("sea") / 10, min_score=0.2).judge(Document(PROSE))
    assert (verdict.reason, verdict.score, verdict.language) == ("classifier below 0.2", 0.1, "en")
    with pytest.raises(ConfigError, match="did you mean 'books'"):
        DocumentFilter("book")
    with pytest.raises(ConfigError, match="did you mean 'stop_words'"):
        DocumentFilter(thresholds={"stopwords": (1, None)})
    with pytest.raises(ConfigError, match="unknown filter rule"):
        DocumentFilter(without=["everything"])


def test_every_threshold_of_a_preset_names_a_signal() -> None:
    assert {name for ranges in FILTER_PRESETS.values() for name in ranges} <= set(SIGNALS)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (PROSE, "en"),
        ("Der Leuchtturmwärter lebte seit dreißig Jahren auf der Insel und kannte das Wetter.", "de"),
        ("El farero llevaba treinta años viviendo en la isla y conocía bien el tiempo.", "es"),
        ("灯台守は三十年間この島に住み、海の色から天気を読むことを学んだ。", "ja"),
        ("המשגיח על המגדלור גר באי שלושים שנה וידע לקרוא את מזג האוויר.", "he"),
        ("Penjaga mercusuar itu telah tinggal di pulau selama tiga puluh tahun.", "id"),
        ("Tõendid, et torni valvur elas saarel juba kolmkümmend aastat, on olemas.", "et"),
        ("12345 67890 !!!", None),
        ("see https://example.org/the/lighthouse/keeper or mail the.keeper@example.org", None),
        ("Zq xv kjw qpz wvx zzkq jjxw qqpv xkcd wvut", None),
        ("short", None),
        ("", None),
    ],
)
def test_languages(text: str, language: str | None) -> None:
    found, certainty = detect_language(text)
    assert found == language
    assert (certainty > 0.65) if language else certainty == 0


def test_the_language_of_a_long_text_is_not_that_of_its_licence() -> None:
    licence = "Dieses Buch darf frei weitergegeben werden, solange dieser Hinweis erhalten bleibt. " * 20
    assert detect_language(licence + PROSE * 20)[0] == "en"


def test_control_characters_and_lone_surrogates_do_not_hide_a_language() -> None:
    assert detect_language("\x07\ud800 \ufdd0 " + PROSE)[0] == "en"


def test_of_a_text_in_two_languages_certainty_is_the_larger_ones_share() -> None:
    german = "Der Leuchtturmwärter lebte seit dreißig Jahren auf der Insel und kannte das Wetter. " * 40
    found, certainty = detect_language(german + PROSE * 2)
    assert found == "de"
    assert certainty < 0.8


def slow_duplicate_share(text: str, length: int) -> float:
    words = text.split()
    grams = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    counts = Counter(grams)
    inside = {i + offset for i, gram in enumerate(grams) if counts[gram] > 1 for offset in range(length)}
    return sum(len(words[i]) for i in inside) / max(1, sum(map(len, words)))


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=60).map(" ".join), st.integers(5, 10))
@settings(max_examples=200, deadline=None)
def test_repeated_ngrams_are_counted_as_defined(text: str, length: int) -> None:
    assert TextQuality(text).duplicate_ngram_share(length) == pytest.approx(slow_duplicate_share(text, length))


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_every_text_has_every_signal(text: str) -> None:
    quality = TextQuality(text)
    for name, signal in SIGNALS.items():
        value = signal(quality)
        assert value >= 0
        if name.endswith("_share") and name != "symbol_share":
            assert value <= 1


def test_shares_of_lines_and_paragraphs() -> None:
    quality = TextQuality("one line\none line\n- a bullet\nand so on...\n\nlast")
    assert quality.duplicate_line_share == pytest.approx(1 / 5)
    assert quality.duplicate_line_character_share == pytest.approx(8 / (8 + 8 + 8 + 12 + 4))
    assert quality.bullet_line_share == pytest.approx(1 / 5)
    assert quality.ellipsis_line_share == pytest.approx(1 / 5)
    assert quality.duplicate_paragraph_share == 0
    assert TextQuality("spam eggs spam eggs ham").top_ngram_share(2) == pytest.approx(16 / 19)
