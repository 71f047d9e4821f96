"""Passages found by their words."""

from __future__ import annotations

from pathlib import Path

import pytest

import llmbuilder as lb
from llmbuilder.errors import DataError
from llmbuilder.retrieval import Passage, PassageIndex
from llmbuilder.retrieval.index import search_words

HARBOURS = [f"The harbour of {name} is {n} fathoms deep and belongs to the {owner} family."
            for n, (name, owner) in enumerate([("Brelnor", "Ostavik"), ("Tamsoe", "Keldan"), ("Vexholm", "Ruspik")])]  # fmt: skip


def test_the_passage_that_has_the_rare_words_is_first() -> None:
    index = PassageIndex(Passage(text, f"{number}.txt") for number, text in enumerate(HARBOURS))
    assert [one.source for one in index.find("How deep is the harbour of TAMSOE?", 1)] == ["1.txt"]
    assert index.find("what do the ruspik own", 3)[0].source == "2.txt"
    assert len(index.find("the harbour", 2)) == 2, "what all have is found in the order of the documents"
    assert index.find("zebra crossing", 3) == []
    assert index.find("", 3) == []


def test_words_of_any_script() -> None:
    assert search_words("The RFC-1234, ftp::Open") == ["the", "rfc", "1234", "ftp", "open"]
    assert search_words("在1998年发布") == ["在", "1998", "年", "年发", "发布"]
    texts = ["北京是中国的首都。", "东京是日本的首都。", "Ελλάδα και Αθήνα"]
    index = PassageIndex(Passage(text, text) for text in texts)
    assert index.find("日本", 1)[0].source == texts[1]
    assert index.find("αθήνα", 1)[0].source == texts[2]


def test_nothing_to_find_anything_by() -> None:
    with pytest.raises(DataError, match="no word in the documents"):
        PassageIndex([Passage("... !!!")])


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number, text in enumerate(HARBOURS):
        filling = "\n\n".join(f"Nothing of note in year {number}{year} but rain." for year in range(30))
        (folder / f"{number}.md").write_text(f"{filling}\n\n{text}\n\n{filling}\n", "utf-8")
    return folder


def test_a_folder_a_file_and_a_prepared_corpus_name_the_document_and_the_line(documents: Path, tmp_path: Path) -> None:
    lb.prepare_corpus(documents, tmp_path / "corpus", tokenizer=None)
    for place in (documents, documents / "1.md", tmp_path / "corpus"):
        (found,) = PassageIndex.open(place, size=120).find("the Keldan family", 1)
        assert HARBOURS[1] in found.text, place
        assert Path(found.source).name == "1.md", place
        lines = (documents / "1.md").read_text("utf-8").split("\n")
        assert found.text.startswith(lines[found.line - 1]), place


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        PassageIndex.open(tmp_path / "nowhere")
