"""What lies in a folder is read or listed with a reason: links, pipes, locked folders, odd names."""

from __future__ import annotations

import os
import socket
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmbuilder.config import Config
from llmbuilder.corpus import prepare_corpus
from llmbuilder.data import DataLoader
from llmbuilder.documents.folders import list_folder, readable_name
from llmbuilder.errors import DataError
from tests.command_line import run
from tests.corpus.folders import paragraph, reasons_of, rows_of, write_texts

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes, links and names as Unix has them")
_NOBODY = 65534


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a document, and with much that is none."""
    monkeypatch.chdir(tmp_path)
    folder = write_texts(Path("raw"), 2)
    (folder / ".hidden.txt").write_text("hidden")
    (folder / ".git").mkdir()
    (folder / ".git" / "inside.txt").write_text("of a hidden folder")
    (folder / "~$letter.docx").write_bytes(b"a lock")
    (folder / "broken.txt").symlink_to("nowhere.txt")
    (folder / "round.txt").symlink_to("round.txt")
    (folder / "up").symlink_to("..")
    (folder / "linked.md").symlink_to("../linked.md")
    Path("linked.md").write_text(paragraph("linked"))
    os.mkfifo(folder / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("raw/socket.txt")
    return folder


REASONS = {
    "raw/broken.txt": "it is a link to nowhere.txt, which cannot be followed: No such file or directory",
    "raw/round.txt": "it is a link to round.txt, which cannot be followed: Too many levels of symbolic links",
    "raw/up": "it is a link to a folder, which is another input if you name it: ..",
    "raw/pipe.txt": "it is a pipe, not a file",
    "raw/socket.txt": "it is a socket, not a file",
}


def test_everything_in_a_folder_is_read_or_listed(odd: Path) -> None:
    listing = list_folder(odd)
    assert [file.name for file in listing.files] == ["linked.md", "text-000.txt", "text-001.txt"]
    assert {item.source: item.reason for item in listing.left_out} == REASONS
    assert listing.hidden == 3


def test_both_commands_list_the_same(odd: Path, tmp_path: Path) -> None:
    loader = DataLoader()
    loaded = [document.source for document in loader.iter_directory(odd)]
    config = Config()
    config.data.tokenize = False
    corpus = prepare_corpus(odd, "corpus", config)
    assert loaded == [row["source"] for row in rows_of(corpus.path)]
    assert {row["source"]: row["reason"] for row in loader.report.skipped} == reasons_of(corpus.path) == REASONS
    assert loader.report.hidden == corpus.description["counts"]["hidden"] == 3
    shown = run("data", "load", "-i", "raw", "-o", "loaded.jsonl", cwd=tmp_path)
    assert "3 files read, 5 skipped" in shown.stderr
    assert "passed over: 3 hidden files and folders" in shown.stderr


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up what an administrator may do."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_folder_that_nobody_may_look_into_is_listed(odd: Path) -> None:
    locked = odd / "locked"
    locked.mkdir()
    (locked / "letter.txt").write_text("unseen")
    for folder in (odd, *odd.resolve().parents):
        folder.chmod(folder.stat().st_mode | 0o055)
    locked.chmod(0)
    try:
        with as_nobody():
            listing = list_folder(odd)
    finally:
        locked.chmod(0o755)
    reasons = {item.source: item.reason for item in listing.left_out}
    assert reasons["raw/locked"] == "the folder cannot be looked into: Permission denied"
    assert {name: reason for name, reason in reasons.items() if name != "raw/locked"} == REASONS


def test_a_folder_of_nothing_but_links_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(DataError, match="nothing is left of the 0 file.*link to nowhere, which cannot be followed"):
        DataLoader().load_directory(tmp_path)
    (tmp_path / "broken").unlink()
    with pytest.raises(DataError, match="is empty: put documents there"):
        DataLoader().load_directory(tmp_path)


def test_names_that_are_not_utf8_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir(b"raw")
    for name in (b"caf\xe9", b"caf\xe8"):
        with open(b"raw/" + name + b".txt", "w") as handle:
            handle.write(paragraph(name))
    names = [document.source for document in DataLoader().load_directory("raw")]
    assert names == [r"raw/caf\xe8.txt", r"raw/caf\xe9.txt"]
    assert run("data", "load", "-i", "raw", "-o", "loaded.jsonl", cwd=tmp_path).returncode == 0
    assert readable_name("Müller 日本.txt") == "Müller 日本.txt"


@pytest.mark.parametrize(
    ("names", "encoding"),
    [
        (["Отчёт за квартал.txt", "Письмо директору.txt", "Протокол собрания.txt"], "cp866"),
        (["四半期報告書.txt", "社長への手紙.txt", "議事録の写し.txt"], "cp932"),
        (["Übersicht für Müller.txt", "Größe der Stühle.txt"], "cp437"),
        (["季度报告.txt", "给经理的信.txt", "会议记录副本.txt"], "utf-8"),
    ],
)
def test_names_in_old_archives_are_in_their_makers_encoding(tmp_path: Path, names: list[str], encoding: str) -> None:
    path = tmp_path / "old.zip"
    placeholders = [b"%c" % (65 + number) * len(name.encode(encoding)) for number, name in enumerate(names)]
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(placeholders):
            archive.writestr(name.decode(), paragraph(number))
    content = path.read_bytes()
    for placeholder, name in zip(placeholders, names, strict=True):
        content = content.replace(placeholder, name.encode(encoding))
    path.write_bytes(content)
    found = [document.source.split("#")[1] for document in DataLoader().load_file(path)]
    assert found == names


def test_an_earlier_corpus_among_its_sources_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts(Path("raw"), 3)
    Path("raw/book.1.txt").write_text(paragraph("a chapter"))
    for _ in range(3):
        shown = run("data", "load", "-i", "raw", "-o", "raw/book.txt", cwd=tmp_path)
        assert "raw/book.txt: 4 documents" in shown.stdout
        assert "hidden" not in shown.stderr  # the file that is being written among its sources is none of theirs
    assert "raw/book.2.txt is an earlier corpus of the name that is being written: it is left out" in shown.stderr


def test_runs_among_the_sources_are_no_documents(tmp_path: Path) -> None:
    write_texts(tmp_path / "raw", 3)
    for name, files in {
        "a-run": ["run.json", "config.json"],
        "a-build": ["build.json"],
        "notes": ["build.json"],
    }.items():
        (tmp_path / "raw" / name).mkdir()
        (tmp_path / "raw" / name / "metrics.jsonl").write_text('{"text": "step 1"}\n')
        for file in files:
            (tmp_path / "raw" / name / file).write_text(
                '{"format_version": 1}' if name != "notes" else '{"text": "mine"}'
            )
    listing = list_folder(tmp_path / "raw")
    assert {file.parent.name for file in listing.files} == {"raw", "notes"}
    assert {Path(item.source).name for item in listing.left_out} == {"a-run", "a-build"}
    assert all("it is the run of a model, not documents" in item.reason for item in listing.left_out)
