"""What type checkers and editors know of the public functions."""

from __future__ import annotations

from pathlib import Path

from mypy import api

SCRIPT = """
import llmbuilder as lb

text: str = lb.generate_text("run", prompt="The", temperature=0.8, stop=["."], top_k=None)
for piece in lb.stream_text("run", prompt="The", min_p=0.05):
    text += piece
several: list[str] = lb.generate_text("run", prompt="The", num_samples=2, seed=1)
"""


def test_a_strict_check_takes_right_settings_and_refuses_wrong_ones(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    arguments = ["--strict", "--ignore-missing-imports", "--follow-imports=silent", str(script)]
    script.write_text(SCRIPT)
    said, _, status = api.run(arguments)
    assert status == 0, said
    script.write_text(SCRIPT + 'lb.generate_text("run", temperatur=0.8)\n')
    said, _, status = api.run(arguments)
    assert status == 1 and "temperatur" in said
