from __future__ import annotations

import pytest

from llmbuilder.documents.html_blocks import page_text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>R&amp;D, p &lt; 0.05 &copy; &#8212;</p>", "R&D, p < 0.05 © —"),
        ("<p>one<br>two<br/>three</p>", "one\ntwo\nthree"),
        ("<p>some  \n white\t space</p><p>next</p>", "some white space\n\nnext"),
        ("<p>un<b>divid</b>ed x<sup>2</sup> H<sub>2</sub>O</p>", "undivided x2 H2O"),
        ("<h1>Top</h1><h3>Deep <em>er</em></h3>text", "# Top\n\n### Deep er\n\ntext"),
        ("<ul><li>one<li>two<ul><li>deep</ul></ul>", "- one\n- two\n  - deep"),
        ("<ol start=3><li>three<li>four</ol><ol type=a><li>x</ol>", "3. three\n4. four\na. x"),
        ("<dl><dt>Term<dd>What it is</dl>", "Term\n\nWhat it is"),
        ("<pre><code class='language-python'>def f():\n    return `1`</code></pre>", "```python\ndef f():\n    return `1`\n```"),
        ("<pre>a\n```\nb</pre>", "~~~~\na\n```\nb\n~~~~"),
        ("<p>call <code>f(x)</code> now</p>", "call `f(x)` now"),
        ("<blockquote><p>said</p><p>more</p></blockquote>", "> said\n>\n> more"),
        ("<table><tr><th>a | b<th>c<tr><td>1<td><p>2</p></table>", "| a \\| b | c |\n| --- | --- |\n| 1 | 2 |"),
        ("<table><tr><td colspan=2>wide<td>x<tr><td>1<td>2<td>3</table>", "| wide |  | x |\n| --- | --- | --- |\n| 1 | 2 | 3 |"),
        ("<table><tr><td><h2>Left</h2><ul><li>x</ul><td><p>Right</p></table>", "## Left\n\n- x\n\nRight"),
        ("<a href='#'><div>A link around</div><div>blocks</div></a>", "A link around\n\nblocks"),
        ("<img src='data:image/png;base64,AAAA' alt='no'><p>Text</p><script>var x</script><style>a{}</style>", "Text"),
        ("<ruby>東京<rp>(</rp><rt>とうきょう</rt><rp>)</rp></ruby>", "東京(とうきょう)"),
        ("<p>so <math><semantics><mrow><mi>x</mi></mrow><annotation encoding='application/x-tex'>x^2</annotation>"
         "</semantics></math> is</p>", "so $x^2$ is"),
        ("<p>so <math><mi>x</mi><mo>=</mo><mn>1</mn></math> is</p>", "so x = 1 is"),
        ("<p>so <span class='katex'><span class='katex-mathml'><math><semantics><mi>x</mi><annotation encoding="
         "'application/x-tex'>x</annotation></semantics></math></span><span class='katex-html'>x</span></span></p>", "so $x$"),
        ("<p>so <script type='math/tex'>\\alpha</script></p>", "so $\\alpha$"),
        ("<div>loose <span>text</span><p>block</p>and tail</div>", "loose text\n\nblock\n\nand tail"),
        ("<select><option>one<option>two</select>", "one\n\ntwo"),
        ("", ""),
    ],
)  # fmt: skip
def test_pages(page: str, text: str) -> None:
    assert page_text(f"<html><head><title>T</title></head><body>{page}</body></html>") == text


def test_pages_nested_without_end() -> None:
    assert page_text("<div>" * 100_000 + "deep") == "deep"
    assert "inner" in page_text("<ul><li>" * 2000 + "inner")
    assert "inner" in page_text("<b>" * 5000 + "inner")
