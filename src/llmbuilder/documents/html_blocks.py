"""HTML as blocks of Markdown: every letter of a tree in order, headings, lists, code and tables kept as such.

Addresses, pictures and emphasis are left out; formulas are taken once, as TeX where the page has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from llmbuilder.documents.office_files.layout import Item, counted, heading, item, joined, table
from llmbuilder.documents.text import decode_text
from llmbuilder.errors import DataError

_UNSEEN = frozenset(("script", "style", "template", "noscript", "head", "title", "meta", "link", "svg", "iframe", "img",
                     "picture", "audio", "video", "canvas", "map", "rp", "source", "track"))  # fmt: skip
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "dir", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr",
    "html", "legend", "li", "main", "menu", "nav", "ol", "p", "pre", "search", "section", "summary", "table", "ul",
    "caption", "tr", "td", "th", "tbody", "thead", "tfoot", "listing", "xmp", "plaintext", "option", "optgroup",
    "button",
))  # fmt: skip
_IN_CELLS = ("table", "ul", "ol", "pre", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "form", "article", "section")
# What is drawn from a formula that stands beside it.
_RENDERED = frozenset(("katex-html", "MathJax", "MathJax_Preview", "MathJax_SVG"))
_FORMS = {"a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}
_LANGUAGE = re.compile(r"(?:^|\s)(?:lang(?:uage)?|highlight(?:-source)?|brush:?)-?\s*([\w+#-]+)")
_SPACES = re.compile("[ \t\n\r\f]+")
_DEEPEST = 150  # elements in elements; what lies deeper is taken as plain text


def html_text(root: Any) -> str:
    """Return the text of an lxml element, block by block."""
    return joined(html_blocks(root))


def page_text(text: str) -> str:
    """Return the whole text of a page."""
    root = parsed_page(text)
    if root is not None:
        return html_text(root)
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    return str(extract_plain_text(HTMLTree.parse(text), alt_texts=False, noscript=False))


def parsed_page(text: str) -> Any:
    """Return a page's lxml tree; None for an empty one, and where it is nested too deep for the tree to hold all."""
    from lxml import html

    parser = html.HTMLParser(huge_tree=True, encoding="utf-8")
    try:
        root = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (ValueError, html.etree.ParserError):
        return None
    return None if any("depth" in entry.message.casefold() for entry in parser.error_log) else root


