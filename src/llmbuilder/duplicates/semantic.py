"""Duplicates by meaning: texts whose embeddings point the same way (SemDeDup, Abbas et al. 2023, arXiv 2303.09540).

Embeddings come from a static model (model2vec): the mean of its tokens' vectors, fast enough for a whole corpus on a
CPU. Small sets are compared in full; large ones are clustered by k-means first and compared within clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmbuilder.duplicates.components import Components
from llmbuilder.errors import DataError, MissingDependencyError

_COMPARED_IN_FULL = 20_000
_CLUSTER = 5_000  # texts of a cluster, about
_SAMPLE = 100_000  # texts that k-means learns from
_ROUNDS = 10
_BLOCK = 2048


class TextEmbedder:
    """Unit vectors of texts from a model2vec model in a local folder."""

    def __init__(self, folder: str | Path) -> None:
        if not Path(folder).is_dir():
            raise DataError(f"no embedding model at {folder}: name a folder that model2vec saved")
        try:
            from model2vec import StaticModel
        except ImportError:
            raise MissingDependencyError("model2vec", "semantic", "finding duplicates by meaning") from None
        self._model: Any = StaticModel.from_pretrained(Path(folder))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the embeddings, of shape (texts, dimensions), in float16; a text without known words is all zeros."""
        found = np.asarray(self._model.encode(list(texts), use_multiprocessing=False), np.float32)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return (found / np.maximum(lengths, 1e-12)).astype(np.float16)


def find_semantic_duplicates(
    embeddings: np.ndarray, lengths: np.ndarray, threshold: float, seed: int = 1
) -> dict[int, int]:
    """Return for each text to drop the one that stays: of texts at least `threshold` alike (cosine) the longest.

    `embeddings` are unit vectors of shape (texts, dimensions), which may be memory-mapped.
    """
    components = Components()
    for members in _clusters(embeddings, seed):
        for one, other in _similar(embeddings, members, threshold):
            components.join(one, other)
    return components.choose_kept(lengths)


def _clusters(embeddings: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    count = len(embeddings)
    if count <= _COMPARED_IN_FULL:
        yield np.arange(count)
        return
    random = np.random.default_rng(seed)
    sample = np.asarray(embeddings[np.sort(random.permutation(count)[:_SAMPLE])], np.float32)
    centres = sample[random.permutation(len(sample))[: -(-count // _CLUSTER)]]
    for _ in range(_ROUNDS):
        nearest = _nearest(sample, centres)
        for number in range(len(centres)):
            members = sample[nearest == number]
            if len(members):
                centres[number] = members.mean(0)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    places = [_nearest(np.asarray(block, np.float32), centres) for block in _blocks(embeddings)]
    nearest = np.concatenate(places)
    order = np.argsort(nearest, kind="stable")
    yield from np.split(order, np.searchsorted(nearest[order], np.arange(1, len(centres))))


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    return (values[begin : begin + _BLOCK] for begin in range(0, len(values), _BLOCK))


def _nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.concatenate([np.argmax(block @ centres.T, axis=1) for block in _blocks(vectors)])


def _similar(embeddings: np.ndarray, members: np.ndarray, threshold: float) -> Iterator[tuple[int, int]]:
    vectors = np.asarray(embeddings[members], np.float32)
    for begin in range(0, len(members), _BLOCK):
        block = vectors[begin : begin + _BLOCK]
        rows, columns = np.nonzero(block @ vectors[begin:].T >= threshold)
        later = columns > rows
        yield from zip(members[begin + rows[later]].tolist(), members[begin + columns[later]].tolist(), strict=True)
