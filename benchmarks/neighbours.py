"""Training beside other busy processes: what is left of the quiet machine's speed, and what would be fair.

python benchmarks/neighbours.py [--shape 0.8M] [--neighbours 0 --neighbours 2] [--seconds 8] [--rounds 3]

Each run is a process of its own that trains by the clock on random tokens. `adapting` is what runs do, `spinning` the
same without it, as PyTorch's threads do by themselves; they take turns. Fair is the share of a machine's time that as
many threads as it has processors get beside the neighbours, each of which is one thread that never rests.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from harness import print_environment
from plan import busy

SHAPES = {"0.8M": (4, 4, 128, 64, 512, 12), "10M": (6, 6, 384, 256, 512, 4)}
_TRAIN = """
import sys, tempfile, numpy as np, llmbuilder as lb
from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.threads import FairThreads
layers, heads, width, context, vocabulary, batch = map(int, sys.argv[1].split(","))
if sys.argv[3] == "spinning":
    FairThreads.note = lambda self, seconds: None
with tempfile.TemporaryDirectory() as folder:
    tokens = np.random.default_rng(0).integers(vocabulary, size=200_000, dtype=np.uint16)
    tokens.tofile(f"{folder}/train.bin"); tokens[:5000].tofile(f"{folder}/val.bin")
    config = Config.model_validate({
        "model": {"model_type": "llama", "num_layers": layers, "num_heads": heads, "embedding_dim": width,
                  "max_seq_length": context, "vocab_size": vocabulary, "qk_norm": True, "tie_embeddings": False,
                  "dropout": 0.0, "bias": False},
        "training": {"batch_size": batch, "time_budget_seconds": float(sys.argv[2]), "eval_every": 0, "save_every": 0,
                     "max_steps": 1_000_000, "optimizer": "auto", "learning_rate": "auto", "loss_spike_threshold": 0,
                     "log_every": 1},
    })
    results = lb.train_model(lb.build_model(config), TextDataset(folder, context), config, folder + "/run", [])
    print(results.tokens_per_second)
"""


def train(shape: str, seconds: float, way: str) -> float:
    """Return the tokens per second of a run."""
    values = ",".join(map(str, SHAPES[shape]))
    command = [sys.executable, "-c", _TRAIN, values, str(seconds), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), action="append")
    parser.add_argument("--neighbours", type=int, action="append")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    processors = os.cpu_count() or 1
    print_environment("python benchmarks/neighbours.py")
    print("| model | neighbours | adapting, tokens/s | spinning | ratio | fair | of the fair share |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for shape in asked.shape or sorted(SHAPES):
        quiet = 0.0
        for count in asked.neighbours or [0, 1, 2, 4]:
            speeds: dict[str, list[float]] = {"adapting": [], "spinning": []}
            with busy(count):
                for _ in range(asked.rounds):
                    for way, found in speeds.items():
                        found.append(train(shape, asked.seconds, way))
            ours, theirs = (statistics.median(found) for found in speeds.values())
            quiet = quiet or theirs
            fair = quiet * processors / (processors + count)
            print(f"| {shape} | {count} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} | {fair:,.0f} | "
                  f"{ours / fair:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
