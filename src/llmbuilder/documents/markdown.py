"""Markdown as parsers write it, made plainer: no addresses of links, no escapes, no padding of tables; code stays."""

from __future__ import annotations

import re

FENCE = re.compile(r"^(```|~~~)")
_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?:[^()\s]|\([^()]*\))*(?:\s+\"[^\"]*\")?\)")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|<>~$])")
_PADDING, _RULE = re.compile(" {2,}"), re.compile("-{3,}")


def plain_blocks(markdown: str) -> list[str]:
    """Return the blocks between empty lines outside code; links and escapes outside code become plain text."""
    blocks: list[str] = []
    lines: list[str] = []
    fence = None

    def finish() -> None:
        if any(line.strip() for line in lines):
            blocks.append("\n".join(lines).strip("\n"))
        lines.clear()

    for line in markdown.split("\n"):
        mark = FENCE.match(line.strip())
        if mark and fence is None:
            fence = mark.group()
            lines.append(line)
        elif mark and mark.group() == fence:
            fence = None
            lines.append(line)
        elif fence is None and not line.strip():
            finish()
        else:
            lines.append(line if fence is not None else _plain(line))
    finish()
    return blocks


def _plain(line: str) -> str:
    if line.startswith("|"):  # columns need not be aligned
        line = _PADDING.sub(" ", _RULE.sub("---", line))
    return _ESCAPE.sub(r"\1", _LINK.sub(r"\1", line))
