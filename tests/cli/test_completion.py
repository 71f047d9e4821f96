"""What Tab completes, asked for as shells do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def completed(line: str, cwd: Path, shell: str = "bash") -> list[str]:
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": line,
             "_LLMBUILDER_COMPLETE": f"complete_{shell}"}  # fmt: skip
    code = "import sys; sys.argv[0] = 'llmbuilder'; from llmbuilder.cli.main import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split("\n")


@pytest.mark.parametrize("command", ["build", "train model", "config create", "config show"])
def test_presets_and_settings(tmp_path: Path, command: str) -> None:
    assert {"tiny", "cpu_small"} <= set(completed(f"llmbuilder {command} --preset ", tmp_path))
    assert [name for name in completed(f"llmbuilder {command} --set training.learn", tmp_path) if name] == [
        "training.learning_rate="
    ]


def test_quantizations(tmp_path: Path) -> None:
    for command in ("build", "export gguf"):
        found = [name for name in completed(f"llmbuilder {command} --quantization q4", tmp_path) if name]
        assert found == ["q4_1", "q4_0"]


def test_zsh_is_told_what_a_preset_is_for(tmp_path: Path) -> None:
    found = "\n".join(completed("llmbuilder build --preset tin", tmp_path, "zsh"))
    assert "tiny" in found and ":" in found
