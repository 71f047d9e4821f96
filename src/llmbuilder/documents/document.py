"""`Document`: a text and where it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Document:
    """One text with its metadata. `pages` holds the text page by page for paged formats."""

    text: str
    source: str = ""
    format: str = "text"
    title: str | None = None
    pages: list[str] | None = field(default=None, repr=False)

    @property
    def characters(self) -> int:
        return len(self.text)

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything but the text, as plain values."""
        return {
            "source": self.source,
            "format": self.format,
            "title": self.title,
            "pages": len(self.pages) if self.pages is not None else None,
            "characters": self.characters,
            "checksum": self.checksum,
        }
