"""A second reading says yes to what is whole, and no to what lost letters, words or order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llmbuilder.auditing.fidelity import Fidelity, compare
from llmbuilder.auditing.own_text import own_text
from llmbuilder.config import Config
from llmbuilder.corpus import prepare_corpus
from llmbuilder.corpus.audit import audit_sample
from llmbuilder.corpus.schemas import EXTRACTED
from llmbuilder.corpus.store import Store
from llmbuilder.documents.sources import local_sources
from tests.command_line import run
from tests.documents.samples import write_all

OWN = "Name: John lives in a well-known house, and R&D costs 12 % of it. " * 40


@pytest.mark.parametrize(
    ("found", "is_good"),
    [
        (OWN, True),
        ("# " + OWN.replace(". ", ".\n\n- "), True),  # layout does not count
        (OWN.replace("R&D", "R D", 3), True),  # nor do signs
        (OWN.replace("well-known", "wellknown"), False),  # fused
        (OWN.replace("lives", "li ves"), False),  # split
        (OWN.replace("John ", "", 4), False),  # lost
        (OWN + "Words that the file does not have.", False),  # added
        (" ".join(reversed(OWN.split())), False),  # in another order
    ],
)
def test_damage_is_seen(found: str, is_good: bool) -> None:
    assert compare(OWN, found).is_good("docx") == is_good


def test_long_texts_are_compared_in_parts() -> None:
    own = OWN * 250
    assert compare(own, own).shares == (1.0, 1.0, 0.0)
    kept, whole, _ = compare(own, own[: len(own) // 2]).shares
    assert 0.4 < kept < 0.6
    assert 0.4 < whole < 0.6


def test_sums_are_weighted_by_size() -> None:
    total = Fidelity.of_all([Fidelity(10, 10, 2, 2, 0), Fidelity(990, 495, 198, 99, 99)])
    assert total.shares == (0.505, 101 / 200, 0.099)


def test_a_corpus_is_audited_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_all(Path("raw"))
    shown = run("data", "prepare", "raw", "-o", "corpus", "--set", "data.tokenize=false", "--audit", "50", cwd=tmp_path)
    assert "docx: 100.00% of the letters kept, 100.00% of the words, 0.00% added" in shown.stderr
    found = json.loads(Path("corpus/work/audit.json").read_text("utf-8"))
    has_libreoffice = shutil.which("soffice") is not None
    assert {"docx", "epub", "odt", "pdf", "pptx"} <= found["formats"].keys()
    assert ("rtf" in found["formats"]) == has_libreoffice
    assert has_libreoffice or "LibreOffice (soffice), which is not installed" in str(found["not_compared"])
    assert all(values["kept"] >= 0.99 for values in found["formats"].values())
    assert "Read again" in Path("corpus/report.html").read_text("utf-8")
    again = prepare_corpus("raw", "corpus", Config.model_validate({"data": {"tokenize": False}}), audit=3)
    assert again.audit is not None
    assert sum(values["files"] for values in again.audit["formats"].values()) + len(again.audit["not_compared"]) == 3


def test_an_audit_says_no(tmp_path: Path) -> None:
    write_all(tmp_path / "raw")
    path = next((tmp_path / "raw").glob("*.docx"))
    own = own_text(path)
    (source,) = local_sources([path], "raw")
    store = Store(tmp_path / "extracted", EXTRACTED)
    for number, text in enumerate([own, own[: len(own) // 2]]):
        extracted = tmp_path / "extracted" / f"{number}.parquet"
        store.write(extracted, ["key"], {}, lambda _, text=text: [{"source": source.name, "text": text}])
        found = audit_sample([[source]], [extracted], 5, "seed", tmp_path)
        assert [item["source"] for item in found.below] == [source.name] * number
    store.write(extracted, ["key"], {}, lambda _: [{"source": source.name, "error": "it is locked"}])
    assert audit_sample([[source]], [extracted], 5, "seed", tmp_path).not_compared == [
        {"source": source.name, "reason": "it is locked"}
    ]
