"""E-mails (RFC 5322, MIME): the subject, the body in the charset it declares, attachments as files of their own."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path

from llmbuilder.documents.document import Document
from llmbuilder.documents.html_blocks import page_text
from llmbuilder.documents.text import decode_text
from llmbuilder.errors import DataError

_LEAST_SHARE = 0.3  # of the letters: a plain version with less than the HTML one only says that there is one
_HEADERS = ("from", "to", "cc", "date")


def read_email(path: Path) -> Document:
    """Return the subject and the body of a message; who wrote it when to whom are notes.

    Raises DataError if it has neither header nor text.
    """
    try:
        message = _message(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    subject = _header(message, "subject")
    texts = [text for text in _bodies(message) if text.strip()]
    if not texts and not subject and not message.keys():
        raise DataError(f"{path}: it is no e-mail: it has no header")
    notes = {name: value for name in _HEADERS if (value := _header(message, name))}
    return Document("\n\n".join(filter(None, (subject, *texts))), str(path), "email", subject or None, notes=notes)


def _message(path: Path) -> Message:
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")  # as some editors save it
    return email.message_from_bytes(content, policy=email.policy.compat32)


def attachments(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each attachment, messages in messages among them."""
    message = _message(path)
    for number, part in enumerate(_parts(message), start=1):
        if not _is_attached(part):
            continue
        if part.get_content_type() == "message/rfc822":
            inside = part.get_payload()
            message_inside = inside[0] if isinstance(inside, list) and inside else None
            content = message_inside.as_bytes() if isinstance(message_inside, Message) else b""
            yield _file_name(part) or f"message-{number}.eml", content
        else:
            payload = part.get_payload(decode=True)
            yield _file_name(part) or f"part-{number}", payload if isinstance(payload, bytes) else b""


def _parts(message: Message) -> Iterator[Message]:
    """Yield the parts of a message that hold content, not those of messages in it."""
    payload = message.get_payload()
    if message.get_content_type() == "message/rfc822" or not isinstance(payload, list):
        yield message
        return
    for part in payload:
        if isinstance(part, Message):
            yield from _parts(part)


def _is_attached(part: Message) -> bool:
    if part.get_content_type() == "message/rfc822" or part.get_content_disposition() == "attachment":
        return True
    return part.get_content_maintype() not in ("text", "multipart", "message") or bool(_file_name(part))


def _bodies(message: Message) -> Iterator[str]:
    """Yield the texts of a message in order, one version of those that say the same."""
    payload = message.get_payload()
    kind = message.get_content_type()
    if kind == "multipart/alternative" and isinstance(payload, list):
        versions = ["\n\n".join(_bodies(part)) for part in payload if isinstance(part, Message)]
        filled = [version for version in versions if version.strip()]
        enough = [v for v in filled if _letters(v) >= _LEAST_SHARE * max(map(_letters, filled))]
        yield from enough[:1]
    elif kind != "message/rfc822" and isinstance(payload, list):
        for part in payload:
            if isinstance(part, Message):
                yield from _bodies(part)
    elif not _is_attached(message):
        yield _text(message)


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def _text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    content = _decoded(payload if isinstance(payload, bytes) else b"", _parameter(part, "charset"))
    if part.get_content_type() == "text/html":
        return page_text(content)
    text = content.replace("\r\n", "\n")
    if _parameter(part, "format").casefold() != "flowed":
        return text.strip("\n")
    return _unflowed(text, "" if _parameter(part, "delsp").casefold() == "yes" else " ")


def _parameter(part: Message, name: str) -> str:
    value = part.get_param(name)
    return value if isinstance(value, str) else ""


def _decoded(content: bytes, charset: str) -> str:
    """Return bytes in their declared charset, in the one they look like if they are not in that."""
    for name in (charset, "utf-8" if charset.casefold() in ("", "us-ascii", "ascii") else ""):
        try:
            return content.decode(name)
        except (LookupError, ValueError):
            continue
    try:
        return decode_text(content, "body")
    except DataError:
        return content.decode("utf-8", "replace")


def _unflowed(text: str, between: str) -> str:
    """Return paragraphs as lines (RFC 3676): a line that ends in a space goes on in the next one.

    `between` is what that space becomes: nothing where the mailer put it there (DelSp), such as within words.
    """
    lines: list[str] = []
    goes_on = False
    for line in text.split("\n"):
        plain = line.removeprefix(" ") if not line.startswith(">") else line
        if goes_on and lines and not plain.startswith(">"):
            lines[-1] = lines[-1].removesuffix(" ") + between + plain
        else:
            lines.append(plain)
        goes_on = plain.endswith(" ") and plain != "-- "
    return "\n".join(lines).strip("\n")


def _header(message: Message, name: str) -> str:
    return " ".join(_words(message.get(name, "")).split())


def _words(value: object) -> str:
    """Return the text of a header, whose words may each be in an encoding of their own (RFC 2047)."""
    try:
        return str(make_header(decode_header(str(value))))
    except (LookupError, ValueError, UnicodeError):
        return str(value)


def _file_name(part: Message) -> str:
    try:
        name = _words(part.get_filename() or "")
    except (LookupError, ValueError):
        return ""
    return name.replace("\\", "/").rpartition("/")[2].strip()
