"""Training and validation: every character in exactly one part, whatever the files and the pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmbuilder.documents.document import text_checksum
from llmbuilder.tokens.splitting import Split, choose_split, split_pieces

texts = st.lists(st.text("ab\n", min_size=1, max_size=30), min_size=1, max_size=12)


def chosen(split: Split, documents: list[str], part: str) -> list[str]:
    return [text for _, text, _ in split.select([(text, True) for text in documents], part)]


def split_of(documents: list[str], share: float, seed: int = 1) -> Split:
    return choose_split([len(text) for text in documents], [text_checksum(text) for text in documents], share, seed)


@given(texts, st.floats(0.05, 1))
def test_both_parts_together_are_the_whole(documents: list[str], share: float) -> None:
    split = split_of(documents, share)
    train, validation = (chosen(split, documents, part) for part in ("train", "validation"))
    if split.cut_at is None:
        assert sorted(train + validation) == sorted(documents)
    else:
        assert "".join(train + validation) == "".join(documents)


@given(texts, st.integers(1, 5), st.floats(0.05, 1))
def test_several_files_are_split_like_one(documents: list[str], size: int, share: float) -> None:
    split = split_of(documents, share)
    files = [documents[begin : begin + size] for begin in range(0, len(documents), size)]
    parts = split.divided([[len(text) for text in file] for file in files])
    for part in ("train", "validation"):
        apart = [text for own, file in zip(parts, files, strict=True) for text in chosen(own, file, part)]
        assert apart == chosen(split, documents, part)


def test_a_long_text_is_cut_at_a_line_whatever_its_pieces() -> None:
    text = "".join(f"line {number}\n" for number in range(2000))
    pieces = [(text[:7000], False), (text[7000:], True)]
    split = split_pieces(lambda: pieces, 0.9, 1)
    train, validation = ("".join(t for _, t, _ in split.select(pieces, part)) for part in ("train", "validation"))
    assert train + validation == text
    assert train.endswith("\n")
    assert 0.85 < len(train) / len(text) < 0.95


def test_in_a_large_corpus_later_documents_change_nothing_for_the_others() -> None:
    documents = [f"document number {number}" for number in range(3000)]
    before = set(chosen(split_of(documents, 0.9), documents, "validation"))
    more = ["another", *documents[::-1], "one more"]
    after = set(chosen(split_of(more, 0.9), more, "validation"))
    assert after - {"another", "one more"} == before
    assert 200 < len(before) < 400


def test_equal_documents_of_a_large_corpus_are_on_the_same_side() -> None:
    documents = [f"document number {number % 1500}" for number in range(3000)]
    split = split_of(documents, 0.8)
    assert not set(chosen(split, documents, "train")) & set(chosen(split, documents, "validation"))


def test_a_prepared_corpus_and_its_text_have_one_split() -> None:
    documents = [f"document number {number}" for number in range(2500)]
    assert split_pieces(lambda: ((text, True) for text in documents), 0.9, 7) == split_of(documents, 0.9, 7)
    assert not split_pieces(lambda: ((text, True) for text in documents), None, 7).has_validation
