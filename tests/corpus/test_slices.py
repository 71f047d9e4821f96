"""Slices of extracted files: every row once, in order, cut where the content says."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from llmbuilder.config import Config
from llmbuilder.corpus import prepare_corpus
from llmbuilder.corpus.schemas import EXTRACTED
from llmbuilder.corpus.slices import SLICE_BYTES, cut_slices
from llmbuilder.corpus.store import Store
from tests.corpus.folders import paragraph, rows_of


def test_slices_hold_every_row_once(tmp_path: Path) -> None:
    sizes = {"small": 3, "empty": 0, "large": 25, "last": 2}
    text = paragraph("row", 80_000)  # about half a megabyte
    rows = [
        [{"text": f"{number} {text[place:]}"} for place in range(size)] for number, size in enumerate(sizes.values())
    ]
    store = Store(tmp_path, EXTRACTED)
    path = tmp_path / "rows.parquet"
    store.write(path, list(sizes), {}, rows.__getitem__)
    assert [part.keys for part in cut_slices(path, None)] == [list(sizes)]
    slices = cut_slices(path, SLICE_BYTES)
    assert len(slices) > 2
    keys = [key for part in slices for key in part.keys]
    assert len(set(keys)) == len(keys)
    assert {"small", "empty", "last"} <= set(keys)
    assert all(key in sizes or key.startswith("large@") for key in keys)
    places = [place for part in slices for place in part.places]
    assert [first for first, _ in places] == [0, *itertools.accumulate(rows for _, rows in places)][:-1]
    assert sum(rows for _, rows in places) == sum(sizes.values())
    assert [part.keys for part in cut_slices(path, SLICE_BYTES)] == [part.keys for part in slices]


def test_one_large_file_is_work_for_all_cores(tmp_path: Path) -> None:
    texts = [paragraph(number, 1000) for number in range(1500)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = Config.model_validate({"data": {"tokenize": False, "near_duplicates": None}})
    corpus = prepare_corpus(tmp_path / "rows.jsonl", tmp_path / "corpus", config)
    assert len(list((corpus.path / "work" / "refined").glob("*.parquet"))) > 1
    assert [row["text"] for row in rows_of(corpus.path)] == texts
