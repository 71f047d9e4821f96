"""`Document`: a text and where it came from; `Unreadable`: what should have been one, and why it is none."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Document:
    """One text with its metadata.

    `pages` holds the text page by page for paged formats, `notes` what the source says besides: the other columns of a
    table's row, the licence of a web page. `unread` names the parts of its file that could not be read, and why.
    """

    text: str
    source: str = ""
    format: str = "text"
    title: str | None = None
    pages: list[str] | None = field(default=None, repr=False)
    notes: dict[str, Any] = field(default_factory=dict, repr=False)
    unread: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def characters(self) -> int:
        return len(self.text)

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return text_checksum(self.text)

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything but the text and the notes, as plain values."""
        return {
            "source": self.source,
            "format": self.format,
            "title": self.title,
            "pages": len(self.pages) if self.pages is not None else None,
            "characters": self.characters,
            "checksum": self.checksum,
        }


@dataclass(frozen=True)
class Unreadable:
    """Something in a source that gave no document, and the reason."""

    source: str
    reason: str

    @classmethod
    def because(cls, source: str, reason: object) -> Unreadable:
        """Return what is reported for a source; the reason becomes one line that does not repeat the source."""
        return cls(source, " ".join(str(reason).removeprefix(f"{source}: ").split()))


Outcome = Document | Unreadable


def text_checksum(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
