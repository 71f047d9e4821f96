"""What is learned of conversations, for a person to look at before anything is trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmbuilder.conversations.files import LeftOut
from llmbuilder.conversations.masking import Sample
from llmbuilder.conversations.rows import RowDataset
from llmbuilder.tokenizer import Tokenizer


@dataclass(frozen=True)
class Piece:
    """A part of a sample's text, and whether its tokens are learned."""

    text: str
    is_learned: bool


@dataclass(frozen=True)
class InspectedSample:
    """A sample as it is trained on: where it stands, its tokens, how many are learned, and its text in pieces."""

    place: str
    tokens: int
    learned: int
    pieces: list[Piece]


@dataclass(frozen=True)
class Inspection:
    """The first samples of a source, and the rows before the last of them that are left out."""

    samples: list[InspectedSample]
    left_out: list[LeftOut]


def inspect(dataset: RowDataset[Any], count: int) -> Inspection:
    """Return the first `count` samples of a dataset. Raises DataError as training on it would, where there is none."""
    with dataset.template as template:
        samples = (sample for _, found in dataset.samples() for sample in found)
        shown = [_inspected(sample, template.tokenizer) for sample in itertools.islice(samples, count)]
    dataset.account.warn_about_marks(dataset.source_name, dataset.kind)
    if not shown:
        dataset.account.require_most(dataset.source_name, dataset.kind)
    return Inspection(shown, dataset.account.left_out)


def _inspected(sample: Sample, tokenizer: Tokenizer) -> InspectedSample:
    learned = int(sample.is_learned.sum())
    return InspectedSample(sample.place, len(sample.ids), learned, list(_pieces(sample, tokenizer)))


def _pieces(sample: Sample, tokenizer: Tokenizer) -> Iterator[Piece]:
    """Yield the text in pieces; what each one adds to what stands before it, as decoders look at neighbours."""
    ids, end, before = sample.ids.tolist(), 0, ""
    for is_learned, group in itertools.groupby(sample.is_learned.tolist()):
        end += sum(1 for _ in group)
        whole = tokenizer.decode(ids[:end])
        yield Piece(whole[len(before) :], bool(is_learned))
        before = whole
