"""Reading documents of every format, and what happens to those that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmbuilder.corpus.corpus_files import iter_documents, iter_pieces, manifest_path
from llmbuilder.data import DataLoader, Document, DocumentFilter, NearDuplicateSettings, write_corpus
from llmbuilder.errors import DataError
from tests.documents.samples import write_all, write_pdf


def test_every_format_gives_its_text_and_metadata(tmp_path: Path) -> None:
    expected = write_all(tmp_path)
    documents = {d.format: d for d in DataLoader().load_directory(tmp_path)}
    assert set(documents) == set(expected)
    for name, text in expected.items():
        assert text in " ".join(documents[name].text.split()), name
        assert documents[name].metadata["characters"] == len(documents[name].text)
        assert len(documents[name].checksum) == 64
    assert documents["pdf"].title == "Lighthouse records"
    assert documents["pdf"].metadata["pages"] == 4
    assert documents["jsonl"].title == "row"


def test_tables_and_headings_of_office_documents_are_markdown(tmp_path: Path) -> None:
    import docx

    document = docx.Document()
    document.add_heading("Harbours", level=2)
    table = document.add_table(rows=2, cols=2)
    for row, values in enumerate([("Name", "Ships"), ("Old_port", "12")]):
        for column, value in enumerate(values):
            table.cell(row, column).text = value
    document.add_paragraph("What else is * or _ stays so.")
    document.save(str(tmp_path / "table.docx"))
    (loaded,) = DataLoader().load_file(tmp_path / "table.docx")
    assert loaded.text == (
        "## Harbours\n\n| Name | Ships |\n| --- | --- |\n| Old_port | 12 |\n\nWhat else is * or _ stays so."
    )


def test_paged_documents_lose_furniture_and_broken_words(tmp_path: Path) -> None:
    write_pdf(tmp_path / "report.pdf")
    raw = DataLoader(clean_text=False).load_file(tmp_path / "report.pdf")[0].text
    loader = DataLoader()
    clean = loader.load_file(tmp_path / "report.pdf")[0].text
    assert "Annual Report" in raw
    assert "Page 2 of 4" in raw
    assert "Annual Report" not in clean
    assert "Page 2 of 4" not in clean
    assert "the maintenance of tower number 2" in clean
    assert clean.count("lighthouse keeper") == 32, "no line of the body is lost"
    assert "the maintenance of tower number 2" in raw, "the file itself says that a line's end divides the word"
    assert loader.report.cleaning["remove_page_furniture"] == 8


def test_order_hidden_files_and_subfolders(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/.hidden.txt", ".git/config.txt", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    sources = [Path(d.source).relative_to(tmp_path).as_posix() for d in DataLoader().load_directory(tmp_path)]
    assert sources == ["a/z.txt", "b.txt", "c.txt"]


def test_duplicates_are_removed_and_named(tmp_path: Path) -> None:
    for name, text in (("a", "Same  text"), ("b", "same text\n"), ("c", "other")):
        (tmp_path / f"{name}.txt").write_text(text)
    loader = DataLoader()
    assert len(loader.load_directory(tmp_path)) == 2
    assert loader.report.duplicates == [{"source": str(tmp_path / "b.txt"), "of": str(tmp_path / "a.txt")}]
    assert len(DataLoader(remove_duplicates=False).load_directory(tmp_path)) == 3


def test_one_bad_file_is_reported_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "good.txt").write_text("good text")
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4 this is no PDF")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "empty.txt").write_text("  \n")
    (tmp_path / "picture.xyz").write_bytes(b"\0\1")
    loader = DataLoader()
    assert [d.text for d in loader.load_directory(tmp_path)] == ["good text"]
    reasons = {Path(item["source"]).name: item["reason"] for item in loader.report.skipped}
    assert reasons["bad.pdf"].startswith("cannot be read as pdf: ")
    assert reasons["binary.txt"] == "it is a binary file, not text"
    assert reasons["empty.txt"] == "no text in it"
    assert reasons["picture.xyz"] == "unsupported format '.xyz'"
    assert "bad.pdf" in caplog.text


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        DataLoader().load_directory(tmp_path / "absent")
    with pytest.raises(DataError, match="is empty: put documents there"):
        DataLoader().load_directory(tmp_path)
    (tmp_path / "bad.pdf").write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"nothing is left of the 1 file.*bad.pdf"):
        DataLoader().load_directory(tmp_path)
    with pytest.raises(DataError, match="cannot be read as pdf"):
        DataLoader().load_file(tmp_path / "bad.pdf")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings_are_detected(tmp_path: Path, encoding: str) -> None:
    text = "Grüße aus Köln: naïve café, élève, où ça? Über allen Gipfeln ist Ruh. " * 5
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert DataLoader().load_file(tmp_path / "a.txt")[0].text.strip() == text.strip()


def test_what_no_unicode_text_can_hold_is_replaced(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "rows.jsonl").write_text('{"text": "lone \\ud800 one", "title": "\\udc00", "n\\ud801": "x"}\n')
    (raw / b"caf\xe9.txt".decode("utf-8", "surrogateescape")).write_text("A name in another encoding.")
    for suffix in (".txt", ".jsonl", ".parquet"):
        loader = DataLoader()
        write_corpus(loader.iter_directory(raw), tmp_path / f"corpus{suffix}", loader.report)
        texts = sorted(document.text.strip() for document in iter_documents(tmp_path / f"corpus{suffix}"))
        assert texts == ["A name in another encoding.", "lone \ufffd one"]


def test_encodings_are_recognised_where_they_show(tmp_path: Path) -> None:
    (tmp_path / "late.txt").write_bytes(b"plain words\n" * 150_000 + "déjà vu".encode("latin-1"))
    (tmp_path / "short.txt").write_bytes("Ça va déjà à l'été, garçon naïf".encode("cp1252"))
    assert DataLoader().load_file(tmp_path / "late.txt")[0].text.endswith("déjà vu")
    assert DataLoader().load_file(tmp_path / "short.txt")[0].text == "Ça va déjà à l'été, garçon naïf"


def test_files_are_counted_once_whatever_their_names(tmp_path: Path) -> None:
    for name in ("a#1.txt", "a#2.txt", "b.txt"):
        (tmp_path / name).write_text(f"text of {name}")
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4 bad")
    loader = DataLoader()
    loader.load_directory(tmp_path)
    assert (loader.report.files, loader.report.documents, len(loader.report.skipped)) == (4, 5, 1)


def test_tables_find_their_text_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;note\n1;a long note about ships\n2;another long note\n")
    assert [d.text for d in DataLoader().load_file(tmp_path / "a.csv")] == [
        "a long note about ships",
        "another long note",
    ]
    with pytest.raises(DataError, match="no column 'x'; its columns are id, note"):
        DataLoader(text_column="x").load_file(tmp_path / "a.csv")
    (tmp_path / "b.jsonl").write_text('{"text": "fine"}\n{broken\n')
    loader = DataLoader()
    assert [d.text for d in loader.load_file(tmp_path / "b.jsonl")] == ["fine"]
    (skipped,) = loader.report.skipped
    assert skipped["source"] == str(tmp_path / "b.jsonl#2")
    assert skipped["reason"].startswith("the line is not JSON: Expecting property name")
    (tmp_path / "c.jsonl").write_text("{broken\n")
    with pytest.raises(DataError, match="c.jsonl#1: the line is not JSON"):
        DataLoader().load_file(tmp_path / "c.jsonl")


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet"])
def test_corpus_files_round_trip(tmp_path: Path, suffix: str) -> None:
    texts = ["first\ndocument", "second\nof them", "third\n\nwith blank"]
    path = tmp_path / f"corpus{suffix}"
    manifest = write_corpus([Document(text, f"s{n}") for n, text in enumerate(texts)], path)
    assert [d.text for d in iter_documents(path)] == texts
    assert manifest["documents"] == 3
    assert [s["source"] for s in json.loads(manifest_path(path).read_text())["sources"]] == ["s0", "s1", "s2"]


@pytest.mark.parametrize("separator", ["\n<|endoftext|>\n", "<|endoftext|>", "\r\n<|endoftext|>\r\n", "\n\x1e\n"])
def test_separators_of_other_programs_are_read(tmp_path: Path, separator: str) -> None:
    (tmp_path / "a.txt").write_bytes(separator.join(["one\ntwo", "three"]).encode())
    assert [d.text for d in iter_documents(tmp_path / "a.txt")] == ["one\ntwo", "three"]


def test_a_written_corpus_tokenizes_with_tiktoken(tmp_path: Path) -> None:
    """tiktoken refuses text that spells a special token, so a corpus must not."""
    write_corpus([Document("one <|endoftext|> a"), Document("two \x1e b")], tmp_path / "a.txt")
    content = (tmp_path / "a.txt").read_text()
    assert "<|endoftext|>" not in content
    assert [d.text for d in iter_documents(tmp_path / "a.txt")] == ["one \n a", "two \n b"]


def test_an_earlier_corpus_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "data.txt"
    path.write_text("precious")
    write_corpus([Document("new")], path)
    assert (tmp_path / "data.1.txt").read_text() == "precious"
    assert path.read_text() == "new\n"
    assert "kept as" in caplog.text
    write_corpus([Document("newer")], path, overwrite=True)
    assert sorted(p.name for p in tmp_path.glob("*.txt")) == ["data.1.txt", "data.txt"]


def test_a_failing_source_leaves_the_earlier_corpus(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("precious")

    def documents():
        yield Document("one")
        raise DataError("the disk was pulled out")

    with pytest.raises(DataError):
        write_corpus(documents(), path, overwrite=True)
    assert path.read_text() == "precious"


def test_large_files_stream_in_pieces_that_join_exactly(tmp_path: Path, prose: str) -> None:
    path = tmp_path / "big.txt"
    text = prose * 200
    assert len(text) > 4 << 20
    path.write_text(text + "\n<|endoftext|>\nsmall")
    pieces = list(iter_pieces(path))
    assert len(pieces) > 3
    assert [ends for _, ends in pieces] == [False] * (len(pieces) - 2) + [True, True]
    assert "".join(t for t, _ in pieces[:-1]).rstrip("\n") == text.rstrip("\n")
    assert pieces[-1] == ("small", True)


def test_binary_and_empty_corpora_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.txt").write_bytes(b"\0\1\2" * 100)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(DataError, match="binary file, not text"):
        list(iter_pieces(tmp_path / "binary.txt"))
    with pytest.raises(DataError, match="holds no text"):
        list(iter_pieces(tmp_path / "empty.txt"))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "koi8-r"])
def test_a_corpus_in_another_encoding_is_read_as_it_is_meant(
    tmp_path: Path, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = "Съешь же ещё этих мягких французских булок.\n" if encoding == "koi8-r" else "Déjà vu, c'est très bien là.\n"
    (tmp_path / "old.txt").write_bytes((40 * text).encode(encoding))
    assert list(iter_pieces(tmp_path / "old.txt")) == [(40 * text, True)]
    assert "old.txt is not UTF-8 text" in caplog.text


def test_filter_redaction_and_near_duplicates_in_one_load(tmp_path: Path) -> None:
    story = " ".join(f"On day {n} the keeper of the lighthouse wrote that ship {n * 7} had passed." for n in range(60))
    (tmp_path / "a.txt").write_text(story)
    (tmp_path / "b.txt").write_text(story.replace("day 30 ", "day thirty ") + " Write to keeper@lighthouse.org.")
    (tmp_path / "c.txt").write_text("Home\nNews\nContact\n" * 40)
    (tmp_path / "d.txt").write_text(" ".join(f"Am Tag {n} schrieb der Wärter, dass ein Schiff kam." for n in range(50)))
    loader = DataLoader(
        document_filter=DocumentFilter("books", languages=["en"], without=["duplicate_10_gram_share"]),
        redact_kinds=["email"],
        near_duplicates=NearDuplicateSettings(0.8),
    )
    (kept,) = loader.load_directory(tmp_path)
    assert kept.source == str(tmp_path / "b.txt")  # the longer one
    assert kept.text.endswith("Write to <EMAIL>.")
    report = loader.report.to_dict()
    assert report["duplicates"] == [{"source": str(tmp_path / "a.txt"), "of": str(tmp_path / "b.txt")}]
    assert {Path(item["source"]).name: item["reason"] for item in report["filtered"]} == {
        "c.txt": "duplicate_line_character_share above 0.5",
        "d.txt": "language is not en",
    }
    assert (report["files"], report["documents"], report["characters"]) == (4, 1, len(kept.text))
    assert report["redacted"] == {"email": 1}
    assert report["languages"] == {"en": 2, "unknown": 1, "de": 1}
    assert "keeper@" not in json.dumps(report)


def test_near_duplicates_keep_the_rest_of_a_document(tmp_path: Path) -> None:
    write_pdf(tmp_path / "report.pdf")
    (tmp_path / "other.txt").write_text("Something else entirely, in a few words.")
    plain = DataLoader().load_directory(tmp_path)
    assert DataLoader(near_duplicates=NearDuplicateSettings()).load_directory(tmp_path) == plain


def test_a_folder_is_no_corpus_to_deduplicate(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, not a corpus: `llmbuilder data load`"):
        list(iter_documents(tmp_path))
