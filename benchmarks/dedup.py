"""Near-duplicates beside datasketch and rensa: python benchmarks/dedup.py [--documents 20000] [--runs 3]

Documents of about 2 KB, every fifth a copy of an earlier one with up to twelve words changed. All three hash word
5-grams with 128 permutations and look for a similarity of 0.8; only we compare the candidates' n-grams and join chains.
The peers are used as their documentation shows: one text after the other, asked for, then added. Beside the times stand
the share of true pairs found (recall) and the share of dropped documents that have a true pair (precision).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable

from harness import compare, print_header

from llmbuilder.data import find_near_duplicates
from llmbuilder.data.near_duplicates import NearDuplicateSettings

THRESHOLD, PERMUTATIONS, NGRAM = 0.8, 128, 5


def make_documents(count: int) -> tuple[list[str], dict[int, bool]]:
    """Return texts and, for each altered copy, whether its original is similar enough."""
    chance = random.Random(42)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(30_000)]
    texts: list[str] = []
    copies: dict[int, bool] = {}
    for number in range(count):
        if number % 5 or not texts:
            texts.append(" ".join(chance.choices(words, k=310)))
            continue
        original = texts[chance.choice([n for n in range(max(0, number - 50), number) if n not in copies])].split()
        changed = list(original)
        for place in chance.sample(range(len(changed)), chance.randint(0, 12)):
            changed[place] = chance.choice(words)
        one, other = (set(zip(*(text[i:] for i in range(NGRAM)), strict=False)) for text in (original, changed))
        copies[number] = len(one & other) / len(one | other) >= THRESHOLD
        texts.append(" ".join(changed))
    return texts, copies


def ngrams(text: str) -> list[str]:
    words = text.lower().split()
    return [" ".join(words[start : start + NGRAM]) for start in range(max(1, len(words) - NGRAM + 1))]


def by_llmbuilder(texts: list[str]) -> set[int]:
    settings = NearDuplicateSettings(THRESHOLD, NGRAM, PERMUTATIONS)
    groups: dict[int, list[int]] = {}
    for dropped, kept in find_near_duplicates(texts, settings).kept.items():
        groups.setdefault(kept, [kept]).append(dropped)
    # We keep the longest of a group, the peers its first: what counts is who belongs together.
    return {number for members in groups.values() for number in members if number != min(members)}


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


def quality(found: set[int], copies: dict[int, bool]) -> str:
    true = {number for number, similar in copies.items() if similar}
    return f"recall {len(found & true) / len(true):.4f}, precision {len(found & true) / max(1, len(found)):.4f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=["datasketch", "rensa"])
    given = parser.parse_args()
    texts, copies = make_documents(given.documents)
    megabytes = sum(map(len, texts)) / 1e6
    methods: dict[str, Callable[[list[str]], set[int]]] = {"datasketch": by_datasketch, "rensa": by_rensa}
    print_header(f"python benchmarks/dedup.py --documents {given.documents}")
    found: dict[str, set[int]] = {}

    def run(name: str, method: Callable[[list[str]], set[int]]) -> Callable[[], None]:
        return lambda: found.__setitem__(name, method(texts))

    for name in given.peers:
        compare(f"{given.documents:,} documents, {megabytes:.0f} MB", run("llmbuilder", by_llmbuilder),
                run(name, methods[name]), runs=given.runs, peer_name=name)  # fmt: skip
    for name, dropped in found.items():
        print(f"{name}: {quality(dropped, copies)}")
