"""The columns of the files that the stages of a corpus write."""

from __future__ import annotations

from typing import Any

import pyarrow

EXCERPT = 300  # characters of a text that is left out
QUALITY = ("words", "mean_word_length", "alphabetic_word_share", "punctuated_line_share",
           "duplicate_line_character_share")  # fmt: skip

_TEXT, _NUMBER, _SHARE = pyarrow.large_string(), pyarrow.int64(), pyarrow.float64()
_COMMON = [("source", _TEXT), ("collection", _TEXT), ("format", _TEXT), ("title", _TEXT), ("metadata", _TEXT)]
_KEPT = [
    *_COMMON, ("language", _TEXT), ("language_score", _SHARE), ("characters", _NUMBER), ("checksum", _TEXT),
    *((name, _SHARE) for name in QUALITY), ("classifier_score", _SHARE), ("cleaning", _TEXT), ("redacted", _TEXT),
]  # fmt: skip

EXTRACTED = pyarrow.schema([*_COMMON, ("text", _TEXT), ("pages", pyarrow.large_list(_TEXT)), ("error", _TEXT)])
REFINED = pyarrow.schema(
    [*_KEPT, ("text", _TEXT), ("original_characters", _NUMBER), ("stage", _TEXT), ("reason", _TEXT),
     ("skipped", _TEXT), ("digest", pyarrow.binary()), ("bands", pyarrow.binary())]
)  # fmt: skip
DOCUMENTS = pyarrow.schema([("id", _TEXT), ("text", _TEXT), *_KEPT])
DROPPED = pyarrow.schema([("source", _TEXT), ("collection", _TEXT), ("format", _TEXT), ("stage", _TEXT),
                          ("reason", _TEXT), ("of", _TEXT), ("characters", _NUMBER), ("excerpt", _TEXT)])  # fmt: skip


def extracted_text(row: dict[str, Any]) -> str:
    """Return the text of an extracted row, which a paged format has by its pages."""
    return "\n\n".join(row["pages"]) if row["text"] is None else str(row["text"])
