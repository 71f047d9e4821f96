"""The prose of a text: without the marks of Markdown and HTML, and without the code between fences.

Readers give documents as Markdown, so that a table's rules, a heading's hashes and a link's address would be judged as
if they were words. What is left is for judging only; the document keeps its marks.
"""

from __future__ import annotations

import re

_FENCED = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n]*\n.*?^[ \t]*\1[`~]*[ \t]*$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*$", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:[|:=_+*-][ \t]*){3,}$", re.MULTILINE)  # under headings, in tables, between sections
_ROW = re.compile(r"^[ \t]*\|.*$", re.MULTILINE)
_LINE_MARK = re.compile(r"^[ \t]*(?:(?:#{1,6}|>|[-*+•‣▪●◦⁃∙–]|\d{1,3}[.)])[ \t]+)+", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\[\]\n]{0,500})\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)?(?:[ \t]+\"[^\"\n]*\")?\)")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,300}>")
_INLINE_CODE = re.compile(r"`[^`\n]{1,300}`")
_EMPHASIS = re.compile(r"\*\*|__|`")
_WITHOUT_BRACKETS = str.maketrans("{}#`", "    ")


def prose_of(text: str) -> tuple[str, float]:
    """Return a text without marks, and which share of its characters stands between fences."""
    whole = len(text)
    if "```" in text or "~~~" in text:
        text = _FENCED.sub("", text)
        fenced = (whole - len(text)) / whole
        text = _FENCE.sub("", text)
    else:
        fenced = 0.0
    text = _RULE.sub("", text)
    if "|" in text:
        text = _ROW.sub(lambda row: row.group().replace("|", " "), text)
    text = _LINE_MARK.sub("", text)
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "`" in text:
        text = _INLINE_CODE.sub(lambda code: code.group().translate(_WITHOUT_BRACKETS), text)
    if "**" in text or "`" in text or "__" in text:
        text = _EMPHASIS.sub("", text)
    return text, fenced
