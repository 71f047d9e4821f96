"""Rows of a source, each of which becomes samples: what conversations and preference pairs have in common."""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from llmbuilder.config.in_force import differing, refuse
from llmbuilder.config.schema import DataConfig
from llmbuilder.conversations.files import LeftOut
from llmbuilder.conversations.masking import Masks, Sample
from llmbuilder.conversations.template import ChatTemplate
from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import DataError, TokenizerError
from llmbuilder.files import write_text
from llmbuilder.notices import counted
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.samples import LEFT_OUT, SAMPLE_FILES, SampleWriter
from llmbuilder.tokens.splitting import choose_split

logger = logging.getLogger("llmbuilder")
_LISTED, _NAMED = 20, 10  # reasons for which rows are left out, and rows of each
_MOST_LEFT_OUT = 0.5


class Row(Protocol):
    """What a source has many of."""

    @property
    def place(self) -> str:
        """Where it stands, as messages name it."""


T = TypeVar("T", bound=Row)


@dataclass
class Account:
    """What became of the rows of a source."""

    used: int = 0
    shortened: int = 0  # samples
    rendered: int = 0  # rows in whose text stands what spells the token that ends an answer
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, place: str, reason: object) -> None:
        """Note a row that is not used."""
        self.left_out.append(LeftOut(place, str(reason)))

    def warn_about_marks(self, source: str, kind: str) -> None:
        """Say how many rows, which are of a `kind`, seem to be in a template's form already."""
        if self.rendered:
            logger.warning(
                f"the text of {counted(self.rendered, kind)} of {source} spells the token that ends an answer, which "
                "is text there: if they are in the form of a chat template already, give the messages without it"
            )

    def require_most(self, source: str, kind: str) -> None:
        """Raise DataError if more than half of the rows, which are of a `kind`, are left out, else say which are."""
        if not self.left_out and not self.shortened:
            return
        listed = self._listed()
        rows = counted(self.used + len(self.left_out), kind)
        if len(self.left_out) > _MOST_LEFT_OUT * (self.used + len(self.left_out)):
            raise DataError(f"{len(self.left_out):,} of the {rows} in {source} cannot be used:{listed}")
        if self.left_out:
            where = f"{LEFT_OUT} beside the tokens names all"
            logger.warning(f"{len(self.left_out):,} of the {rows} in {source} are left out ({where}):{listed}")
        if self.shortened:
            logger.warning(
                f"{counted(self.shortened, 'sample')} of {source} are longer than the window and end behind the last "
                "answer that fits, or in the middle of their only one: more is seen with a longer --window"
            )

    def _listed(self) -> str:
        """Return a line for each reason, with the first rows that it holds for."""
        by_reason: dict[str, list[str]] = {}
        for item in self.left_out:
            by_reason.setdefault(item.reason, []).append(item.place)
        lines = []
        for reason, places in list(by_reason.items())[:_LISTED]:
            more = len(places) - _NAMED
            named = ", ".join(places[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
            lines.append(f"\n  {named}: {reason}")
        others = sum(map(len, list(by_reason.values())[_LISTED:]))
        return "".join(lines) + (f"\n  and {others:,} for other reasons" if others else "")

    def write_left_out(self, folder: Path) -> None:
        """Write which rows are not used, and why, if there are any."""
        if self.left_out:
            lines = [json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in self.left_out]
            write_text(folder / LEFT_OUT, "".join(lines))


class RowDataset(TextDataset, ABC, Generic[T]):
    """Rows of files, of which samples are made that are learned in part.

    `source` is a file or a folder, `template` renders what its rows hold, and `block_size` is the window in tokens.
    `train_split` is the share of the rows for training (default: all).

    Raises DataError if the source holds none, if the template's answers cannot be found, and, once tokenized, if more
    than half of the rows cannot be used.
    """

    kind = "row"
    writer: type[SampleWriter] = SampleWriter

    def __init__(
        self,
        source: str | Path,
        block_size: int,
        template: ChatTemplate,
        train_split: float | None = None,
        *,
        seed: int = 42,
        data: DataConfig | None = None,
    ) -> None:
        self.template = template
        self.account = Account()
        self._files: list[Path] = []
        if data is not None:
            names = [name for name in DataConfig.model_fields if name not in ("train_split", "path")]
            given = [f"data.{name}" for name in differing(data, names)]
            refuse(given, f"{self.kind}s are taken as they are")
        super().__init__(source, block_size, None, train_split, template.tokenizer, seed=seed)

    def _locate(self, source: object) -> None:
        self._files = self._find(str(source))

    @abstractmethod
    def _find(self, source: str) -> list[Path]:
        """Return the files of the source. Raises DataError if it holds no such rows."""

    @abstractmethod
    def rows(self) -> Iterator[T | LeftOut]:
        """Yield what can be learned from, and what cannot."""

    @abstractmethod
    def _question_of(self, row: T) -> str:
        """Return what two rows have in common that must not stand on both sides of the split."""

    @abstractmethod
    def _samples_of(self, row: T, masks: Masks) -> list[Sample]:
        """Return the samples of a row. Raises DataError, with the reason alone, if nothing of it can be learned."""

    def iter_texts(self) -> Iterator[tuple[str, bool]]:
        raise DataError(f"{self.source_name} holds {self.kind}s, no text")

    def samples(self) -> Iterator[tuple[int, list[Sample]]]:
        """Yield the number of each row that is used, counted among all, and its samples; note the others."""
        self.account = Account()
        masks = Masks(self.template)
        is_mark = masks.turn_end in self.template.tokenizer.special_ids()
        mark = str(self.template.tokenizer.tokens()[masks.turn_end])
        for number, row in enumerate(self.rows()):
            if isinstance(row, LeftOut):
                self.account.left_out.append(row)
                continue
            try:
                made = self._samples_of(row, masks)
            except (DataError, TokenizerError) as error:
                self.account.leave_out(row.place, error)
                continue
            self.account.used += 1
            self.account.rendered += is_mark and mark in self._question_of(row)
            yield number, made

    def _write(self, folder: Path, tokenizer: Tokenizer) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in ("validation.bin", "validation.json", *SAMPLE_FILES):
            (folder / stale).unlink(missing_ok=True)
        held_out = self._held_out()
        validated = 0
        with self.template, self._writer(folder, "train") as train, self._writer(folder, "validation") as validation:
            for number, samples in self.samples():
                validated += number in held_out
                for sample in samples:
                    size = len(tokenizer.decode(sample.ids.tolist()).encode("utf-8", "replace"))
                    (validation if number in held_out else train).add(sample.ids, sample.is_learned, size)
            self.account.require_most(self.source_name, self.kind)
            self.account.warn_about_marks(self.source_name, self.kind)
            self.account.write_left_out(folder)
            if self.account.used == validated:
                raise DataError(f"{self.source_name} holds no {self.kind} to learn from")
        if not validated:
            for name in ("validation.bin", "validation.json"):
                (folder / name).unlink()

    def _writer(self, folder: Path, part: str) -> SampleWriter:
        tokenizer = self.template.tokenizer
        return self.writer(folder / f"{part}.bin", len(tokenizer), tokenizer=tokenizer.fingerprint)

    def _held_out(self) -> frozenset[int]:
        """Return the numbers of the rows that validate; those with the same question are on the same side."""
        checksums, numbers = [], []
        for number, row in enumerate(self.rows()):
            if not isinstance(row, LeftOut):
                text = self._question_of(row)
                checksums.append(hashlib.sha256(text.encode()).hexdigest())
                numbers.append(number)
        if self.train_split is None or not checksums:
            return frozenset()
        first: dict[str, int] = {}
        groups = np.array([first.setdefault(checksum, place) for place, checksum in enumerate(checksums)])
        # Rows count alike: of a long one hardly more is learned than of others, and often nothing.
        split = choose_split([1] * len(checksums), checksums, self.train_split, self.seed, lambda: groups)
        held_out = split.validation_documents if len(first) > 1 else ()
        if self.train_split < 1 and not held_out:
            logger.warning(f"{self.source_name} holds too few different {self.kind}s for some to validate")
        return frozenset(numbers[place] for place in held_out)
