"""Web pages: the main content stays whole, with tables and code; the frame around it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbuilder.data import DataLoader
from llmbuilder.documents.web_pages import main_blocks

ARTICLE = """<article><h1>Lighthouses</h1>
<p>The keeper of the <a href="https://example.org/tower">old tower</a> counted the ships before every storm of that year,
and wrote their names down.</p>
<ul><li>schooners</li><li>barges</li></ul>
<pre><code class="language-python">def count(ships):

    return len(ships)  # all of them
</code></pre>
<table><tr><th>Year</th><th>Ships</th></tr><tr><td>1888</td><td>412</td></tr></table>
<p>Snake_case and \\(x^2\\) stay as they are in the last paragraph, which is long enough to be worth reading.</p></article>"""
FRAME = """<html><head><title> Of
 lighthouses </title><script>track()</script></head><body>
<div class="cookie-banner">Accept all cookies</div>
<nav><ul><li><a href="/">Home</a></li><li><a href="/about">About us</a></li></ul></nav>
<main>{}</main>
<aside><h3>Related articles</h3><ul><li><a href="/x">Ten storms</a></li></ul></aside>
<footer>All rights reserved</footer></body></html>"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(FRAME.format(ARTICLE))
    return path


def test_the_article_stays_and_the_frame_goes(page: Path) -> None:
    (document,) = DataLoader().load_file(page)
    assert document.title == "Of lighthouses"
    for kept in (
        "# Lighthouses",
        "The keeper of the old tower counted",
        "- schooners\n- barges",
        "def count(ships):\n\n    return len(ships)  # all of them",
        "| 1888 | 412 |",
        "Snake_case and \\(x^2\\) stay",
    ):
        assert kept in document.text
    for gone in ("cookies", "About us", "Related", "Ten storms", "rights reserved", "track", "example.org"):
        assert gone not in document.text


@pytest.mark.parametrize("encoding", ["utf-8", "windows-1252", "utf-16"])
def test_encodings_are_detected(tmp_path: Path, encoding: str) -> None:
    text = "Die Möwe flog über die Dächer der alten Stadt, während unten die Händler ihre Stände öffneten. " * 3
    path = tmp_path / "page.html"
    meta = "" if encoding == "utf-16" else f'<meta charset="{encoding}">'
    path.write_bytes(f"<html><head>{meta}</head><body><p>{text}</p></body></html>".encode(encoding))
    assert text.strip() in DataLoader().load_file(path)[0].text


def test_a_page_without_a_main_part_stays_whole() -> None:
    assert main_blocks(["One link.", "Two *stars*."], "") == "One link.\n\nTwo *stars*."


def test_short_gaps_are_filled_and_long_ones_are_not() -> None:
    words = [f"paragraph number {name} has words of its own" for name in "abcdefghij"]
    kept = main_blocks(words, "".join((words[1], words[3], words[8])))
    assert kept.split("\n\n") == [*words[1:4], words[8]]


def test_words_of_a_menu_that_also_stand_in_the_text_go() -> None:
    text = "There are more devices, platforms and services to choose from than ever before."
    blocks = ["More", "World", "A heading of the article itself", text, "Yes.", text.upper(), "More"]
    main = f"A heading of the article itself {text} Yes. {text} of the world"
    assert main_blocks(blocks, main).split("\n\n") == blocks[2:6]


def test_a_page_of_a_few_lines_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<body>Loose text<p>One</p>More of it<div><h4>Head</h4><p>Two<br>lines</p></div></body>")
    assert DataLoader().load_file(path)[0].text == "Loose text\n\nOne\n\nMore of it\n\n#### Head\n\nTwo\nlines"
