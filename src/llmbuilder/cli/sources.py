"""`generate text --documents`: passages found for a prompt, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmbuilder.cli.output import say
from llmbuilder.errors import GenerationError
from llmbuilder.notices import counted

if TYPE_CHECKING:
    from llmbuilder.config.schema import DataConfig
    from llmbuilder.inference import Generator
    from llmbuilder.retrieval import Passage

_MOST, _SHOWN = 5, 60  # passages before a prompt, and characters of one that are shown


class Sources:
    """Documents to look things up in, for a model that sees `window` tokens."""

    def __init__(self, place: Path, data: DataConfig, generator: Generator) -> None:
        from llmbuilder.retrieval import PassageIndex
        from llmbuilder.retrieval.passages import PASSAGE_SIZE

        say(f"Reading {place}")
        size = min(PASSAGE_SIZE, max(1, generator.model.config.max_seq_length // 2))  # small models see one, too
        self._index = PassageIndex.open(place, data, size)
        self._place = place
        say(f"{counted(len(self._index), 'passage')} to look things up in")

    def find(self, prompt: str) -> list[Passage]:
        """Return passages for a prompt, the best one first; it is said if there are none."""
        return self._index.find(prompt, _MOST)

    def require(self, prompt: str) -> list[Passage]:
        """Return passages for a prompt. Raises GenerationError if there are none."""
        found = self.find(prompt)
        if not found:
            shown = " ".join(prompt.split())[:_SHOWN]
            raise GenerationError(
                f"nothing in {self._place} has a word of the prompt {shown!r}: ask in words that the documents use, or "
                "leave out --documents"
            )
        return found


def show_sources(passages: Sequence[Passage]) -> None:
    """Say where passages stand, the best one first, and how each begins."""
    for number, passage in enumerate(passages, start=1):
        say(f"[{number}] {passage.place}: {' '.join(passage.text.split())[:_SHOWN]} ...")


def plain_sources(passages: Sequence[Passage]) -> dict[str, Any]:
    """Return passages as a part of a result in JSON."""
    return {"sources": [asdict(passage) for passage in passages]}
