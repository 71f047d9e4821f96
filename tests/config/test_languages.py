"""Codes of languages: what is taken, and what is proposed for everything else before any work begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbuilder import prepare_corpus
from llmbuilder.config import Config, fix_config, validate_config
from llmbuilder.config.languages import LANGUAGES, meant_language
from llmbuilder.data import DocumentFilter
from llmbuilder.errors import ConfigError
from llmbuilder.refining import languages


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("english", "en"), ("zh-CN", "zh"), ("zh_TW", "zh"), ("en-US", "en"), ("de_DE.UTF-8", "de"), ("deu", "de"),
        ("ger", "de"), ("Deutsch", "de"), ("iw", "he"), ("nb", "no"), ("jp", "ja"), ("cn", "zh"), ("Portugese", "pt"),
        ("Русский", "ru"), ("日本語", "ja"), ("haitian creole", "ht"), ("xx", None), ("klingon", None), ("", None),
    ],
)  # fmt: skip
def test_another_word_for_a_language_leads_to_its_code(written: str, code: str | None) -> None:
    assert meant_language(written) == code


def test_every_code_means_itself() -> None:
    assert {code: meant_language(code) for code in LANGUAGES} == {code: code for code in LANGUAGES}
    assert {meant_language(name) for name in LANGUAGES.values()} == set(LANGUAGES)


def test_every_answer_of_the_models_is_a_known_code() -> None:
    detected = set(languages._cld2().DETECTED_LANGUAGES)
    by_cld2 = {code for name, code in languages._cld2().LANGUAGES if name in detected}
    by_cld2 = {code for code in by_cld2 if code not in ("un", "tlh") and not code.startswith(("xx", "zz"))}
    by_fasttext = {found["lang"] for found in languages._fasttext().detect("one two three", k=200)}
    assert len(by_fasttext) > 100
    answers = {languages._CODES.get(code, code) for code in by_cld2 | by_fasttext}
    assert answers - set(LANGUAGES) == set()


def test_capital_letters_are_taken_and_other_words_are_refused_with_what_was_meant() -> None:
    config = Config.model_validate({"data": {"languages": ["EN", " De "]}})
    assert config.data.languages == ["en", "de"]
    assert DocumentFilter(languages=["EN"]).languages == ("en",)
    config.data.languages = ["EN", "german", "zh-CN"]
    valid, problems = validate_config(config)
    assert not valid
    assert [problem.value for problem in problems] == ["german", "zh-cn"]
    assert "German is 'de'" in str(problems[0])
    assert fix_config(config).data.languages == ["en", "de", "zh"]
    config.data.languages = ["xx"]
    with pytest.raises(ConfigError, match="cannot fix by itself"):
        fix_config(config)
    with pytest.raises(ConfigError, match="French is 'fr'"):
        DocumentFilter(languages=["french"])


def test_a_wrong_code_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("Rivers carry water from the mountains to the sea.\n")
    config = Config()
    config.data.languages = ["english"]
    with pytest.raises(ConfigError, match="English is 'en'"):
        prepare_corpus(tmp_path / "in", tmp_path / "out", config)
    assert not (tmp_path / "out").exists()
