"""Word documents of 1997 to 2003 (MS-DOC), as Markdown: paragraphs, headings, lists, tables, notes, comments.

A document is one long text in pieces; what paragraphs and letters are stands on pages of 512 bytes, found by the place
of a letter in the file. What a field shows is text, what it says to Word is not, nor is what a revision deleted.
"""

from __future__ import annotations

import bisect
import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmbuilder.documents.document import Document
from llmbuilder.documents.office_files.layout import Item, heading, item, joined, table
from llmbuilder.errors import DataError, LockedError

_WORD_97 = 0xC1
_ENCRYPTED, _SECOND_TABLE = 0x0100, 0x0200
_PARTS = 0x4C  # where the lengths of the text's parts stand, in this order
_MAIN, _FOOTNOTES, _HEADERS, _MACROS, _COMMENTS, _ENDNOTES, _BOXES = range(7)
_PLACES = 0x9A  # of tables: pairs of a place and a length
_FOOTNOTE_MARKS, _FOOTNOTE_TEXTS, _COMMENT_TEXTS, _LETTERS, _PARAGRAPHS, _PIECES = 2, 3, 5, 12, 13, 33
_ENDNOTE_MARKS, _ENDNOTE_TEXTS = 46, 47
_PAGE = 512
# Properties (MS-DOC 2.6): of paragraphs, and of letters.
_IN_TABLE, _ROW_END, _LIST, _LIST_LEVEL, _OUTLINE, _DELETED = 0x2416, 0x2417, 0x460B, 0x260A, 0x2640, 0x0800
_SIZES = (1, 1, 2, 4, 2, 2, None, 3)  # of a property's value, by its first three bits
_SIGNS = {
    "\x0b": "\n",
    "\x0c": "\n",
    "\x0e": "\n",
    "\x1e": "\u2011",
    "\x1f": "",
    **dict.fromkeys(map(chr, range(9)), ""),
}
_ENDS = "\r\x07\x0c"
_FIELD, _RESULT, _FIELD_END = "\x13", "\x14", "\x15"
# What stands above a word, such as how it is read, is an instruction to draw it: EQ \\o\\ad(\\s\\up 9(reading),word).
_READING = re.compile(r"\s*EQ\b.*\\s\\up ?\d*\(([^()]*)\)\s*[,;](.*)\)\s*$", re.S)


@dataclass(frozen=True)
class _Paragraph:
    text: str
    end: str
    style: int
    properties: dict[int, int]


def read_doc(path: Path) -> Document:
    """Return a Word document's text. Raises DataError if it is damaged, encrypted, or older than Word 97."""
    import olefile

    try:
        with olefile.OleFileIO(path) as container:
            main = container.openstream("WordDocument").read()
            head, version, flags = *struct.unpack_from("<HH", main), struct.unpack_from("<H", main, 10)[0]
            if head != 0xA5EC or version < _WORD_97:
                raise DataError(f"{path}: it is older than Word 97")
            if flags & _ENCRYPTED:
                raise LockedError(f"{path}: it is encrypted: a copy without a password can be read")
            tables = container.openstream("1Table" if flags & _SECOND_TABLE else "0Table").read()
            blocks, notes = _Reader(main, tables).document()
    except (OSError, struct.error, ValueError, IndexError) as error:
        raise DataError(f"{path}: it is damaged: {error}") from error
    return Document(joined(blocks), str(path), "doc", notes=notes)


