"""`ConversationDataset`: conversations as training samples, in the place of a `TextDataset`."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from llmbuilder.config.in_force import differing, refuse
from llmbuilder.config.schema import DataConfig
from llmbuilder.conversations.files import LeftOut, conversation_files, read_conversations
from llmbuilder.conversations.forms import Conversation
from llmbuilder.conversations.masking import Masks, Sample, fitted
from llmbuilder.conversations.rules import checked
from llmbuilder.conversations.template import ChatTemplate
from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import DataError, TokenizerError
from llmbuilder.notices import counted
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.samples import SAMPLE_FILES, SampleWriter
from llmbuilder.tokens.splitting import choose_split

logger = logging.getLogger("llmbuilder")
_LISTED = 20  # rows that are named where some are left out
_MOST_LEFT_OUT = 0.5


@dataclass
class Account:
    """What became of the rows of a source."""

    used: int = 0
    shortened: int = 0  # samples
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, place: str, reason: object) -> None:
        """Note a row that is not used."""
        self.left_out.append(LeftOut(place, str(reason)))

    def require_most(self, source: str) -> None:
        """Raise DataError if more than half of the rows are left out, else say which are."""
        if not self.left_out and not self.shortened:
            return
        listed = "".join(f"\n  {item}" for item in self.left_out[:_LISTED])
        more = len(self.left_out) - _LISTED
        listed += f"\n  and {more:,} more" if more > 0 else ""
        rows = counted(self.used + len(self.left_out), "conversation")
        if len(self.left_out) > _MOST_LEFT_OUT * (self.used + len(self.left_out)):
            raise DataError(f"{len(self.left_out):,} of the {rows} in {source} cannot be used:{listed}")
        if self.left_out:
            logger.warning(f"{len(self.left_out):,} of the {rows} in {source} are left out:{listed}")
        if self.shortened:
            logger.warning(
                f"{counted(self.shortened, 'sample')} of {source} are longer than the window and end behind the last "
                "answer that fits, or in the middle of their only one: more is seen with a longer --window"
            )


class ConversationDataset(TextDataset):
    """Conversations as rows of samples, of which the answers are learned.

    `source` is a file of conversations or a folder of such (see `conversations.forms`), `template` renders them, and
    `block_size` is the window in tokens. `train_split` is the share of the conversations for training (default: all).

    Raises DataError if the source holds none, if the template's answers cannot be found, and, once tokenized, if more
    than half of the conversations cannot be used.
    """

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
            refuse(given, "conversations are taken as they are")
        super().__init__(source, block_size, None, train_split, template.tokenizer, seed=seed)

    def _locate(self, source: object) -> None:
        files = conversation_files(str(source))
        if files is None:
            raise DataError(f"{source} holds no conversations")
        self._files = files

    def iter_texts(self) -> Iterator[tuple[str, bool]]:
        raise DataError(f"{self.source_name} holds conversations, no text")

    def conversations(self) -> Iterator[Conversation | LeftOut]:
        """Yield the conversations that can be learned from, and what holds none."""
        with_calls = self.template.uses_tool_calls
        for found in read_conversations(self._files):
            if isinstance(found, Conversation):
                try:
                    yield checked(found, with_calls=with_calls)
                except DataError as error:
                    yield LeftOut(found.place, str(error))
            else:
                yield found

    def samples(self) -> Iterator[tuple[int, list[Sample]]]:
        """Yield the number of each conversation that is used, counted among all, and its samples; note the others."""
        self.account = Account()
        masks = Masks(self.template)
        for number, found in enumerate(self.conversations()):
            if isinstance(found, LeftOut):
                self.account.left_out.append(found)
                continue
            try:
                made = masks.samples(found)
            except (DataError, TokenizerError) as error:
                self.account.leave_out(found.place, error)
                continue
            kept = [short for sample in made if (short := fitted(sample, self.block_size)) is not None]
            self.account.shortened += sum(
                len(short.ids) < len(sample.ids) for sample, short in zip(made, kept, strict=False)
            ) + (len(made) - len(kept) if kept else 0)
            if not kept:
                self.account.leave_out(
                    found.place, f"its question alone fills the window of {self.block_size:,} tokens"
                )
                continue
            self.account.used += 1
            yield number, kept

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
            self.account.require_most(self.source_name)
            if self.account.used == validated:
                raise DataError(f"{self.source_name} holds no conversation to learn from")
        if not validated:
            for name in ("validation.bin", "validation.json"):
                (folder / name).unlink()

    def _writer(self, folder: Path, part: str) -> SampleWriter:
        tokenizer = self.template.tokenizer
        return SampleWriter(folder / f"{part}.bin", len(tokenizer), tokenizer=tokenizer.fingerprint)

    def _held_out(self) -> frozenset[int]:
        """Return the numbers of the conversations that validate; equal ones are on the same side."""
        lengths, checksums, numbers = [], [], []
        for number, found in enumerate(self.conversations()):
            if isinstance(found, Conversation):
                text = json.dumps([found.messages, found.tools], sort_keys=True)
                lengths.append(len(text))
                checksums.append(hashlib.sha256(text.encode()).hexdigest())
                numbers.append(number)
        if self.train_split is None or len(set(checksums)) < 2:
            return frozenset()
        first: dict[str, int] = {}
        groups = np.array([first.setdefault(checksum, place) for place, checksum in enumerate(checksums)])
        split = choose_split(lengths, checksums, self.train_split, self.seed, lambda: groups)
        if self.train_split < 1 and not split.validation_documents:
            logger.warning(f"{self.source_name} holds too few different conversations for some to validate")
        return frozenset(numbers[place] for place in split.validation_documents)
