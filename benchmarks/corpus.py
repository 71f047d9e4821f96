"""Memory and throughput of `data prepare` on generated documents.

python benchmarks/corpus.py [--megabytes 100 --megabytes 1000] [--workers 2]

Peak memory is that of the whole process tree (proportional set sizes added up, sampled every 0.2 s), so shared pages
count once. The documents are about 2 KB of random words each, one in twenty a copy or nearly one of another, in JSON
Lines files of 8 MB. The last column is what a terabyte would take on one core at this rate.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

FILE_BYTES = 8 << 20


def write_documents(folder: Path, megabytes: int) -> None:
    generator = random.Random(megabytes)
    words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(2, 9))) for _ in range(20_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    pool = generator.choices(words, weights, k=2_000_000)
    written, number, recent = 0, 0, ["first"]
    while written < megabytes << 20:
        size = 0
        with open(folder / f"part-{number:05}.jsonl", "w") as handle:
            while size < FILE_BYTES:
                at = generator.randrange(len(pool) - 400)
                text = " ".join(generator.sample(pool[at : at + 400], 330)).capitalize() + "."
                if generator.random() < 0.05:
                    text = generator.choice(recent) + generator.choice(("", " and so on"))
                recent[number % 100 : number % 100 + 1] = [text]
                line = json.dumps({"text": text}) + "\n"
                handle.write(line)
                size += len(line)
        written += size
        number += 1


def tree_memory(root: int) -> int:
    """Return the proportional set size of a process and all below it, in bytes."""
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def measure(megabytes: int, workers: int) -> tuple[float, int, dict[str, int]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "raw").mkdir()
        write_documents(folder / "raw", megabytes)
        command = [sys.executable, "-m", "llmbuilder", "data", "prepare", "raw", "-o", "corpus", "--json", "--plain",
                   "--workers", str(workers), "--set", "tokenizer.vocab_size=4096"]  # fmt: skip
        begin = time.perf_counter()
        stages: list[str] = []
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        listener = threading.Thread(target=lambda: stages.extend(
            f"{time.perf_counter() - begin:6.1f} s  {line.strip()}" for line in process.stderr or ()))  # fmt: skip
        listener.start()
        out: list[str] = []
        reader = threading.Thread(target=lambda: out.append(process.stdout.read()))  # type: ignore[union-attr]
        reader.start()
        peak = 0
        while process.poll() is None:
            peak = max(peak, tree_memory(process.pid))
            time.sleep(0.2)
        seconds = time.perf_counter() - begin
        reader.join()
        listener.join()
        print("\n".join(stages), file=sys.stderr)
        return seconds, peak, json.loads(out[0])["counts"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, action="append")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    print("| input | documents | kept | time | MB/s | peak memory | to the first | core-hours a TB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    first = 0
    for megabytes in given.megabytes or (100, 1000):
        seconds, peak, counts = measure(megabytes, given.workers)
        first = first or peak
        hours = 1e6 / (megabytes * 1.048576 / seconds) * given.workers / 3600
        numbers = f"{counts['found']:,} | {counts['documents']:,} | {seconds:.0f} s | {megabytes / seconds:.1f}"
        print(f"| {megabytes} MB | {numbers} | {peak / 1e6:,.0f} MB | {peak / first:.2f} | {hours:,.0f} |", flush=True)
