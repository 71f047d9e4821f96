"""Finding passages by BM25: passages that have a question's rare words, weighed by how rare they are.

The weights are those of `bm25s` (Lucene's form of BM25; Robertson et al. 1994). Words are runs of letters and digits in
lower case; scripts without blanks are searched by pairs of neighbouring characters. The index lives in memory only:
ten megabytes of text are read and indexed in three seconds.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from llmbuilder.config.schema import DataConfig
from llmbuilder.corpus.prepared import PreparedCorpus
from llmbuilder.data import DataLoader, Document
from llmbuilder.documents.folders import is_prepared
from llmbuilder.documents.tables import iter_parquet_rows
from llmbuilder.errors import DataError
from llmbuilder.refining.scripts import has_characters_without_blanks, units
from llmbuilder.retrieval.passages import PASSAGE_SIZE, Passage, cut_passages

_WORD = re.compile(r"\w+")


def search_words(text: str) -> list[str]:
    """Return what a text is found by: its words in lower case; of scripts without blanks, pairs of characters."""
    text = text.lower()
    if not has_characters_without_blanks(text):
        return _WORD.findall(text)
    words: list[str] = []
    before = ""  # the character before this one, if it is of a script without blanks
    for unit in units(text):
        if has_characters_without_blanks(unit):
            words.append(before + unit)
            before = unit
        else:
            words += _WORD.findall(unit)
            before = ""
    return words


class PassageIndex:
    """Passages that can be searched. Raises DataError if there is no word in any of them."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # which it sets to tell of every step
        self._vocabulary: dict[str, int] = {}
        self._passages: list[Passage] = []
        ids: list[list[int]] = []
        for passage in passages:
            self._passages.append(passage)
            ids.append(
                [self._vocabulary.setdefault(word, len(self._vocabulary)) for word in search_words(passage.text)]
            )
        if not self._vocabulary:
            raise DataError("there is no word in the documents that a passage could be found by")
        self._weights = bm25s.BM25(method="lucene", backend="numpy", csc_backend="numpy")
        self._weights.index((ids, dict(self._vocabulary)), show_progress=False)

    @classmethod
    def open(cls, place: str | Path, data: DataConfig | None = None, size: int = PASSAGE_SIZE) -> PassageIndex:
        """Read documents as a build does (a folder, a file, or what `data prepare` made) and index their passages.

        `size` is that of a passage in characters. Raises DataError if nothing can be read.
        """
        documents = _read(Path(place), data or DataConfig())
        return cls(passage for found in documents for passage in cut_passages(found.text, found.source, size))

    def __len__(self) -> int:
        return len(self._passages)

    def find(self, question: str, count: int) -> list[Passage]:
        """Return at most `count` passages that have words of a question, the best one first; none if no passage has."""
        known = (self._vocabulary.get(word) for word in dict.fromkeys(search_words(question)))
        asked = [number for number in known if number is not None]
        if not asked:
            return []
        scores = self._weights.get_scores_from_ids(asked)
        best = np.argsort(-scores, kind="stable")[:count].tolist()
        return [self._passages[number] for number in best if scores[number] > 0]


def _read(place: Path, data: DataConfig) -> Iterator[Document]:
    if is_prepared(place):  # whose rows know the documents that they were made of
        for file in PreparedCorpus(place).documents:
            for row in iter_parquet_rows(file, ["text", "source"]):
                yield Document(row["text"], row["source"])
        return
    if not place.exists():
        raise DataError(f"no such file or folder: {place}")
    loader = DataLoader.from_config(data)
    yield from loader.iter_directory(place) if place.is_dir() else loader.load_file(place)
