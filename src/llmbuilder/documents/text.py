"""Plain text: one file as one text, whatever its encoding, or as a stream of pieces for files larger than memory.

Nothing in a text changes here. A binary file under a text name is refused instead of becoming noise in a corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from llmbuilder.errors import DataError

# Between documents of one file: ASCII's record separator, which other programs tokenize without complaint, or what
# GPT-2's tools write.
RECORD_SEPARATOR = "\x1e"
_END_OF_TEXT = "<|endoftext|>"
SEPARATOR = re.compile(rf"\r?\n?(?:{re.escape(_END_OF_TEXT)}|{RECORD_SEPARATOR})\r?\n?")
_SEPARATING_LINE = re.compile(rf"\n{RECORD_SEPARATOR}\n")
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_PIECE = 1 << 20
_DETECTED_FROM = 1 << 20  # bytes
# Baltic, Nordic and Celtic code pages, hardly ever met, that short Western text fits a little better by chance.
_RARE = ("iso8859_4", "iso8859_10", "iso8859_13", "iso8859_14", "iso8859_16", "cp1257", "cp775")
_RARE_MARGIN = 0.1  # of charset_normalizer's measure of chaos
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
        raise DataError(f"{name}: {_BINARY}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        begin = max(0, error.start - _DETECTED_FROM // 2)  # what stands before may be plain ASCII, which tells nothing
    import charset_normalizer

    matches = charset_normalizer.from_bytes(content[begin : begin + _DETECTED_FROM])
    best = matches.best()
    if best is None or _control_share(str(best)) > 0.02:
        raise DataError(f"{name}: it is a binary file, or text in an encoding that could not be recognised")
    # Short texts fit several Latin code pages equally well; Windows-1252 is by far the commonest of them.
    margin = _RARE_MARGIN if best.encoding in _RARE else 0.0
    alike = {match.encoding for match in matches if match.chaos <= best.chaos + margin}
    return _decode(content, "cp1252" if "cp1252" in alike else best.encoding, name)


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


def iter_text_pieces(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield a UTF-8 file in pieces of a million characters, and whether a document ends there.

    Pieces are cut where a tokenizer would cut too (a line end between two visible characters), so tokens do not
    depend on the piece size. Raises DataError for a binary file, or one in another encoding.
    """
    with open(path, "rb") as probe:
        if b"\0" in probe.read(1 << 16):
            raise DataError(f"{path}: {_BINARY}")
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            yield from _split_stream(handle)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): "
            "`llmbuilder data load` converts other encodings"
        ) from error


def _split_stream(handle: TextIO) -> Iterator[tuple[str, bool]]:
    held = ""
    while block := handle.read(_PIECE):
        held += block
        if held.endswith((_END_OF_TEXT, RECORD_SEPARATOR)):
            held += handle.read(2)  # the line break after a separator belongs to it
        *documents, held = SEPARATOR.split(held)
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
    return 16 * _PIECE if len(text) > 32 * _PIECE else None
