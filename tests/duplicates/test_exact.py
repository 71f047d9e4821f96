"""Equal texts: the first stays, whether they come one by one or are all known."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbuilder.duplicates.exact import SeenTexts, find_repeated, normalized_digest
from llmbuilder.refining import pieces


def test_case_width_and_white_space_do_not_count() -> None:
    assert normalized_digest("Ａ  fine\tDAY\n") == normalized_digest("a fine day")
    assert normalized_digest("a fine day") != normalized_digest("a fine  d ay")


@given(st.text("aé\u0301ＡßΣ\u1100\u1161 \n\u3000ﬁ中", max_size=30), st.integers(1, 5))
def test_a_large_text_is_digested_in_pieces(text: str, piece: int) -> None:
    whole = normalized_digest(text)
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    assert whole == hashlib.blake2b(folded.encode(), digest_size=16).digest()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pieces, "_PIECE", piece)
        assert normalized_digest(text) == whole


@given(st.lists(st.text("aAb ", max_size=3), max_size=40))
def test_a_stream_and_a_whole_corpus_are_judged_alike(texts: list[str]) -> None:
    seen = SeenTexts()
    one_by_one = {}
    for number, text in enumerate(texts):
        original = seen.original_of(text, str(number))
        if original is not None:
            one_by_one[number] = int(original)
    digests = np.frombuffer(b"".join(map(normalized_digest, texts)), np.uint64).reshape(-1, 2)
    assert find_repeated(digests) == one_by_one
