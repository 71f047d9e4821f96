"""Processor time of cleaning, judging and signing documents, as `data prepare` does it, without starting workers.

python benchmarks/refining.py FILE.jsonl [--filter web]

FILE has one document a line (`text`). For another version put its `src` before this one's (PYTHONPATH) and alternate.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from harness import print_environment

from llmbuilder.config import Config
from llmbuilder.corpus.schemas import EXTRACTED
from llmbuilder.corpus.store import Store
from llmbuilder.corpus.tasks.refine import Refine
from llmbuilder.duplicates.near import NearDuplicateSettings


def measure(rows: list[dict[str, str]], preset: str) -> float:
    config = Config()
    config.data.filter = preset
    with tempfile.TemporaryDirectory() as work:
        near = asdict(NearDuplicateSettings())
        task = Refine({"data": config.data.model_dump(), "near": near, "work": work})
        store = Store(Path(work), EXTRACTED)
        store.write(Path(work) / "extracted.parquet", ["all"], {}, lambda number: rows)
        unit = {"unit": 0, "input": f"{work}/extracted.parquet", "keys": ["all"], "earlier": {}}
        begin = time.process_time()
        task.run({**unit, "path": f"{work}/refined.parquet"})
        return time.process_time() - begin


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--filter", default="none")
    given = parser.parse_args()
    texts = [json.loads(line)["text"] for line in given.file.open(encoding="utf-8")]
    size = sum(len(text.encode()) for text in texts) / 1e6
    rows = [{"source": str(number), "collection": "", "format": "jsonl", "text": text}
            for number, text in enumerate(texts)]  # fmt: skip
    print_environment(f"python benchmarks/refining.py {given.file} --filter {given.filter}")
    seconds = measure(rows, given.filter)
    print(f"{size:.1f} MB, {len(texts):,} documents: {seconds:.2f} s of processor time, {size / seconds:.2f} MB/s")
