"""What every command takes, and what is heard of one that was told to be quiet."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import click
import pytest

from llmbuilder.cli.stages import StageProgress
from tests.cli.test_wrong_options import commands
from tests.command_line import run
from tests.terminal import Terminal

in_terminals = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")


def write_documents(folder: Path) -> None:
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        (folder / f"{number}.txt").write_text(
            f"Document {number} tells of {number * 7} foxes and how they slept.\n" * 20
        )


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_answers_in_json_and_can_be_quiet(name: str, command: click.Command) -> None:
    options = {word for parameter in command.params for word in parameter.opts}
    assert {"--json", "--quiet"} <= options


def test_quiet_is_quiet_and_the_result_is_json(tmp_path: Path) -> None:
    write_documents(tmp_path / "docs")
    loud = run("data", "load", "-i", "docs", "-o", "loud.txt", cwd=tmp_path)
    assert "skipped docs/0.png and 11 more" in loud.stderr
    quiet = run("data", "load", "-i", "docs", "-o", "quiet.txt", "--quiet", "--json", cwd=tmp_path)
    assert quiet.stderr == ""
    assert json.loads(quiet.stdout)["documents"] == 12
    assert logging.getLogger("llmbuilder").isEnabledFor(logging.WARNING)  # the next command is not quiet


def test_errors_are_said_all_the_same(tmp_path: Path) -> None:
    assert "no such file" in run("data", "load", "-i", "none", "-o", "x.txt", "--quiet", cwd=tmp_path, status=1).stderr


def test_configurations_are_named_in_json(tmp_path: Path) -> None:
    run("config", "create", "--preset", "tiny", "-o", "one.json", cwd=tmp_path)
    moved = run("config", "migrate", "one.json", "two.yaml", "--json", cwd=tmp_path).stdout
    assert json.loads(moved) == {"path": "two.yaml"}
    assert "properties" in json.loads(run("config", "schema", "--json", cwd=tmp_path).stdout)


@in_terminals
def test_no_library_speaks_when_a_corpus_is_prepared_quietly(tmp_path: Path) -> None:
    pytest.importorskip("daft")
    write_documents(tmp_path / "docs")
    terminal = Terminal("data", "prepare", "docs", "-o", "corpus", "--quiet", cwd=tmp_path)
    assert terminal.end() == 0, terminal.text
    [line] = terminal.text.splitlines()
    assert line.startswith("corpus: 12 documents")
    assert b"\x1b" not in terminal.raw


@in_terminals
def test_files_are_counted_as_they_are_read(tmp_path: Path) -> None:
    write_documents(tmp_path / "docs")
    terminal = Terminal("data", "load", "-i", "docs", "-o", "one.txt", cwd=tmp_path)
    assert terminal.end() == 0, terminal.text
    assert b"\x1b[2K" in terminal.raw  # a line that renews itself
    assert "24/24" in terminal.text
    plain = Terminal("data", "load", "-i", "docs", "-o", "two.txt", cwd=tmp_path, kind="dumb")
    assert plain.end() == 0
    assert b"\x1b" not in plain.raw
    assert plain.text.splitlines()[:2] == ["reading: 0 of 24", "reading: 24 of 24"]


def test_long_stages_say_now_and_then_how_far_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with StageProgress(plain=True, quiet=False, clock=lambda: now) as progress:
        for done in range(1001):
            now = done / 10
            progress("extract", done, 1000)
        progress("extract", 1000, 1000)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["reading: 0 of 1,000", "reading: 150 of 1,000"]
    assert said[-1] == "reading: 1,000 of 1,000"
    assert len(said) == 8


@pytest.mark.parametrize(
    ("seconds", "told"), [(3.9, []), (5.0, ["scoring tokens: 80 of 100", "scoring tokens: 100 of 100"])]
)
def test_work_that_ends_before_the_patience_does_is_not_told_of(
    seconds: float, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    with StageProgress(plain=True, quiet=False, patience=4.0, clock=lambda: now) as progress:
        for done in range(0, 101, 20):
            now = seconds * done / 100
            progress("score", done, 100)
    assert capsys.readouterr().err.splitlines() == told
