"""Near-duplicates beside datasketch, rensa and datatrove.

python benchmarks/dedup.py [--documents 20000] [--runs 5] [--datatrove-python PATH]

Documents of about 2 KB, every fifth a copy of an earlier one with up to twelve words changed. All hash word 5-grams and
look for a similarity of 0.8, the peers with 128 permutations (datatrove: its 14 bands of 8); we need 60, because we
alone compare the candidates' n-grams. datasketch and rensa are used as their documentation shows: one text after the
other, asked for, then added. datatrove runs its four stages on all cores, from files to files, in an environment of its
own; against it stands `data prepare` with everything but near-duplicates off, from the same files to files; neither's
start is counted. Beside the times stand recall and precision of the documents that were dropped, measured by what the
rule says when all pairs are compared: the peers drop what is like an earlier document, we keep the longest and drop
what is like one that stays. Not for datatrove, which chooses itself whom of a group it keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import compare, print_header

THRESHOLD, PERMUTATIONS, NGRAM = 0.8, 128, 5


def make_documents(count: int) -> tuple[list[str], dict[int, int]]:
    """Return texts and, for each altered copy, the number of its original."""
    chance = random.Random(42)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(30_000)]
    texts: list[str] = []
    copies: dict[int, int] = {}
    for number in range(count):
        if number % 5 or not texts:
            texts.append(" ".join(chance.choices(words, k=310)))
            continue
        copies[number] = chance.choice([n for n in range(max(0, number - 50), number) if n not in copies])
        changed = texts[copies[number]].split()
        for place in chance.sample(range(len(changed)), chance.randint(0, 12)):
            changed[place] = chance.choice(words)
        texts.append(" ".join(changed))
    return texts, copies


def is_alike(one: str, other: str) -> bool:
    first, second = (set(ngrams(text)) for text in (one, other))
    return len(first & second) / len(first | second) >= THRESHOLD


def expected_by_llmbuilder(texts: list[str], copies: dict[int, int]) -> set[int]:
    families: dict[int, list[int]] = {}
    for number in range(len(texts)):
        families.setdefault(copies.get(number, number), []).append(number)
    dropped: set[int] = set()
    for members in families.values():
        stay: list[int] = []
        for number in sorted(members, key=lambda number: (-len(texts[number]), number)):
            if any(is_alike(texts[number], texts[other]) for other in stay):
                dropped.add(number)
            else:
                stay.append(number)
    return dropped


def expected_by_peers(texts: list[str], copies: dict[int, int]) -> set[int]:
    families: dict[int, list[int]] = {}
    dropped: set[int] = set()
    for number in range(len(texts)):
        earlier = families.setdefault(copies.get(number, number), [])
        if any(is_alike(texts[number], texts[other]) for other in earlier):
            dropped.add(number)
        earlier.append(number)
    return dropped


def ngrams(text: str) -> list[str]:
    words = text.lower().split()
    return [" ".join(words[start : start + NGRAM]) for start in range(max(1, len(words) - NGRAM + 1))]


def by_llmbuilder(texts: list[str]) -> set[int]:
    from llmbuilder.data import find_near_duplicates
    from llmbuilder.duplicates.near import NearDuplicateSettings

    settings = NearDuplicateSettings(THRESHOLD, NGRAM)
    return set(find_near_duplicates(texts, settings).kept)


def by_datasketch(texts: list[str]) -> set[int]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    dropped = set()
    for number, text in enumerate(texts):
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch([gram.encode() for gram in ngrams(text)])
        if index.query(signature):
            dropped.add(number)
        index.insert(number, signature)
    return dropped


def by_rensa(texts: list[str]) -> set[int]:
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=16)
    dropped = set()
    for number, text in enumerate(texts):
        signature = RMinHash(num_perm=PERMUTATIONS, seed=42)
        signature.update(ngrams(text))
        if index.query(signature):
            dropped.add(number)
        index.insert(number, signature)
    return dropped


def write_parts(texts: list[str], folder: Path) -> None:
    """Write the texts as one JSON Lines file for each core."""
    parts = os.cpu_count() or 1
    for part in range(parts):
        with open(folder / f"{part}.jsonl", "w") as handle:
            for number in range(part, len(texts), parts):
                handle.write(json.dumps({"text": texts[number], "id": str(number)}) + "\n")


def by_data_prepare(folder: Path) -> float:
    from llmbuilder.config import Config
    from llmbuilder.corpus import prepare_corpus

    config = Config()
    config.data.clean_text = config.data.remove_duplicates = config.data.tokenize = False
    config.data.near_duplicates, config.data.near_duplicate_ngram = THRESHOLD, NGRAM
    with tempfile.TemporaryDirectory() as output:
        begin = time.perf_counter()
        prepare_corpus(str(folder), f"{output}/corpus", config)
        return time.perf_counter() - begin


def by_datatrove(python: str, folder: Path) -> float:
    command = [python, __file__, "--as-datatrove", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def run_datatrove(source: Path) -> float:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    cores, config = os.cpu_count() or 1, MinhashConfig(n_grams=NGRAM)
    with tempfile.TemporaryDirectory() as name:
        reader = JsonlReader(str(source))
        stages = [
            ([reader, MinhashDedupSignature(f"{name}/signatures", config)], cores),
            ([MinhashDedupBuckets(f"{name}/signatures", f"{name}/buckets", config=config)], config.num_buckets),
            ([MinhashDedupCluster(f"{name}/buckets", f"{name}/removed", config)], 1),
            ([reader, MinhashDedupFilter(f"{name}/removed"), JsonlWriter(f"{name}/kept", compression=None)], cores),
        ]
        begin = time.perf_counter()
        for number, (stage, tasks) in enumerate(stages):
            LocalPipelineExecutor(stage, tasks=tasks, workers=cores, logging_dir=f"{name}/logs/{number}").run()
        return time.perf_counter() - begin


def quality(found: set[int], true: set[int]) -> str:
    return f"recall {len(found & true) / len(true):.4f}, precision {len(found & true) / max(1, len(found)):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=["datasketch", "rensa"])
    parser.add_argument("--datatrove-python")
    parser.add_argument("--as-datatrove", type=Path)
    given = parser.parse_args()
    if given.as_datatrove:
        print(run_datatrove(given.as_datatrove))
        return
    texts, copies = make_documents(given.documents)
    title = f"{given.documents:,} documents, {sum(map(len, texts)) / 1e6:.0f} MB"
    methods: dict[str, Callable[[list[str]], set[int]]] = {"datasketch": by_datasketch, "rensa": by_rensa}
    print_header(f"python benchmarks/dedup.py --documents {given.documents} --runs {given.runs}")
    found: dict[str, set[int]] = {}

    def run(name: str, method: Callable[[list[str]], set[int]]) -> Callable[[], None]:
        return lambda: found.__setitem__(name, method(texts))

    ours = run("llmbuilder", by_llmbuilder)
    for name in given.peers:
        compare(title, ours, run(name, methods[name]), runs=given.runs, peer_name=name)
    if given.datatrove_python:
        with tempfile.TemporaryDirectory() as folder:
            write_parts(texts, Path(folder))
            compare(f"{title}, from files to files", lambda: by_data_prepare(Path(folder)),
                    lambda: by_datatrove(given.datatrove_python, Path(folder)), runs=given.runs,
                    peer_name="datatrove")  # fmt: skip
    for name, dropped in found.items():
        expected = expected_by_llmbuilder if name == "llmbuilder" else expected_by_peers
        print(f"{name}: {quality(dropped, expected(texts, copies))}")


if __name__ == "__main__":
    main()
