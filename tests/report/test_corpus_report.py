"""The report of a corpus adds up, and says of one rule one thing."""

from __future__ import annotations

import re
from pathlib import Path

from llmbuilder.config import Config
from llmbuilder.corpus import prepare_corpus
from llmbuilder.report.corpus import write_corpus_report
from tests.corpus.folders import paragraph, write_texts


def _rows(page: str, title: str) -> dict[str, str]:
    table = page[page.index(f"<h2>{title}") :]
    return dict(re.findall(r"<tr><th>([^<]*)</th><td[^>]*>([^<]*)</td></tr>", table[: table.index("</section>")]))


def test_what_became_of_the_characters_adds_up(tmp_path: Path) -> None:
    source = write_texts(tmp_path / "raw", 4)
    (source / "copy.txt").write_text(paragraph(1) + "\n")
    (source / "spaced.txt").write_text(paragraph("spaced").replace(" ", "  \n\n\n\n "))
    (source / "short.txt").write_text("Too short.")
    config = Config()
    config.data.filter = "notes"
    config.data.tokenize = False
    prepare_corpus(source, tmp_path / "out", config)
    page = write_corpus_report(tmp_path / "out").read_text("utf-8")
    said = _rows(page, "Characters")
    numbers = {name: int(value.replace("−", "-").replace(",", "")) for name, value in said.items()}
    assert set(numbers) >= {"read", "filtered out", "by cleaning and the like", "kept"}
    assert numbers.pop("bytes as UTF-8") >= numbers["kept"]
    kept = numbers.pop("kept")
    assert sum(numbers.values()) == kept
    assert set(_rows(page, "Settings")) == {"filter", "tokenize"}


def test_a_rule_whose_limit_differs_between_languages_is_one_reason() -> None:
    from llmbuilder.report.corpus import _by_rule

    reasons = ["words below 50", "stop_words below 2", "top_2_gram_share above 0.169", "top_2_gram_share above 0.2"]
    assert _by_rule([*reasons, "language is not de"]) == {
        "words below 50": ["words below 50"],
        "stop_words below 2": ["stop_words below 2"],
        "top_2_gram_share above a limit of the language": reasons[2:],
        "language is not de": ["language is not de"],
    }
