"""What builds reach beside what their plans expected, in bits per byte.

python benchmarks/plan.py DOCUMENTS... [--budget 60 --budget 120] [--busy 0 --busy 2] [--output results.jsonl]

Builds a model of each folder or file of documents (`default`: the interpreter's own documentation) with each budget,
beside `--busy` processes a core that do nothing but compute. Each build is a process of its own, one after another.
Printed are the interval that the plan gave and the result, in the end the share of results inside: 80% should be.
`time` is what the whole build took: a budget is kept within a tenth, or 10 s. Corpora that the prediction was fitted
to are named in docs/explanation/recipe.md: use others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BUILD = """
import json, sys, time
import llmbuilder as lb
begin = time.perf_counter()
documents = None if sys.argv[1] == "default" else sys.argv[1]
result = lb.build(documents, sys.argv[2], time_budget=float(sys.argv[3]), callbacks=[])
seen = result.expected
print(json.dumps({
    "expected": seen.bits_per_byte, "low": seen.bits_low, "high": seen.bits_high, "reached": result.bits_per_byte,
    "planned_steps": seen.steps, "steps": result.training.steps, "longer": seen.longer,
    "seconds": time.perf_counter() - begin,
}))
"""
_BUSY = "while True: pass"


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep `processes` processes computing."""
    started = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def build(documents: str, seconds: float) -> dict[str, Any]:
    """Build in a process of its own and return what was expected and reached."""
    with tempfile.TemporaryDirectory(prefix="llmbuilder-plan-") as folder:
        command = [sys.executable, "-c", _BUILD, documents, f"{folder}/run", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{documents}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="+")
    parser.add_argument("--budget", type=float, action="append", help="seconds of a whole build (60)")
    parser.add_argument("--busy", type=int, action="append", help="busy processes a core (0)")
    parser.add_argument("--output", type=Path, help="append a JSON line for each build")
    asked = parser.parse_args()
    inside: list[bool] = []
    kept: list[bool] = []
    print(f"{'corpus':24}  budget busy expected   80% interval reached steps, planned time")
    for load in asked.busy or [0]:
        for documents in asked.documents:
            for seconds in asked.budget or [60.0]:
                with busy(load * (os.cpu_count() or 1)):
                    row = build(documents, seconds)
                inside.append(row["low"] <= row["reached"] <= row["high"])
                kept.append(abs(row["seconds"] - seconds) <= max(10.0, 0.1 * seconds))
                interval = f"{row['low']:.2f} to {row['high']:.2f}"
                print(
                    f"{Path(documents).name[:24]:24} {seconds:6.0f}s {load:4} {row['expected']:8.2f} {interval:>14} "
                    f"{row['reached']:7.2f} {row['steps']:5}/{row['planned_steps']:<6} {row['seconds']:.0f}s"
                    + ("" if inside[-1] else "  outside")
                    + ("" if kept[-1] else "  budget not kept"),
                    flush=True,
                )
                if asked.output is not None:
                    with asked.output.open("a") as file:
                        file.write(json.dumps({"documents": documents, "budget": seconds, "busy": load, **row}) + "\n")
    print(f"{sum(inside)} of {len(inside)} inside ({sum(inside) / len(inside):.0%}), {sum(kept)} budgets kept")


if __name__ == "__main__":
    main()