def decode_page(content: bytes, name: str) -> str:
    """Return a page's bytes as text, in the encoding that it is in or, where that is not clear, declares."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    try:
        return decode_text(content, name)
    except DataError:
        return str(bytes_to_str(content, detect_encoding(content) or "utf-8"))


def html_blocks(root: Any) -> list[str]:
    """Return the blocks of an lxml element; items of lists follow each other as such."""
    return _Writer().blocks(root, 0)


def _name(element: Any) -> str:
    return element.tag if isinstance(element.tag, str) else "!"  # comments have a function for a tag


class _Writer:
    def blocks(self, parent: Any, depth: int) -> list[str]:
        """Return the blocks in an element that hold anything; text between blocks is a block."""
        found: list[str] = []
        line: list[str] = [parent.text or ""]
        for element in parent:
            name = _name(element)
            if name in _BLOCKS or (depth < _DEEPEST and name not in _UNSEEN and self._holds_blocks(element)):
                found += _finished(line)
                line = []
                found += self._block(element, name, depth + 1)
            else:
                line += self._inline(element, name, depth + 1)
            line.append(element.tail or "")
        return [block for block in (*found, *_finished(line)) if block.strip()]

    @staticmethod
    def _holds_blocks(element: Any) -> bool:
        """Whether an element that is none by its name, such as a link around a paragraph, holds blocks."""
        return _name(element) not in ("math", "ruby") and next(element.iterdescendants(*_BLOCKS), None) is not None

    def _block(self, element: Any, name: str, depth: int) -> list[str]:
        if depth >= _DEEPEST:
            return [_collapsed(" ".join(_texts(element)))]
        if name in ("h1", "h2", "h3", "h4", "h5", "h6"):
            return [heading(" ".join(self.blocks(element, depth)), int(name[1]))]
        if name in ("ul", "ol", "menu", "dir"):
            return self._list(element, name, depth)
        if name in ("pre", "listing", "xmp", "plaintext"):
            return [_fenced(element)]
        if name == "blockquote":
            quoted = joined(self.blocks(element, depth))
            return ["\n".join(f"> {line}".rstrip() for line in quoted.split("\n"))] if quoted else []
        if name == "table":
            return self._table(element, depth)
        if name == "li":  # outside a list
            return [item(joined(self.blocks(element, depth)), 0, "-")]
        return self.blocks(element, depth)

    def _list(self, element: Any, name: str, depth: int) -> list[str]:
        start = element.get("start") or "1"
        number = int(start) if start.lstrip("-").isdigit() else 1
        form = _FORMS.get(element.get("type") or "")
        found: list[str] = []
        for entry in element:
            if _name(entry) in _UNSEEN or _name(entry) == "!":
                continue
            mark = f"{counted(number, form)}." if name == "ol" else "-"
            if _name(entry) in ("ul", "ol"):  # a list right in a list
                inner = self._list(entry, _name(entry), depth)
                found += [Item("  " + block.replace("\n", "\n  ")) for block in inner]
                continue
            if blocks := self.blocks(entry, depth + 1):
                found.append(item(joined([Item(blocks[0]), *blocks[1:]]), 0, mark))
                number += 1
            if tail := _collapsed(entry.tail or ""):
                found.append(tail)
        return found

    def _inline(self, element: Any, name: str, depth: int) -> list[str]:
        if name in _UNSEEN or name == "!":
            return [self._formula_of(element)] if name == "script" else []
        if name == "br":
            return [_BREAK]
        if name == "math":
            return [_math(element)]
        if set((element.get("class") or "").split()) & _RENDERED and element.get("data-mathml") is None:
            return []
        if depth >= _DEEPEST:
            return [" ".join(_texts(element))]
        inside = [element.text or ""]
        for one in element:
            inside += [*self._inline(one, _name(one), depth + 1), one.tail or ""]
        if name == "rt":
            return ["(", *inside, ")"]
        if name in ("code", "kbd", "samp", "tt"):
            text = "".join(inside)
            return [text if "`" in text or not text.strip() or _BREAK in text else f"`{text}`"]
        return inside

    @staticmethod
    def _formula_of(script: Any) -> str:
        kind = (script.get("type") or "").split(";")[0].strip()
        return f"${(script.text or '').strip()}$" if kind == "math/tex" else ""

    def _table(self, element: Any, depth: int) -> list[str]:
        rows = list(_nearest(element, "tr"))
        cells = [[one for one in row if _name(one) in ("td", "th")] for row in rows]
        captions = [block for one in element if _name(one) == "caption" for block in self.blocks(one, depth)]
        if self._is_layout(cells):
            return captions + [block for row in cells for one in row for block in self.blocks(one, depth + 1)]
        texts = [[text for one in row for text in self._cell(one, depth)] for row in cells]
        if max((len(row) for row in texts), default=0) == 1:
            return captions + [text for row in texts for text in row]
        return [*captions, table(texts)]

    def _cell(self, element: Any, depth: int) -> list[str]:
        span = element.get("colspan") or "1"
        width = min(int(span), 100) if span.isdigit() and int(span) else 1
        return [" ".join(self.blocks(element, depth + 1)), *[""] * (width - 1)]

    @staticmethod
    def _is_layout(cells: list[list[Any]]) -> bool:
        """Whether a table only places blocks on a page."""
        return any(_name(one) in _IN_CELLS for row in cells for cell in row for one in cell.iterdescendants())


_BREAK = "\ue000"  # a line break, until white space is collapsed


def _collapsed(text: str) -> str:
    return _SPACES.sub(" ", text).strip(" ")


def _finished(pieces: list[str]) -> list[str]:
    """Return a block of these pieces of text, none if they hold nothing."""
    text = "".join(pieces)
    if not text or text.isspace():
        return []
    return ["\n".join(map(_collapsed, text.split(_BREAK))).strip("\n")]


def _texts(element: Any) -> Iterator[str]:
    """Yield the texts in an element, without recursion."""
    for one in element.iter():
        if _name(one) not in _UNSEEN and _name(one) != "!":
            yield one.text or ""
        if one is not element:
            yield one.tail or ""


def _fenced(element: Any) -> str:
    """Return preformatted text as code, in the language that its class names."""
    for broken in element.iter("br"):
        broken.tail = "\n" + (broken.tail or "")
    text = "".join(element.itertext()).strip("\n").replace("\r\n", "\n")
    if not text.strip():
        return ""
    parent = element.getparent()
    places = (element, *element.iter("code"), *([parent] if parent is not None else []))
    named = (one.get("class") or "" for one in places)
    language = next((match[1] for name in named if (match := _LANGUAGE.search(name))), "")
    fence = "```" if "```" not in text else "~~~~"
    return f"{fence}{language}\n{text}\n{fence}"


def _math(element: Any) -> str:
    for one in element.iter():
        if _name(one) == "annotation" and "tex" in (one.get("encoding") or "").casefold() and (one.text or "").strip():
            return f"${one.text.strip()}$"
    texts = (one.text or "" for one in element.iter() if _name(one) not in ("annotation", "annotation-xml", "!"))
    return _collapsed(" ".join(text.strip() for text in texts if text.strip()))


def _nearest(parent: Any, name: str) -> Iterator[Any]:
    """Yield the rows of a table, not those of tables in it."""
    for one in parent:
        if _name(one) == name:
            yield one
        elif _name(one) in ("tbody", "thead", "tfoot"):
            yield from _nearest(one, name)
