"""Consoles that lack characters, pipes whose readers leave, full disks and closed streams."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from llmbuilder.notices import command, counted

PROGRAM = f"{shlex.quote(sys.executable)} -m llmbuilder"


def shell(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    whole = {**os.environ, **environment}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], cwd=cwd, capture_output=True, env=whole, check=False
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_no_character_is_too_much_for_a_console(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "text.txt").write_text("naïve 東京 😀\n" * 30, "utf-8")
    done = shell(
        f"{PROGRAM} tokenizer train -i text.txt -o 'tok 東' --algorithm char && {PROGRAM} tokenizer inspect 'tok 東' --text 東😀 "
        f"&& {PROGRAM} tokenizer inspect 'tok 東' --text 東😀 --json > facts.json",
        tmp_path,
        PYTHONIOENCODING=encoding,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "facts.json").read_text("utf-8"))["pieces"] == ["東", "😀"]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("config schema | true", 0),
        ("config schema > /dev/full", 1),
        ("config create --list > /dev/full", 1),
        ("config schema >&-", 0),
        ("config show nowhere.json 2> /dev/full", 1),
        ("config show nowhere.json 2>&-", 1),
        ("data load -i pictures -o text.txt 2> /dev/full", 0),
    ],
)
def test_outputs_that_take_nothing_end_without_a_traceback(tmp_path: Path, line: str, status: int) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "pictures" / "a.txt").write_text("A text.")
    done = shell(f"{PROGRAM} {line}", tmp_path)
    assert done.returncode == status, done.stderr
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr
    if "> /dev/full" in line and status and "2>" not in line:
        assert b"No space left" in done.stderr


def test_commands_can_be_pasted() -> None:
    for folder in ("my run", "it's", "plain", os.fsdecode(b"b\xff c'd\\e")):
        line = command("train", "resume", folder).replace("llmbuilder", "printf '%s\\n'", 1)
        shown = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
        assert shown == b"train\nresume\n" + os.fsencode(folder) + b"\n"


def test_one_is_singular() -> None:
    assert [counted(n, "step") for n in (0, 1, 2000)] == ["0 steps", "1 step", "2,000 steps"]
    assert counted(2, "copy", "copies") == "2 copies"


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_that_are_no_utf8_end_no_build(tmp_path: Path) -> None:
    documents = tmp_path / "docs"
    documents.mkdir()
    for number in range(8):
        name = b"na\xefve.txt" if number == 3 else b"%d.txt" % number
        text = " ".join(f"word{number * 31 + place}" for place in range(200))
        Path(os.fsdecode(os.fsencode(documents) + b"/" + name)).write_text(text)
    settings = (
        "--set training.max_steps=2 --set model.num_layers=1 --set model.embedding_dim=32 --set model.num_heads=2"
    )
    done = shell(
        f"{PROGRAM} build docs -o $'out\\xff' --preset tiny {settings} && {PROGRAM} build docs -o $'out\\xff' "
        f"--preset tiny {settings} && {PROGRAM} model info $'out\\xff'",
        tmp_path,
        LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert (tmp_path / os.fsdecode(b"out\xff") / "summary.md").is_file()
    assert b"llmbuilder generate text --model $'out\\xff/model.pt'" in done.stdout  # can be pasted
