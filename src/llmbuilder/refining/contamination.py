"""Finding evaluation texts in a corpus by shared word n-grams (Brown et al. 2020, arXiv 2005.14165, appendix C)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmbuilder.documents.document import Document
from llmbuilder.documents.reading import DocumentReader
from llmbuilder.errors import DataError

NGRAM = 13  # words, as in the paper
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class ContaminationHit:
    """A document that shares `count` n-grams of `ngram` words with an evaluation text, and the first of them."""

    source: str
    evaluation: str
    count: int
    ngram: int
    example: str


def describe_hits(hits: Sequence[ContaminationHit]) -> str:
    """Return one line that names the evaluation texts a document shares n-grams with; what varies is after a colon."""
    first = hits[0]
    others = f"; and with {', '.join(hit.evaluation for hit in hits[1:])}" if len(hits) > 1 else ""
    return f"shares {first.ngram}-grams with {first.evaluation}: {first.count}, such as {first.example!r}{others}"


def _evaluation_texts(paths: Iterable[Path]) -> Iterator[Document]:
    with DocumentReader(workers=1) as reader:
        for _, outcomes in reader.read_files(paths):
            for outcome in outcomes:
                if not isinstance(outcome, Document):
                    raise DataError(f"{outcome.source}: {outcome.reason}")
                yield outcome


class ContaminationCheck:
    """Compares documents with evaluation texts; case and punctuation do not count.

    An evaluation text shorter than `ngram` words is matched whole, if it has at least `fewest` words.
    """

    def __init__(self, evaluations: Iterable[Document], *, ngram: int = NGRAM, fewest: int = 8) -> None:
        self.ngram = ngram
        self._sources: list[str] = []
        self._known: dict[int, dict[bytes, int]] = {}  # by length: digest -> number of the evaluation text
        for document in evaluations:
            words = _words(document.text)
            length = min(ngram, len(words))
            if length < fewest:
                continue
            known = self._known.setdefault(length, {})
            for gram in _grams(words, length):
                known.setdefault(_digest(gram), len(self._sources))
            self._sources.append(document.source)
        if not self._sources:
            raise DataError(f"no evaluation text has at least {fewest} words: there is nothing to compare with")

    @classmethod
    def from_files(cls, paths: Iterable[str | Path], *, ngram: int = NGRAM) -> ContaminationCheck:
        """Read evaluation texts from files of any format. Raises DataError if one is missing or cannot be read."""
        return cls(_evaluation_texts(map(Path, paths)), ngram=ngram)

    def find(self, document: Document) -> list[ContaminationHit]:
        """Return one hit for each evaluation text that the document shares n-grams with."""
        words = _words(document.text)
        shared: dict[int, list[list[str]]] = {}
        for length, known in self._known.items():
            for gram in _grams(words, length):
                number = known.get(_digest(gram))
                if number is not None:
                    shared.setdefault(number, []).append(gram)
        return [
            ContaminationHit(document.source, self._sources[number], len(grams), len(grams[0]), " ".join(grams[0]))
            for number, grams in sorted(shared.items())
        ]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _grams(words: list[str], length: int) -> Iterator[list[str]]:
    return (words[start : start + length] for start in range(len(words) - length + 1))


def _digest(gram: list[str]) -> bytes:
    return hashlib.blake2b(" ".join(gram).encode("utf-8", "surrogatepass"), digest_size=8).digest()
