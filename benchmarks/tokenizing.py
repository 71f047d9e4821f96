"""Speed of writing token shards beside the raw speed of `tokenizers` and tiktoken, same vocabulary, same cores.

python benchmarks/tokenizing.py [--megabytes 64] [--rounds 3]

The peers only encode, from memory to memory; ours reads Parquet files of documents and writes token files with their
descriptions. The tokenizer is GPT-2's from tiktoken's or transformers' cache if there, else one trained here.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from llmbuilder.config import Config
from llmbuilder.corpus.engine import Engine
from llmbuilder.corpus.store import Store
from llmbuilder.corpus.tasks import DOCUMENTS
from llmbuilder.data import default_corpus
from llmbuilder.tokenizer import Tokenizer, train_tokenizer

VOCABULARY = 16384
THREADS = os.cpu_count() or 1


def texts_of(megabytes: int) -> list[str]:
    own = [document.text for document in default_corpus()]
    texts: list[str] = []
    size = 0
    while size < megabytes << 20:
        for text in own:
            texts.append(f"{len(texts)}\n{text}")
            size += len(texts[-1])
            if size >= megabytes << 20:
                break
    return texts


def as_tiktoken(tokenizer: Tokenizer) -> Any:
    """Return tiktoken's encoder of the same vocabulary, ranked by id."""
    import tiktoken
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = {character: byte for byte, character in zip(range(256), _byte_alphabet(), strict=True)}
    assert set(alphabet) == set(ByteLevel.alphabet())
    special = tokenizer.special_ids()
    ranks = {
        bytes(alphabet[character] for character in token): number
        for token, number in tokenizer.vocabulary().items()
        if number not in special
    }
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    return tiktoken.Encoding("own", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for bytes, in the order of the bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(other)) for byte in range(256)]


def ours(folder: Path, files: list[Path], engine: Engine, round_: int) -> float:
    (folder / "tokens").mkdir(exist_ok=True)
    units = [
        {"unit": n, "path": str(folder / f"{round_}-{n}.json"), "documents": str(file), "split": {"validation": []},
         "key": f"{round_}-{n}"}
        for n, file in enumerate(files)
    ]  # fmt: skip
    settings = {"tokenizer": str(folder / "tokenizer"), "folder": str(folder), "mixture": {}, "seed": 1}
    begin = time.perf_counter()
    assert len(list(engine.run("tokenize", settings, units))) == len(units)
    return time.perf_counter() - begin


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    texts = texts_of(given.megabytes)
    size = sum(len(text.encode()) for text in texts)
    tokenizer = train_tokenizer(texts[:2000], vocab_size=VOCABULARY)
    encoder = as_tiktoken(tokenizer)
    same = sum(encoder.encode_ordinary(text) == tokenizer.encode(text) for text in texts[:500])
    print(f"{size / 1e6:.0f} MB, {len(texts):,} texts; tiktoken agrees on {same} of 500; {THREADS} threads")
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(tokenizer.to_json())
    times: dict[str, list[float]] = {"tokenizers": [], "tiktoken": [], "ours, to disk": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder / "tokenizer")
        files = []
        chunk = -(-len(texts) // 16)
        for number in range(0, len(texts), chunk):
            rows = [{"text": text, "checksum": f"{n:064x}"} for n, text in enumerate(texts[number : number + chunk])]
            files.append(folder / f"documents-{number}.parquet")
            Store(folder, DOCUMENTS).write(files[-1], ["all"], {}, lambda _, rows=rows: rows)
        assert Config().data.tokenize
        for round_ in range(given.rounds):
            os.environ["TOKENIZERS_PARALLELISM"] = "true"
            begin = time.perf_counter()
            for at in range(0, len(texts), 1000):
                backend.encode_batch_fast(texts[at : at + 1000], add_special_tokens=False)
            times["tokenizers"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            for at in range(0, len(texts), 1000):
                encoder.encode_ordinary_batch(texts[at : at + 1000], num_threads=THREADS)
            times["tiktoken"].append(time.perf_counter() - begin)
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
            times["ours, to disk"].append(ours(folder, files, Engine(workers=THREADS), round_))
    medians = {name: statistics.median(values) for name, values in times.items()}
    fastest = min(medians["tokenizers"], medians["tiktoken"])
    print("| | MB/s | speed to the fastest peer |\n| --- | --- | --- |")
    for name, seconds in medians.items():
        print(f"| {name} | {size / seconds / 1e6:.1f} | {fastest / seconds:.2f} |")
