"""XML documents of several vocabularies come out by their text, with their structure, and without a tag."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbuilder.documents.file_types import detect_format
from llmbuilder.documents.readers import read_document
from llmbuilder.errors import DataError
from tests.documents.samples import sentence


def text_of(tmp_path: Path, content: str | bytes, name: str = "a.xml") -> str:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_document(path).text


def test_a_journal_article(tmp_path: Path) -> None:
    article = """<?xml version="1.0"?><!DOCTYPE article PUBLIC "-//NLM//DTD JATS//EN" "JATS.dtd">
    <article xmlns:mml="http://www.w3.org/1998/Math/MathML"><front><journal-meta><issn>1234-5678</issn></journal-meta>
    <article-meta><article-id>10.1/x</article-id><title-group><article-title>On <italic>towers</italic></article-title>
    </title-group><contrib-group><contrib><name><surname>Berg</surname><given-names>Ada</given-names></name></contrib>
    </contrib-group><abstract><p>Short &amp; clear.</p></abstract><kwd-group><kwd>light</kwd><kwd>sea</kwd></kwd-group>
    </article-meta></front><body><sec><label>1.</label><title>Intro</title>
    <p>Water is H<sub>2</sub>O<fn><p>A note.</p></fn>, see <xref>Fig. 1</xref>.&nbsp;So
    <inline-formula><alternatives><tex-math>E=mc^2</tex-math><mml:math><mml:mi>E</mml:mi></mml:math></alternatives>
    </inline-formula> holds.</p>
    <list list-type="order"><list-item><p>first</p></list-item><list-item><p>second</p></list-item></list>
    <sec><title>Deeper</title><p>End.</p></sec></sec>
    <table-wrap><label>Table 1</label><caption><p>Ships</p></caption><alternatives><graphic/><table>
    <thead><tr><th>Name</th><th>Tons</th></tr></thead><tbody><tr><td>Ada</td><td>5</td></tr></tbody></table>
    </alternatives></table-wrap></body></article>"""
    assert text_of(tmp_path, article, "a.nxml") == (
        "# On towers\n\nBerg Ada\n\nShort & clear.\n\nlight, sea\n\n## 1. Intro\n\n"
        "Water is H2O, see Fig. 1.\u00a0So $E=mc^2$ holds.\n\nA note.\n\n1. first\n2. second\n\n### Deeper\n\nEnd.\n\n"
        "Table 1 Ships\n\n| Name | Tons |\n| --- | --- |\n| Ada | 5 |"
    )


def test_a_manual(tmp_path: Path) -> None:
    book = """<book xmlns="http://docbook.org/ns/docbook"><title>Guide</title><chapter><title>Start</title>
    <para>Press <keycap>Enter</keycap> and read <citetitle>it</citetitle>.</para>
    <programlisting>if a &lt; b:\n    go()</programlisting>
    <itemizedlist><listitem><para>one</para></listitem><listitem><para>two</para></listitem></itemizedlist>
    <variablelist><varlistentry><term>-v</term><listitem><para>says more</para></listitem></varlistentry></variablelist>
    <informaltable><tgroup cols="2"><thead><row><entry>A</entry><entry>B</entry></row></thead>
    <tbody><row><entry>1</entry><entry>2</entry></row></tbody></tgroup></informaltable>
    <indexterm><primary>invisible</primary></indexterm></chapter></book>"""
    found = text_of(tmp_path, book, "a.dbk")
    assert found.startswith("# Guide\n\n## Start\n\nPress Enter and read it.\n\n```\nif a < b:\n    go()\n```")
    assert "- one\n- two" in found and "-v" in found and "says more" in found
    assert "| A | B |\n| --- | --- |\n| 1 | 2 |" in found and "invisible" not in found


def test_an_edition_and_its_verses(tmp_path: Path) -> None:
    edition = """<TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><fileDesc><titleStmt><title>Poems</title></titleStmt>
    <publicationStmt><p>Nobody</p></publicationStmt></fileDesc></teiHeader><text><body><div><head>The Sea</head>
    <lg><l>It was <hi rend="i">long</hi> ago</l><l>by the sea<lb/>shore</l></lg>
    <table><row><cell>a</cell><cell>b</cell></row><row><cell>c</cell><cell>d</cell></row></table></div></body></text></TEI>"""
    found = text_of(tmp_path, edition, "a.tei")
    assert "Poems" in found and "Nobody" not in found and "## The Sea" in found
    assert "It was long ago" in found and "by the sea\nshore" in found
    assert "| a | b |\n| --- | --- |\n| c | d |" in found


def test_an_outline(tmp_path: Path) -> None:
    outline = """<opml version="2.0"><head><title>Plan</title></head><body>
    <outline text="A &amp; B"><outline text="inner" _note="remember"/></outline></body></opml>"""
    assert text_of(tmp_path, outline, "a.opml") == "# Plan\n\n- A & B\n  - inner\n    remember"


def test_a_feed_with_pages_in_it(tmp_path: Path) -> None:
    feed = """<rss version="2.0"><channel><title>News</title><link>https://example.org</link><item><title>One</title>
    <link>https://example.org/1</link><pubDate>Mon</pubDate>
    <description>&lt;p&gt;Fish &amp;amp; chips&lt;/p&gt;&lt;ul&gt;&lt;li&gt;x&lt;/li&gt;&lt;/ul&gt;</description></item></channel></rss>"""
    assert text_of(tmp_path, feed, "a.rss") == "# News\n\n## One\n\nFish & chips\n\n- x"


def test_sister_elements_with_the_same_fields_are_a_table(tmp_path: Path) -> None:
    data = "<ships>" + "".join(f"<ship><name>Ada {n}</name><tons>{n}</tons></ship>" for n in range(2)) + "</ships>"
    assert text_of(tmp_path, data) == "| name | tons |\n| --- | --- |\n| Ada 0 | 0 |\n| Ada 1 | 1 |"


def test_runs_within_a_paragraph_are_not_divided(tmp_path: Path) -> None:
    assert text_of(tmp_path, "<doc><p><b>Auto</b><i>Gen</i> is one word</p></doc>") == "AutoGen is one word"


@pytest.mark.parametrize("encoding", ["iso8859-2", "utf-16", "cp1251"])
def test_the_declared_encoding_is_honoured(tmp_path: Path, encoding: str) -> None:
    words = "Привет, мир" if encoding == "cp1251" else "Žluťoučký kůň"
    content = f'<?xml version="1.0" encoding="{encoding}"?><doc><p>{words}</p></doc>'.encode(encoding)
    assert text_of(tmp_path, content) == words


def test_a_wrong_declaration_does_not_cost_the_text(tmp_path: Path) -> None:
    words = "Žluťoučký kůň úpěl ďábelské ódy a šel domů. " * 3
    content = f'<?xml version="1.0" encoding="utf-8"?><doc><p>{words}</p></doc>'.encode("cp1250")
    assert text_of(tmp_path, content) == words.strip()


def test_entities_are_never_fetched_nor_multiplied(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the secret")
    outside = f"""<!DOCTYPE doc [<!ENTITY x SYSTEM "file://{tmp_path}/secret.txt"><!ENTITY me "Ada Berg">]>
    <doc><p>It is &x; by &me; of the tower</p></doc>"""
    found = text_of(tmp_path, outside)
    assert "secret" not in found and "by Ada Berg of the tower" in found
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "lol lol"}">' for n in range(12))
    assert len(text_of(tmp_path, f"<!DOCTYPE doc [{bomb}]><doc><p>some words &e11;</p></doc>")) < 100


def test_a_damaged_file_is_read_if_nothing_is_lost(tmp_path: Path) -> None:
    words = " ".join(sentence(f"tower {n}") for n in range(20))
    assert text_of(tmp_path, f"<doc><p>{words} R&D</p><p>second paragraph</doc>").startswith(f"{words} R&D")
    assert "first part" in text_of(tmp_path, "<p>first part of a text</p><p>second part</p>", "fragment.xml")


def test_settings_of_programs_are_refused_with_the_reason(tmp_path: Path) -> None:
    settings = "<project><groupId>org.example</groupId><version>1.0</version><dep>a.b.c</dep></project>"
    with pytest.raises(DataError, match="XML for programs"):
        text_of(tmp_path, settings)


def test_unknown_text_full_of_markup_is_read_by_its_text(tmp_path: Path) -> None:
    marked = "".join(f"<DOC><NO>{n}</NO><TEXT>{sentence(str(n))}</TEXT></DOC>\n" for n in range(5))
    for name in ("corpus.sgml", "corpus.txt", "corpus"):
        found = text_of(tmp_path, marked, name)
        assert "<" not in found and sentence("3") in found


@pytest.mark.parametrize("name", ["page.jsx", "view.tsx", "mail.erb", "a.vue", "a.php"])
def test_code_full_of_markup_stays_as_it_is(tmp_path: Path, name: str) -> None:
    code = "export const A = () => <div><p>one</p><p>two</p></div>;\n" * 3
    assert text_of(tmp_path, code, name) == code


def test_a_chat_is_no_markup(tmp_path: Path) -> None:
    chat = "".join(f"<alice{n}> hello there\n<bob> hi, how are you?\n" for n in range(20))
    assert text_of(tmp_path, chat, "log.txt") == chat


def test_pictures_and_style_sheets_are_no_documents(tmp_path: Path) -> None:
    for name in ("a.svg", "a.xsl"):
        path = tmp_path / name
        path.write_text("<svg><text>some words</text></svg>")
        with pytest.raises(DataError, match="unsupported format"):
            detect_format(path)


def test_a_fragment_of_a_page_under_another_name_is_read_as_a_page(tmp_path: Path) -> None:
    fragment = "".join(f"<p class=a>{sentence(str(n))}<br>R&D</b>" for n in range(5))
    found = text_of(tmp_path, fragment, "a.txt")
    assert "<" not in found and sentence("4") in found and found.count("R&D") == 5


def test_markup_that_is_neither_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no well-formed XML"):
        text_of(tmp_path, "<doc>" + "in a text <y z that is lost " * 20, "a.xml")


def test_letters_by_the_names_that_older_standards_gave_them(tmp_path: Path) -> None:
    content = "<doc><p>The angle &agr; and the sum &Sgr; of &THgr; and &unknown; things.</p></doc>"
    assert text_of(tmp_path, content) == "The angle α and the sum Σ of Θ and &unknown; things."
