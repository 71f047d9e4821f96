"""`PreferenceDataset`: pairs of answers as training samples, in the place of a `TextDataset`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmbuilder.conversations.files import LeftOut, pair_files, read_rows
from llmbuilder.conversations.masking import Masks, Sample, fitted
from llmbuilder.conversations.pairs import Pair, checked_pair, pair_of
from llmbuilder.conversations.rows import RowDataset
from llmbuilder.errors import DataError
from llmbuilder.tokens.pairs import PairWriter


class PreferenceDataset(RowDataset[Pair]):
    """Preference pairs: of each, the tokens of the chosen and of the rejected answer, behind what both follow.

    `source` is a file of pairs or a folder of such (see `conversations.pairs`); everything else is as in `RowDataset`.
    Pairs with the same question are on the same side of the split.
    """

    kind = "preference pair"
    writer = PairWriter

    @property
    def holds_pairs(self) -> bool:
        return True

    def _find(self, source: str) -> list[Path]:
        return pair_files(source)

    def rows(self) -> Iterator[Pair | LeftOut]:
        """Yield the pairs that can be learned from, and what holds none."""
        with_calls = self.template.uses_tool_calls
        for found in read_rows(self._files, pair_of):
            if isinstance(found, Pair):
                try:
                    yield checked_pair(found, with_calls=with_calls)
                except DataError as error:
                    yield LeftOut(found.place, str(error))
            else:
                yield found

    def _question_of(self, row: Pair) -> str:
        return json.dumps([row.chosen.messages[: row.shared], row.chosen.tools], sort_keys=True)

    def _samples_of(self, row: Pair, masks: Masks) -> list[Sample]:
        """Return the sample of the chosen answer and that of the rejected one."""
        whole = []
        for name, side in (("chosen", row.chosen), ("rejected", row.rejected)):
            try:
                made = masks.samples(side)
            except DataError as error:
                raise DataError(f"{name}: {error}") from error
            if len(made) > 1:
                raise DataError(
                    f"{name}: the template writes an answer otherwise when more follow; only one can be learned"
                )
            whole.append(replace(made[0], place=f"{row.place} ({name})"))
        _require_different(whole, "in the form of the chat template")
        kept = [short for sample in whole if (short := fitted(sample, self.block_size)) is not None]
        if len(kept) < len(whole):
            raise DataError(f"its question alone fills the window of {self.block_size:,} tokens")
        _require_different(kept, f"within the window of {self.block_size:,} tokens")
        self.account.shortened += sum(len(a.ids) < len(b.ids) for a, b in zip(kept, whole, strict=True))
        return kept


def _require_different(samples: list[Sample], where: str) -> None:
    if np.array_equal(samples[0].ids, samples[1].ids):
        raise DataError(f"its two answers are the same {where}")
