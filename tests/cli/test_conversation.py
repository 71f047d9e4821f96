"""`generate text -i` at a keyboard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.terminal import Terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
CUT = "the text is longer than the model sees"


def prompts(terminal: Terminal) -> int:
    """Return how often a line was asked for: each time, the editor tells the terminal that it takes pasted text."""
    return terminal.raw.count(b"\x1b[?2004h")


def test_an_answer_is_stopped_the_cut_is_said_once_and_the_end_ends(trained_run: Path, tmp_path: Path) -> None:
    endless = ("-n", 100_000, "--set", "generation.stop_at_eos=false")
    line = ("generate", "text", "-m", trained_run, "-i", "--seed", 1, *endless)
    terminal = Terminal(*line, cwd=tmp_path, columns=200, PROMPT_TOOLKIT_NO_CPR="1")
    for number in range(3):
        terminal.wait_until(lambda seen, asked=number + 1: prompts(seen) == asked)
        assert "Ctrl-D ends" in terminal.text
        shown = len(terminal.text)
        terminal.type(f"Number {number} " + "says one word after another " * 5 + "\r")
        terminal.wait_until(lambda seen, shown=shown: len(seen.text) > shown + 2_000)  # an answer without an end
        terminal.type("\x03")
    terminal.wait_until(lambda seen: prompts(seen) == 4)
    terminal.type("\x04")
    assert terminal.end() == 0, terminal.text
    assert "Traceback" not in terminal.text and "stopped" not in terminal.text
    assert terminal.text.count(CUT) == 1
