"""Plain text: one file as one text, whatever its encoding, or as a stream of pieces for files larger than memory.

Nothing in a text changes here. A binary file under a text name is refused instead of becoming noise in a corpus.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from llmbuilder.documents.encodings import SAMPLE, detect_encoding, detect_escaped, detect_wide, may_be_escaped
from llmbuilder.errors import DataError
from llmbuilder.notices import warn_once

# Between documents of one file: ASCII's record separator, which other programs tokenize without complaint, or what
# GPT-2's tools write.
RECORD_SEPARATOR = "\x1e"
_END_OF_TEXT = "<|endoftext|>"
SEPARATOR = re.compile(rf"\r?\n?(?:{re.escape(_END_OF_TEXT)}|{RECORD_SEPARATOR})\r?\n?")
ONLY_RECORDS = re.compile(rf"\r?\n?{RECORD_SEPARATOR}\r?\n?")  # where "<|endoftext|>" is text
_SEPARATING_LINE = re.compile(rf"\n{RECORD_SEPARATOR}\n")
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip
_PIECE = 1 << 20
_PROBE = 1 << 16  # bytes in which a binary file has a zero
_LARGEST_DECODED = 256 << 20  # bytes, of a file in another encoding than UTF-8: it is held in memory
_HIGH = bytes(range(128, 256))
_TELLING = 500  # letters beyond ASCII that are enough to tell an encoding
_SOUND_FOR_DAMAGED = 60  # bytes beyond ASCII for one damaged character in what is taken for UTF-8
_BINARY = "it is a binary file, not text"


def read_text(path: Path) -> str:
    """Return the text of a plain text file, detecting its encoding. Raises DataError for a binary file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode_text(content, str(path))


def decode_text(content: bytes, name: str) -> str:
    """Decode bytes that should be text: byte-order mark, UTF-8, else the detected encoding."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _decode(content, encoding, name)
    if b"\0" in content:
        return _decode_wide(content, name)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return _decode_detected(content, error.start, name)
    if text.isascii() and may_be_escaped(text):
        return content.decode(detect_escaped(content) or "ascii")
    return text


def _decode_wide(content: bytes, name: str) -> str:
    encoding = detect_wide(content)
    if encoding is None:
        raise DataError(f"{name}: {_BINARY}")
    return _decode(content, encoding, name)


def _decode_detected(content: bytes, wrong: int, name: str) -> str:
    """Decode bytes that are not UTF-8 from a place on: those with a few damaged characters, or in another encoding."""
    damaged = content.decode("utf-8", "replace")
    replaced = damaged.count("\ufffd") - content.count("\ufffd".encode())
    if replaced * _SOUND_FOR_DAMAGED <= len(content) - len(content.translate(None, _HIGH)):
        return damaged
    sample, whole = _telling(content, wrong)
    encoding = detect_encoding(sample, whole=whole)
    if encoding is None:
        raise DataError(f"{name}: it is a binary file, or text in an encoding that could not be recognised")
    text = _decode(content, encoding, name)
    if _control_share(text[:_PIECE]) > 0.02:
        raise DataError(f"{name}: {_BINARY}")
    return text


def _telling(content: bytes, wrong: int) -> tuple[bytes, bool]:
    """Return what tells the encoding of bytes that are not UTF-8 from a place on, and whether it is all of them.

    ASCII before that place tells nothing; of a text with few other letters, the lines that have some are taken.
    """
    before = max(0, wrong - SAMPLE // 4)
    begin = content.find(b"\n", before, wrong) + 1 or before
    sample = content[begin : begin + SAMPLE]
    if len(content) <= begin + SAMPLE or len(sample) - len(sample.translate(None, _HIGH)) >= _TELLING:
        return sample, begin + SAMPLE >= len(content)
    lines = content[begin : begin + 16 * _PIECE].split(b"\n")
    return b"\n".join(line for line in lines if not line.isascii())[:SAMPLE], False


def _decode(content: bytes, encoding: str, name: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not valid {encoding} text: {error.reason} at byte {error.start}") from error


def _control_share(text: str) -> float:
    return sum(character < " " and character not in "\t\n\r\f" for character in text) / max(1, len(text))


def valid_text(text: str) -> str:
    """Return the text with U+FFFD in the place of lone surrogates, which no encoding of Unicode can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def split_records(text: str) -> list[str]:
    """Return the documents in a text that `data load` wrote: a line with a record separator stands between them."""
    return _SEPARATING_LINE.split(text)


def iter_text_pieces(path: Path, separator: re.Pattern[str] = SEPARATOR) -> Iterator[tuple[str, bool]]:
    """Yield a text file in pieces of a million characters, and whether a document ends there, at a `separator`.

    Pieces are cut where a tokenizer would cut too (a line end between two visible characters), so tokens do not
    depend on the piece size. Of what is not UTF-8 the encoding is detected, with a note, in files up to 256 MB.
    Raises DataError for a binary file, and for a larger one in another encoding.
    """
    if path.stat().st_size <= _LARGEST_DECODED and not _is_utf8(path):
        text = read_text(path)
        warn_once(f"{path} is not UTF-8 text: its encoding was detected")
        yield from _split_stream(io.StringIO(text, newline=""), separator)
        return
    with open(path, "rb") as probe:
        if b"\0" in probe.read(_PROBE):
            raise DataError(f"{path}: {_BINARY}")
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            yield from _split_stream(handle, separator)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): "
            "`llmbuilder data load` converts other encodings"
        ) from error


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(path, "rb") as handle:
        block = handle.read(_PIECE)
        if b"\0" in block[:_PROBE]:
            return False
        try:
            while block:
                decoder.decode(block)
                block = handle.read(_PIECE)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _split_stream(handle: TextIO, separator: re.Pattern[str]) -> Iterator[tuple[str, bool]]:
    held = ""
    while block := handle.read(_PIECE):
        held += block
        if held.endswith((_END_OF_TEXT, RECORD_SEPARATOR)):
            held += handle.read(2)  # the line break after a separator belongs to it
        *documents, held = separator.split(held)
        for document in documents:
            yield document, True
        while (cut := _safe_cut(held)) is not None:
            yield held[:cut], False
            held = held[cut:]
    if held:
        yield held, True


def _safe_cut(text: str) -> int | None:
    """Return a position within the first pieces of a long text where cutting changes no token, or None to read on."""
    if len(text) < 2 * _PIECE:
        return None
    for match in re.compile(r"\S\n(?=\S)").finditer(text, _PIECE):
        if len(text) - match.end() > len(_END_OF_TEXT):
            return match.end()
    if len(text) <= 32 * _PIECE:
        return None
    return 16 * _PIECE + (text[16 * _PIECE - 1 : 16 * _PIECE + 1] == "\r\n")  # one line end stays one
