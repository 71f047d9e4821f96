"""Hashes of word n-grams: the sets they stand for, and MinHash signatures that estimate similarity."""

from __future__ import annotations

import random
import string
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbuilder.duplicates import shingles
from llmbuilder.duplicates.shingles import iter_minhash_bands, iter_shingle_hashes


def shingle_hashes(texts: list[str], ngram: int) -> list[np.ndarray]:
    return list(iter_shingle_hashes(texts, ngram))


def minhash_bands(texts: list[str], ngram: int, bands: int, rows: int) -> np.ndarray:
    return np.concatenate(list(iter_minhash_bands(texts, ngram, bands, rows)))


PUNCTUATION = str.maketrans("", "", string.punctuation)


def ngrams_of(text: str, ngram: int) -> set[tuple[str, ...]]:
    """The definition, written out."""
    words = text.lower().translate(PUNCTUATION).split(" ")
    words = [word for word in words if word]
    length = min(ngram, len(words))
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)} if words else set()


def words_from(tokens: list[str], place: int) -> tuple[tuple[str, ...], int]:
    """The word that begins at a token, and the place behind it: characters of one script together, others alone."""
    size = {"中": 2, "ข": 4}.get(tokens[place][0], 1) if len(tokens[place]) == 1 else 1
    end = place + 1
    while end < min(len(tokens), place + size) and tokens[end] in KIN.get(tokens[place], ""):
        end += 1
    return tuple(tokens[place:end]), end


KIN = {**dict.fromkeys("中文字", "中文字"), **dict.fromkeys("ขคง", "ขคง")}


def mixed_ngrams_of(text: str, ngram: int) -> set[tuple[tuple[str, ...], ...]]:
    """The definition where scripts without blanks take part, written out: from each character on, n words."""
    if KIN.keys() & set(text):  # otherwise the full stop is a word like any other
        text = text.replace("。", " ")
    spread = "".join(f" {character} " if character in KIN else character for character in text)
    tokens = spread.lower().translate(PUNCTUATION).split()
    found, short = set(), ()
    for begin in range(len(tokens)):
        words, place = [], begin
        while len(words) < ngram and place < len(tokens):
            word, place = words_from(["中" if t in "中文字" else "ข" if t in "ขคง" else t for t in tokens], place)
            words.append(tuple(tokens[place - len(word) : place]))
        if len(words) == ngram:
            found.add(tuple(words))
        elif begin == 0:
            short = tuple(words)
    return found or ({short} if short else set())


def require_hashes_for(sets: list[Any], texts: list[str], ngram: int) -> None:
    """Hashes stand for n-grams: as many of each text, as many that any two texts share."""
    hashes = [set(found.tolist()) for found in shingle_hashes(texts, ngram)]
    assert list(map(len, hashes)) == list(map(len, sets))
    for one, other in zip(sets, hashes, strict=True):
        for second, third in zip(sets, hashes, strict=True):
            assert len(one & second) == len(other & third)


@given(st.lists(st.text(alphabet="ab中文字ขคง。 .", max_size=60), max_size=6), st.integers(1, 5))
@settings(max_examples=1000, deadline=None)
def test_scripts_without_blanks_count_by_characters(texts: list[str], ngram: int) -> None:
    sets = [mixed_ngrams_of(text, ngram) for text in texts]
    require_hashes_for(sets, texts, ngram)


@given(
    st.lists(st.text(alphabet="ab中文ขค 。", min_size=1, max_size=30), min_size=1, max_size=8).map(" ".join),
    st.integers(1, 5),
    st.integers(3, 40),
)
@settings(max_examples=1000, deadline=None)
def test_a_large_text_gives_the_same_in_pieces(text: str, ngram: int, piece: int) -> None:
    texts = ["ab 中文", text, "b"]
    whole, bands = shingle_hashes(texts, ngram), minhash_bands(texts, ngram, 3, 2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shingles, "_PIECE", piece)
        for one, other in zip(shingle_hashes(texts, ngram), whole, strict=True):
            assert np.array_equal(one, other)
        assert np.array_equal(minhash_bands(texts, ngram, 3, 2), bands)


@given(st.lists(st.text(alphabet="abcé .,", max_size=60), max_size=8), st.integers(1, 6))
def test_hashes_stand_for_the_sets_of_ngrams(texts: list[str], ngram: int) -> None:
    sets = [ngrams_of(text, ngram) for text in texts]
    require_hashes_for(sets, texts, ngram)


def test_blanks_case_and_punctuation_do_not_count() -> None:
    plain, changed = shingle_hashes(["one two three four five six", "ONE,  two\n\nthree\tfour -- five: six!"], 5)
    assert len(plain) == 2
    assert np.array_equal(plain, changed)
    glued, apart = shingle_hashes(["ab c", "a bc"], 1)
    assert not set(glued.tolist()) & set(apart.tolist())


@pytest.mark.parametrize("length", [8, 9, 128, 129, 1_500_000])
def test_words_of_any_length(length: int) -> None:
    letters = random.Random(length)
    word = "".join(letters.choices(string.ascii_lowercase, k=length))
    other = word[:-1] + ("a" if word[-1] != "a" else "b")
    first, second, third = shingle_hashes([f"the {word} ends", f"so the {word} ends", f"the {other} ends"], 3)
    assert set(first.tolist()) < set(second.tolist())
    assert not set(first.tolist()) & set(third.tolist())


def test_what_else_is_hashed_changes_nothing() -> None:
    chance = random.Random(1)
    texts = [" ".join(f"w{chance.randrange(500)}" for _ in range(chance.randrange(400))) for _ in range(900)]
    texts[::90] = ["".join(chance.choices("山川草木花鳥風月", k=300)) + " and words" for _ in range(10)]
    together = shingle_hashes(texts, 5)
    bands = minhash_bands(texts, 5, 4, 3)
    for number in range(0, 900, 30):
        assert np.array_equal(together[number], shingle_hashes([texts[number]], 5)[0])
        assert np.array_equal(bands[number], minhash_bands([texts[number]], 5, 4, 3)[0])
    assert shingle_hashes([], 5) == []
    assert list(iter_minhash_bands([], 5, 4, 3)) == []
    assert np.array_equal(*minhash_bands(["", "?!"], 5, 4, 3))


@pytest.mark.parametrize("changed", [2, 10, 40])
def test_signatures_agree_as_often_as_texts_are_alike(changed: int) -> None:
    chance = random.Random(changed)
    words = [f"w{chance.randrange(10_000)}" for _ in range(300)]
    other = list(words)
    for place in chance.sample(range(300), changed):
        other[place] = "changed"
    texts = [" ".join(words), " ".join(other)]
    one, two = (ngrams_of(text, 5) for text in texts)
    first, second = minhash_bands(texts, 5, 2000, 1)
    agree = float((first == second).mean())
    assert agree == pytest.approx(len(one & two) / len(one | two), abs=0.04)  # four standard deviations
