"""Presentations of PowerPoint 97 to 2003 ([MS-PPT]): the texts of slides and notes, not those of the masters.

A file holds every version that was saved into it; a directory of objects says where the last one of each lies.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from llmbuilder.documents.document import Document
from llmbuilder.documents.office_files.layout import heading, joined
from llmbuilder.errors import DataError, LockedError

_DOCUMENT, _SLIDE, _SLIDE_ATOM, _NOTES, _PLACE, _LIST = 1000, 1006, 1007, 1008, 1011, 4080
_CHARACTERS, _BYTES, _HEADER, _OUTLINE, _EDIT, _DIRECTORY, _BOX = 4000, 4008, 3999, 3998, 4085, 6002, 0xF00D
_TAGS, _COMMENT, _STRING = 5003, 12000, 4026
_ENCRYPTED = 0xF3D1C4DF
_TITLES, _OF_NOTES = (0, 6), 2  # kinds of texts
_DEEPEST = 50


def read_ppt(path: Path) -> Document:
    """Return the slides of a presentation, each with its notes. Raises DataError if it is damaged or encrypted."""
    import olefile

    try:
        with olefile.OleFileIO(path) as container:
            current = container.openstream("Current User").read()
            stream = container.openstream("PowerPoint Document").read()
        token, place = struct.unpack_from("<II", current, 12)
        if token == _ENCRYPTED:
            raise LockedError(f"{path}: it is encrypted: a copy without a password can be read")
        blocks = list(_Presentation(stream, place).blocks())
    except (OSError, struct.error, KeyError, IndexError, ValueError) as error:
        raise DataError(f"{path}: it is damaged: {error}") from error
    return Document(joined(blocks), str(path), "ppt")


class _Presentation:
    def __init__(self, stream: bytes, edit: int) -> None:
        self._stream = stream
        self._places: dict[int, int] = {}
        document, seen = 0, set()
        while edit and edit not in seen:  # from the last version to the first
            seen.add(edit)
            kind, _, begin, _ = self._header(edit)
            if kind != _EDIT:
                raise ValueError("its versions are not listed")
            edit, directory, latest = struct.unpack_from("<III", stream, begin + 8)
            document = document or latest
            self._read_directory(directory)
        self._document = self._places[document]

    def _header(self, place: int) -> tuple[int, int, int, int]:
        """Return a record's kind, its instance, and where its content begins and ends."""
        first, kind, length = struct.unpack_from("<HHI", self._stream, place)
        return kind, first >> 4, place + 8, min(place + 8 + length, len(self._stream))

    def _read_directory(self, place: int) -> None:
        _, _, begin, end = self._header(place)
        while begin + 4 <= end:
            (entry,) = struct.unpack_from("<I", self._stream, begin)
            first, count = entry & 0xFFFFF, entry >> 20
            for number, offset in enumerate(struct.unpack_from(f"<{count}I", self._stream, begin + 4)):
                self._places.setdefault(first + number, offset)
            begin += 4 + 4 * count

    def _children(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        while begin + 8 <= end:
            record = self._header(begin)
            yield record
            begin = record[3]

    def blocks(self) -> Iterator[str]:
        """Yield headings and paragraphs of the slides, in their order."""
        _, _, begin, end = self._header(self._document)
        lists = {one[1]: one for one in self._children(begin, end) if one[0] == _LIST}
        notes = {id: place for place, id, _ in self._listed(lists.get(2))}
        for place, _, outline in self._listed(lists.get(0)):
            kind, _, begin, end = self._header(place)
            if kind != _SLIDE:
                continue
            for form, text in self._texts(begin, end, outline):
                yield from _paragraphs(text, form in _TITLES)
            of_slide = next((one for one in self._children(begin, end) if one[0] == _SLIDE_ATOM), None)
            noted = struct.unpack_from("<I", self._stream, of_slide[2] + 16)[0] if of_slide is not None else 0
            if noted in notes:
                kind, _, begin, end = self._header(notes[noted])
                for form, text in self._texts(begin, end, []) if kind == _NOTES else ():
                    if form == _OF_NOTES:
                        yield from _paragraphs(text, False)

    def _listed(self, record: tuple[int, int, int, int] | None) -> list[tuple[int, int, list[tuple[int, str]]]]:
        """Return (place, id, texts of the outline) of the slides or notes in a list."""
        found: list[tuple[int, int, list[tuple[int, str]]]] = []
        form = 4
        for kind, _, begin, end in self._children(record[2], record[3]) if record is not None else ():
            if kind == _PLACE:
                reference, id = struct.unpack_from("<I8xI", self._stream, begin)
                found.append((self._places.get(reference, 0), id, []))
            elif kind == _HEADER:
                (form,) = struct.unpack_from("<I", self._stream, begin)
            elif kind in (_CHARACTERS, _BYTES) and found:
                found[-1][2].append((form, self._text(kind, begin, end)))
        return found

    def _text(self, kind: int, begin: int, end: int) -> str:
        content = self._stream[begin:end]
        return content.decode("utf-16-le", "replace") if kind == _CHARACTERS else content.decode("latin-1")

    def _texts(self, begin: int, end: int, outline: list[tuple[int, str]], depth: int = 0) -> Iterator[tuple[int, str]]:
        """Yield the texts of the boxes on a slide with their kinds; some only refer to the outline."""
        form = 4
        for kind, _, inside, inside_end in self._children(begin, end):
            if kind == _HEADER:
                (form,) = struct.unpack_from("<I", self._stream, inside)
            elif kind == _OUTLINE:
                (number,) = struct.unpack_from("<I", self._stream, inside)
                yield from outline[number : number + 1]
            elif kind in (_CHARACTERS, _BYTES):
                yield form, self._text(kind, inside, inside_end)
            elif kind == _TAGS:
                yield from ((4, text) for text in self._comments(inside, inside_end))
            elif depth < _DEEPEST and (kind == _BOX or self._stream[inside - 8] & 0xF == 0xF):
                yield from self._texts(inside, inside_end, outline, depth + 1)

    def _comments(self, begin: int, end: int) -> Iterator[str]:
        for kind, _, inside, inside_end in self._children(begin, end):
            if kind == _COMMENT:
                for part, instance, place, place_end in self._children(inside, inside_end):
                    if part == _STRING and instance == 1:  # 0 is who wrote it
                        yield self._text(_CHARACTERS, place, place_end)


def _paragraphs(text: str, is_title: bool) -> Iterator[str]:
    if text.strip() == "*":  # where the number of the slide or the date stands
        return
    if is_title:
        yield heading(text.replace("\r", " ").replace("\x0b", " "), 2)
        return
    for paragraph in text.split("\r"):
        yield "\n".join(" ".join(line.split()) for line in paragraph.split("\x0b")).strip()
