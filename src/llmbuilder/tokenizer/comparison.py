"""How well tokenizers suit a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmbuilder.errors import TokenizerError
from llmbuilder.tokenizer.tokenizer import Tokenizer


@dataclass
class TokenizerFit:
    """What a tokenizer makes of some texts; it adds up."""

    texts: int = 0
    bytes: int = 0
    words: int = 0
    tokens: int = 0
    unknown: int = 0
    exact: int = 0

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / max(1, self.tokens)

    @property
    def fertility(self) -> float:
        """Tokens for each word."""
        return self.tokens / max(1, self.words)

    def to_dict(self) -> dict[str, float | int]:
        """Return the figures a person compares; shares lie between 0 and 1."""
        return {
            "texts": self.texts,
            "bytes": self.bytes,
            "tokens": self.tokens,
            "bytes_per_token": round(self.bytes_per_token, 3),
            "fertility": round(self.fertility, 3),
            "unknown": self.unknown,
            "round_trip": round(self.exact / max(1, self.texts), 4),
        }


def compare_tokenizers(
    tokenizers: Sequence[Tokenizer], texts: Iterable[tuple[str, str]]
) -> dict[str, list[TokenizerFit]]:
    """Return for each group of texts, and for "all", how each tokenizer fits. `texts` are (group, text).

    A text with characters that a tokenizer does not have counts them as unknown and is encoded without them.
    """
    found: dict[str, list[TokenizerFit]] = {}
    for group, text in texts:
        for name in dict.fromkeys(("all", group)):
            found.setdefault(name, [TokenizerFit() for _ in tokenizers])
        for number, tokenizer in enumerate(tokenizers):
            one = _fit(tokenizer, text)
            for name in dict.fromkeys(("all", group)):
                total = found[name][number]
                for field, value in vars(one).items():
                    setattr(total, field, getattr(total, field) + value)
    if not found:
        raise TokenizerError("there is no text to compare tokenizers on")
    return found


def _fit(tokenizer: Tokenizer, text: str) -> TokenizerFit:
    known = tokenizer.keep_known(text)
    ids = tokenizer.encode(known)
    missing = len(text) - len(known)
    unknown = tokenizer.unknown_id
    return TokenizerFit(
        texts=1,
        bytes=len(text.encode("utf-8", "replace")),
        words=len(text.split()),
        tokens=len(ids) + missing,
        unknown=missing + (ids.count(unknown) if unknown is not None else 0),
        exact=int(tokenizer.decode(ids) == text),
    )
