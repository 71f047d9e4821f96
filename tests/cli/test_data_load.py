"""`data load`: every option works alone and beside every other one, and wrong ones are refused before work begins."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.command_line import run
from tests.corpus.folders import paragraph, write_texts

OPTIONS = {
    "--no-clean": (),
    "--keep-duplicates": (),
    "--text-column": ("body",),
    "--filter": ("books",),
    "--language": ("en",),
    "--redact": (),
    "--near-duplicates": ("0.8",),
    "--overwrite": (),
    "--json": (),
}


def test_every_option_works_alone_and_beside_every_other(tmp_path: Path) -> None:
    raw = write_texts(tmp_path / "raw", 2)
    (raw / "rows.csv").write_text(f"body,title\n{paragraph('row')},One\n")
    for number in (0, 1, 2):
        for chosen in itertools.combinations(OPTIONS, number):
            given = [word for name in chosen for word in (name, *OPTIONS[name])]
            output = tmp_path / "corpus.jsonl"
            shown = run("data", "load", "-i", raw, "-o", output, *given, cwd=tmp_path)
            assert len(output.read_text("utf-8").splitlines()) == 3, chosen
            assert ("--json" in chosen) == shown.stdout.startswith("{"), chosen
            if "--json" in chosen:
                assert json.loads(shown.stdout)["report"]["documents"] == 3, chosen


@pytest.mark.parametrize(
    ("option", "words", "status"),
    [
        (("--filter", "bocks"), "'bocks'", 1),
        (("--near-duplicates", "5"), "'--near-duplicates': Input should be less than or equal to 1", 2),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_read(
    tmp_path: Path, option: tuple[str, str], words: str, status: int
) -> None:
    write_texts(tmp_path / "unread", 2)
    shown = run("data", "load", "-i", "unread", "-o", "corpus.txt", *option, cwd=tmp_path, status=status)
    assert words in shown.stderr
    shown = run("data", "prepare", "unread", "-o", "corpus", *option, cwd=tmp_path, status=status)
    assert words in shown.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["unread"]