class _Reader:
    def __init__(self, main: bytes, tables: bytes) -> None:
        self._main, self._tables = main, tables
        self._letters: list[str] = []
        self._places: list[int] = []  # of each letter in the file
        self._read_pieces()
        self._paragraphs = _Properties(main, self._table(_PARAGRAPHS), is_paragraphs=True)
        deleted = _Properties(main, self._table(_LETTERS), is_paragraphs=False)
        if any(_DELETED in properties for properties in deleted.known):
            for number, place in enumerate(self._places):
                if deleted.at(place)[1].get(_DELETED):
                    self._letters[number] = ""
        lengths = struct.unpack_from("<7i", main, _PARTS)
        ends = list(itertools.accumulate(max(0, length) for length in lengths))
        self._parts = [range(begin, end) for begin, end in itertools.pairwise([0, *ends])]
        self._marks = {  # of notes in the text, with their numbers
            place: number
            for number, place in enumerate(
                (*self._numbers(_FOOTNOTE_MARKS, 2)[:-1], *self._numbers(_ENDNOTE_MARKS, 2)[:-1]), start=1
            )
        }

    def document(self) -> tuple[list[str], dict[str, str]]:
        """Return the blocks of the text and of its notes, and what its headers and footers say."""
        blocks = list(self._blocks(self._parts[_MAIN]))
        number = 0
        for part, texts in ((_FOOTNOTES, _FOOTNOTE_TEXTS), (_ENDNOTES, _ENDNOTE_TEXTS)):
            places = [self._parts[part].start + place for place in self._numbers(texts, 0)[:-1]]
            for begin, end in itertools.pairwise(places):
                number += 1
                text = joined(self._blocks(range(begin, end))).strip()
                blocks.append(Item(f"[^{number}]: " + text.replace("\n", "\n    ")))
        for part in (_BOXES, _COMMENTS):
            blocks += self._blocks(self._parts[part])
        running = dict.fromkeys(block for block in self._blocks(self._parts[_HEADERS]) if block.strip())
        return blocks, {"header": "\n".join(running)} if running else {}

    def _table(self, number: int) -> bytes:
        begin, length = struct.unpack_from("<II", self._main, _PLACES + 8 * number)
        return self._tables[begin : begin + length]

    def _numbers(self, number: int, size: int) -> list[int]:
        """Return the places that a table begins with; each but the last has an entry of that size behind them all."""
        content = self._table(number)
        count = (len(content) - 4) // (4 + size) + 1 if len(content) >= 4 else 0
        return list(struct.unpack_from(f"<{count}I", content)) or [0]

    def _read_pieces(self) -> None:
        content = self._table(_PIECES)
        begin = 0
        while content[begin] == 1:  # properties that pieces share
            begin += 3 + struct.unpack_from("<H", content, begin + 1)[0]
        length = struct.unpack_from("<I", content, begin + 1)[0]
        count = (length - 4) // 12
        borders = struct.unpack_from(f"<{count + 1}I", content, begin + 5)
        for number, (first, last) in enumerate(itertools.pairwise(borders)):
            place = struct.unpack_from("<I", content, begin + 5 + 4 * (count + 1) + 8 * number + 2)[0]
            width = 1 if place & 0x40000000 else 2
            place = (place & 0x3FFFFFFF) // (3 - width)
            piece = self._main[place : place + width * (last - first)]
            self._letters += _western(piece) if width == 1 else map(chr, struct.unpack(f"<{len(piece) // 2}H", piece))
            self._places += range(place, place + len(piece) // width * width, width)

    def _found(self, part: range) -> Iterator[_Paragraph]:
        """Yield the paragraphs of a part of the text, without the instructions of fields."""
        hidden = self._instructions(part)
        line: list[str] = []
        for number in range(part.start, min(part.stop, len(self._letters))):
            letter = self._letters[number]
            if letter and letter in _ENDS:
                style, properties = self._paragraphs.at(self._places[number])
                yield _Paragraph(_text(line), letter, style, properties)
                line = []
            elif number in hidden:
                line.append(hidden[number])
            else:
                line.append(f"[^{self._marks[number]}]" if number in self._marks else _SIGNS.get(letter, letter))
        if line:
            yield _Paragraph(_text(line), "\r", 0, {})

    def _instructions(self, part: range) -> dict[int, str]:
        """Return the places of what fields say to Word, with what is shown there; one that never ends says nothing."""
        hidden: dict[int, str] = {}
        open_fields: list[list[int]] = []  # where each began, and where its result did
        for number in range(part.start, min(part.stop, len(self._letters))):
            letter = self._letters[number]
            if letter == _FIELD:
                hidden[number] = ""
                open_fields.append([number])
            elif letter in (_RESULT, _FIELD_END) and letter:
                hidden[number] = ""
                if open_fields:
                    if len(open_fields[-1]) == 1:
                        begin = open_fields[-1][0]
                        open_fields[-1].append(number)
                        hidden |= dict.fromkeys(range(begin, number), "")
                        reading = _READING.match("".join(self._letters[begin + 1 : number]))
                        hidden[begin] = f"{reading[2]}({reading[1]})" if reading else ""
                    if letter == _FIELD_END:
                        open_fields.pop()
        return hidden

    def _blocks(self, part: range) -> Iterator[str]:
        rows: list[list[str]] = []
        cells: list[str] = []
        lines: list[str] = []
        for paragraph in self._found(part):
            if paragraph.end == "\x07" or paragraph.properties.get(_IN_TABLE):
                if paragraph.properties.get(_ROW_END) and paragraph.end == "\x07":
                    rows.append(cells)
                    cells = []
                    continue
                lines.append(paragraph.text)
                if paragraph.end == "\x07":
                    cells.append("\n".join(lines))
                    lines = []
                continue
            if rows or cells or lines:
                yield table([*rows, [*cells, *lines]])
                rows, cells, lines = [], [], []
            yield _block(paragraph)
        if rows or cells or lines:
            yield table([*rows, [*cells, *lines]])


def _block(paragraph: _Paragraph) -> str:
    outline = paragraph.properties.get(_OUTLINE, 9)
    if 1 <= paragraph.style <= 9 or outline < 9:  # the places of the styles of headings are fixed
        return heading(paragraph.text, paragraph.style if 1 <= paragraph.style <= 9 else outline + 1)
    if paragraph.properties.get(_LIST) and paragraph.text.strip():
        return item(paragraph.text.strip(), paragraph.properties.get(_LIST_LEVEL, 0), "-")
    return paragraph.text.strip("\n")


def _text(letters: list[str]) -> str:
    text = "".join(letters)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if not text.isascii() else text


def _western(content: bytes) -> str:
    return "".join(bytes((one,)).decode("cp1252", "ignore") or chr(one) for one in content)


class _Properties:
    """What paragraphs or letters are, by the place in the file."""

    def __init__(self, main: bytes, table_: bytes, *, is_paragraphs: bool) -> None:
        self._begins: list[int] = []
        self.known: list[dict[int, int]] = []
        self._styles: list[int] = []
        count = (len(table_) - 4) // 8 if len(table_) >= 4 else 0
        for number in struct.unpack_from(f"<{count}I", table_, 4 * (count + 1)) if count > 0 else ():
            page = main[(number & 0x3FFFFF) * _PAGE :][:_PAGE]
            if len(page) == _PAGE:
                self._read(page, is_paragraphs)

    def _read(self, page: bytes, is_paragraphs: bool) -> None:
        count = page[-1]
        begins = struct.unpack_from(f"<{count}I", page)
        for number, begin in enumerate(begins):
            place = 2 * page[4 * (count + 1) + number * (13 if is_paragraphs else 1)]
            size, style = page[place] if place else 0, 0
            place += 1
            if is_paragraphs:
                if size == 0 and place > 1:
                    size, place = 2 * page[place], place + 1
                else:
                    size = max(0, 2 * size - 1)
                if size >= 2:
                    style = struct.unpack_from("<H", page, place)[0]
                place, size = place + 2, max(0, size - 2)
            self._begins.append(begin)
            self._styles.append(style)
            self.known.append(_values(page[place : place + size]))

    def at(self, place: int) -> tuple[int, dict[int, int]]:
        """Return the number of the style and the properties at a place in the file."""
        found = bisect.bisect_right(self._begins, place) - 1
        return (self._styles[found], self.known[found]) if found >= 0 else (0, {})


def _values(content: bytes) -> dict[int, int]:
    found: dict[int, int] = {}
    place = 0
    while place + 3 <= len(content):
        kind = struct.unpack_from("<H", content, place)[0]
        place += 2
        size = _SIZES[kind >> 13]
        if size is None:
            is_long = kind == 0xD608  # a table's own description has a length of two bytes
            size = (
                struct.unpack_from("<H", content, place)[0] + 1
                if is_long and place + 2 <= len(content)
                else content[place] + 1
            )
        else:
            found[kind] = int.from_bytes(content[place : place + size], "little")
        place += size
    return found
