"""How long the command line and the import take, beside transformers': python benchmarks/startup.py"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import compare, print_header

BIN = Path(sys.executable).parent


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


if __name__ == "__main__":
    print_header("python benchmarks/startup.py")
    compare("`--help`", lambda: run(BIN / "llmbuilder", "--help"), lambda: run(BIN / "transformers", "--help"),
            peer_name="transformers")  # fmt: skip
    compare("`import`", lambda: run(sys.executable, "-c", "import llmbuilder"),
            lambda: run(sys.executable, "-c", "import transformers"), peer_name="transformers")  # fmt: skip
    compare("first `load_config`",
            lambda: run(sys.executable, "-c", "import llmbuilder; llmbuilder.load_config(preset='tiny')"),
            lambda: run(sys.executable, "-c", "from transformers import GPT2Config; GPT2Config()"),
            peer_name="transformers")  # fmt: skip
