"""Rich Text Format (specification 1.9.1): paragraphs, headings, lists, tables and notes as Markdown.

Letters are bytes in the code page of their font, or Unicode with a number of bytes to leave out behind it; text that is
hidden, deleted or only for programs (destinations) is left out.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmbuilder.documents.document import Document
from llmbuilder.documents.office_files.layout import Item, heading, item, joined, table
from llmbuilder.errors import DataError

_TOKEN = re.compile(
    rb"\\(?P<word>[a-zA-Z]+)(?P<number>-?\d+)? ?|\\'(?P<hex>[0-9a-fA-F]{2})|\\(?P<sign>[^a-zA-Z])"
    rb"|(?P<open>\{)|(?P<close>\})|[\r\n\0]+|(?P<text>[^\\{}\r\n\0]+)", re.S
)  # fmt: skip
_SKIPPED = frozenset((
    "colortbl", "pict", "objdata", "objclass", "objname", "themedata", "colorschememapping", "datastore", "generator",
    "listtable", "listoverridetable", "revtbl", "rsidtbl", "xmlnstbl", "latentstyles", "mmathPr", "fldinst", "filetbl",
    "header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf", "ftnsep", "ftnsepc", "ftncn",
    "aftnsep", "aftnsepc", "aftncn", "nonshppict", "shprslt", "sp", "bkmkstart", "bkmkend", "xe", "tc", "rxe",
    "template", "stylesheet", "author", "operator", "company", "keywords", "subject", "doccomm", "comment", "manager",
    "category", "hlinkbase", "userprops", "creatim", "revtim", "printim", "buptim", "atnid", "atnauthor", "atntime",
    "atnref", "atndate", "atnicn", "pnseclvl", "pn", "nesttableprops", "picprop", "datafield", "formfield", "private",
    "fname", "falt", "panose", "do", "pgdsctbl", "listpicture", "listname", "leveltext", "levelnumbers",
    "background", "blipuid", "mhtmltag", "htmltag",
))  # fmt: skip
_KEPT_AFTER_STAR = frozenset(("shpinst", "ud", "shppict", "annotation", "moMath", "moMathPara", "footnote", "cs", "s"))
_SIGNS = {
    "emdash": "—", "endash": "–", "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "bullet": "•",
    "tab": "\t", "line": "\n", "lbr": "\n", "softline": "\n", "emspace": "\u2003", "enspace": "\u2002",
    "qmspace": "\u2005", "zwj": "\u200d", "zwnj": "\u200c", "zwbo": "\u200b", "ltrmark": "", "rtlmark": "",
    "nestcell": "\t", "nestrow": "\n",
    "column": "\n",
}  # fmt: skip
_SYMBOLS = {"~": "\u00a0", "_": "\u2011", "-": "", "|": "", ":": "", "\\": "\\", "{": "{", "}": "}", "\t": "\t"}
_ENDS = frozenset(("par", "sect", "page", "\r", "\n"))
_CHARSETS = {77: "mac-roman", 78: "shift_jis", 79: "euc_kr", 80: "gb2312", 81: "big5", 128: "cp932", 129: "cp949",
             130: "johab", 134: "gbk", 136: "big5", 161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255",
             178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250", 254: "cp437",
             255: "cp850"}  # fmt: skip
_HEADING = re.compile(rb"heading (\d)", re.I)
_DEEPEST = 1000  # groups in groups


@dataclass
class _State:
    """What holds in a group."""

    font: int = -1
    skipped_behind: int = 1  # bytes behind a Unicode letter
    is_left_out: bool = False
    is_hidden: bool = False
    target: str = "text"  # or "mark", "note", "title", "fonts"


@dataclass
class _Output:
    blocks: list[str] = field(default_factory=list)
    line: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    cell: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    mark: str = ""
    number: str = ""
    level: int = 0
    in_table: bool = False


def read_rtf(path: Path) -> Document:
    """Return the text of an RTF file, its notes at the end. Raises DataError if it is none."""
    content = path.read_bytes()
    if not content.lstrip().startswith(b"{\\rtf"):
        raise DataError(f"{path}: it is no RTF: it does not begin with {{\\rtf")
    reader = _Reader(content)
    return Document(reader.text(), str(path), "rtf", " ".join(reader.title.split()) or None)


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._code_page = "cp1252"
        self._fonts: dict[int, str] = {}
        self._headings = {
            int(number): int(match[1])
            for number, name in re.findall(rb"\{\\s(\d+)[^{};]*?((?:heading|Heading) \d);", content)
            if (match := _HEADING.match(name))
        }
        self._default_font = -1
        self._state = _State()
        self._stack: list[_State] = []
        self._bytes = b""
        self._unicode: list[int] = []  # halves of letters beyond the first plane
        self._to_skip = 0
        self._out = _Output()
        self._outer: list[tuple[int, _Output]] = []  # of notes that are being read
        self._notes: list[str] = []
        self._footnotes = 0
        self.title = ""

    def text(self) -> str:
        """Return the whole text."""
        place, after_star = 0, False
        while match := _TOKEN.match(self._content, place):
            place = match.end()
            if match["open"]:
                self._flush()
                if len(self._stack) < _DEEPEST:
                    self._stack.append(self._state)
                    self._state = replace(self._state)
                self._to_skip = 0
            elif match["close"]:
                self._close()
            elif match["word"]:
                word, number = match["word"].decode(), int(match["number"]) if match["number"] else None
                if word == "bin":
                    place += max(0, number or 0)
                else:
                    self._word(word, number, after_star)
            elif match["hex"]:
                self._byte(bytes([int(match["hex"], 16)]))
            elif match["sign"]:
                after_star = match["sign"] == b"*"
                if not after_star:
                    self._sign(match["sign"].decode("latin-1"))
                continue
            elif match["text"]:
                self._byte(match["text"])
            after_star = False
        self._flush()
        while self._outer:
            self._end_note()
        self._end_paragraph()
        self._end_table()
        return joined([*self._out.blocks, *self._notes])

    def _close(self) -> None:
        self._flush()
        self._to_skip = 0
        if self._stack:
            self._state = self._stack.pop()
        if self._outer and self._outer[-1][0] > len(self._stack):
            self._end_note()

    def _end_note(self) -> None:
        self._end_paragraph()
        self._end_table()
        note = joined(self._out.blocks).replace("\n", "\n    ")
        mark = self._out.number
        _, self._out = self._outer.pop()
        if note.strip():
            self._notes.append(Item(f"{mark}{note}") if mark else note)

    def _word(self, word: str, number: int | None, after_star: bool) -> None:
        if self._to_skip and word != "u":
            self._to_skip -= 1
            return
        if word == "u" and number is not None:
            self._letter(number & 0xFFFF)
            self._to_skip = self._state.skipped_behind
            return
        self._flush()
        if after_star and word not in _KEPT_AFTER_STAR:
            self._state.is_left_out = True
        if word == "fonttbl":
            self._state.target = "fonts"
        elif word in _SKIPPED or word == "upr":
            self._state.is_left_out = True
        elif word == "ud":
            self._state.is_left_out = self._stack[-2].is_left_out if len(self._stack) > 1 else False
        elif word in ("footnote", "annotation") and not self._state.is_left_out:
            if word == "footnote":
                self._footnotes += 1
                self._write(f"[^{self._footnotes}]")
            self._outer.append((len(self._stack), self._out))
            self._out = _Output(number=f"[^{self._footnotes}]: " if word == "footnote" else "")
        elif word in ("listtext", "pntext"):
            self._state.target = "mark"
        elif word == "title":
            self._state.target = "title"
        elif word in _SIGNS:
            self._write(_SIGNS[word])
        else:
            self._format(word, number)

    def _format(self, word: str, number: int | None) -> None:
        state, out = self._state, self._out
        if word == "f" and number is not None:
            state.font = number
        elif word in ("fcharset", "cpg") and number is not None and state.target == "fonts":
            name = _CHARSETS.get(number) if word == "fcharset" else _code_page(number)
            if name is not None:
                self._fonts[state.font] = name
        elif word == "ansicpg" and number:
            self._code_page = _code_page(number) or self._code_page
        elif word in ("mac", "pc", "pca"):
            self._code_page = {"mac": "mac-roman", "pc": "cp437", "pca": "cp850"}[word]
        elif word == "deff" and number is not None:
            self._default_font = state.font = number
        elif word == "uc":
            state.skipped_behind = number if number is not None else 1
        elif word == "plain":
            state.font = self._default_font
        elif word == "deleted":
            state.is_hidden = number != 0
        elif state.is_left_out:
            return
        elif word == "pard":
            out.in_table, out.level = False, 0
        elif word == "intbl":
            out.in_table = True
        elif word == "s" and number in self._headings:
            out.level = self._headings[number]
        elif word == "outlinelevel" and number is not None and number < 6:
            out.level = number + 1
        elif word in _ENDS:
            self._end_paragraph()
        elif word == "cell":
            self._end_cell()
        elif word == "row":
            if "".join(out.cell).strip() or out.line:
                self._end_cell()
            out.rows.append(out.cells)
            out.cells = []

    def _sign(self, sign: str) -> None:
        if self._to_skip:
            self._to_skip -= 1
            return
        self._flush()
        if sign in _ENDS:
            self._end_paragraph()
        else:
            self._write(_SYMBOLS.get(sign, ""))

    def _byte(self, content: bytes) -> None:
        skipped = min(self._to_skip, len(content))
        self._to_skip -= skipped
        if content := content[skipped:]:
            self._flush_unicode()
            self._bytes += content

    def _letter(self, number: int) -> None:
        if self._bytes:
            self._flush()
        self._unicode.append(number)

    def _flush_unicode(self) -> None:
        if self._unicode:
            halves = b"".join(number.to_bytes(2, "little") for number in self._unicode)
            self._unicode = []
            text = halves.decode("utf-16-le", "replace")
            # Symbol fonts lie in the private use area; the letters of their code page are what they stand for.
            self._write("".join(chr(ord(one) - 0xF000) if "\uf020" <= one <= "\uf0ff" else one for one in text))

    def _flush(self) -> None:
        """Write the bytes read so far, as letters of the font that holds for them."""
        self._flush_unicode()
        if self._bytes:
            content, self._bytes = self._bytes, b""
            self._write(content.decode(self._fonts.get(self._state.font, self._code_page), "replace"))

    def _write(self, text: str) -> None:
        state = self._state
        if state.is_left_out or state.is_hidden or state.target == "fonts":
            return
        if state.target == "title":
            self.title += text
        elif state.target == "mark":
            self._out.mark += text
        else:
            self._out.line.append(text)

    def _end_paragraph(self) -> None:
        out = self._out
        text = "\n".join(" ".join(line.split(" ")).strip(" ") for line in "".join(out.line).split("\n")).strip("\n")
        mark, out.mark, out.line = out.mark.strip(), "", []
        if out.in_table:
            out.cell.append(text)
            return
        self._end_table()
        if text.strip() and mark:
            is_numbered = any(character.isalnum() for character in mark)
            out.blocks.append(item(text.strip(), 0, mark if is_numbered else "-"))
        elif text.strip():
            out.blocks.append(heading(text, out.level) if out.level else text.replace("\t", " ").strip())

    def _end_cell(self) -> None:
        out = self._out
        self._out.in_table = True
        self._end_paragraph()
        out.cells.append(" ".join(text for text in out.cell if text.strip()))
        out.cell = []

    def _end_table(self) -> None:
        out = self._out
        if out.cells or out.cell:  # a row that never ends
            out.rows.append([*out.cells, *out.cell])
        if out.rows:
            out.blocks.append(table(out.rows))
        out.rows, out.cells, out.cell = [], [], []


def _code_page(number: int) -> str | None:
    name = {65001: "utf-8", 10000: "mac-roman", 1361: "johab", 936: "gbk", 950: "big5", 0: "cp1252"}.get(
        number, f"cp{number}"
    )
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None
