"""Does `build --time-budget` choose well? Its validation loss beside hand-chosen shapes with the same seconds.

python benchmarks/time_budget.py [--budget 60 --budget 180] [--shapes 5] [DOCS]

The plan's training seconds are given to every hand-chosen shape, with the same recipe, tokenizer and data, and the best
of ten evaluations counts for both. A ratio above 1 means that the plan's loss is the lower one. DOCS should be a corpus
that the prediction was not fitted to: the default one it was. The whole build's time beside its budget is printed, too.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from pathlib import Path

import llmbuilder as lb
from llmbuilder.config import Config
from llmbuilder.config.recipe import choose_dropout, choose_step_tokens, choose_weight_decay
from llmbuilder.data import TextDataset

# layers, heads, width, context: what someone might choose by hand
SHAPES = [(4, 4, 256, 256), (2, 4, 128, 128), (3, 6, 192, 128), (4, 4, 128, 128), (6, 6, 384, 256)]


def by_hand(
    plan: Config, shape: tuple[int, int, int, int], seconds: float, run: Path, tokens: Path, rate: float
) -> float:
    config = plan.copy_of()
    model, training = config.model, config.training
    model.num_layers, model.num_heads, model.embedding_dim, model.max_seq_length = shape
    scale = lb.build_model(plan).flops_per_token() / lb.build_model(config).flops_per_token()
    affordable = int(rate * scale * seconds)
    training.batch_size = max(1, round(choose_step_tokens(affordable) / shape[-1]))
    training.time_budget_seconds, training.max_steps = seconds, None
    dataset = TextDataset(tokens, shape[-1])
    steps = affordable // (training.batch_size * shape[-1])
    training.eval_every = max(1, steps // 10)  # as often as the plan's run is: the best evaluation counts for both
    passes = affordable / len(dataset.train.tokens)
    training.weight_decay, model.dropout = choose_weight_decay(passes, steps), choose_dropout(passes)
    shutil.rmtree(run, ignore_errors=True)
    results = lb.train_model(lb.build_model(config), dataset, config, run, [])
    assert results.best_validation_loss is not None
    return results.best_validation_loss


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", nargs="?")
    parser.add_argument("--budget", type=float, action="append")
    parser.add_argument("--shapes", type=int, default=5)
    given = parser.parse_args()
    print(
        "| budget | took | the plan | its loss, bits per byte (expected) | best of hand-chosen | ratio |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    for budget in given.budget or (60.0, 180.0, 600.0):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            result = lb.build(given.documents, run, time_budget=budget, callbacks=[])
            config = lb.load_config(run / "config.json")
            loss = result.training.best_validation_loss
            assert loss is not None
            losses = {}
            for shape in SHAPES[: given.shapes]:
                losses[shape] = by_hand(config, shape, result.training.training_time, Path(folder) / "hand",
                                        run / "tokens", result.training.tokens_per_second)  # fmt: skip
                print(f"  {shape}: {losses[shape]:.3f}", flush=True)
            assert result.plan is not None
            expected = re.findall(r"expected: ([\d.]+) bits per byte", result.plan)[0]
            best = min(losses, key=lambda shape: losses[shape])
            model = config.model
            print(f"| {budget:.0f} s | {result.seconds:.0f} s | {model.num_layers} x {model.embedding_dim}, "
                  f"{model.max_seq_length} | {loss:.3f}, {result.bits_per_byte:.2f} ({expected}) | "
                  f"{losses[best]:.3f} {best} | {losses[best] / loss:.3f} |", flush=True)  # fmt: skip
