"""Time to a good model: characters of a text, `build`'s own choices, until nanoGPT's figure for tinyshakespeare.

python benchmarks/good_model.py tinyshakespeare.txt [--minutes 30] [--target 1.4697] [--tokenizer char]

nanoGPT's README reaches 1.4697 nats per character with 10.7M parameters after its 5,000 steps on a GPU. Here the last
tenth of the text validates, all of it, in windows that do not overlap; the run is one `build` with one time budget and
nothing else chosen by hand but the characters. With another `--tokenizer` the loss is still per character (of a text
in ASCII), so that it can be compared. Once, on a quiet machine: half an hour is long.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import print_environment

import llmbuilder as lb
from llmbuilder.training.display.callbacks import Callback


class Watch(Callback):
    """Prints each validation loss with the seconds since the beginning."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()

    def on_log(self, metrics: dict[str, Any]) -> None:
        if "validation_loss" in metrics:
            seconds = time.perf_counter() - self._begin
            print(f"  step {metrics['step']}, {seconds:.0f} s: {metrics['validation_loss']:.4f} per token", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--target", type=float, default=1.4697, help="nats per character")
    parser.add_argument("--tokenizer", default="char")
    asked = parser.parse_args()
    print_environment(f"python benchmarks/good_model.py {asked.text.name} --minutes {asked.minutes:g}")
    if not asked.text.read_text(encoding="utf-8").isascii():
        raise SystemExit("the text must be ASCII: then a byte is a character")
    with tempfile.TemporaryDirectory(prefix="llmbuilder-good-") as folder:
        result = lb.build(
            asked.text, Path(folder) / "run", overrides=[f"tokenizer.algorithm={asked.tokenizer}"],
            time_budget=60 * asked.minutes, callbacks=[Watch()],
        )  # fmt: skip
        trained = lb.load_config(Path(folder) / "run" / "config.json")
    assert result.bits_per_byte is not None
    assert result.training.best_validation_loss is not None
    per_token = result.training.best_validation_loss
    nats = result.bits_per_byte * math.log(2)
    print(result.plan)
    model, training = trained.model, trained.training
    print(
        f"{model.num_layers} layers, width {model.embedding_dim}, context {model.max_seq_length}, "
        f"{result.parameters:,} parameters, {training.batch_size} windows a step, {result.training.steps} steps, "
        f"{result.training.tokens_per_second:,.0f} tokens/s, weight decay {training.weight_decay}, "
        f"dropout {model.dropout}"
    )
    print(f"whole build {result.seconds:.0f} s, training {result.training.training_time:.0f} s")
    print(f"{nats:.4f} nats per character, {per_token:.4f} per token; target {asked.target}: "
          + ("reached" if nats <= asked.target else "not reached"))  # fmt: skip


if __name__ == "__main__":
    main()
