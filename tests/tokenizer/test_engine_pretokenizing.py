"""Every way to cut words that GGUF files name, beside llama.cpp; and ways of others, recognised by what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from llmbuilder.errors import CheckpointError, TokenizerError
from llmbuilder.export import export_gguf
from llmbuilder.export.verification import ask_llamacpp
from llmbuilder.formats.gguf.file import GGUFFile
from llmbuilder.model import load_model
from llmbuilder.tokenizer import SpecialTokens, Tokenizer
from llmbuilder.tokenizer.engine_pretokenizing import ENGINE_PRETOKENIZERS, cutting, engine_pretokenizer
from tests.gguf_files import randomized, rewritten
from tests.tokenizer.foreign import ALPHABET, pieces_like_sentencepiece, random_texts

TEXTS = [
    "It's THEY'LL 12345678 1,234.5\n\n\n  x = [1,2]\r\n\tend  ", "HelloWorld iPhone NASA's ÉCOLE straßeX жЩщ ΑαΒ",
    "def f(x):\n    return x ** 2  # comment\n\n\tif x:\n\t\tpass", "中文字符和English混合，以及标点。한국어 문장입니다. ひらがなカタカナ",
    "हिन्दी में लिखा हुआ। ไทยภาษา עִבְרִית العَرَبِيَّة", "https://example.org/a/b?c=d&e=f#g <div class='x'>$5+5=10^~|`</div>",
    "1 12 123 1234 12345 123456 1234567", "a  b   c    d\t\te \n f\n\n g \r\n\r\n h", "<|im_start|>user\n<|endoftext|> spelled",
    " " * 40 + "far" + "\n" * 7 + "\t" * 5, "x/y//z\n/ ./ \n a.b.c... !!!??? — “q” ‘r’ «s»", "",
]  # fmt: skip


def learned(topics: list[str], name: str) -> Tokenizer:
    """Return a tokenizer that cuts words as the name says, learned from texts of many scripts."""
    cut, known = engine_pretokenizer(name)
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=known.whole_words))
    backend.pre_tokenizer = cut
    backend.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<|endoftext|>", "<|im_start|>"], initial_alphabet=ALPHABET, show_progress=False
    )
    backend.train_from_iterator([*topics[:30], *TEXTS * 20, *random_texts(300)], trainer)
    return Tokenizer(backend, SpecialTokens.ending_with("<|endoftext|>"))


def llamacpp_tokens(path: Path, texts: list[str]) -> list[list[int]]:
    request = {"model": str(path), "context": 64, "threads": 1, "greedy": [], "predict": [], "anchor": 0}
    return ask_llamacpp({**request, "tokenize": texts})[0]["tokens"]


@pytest.mark.parametrize("kind", sorted({known.kind for known in ENGINE_PRETOKENIZERS.values()}))
def test_words_are_cut_as_llamacpp_cuts_them(tmp_path: Path, topics: list[str], kind: str) -> None:
    tokenizer = learned(topics, kind)
    form = tokenizer.gguf_form
    assert form is not None
    assert form.pretokenizer == kind
    export_gguf(randomized("qwen3-untied", len(tokenizer), width=32), tmp_path / "m.gguf", "f16", tokenizer=tokenizer)
    texts = [*TEXTS, *topics[:10], *random_texts()]
    assert llamacpp_tokens(tmp_path / "m.gguf", texts) == tokenizer.encode_batch(texts)
    opened = load_model(tmp_path / "m.gguf", "cpu").tokenizer
    assert opened is not None
    assert opened.encode_batch(texts) == tokenizer.encode_batch(texts)
    assert opened.gguf_form == form


@pytest.mark.slow
def test_every_name_means_to_llamacpp_what_it_means_here(tmp_path: Path, topics: list[str]) -> None:
    for name, known in ENGINE_PRETOKENIZERS.items():
        tokenizer = learned(topics, name)
        export_gguf(
            randomized("gpt2", len(tokenizer), width=32),
            tmp_path / "m.gguf",
            "f16",
            tokenizer=tokenizer,
            overwrite=True,
        )
        path = rewritten(tmp_path / "m.gguf", tmp_path / "named.gguf", {"tokenizer.ggml.pre": name},
                         without=["tokenizer.ggml.add_bos_token"])  # fmt: skip
        opened = load_model(path, "cpu").tokenizer
        assert opened is not None
        assert opened.special.adds_begin == known.begins, name
        texts = [*TEXTS, *random_texts(200)]
        assert llamacpp_tokens(path, texts) == opened.encode_batch(texts), name


def foreign(cut: Any, *, whole_words: bool = False, normalizer: Any = None) -> Tokenizer:
    """Return a tokenizer with a pre-tokenizer that others wrote, and merges that make no word of more than two letters."""
    vocabulary = {token: number for number, token in enumerate([*ALPHABET, "he", "th", "the"])}
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=[("h", "e"), ("t", "h")], ignore_merges=whole_words)
    )
    backend.pre_tokenizer = cut
    backend.decoder = decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    return Tokenizer(backend, SpecialTokens())


def split(expression: str) -> Any:
    step = pre_tokenizers.Split(Regex(expression), "isolated", invert=False)
    return pre_tokenizers.Sequence(
        [step, pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)]
    )


def theirs(digits: str, signs: str = r"[\r\n]*") -> str:
    """The expression of Llama 3 and Qwen 2 as their authors wrote it."""
    return (
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+{signs}"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def digits_first(*, use_regex: bool = True) -> Any:
    parts = [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex),
    ]
    return pre_tokenizers.Sequence(parts)


FOREIGN = {
    "Llama 3": ("llama-bpe", foreign(split(theirs(r"\p{N}{1,3}")), whole_words=True)),
    "Llama 3 without whole words": ("dbrx", foreign(split(theirs(r"\p{N}{1,3}")))),
    "Qwen 2": ("qwen2", foreign(split(theirs(r"\p{N}")), normalizer=normalizers.NFC())),
    "Qwen 2 spelled otherwise": ("qwen2", foreign(split(theirs(r"\p{N}{1}")))),
    "SmolLM": ("smollm", foreign(digits_first())),
    "GPT-2 as an expression": (
        "gpt-2", foreign(split(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s")),
    ),
    "two digits": (None, foreign(split(theirs(r"\p{N}{1,2}")))),
    "signs without line breaks": ("seed-coder", foreign(split(theirs(r"\p{N}", "")))),
    "digits alone": (None, foreign(digits_first(use_regex=False))),
    "a space before texts": (None, foreign(pre_tokenizers.ByteLevel(add_prefix_space=True))),
    "another normalizer": (None, foreign(digits_first(), normalizer=normalizers.Lowercase())),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_ways_of_others_are_recognised_by_what_they_do(name: str) -> None:
    expected, tokenizer = FOREIGN[name]
    assert (tokenizer.gguf_form.pretokenizer if tokenizer.gguf_form else None) == expected


def test_whole_words_that_merges_make_anyway_need_no_name() -> None:
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert not foreign(cut, whole_words=True).has_gguf_form, "no merge makes 'the'"
    vocabulary = {token: number for number, token in enumerate([*ALPHABET, "he", "the"])}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[("h", "e"), ("t", "he")], ignore_merges=True))
    backend.pre_tokenizer = cut
    form = Tokenizer(backend).gguf_form
    assert form is not None
    assert form.pretokenizer == "gpt-2"


def test_the_fast_encoder_cuts_as_smollm_does(topics: list[str]) -> None:
    backend = tokenizers.Tokenizer.from_str(learned(topics, "smollm").to_json())
    backend.pre_tokenizer = digits_first()
    backend.encode_special_tokens = True
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(backend.to_str()))
    assert tokenizer._fast is not None
    assigned = [chr(code) for code in range(0x30000) if not 0xD800 <= code < 0xE000]
    texts = [*TEXTS, *random_texts(), *topics, "it'ſ 'ſt", " " * 2000 + "1" * 2000]
    texts += ["".join(f"a{c}1{c} {c} 2{c}\n" for c in assigned[at : at + 200]) for at in range(0, len(assigned), 200)]
    expected = [one.ids for one in backend.encode_batch_fast(texts, add_special_tokens=False)]
    assert tokenizer.encode_batch(texts) == expected


def test_names_that_are_not_known_are_refused() -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.ggml\.pre 'kimi-k2' is not supported: only gpt-2, phi-2"):
        engine_pretokenizer("kimi-k2")
    assert cutting("gpt-2").pre_tokenize_str("a b")[1][0] == "Ġb"


def test_a_tokenizer_that_normalizes_is_exported_with_a_note(tmp_path: Path) -> None:
    tokenizer = FOREIGN["Qwen 2"][1]
    result = export_gguf(randomized("qwen2", len(tokenizer)), tmp_path / "m.gguf", "f16", tokenizer=tokenizer)
    assert any("the form NFC of Unicode" in note for note in result.notes)
    assert GGUFFile(tmp_path / "m.gguf").fields["tokenizer.ggml.pre"] == "qwen2"


@pytest.mark.parametrize(("space_first", "is_gemma"), [(True, False), (False, False), (False, True)])
def test_pieces_with_scores_are_llamacpps(tmp_path: Path, topics: list[str], space_first: bool, is_gemma: bool) -> None:
    spaces = ["\u2581\u2581", "\u2581\u2581\u2581\u2581"] if is_gemma else []
    tokenizer = pieces_like_sentencepiece([*topics[:30], *TEXTS * 20], 900, space_first=space_first, more=spaces)
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    words = ["<tool>"]
    if is_gemma:  # whose tokenizer cuts at spaces that are gone already, and calls some pieces added words
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")
        words += [*spaces, "\n\n"]
    backend.add_tokens([tokenizers.AddedToken(word, normalized=False) for word in words])
    tokenizer = Tokenizer(backend, tokenizer.special)
    assert tokenizer.gguf_form is not None
    assert (tokenizer.gguf_form.model, tokenizer.gguf_form.adds_space) == ("llama", space_first)
    export_gguf(randomized("llama-grouped", len(tokenizer)), tmp_path / "m.gguf", "f16", tokenizer=tokenizer)
    texts = [
        *TEXTS,
        *topics[:10],
        *random_texts(),
        "a <tool>b",
        "<tool> <tool>  c",
        "aaaaaaaaaaa  aaaa",
        "<s> </s> <unk>",
    ]
    expected = llamacpp_tokens(tmp_path / "m.gguf", texts)
    assert expected == tokenizer.encode_batch(texts)
    opened = load_model(tmp_path / "m.gguf", "cpu").tokenizer
    assert opened is not None
    assert opened.encode_batch(texts) == expected
    assert opened.beginning_ids == [1]
    assert [opened.decode(ids) for ids in expected[:5]] == TEXTS[:5]
    assert is_gemma or opened.merges() == tokenizer.merges()  # what an added word takes first needs no merge


def test_scores_that_no_order_of_merges_equals_are_refused(tmp_path: Path, topics: list[str]) -> None:
    tokenizer = pieces_like_sentencepiece(topics[:20], 600)
    export_gguf(randomized("llama-grouped", len(tokenizer)), tmp_path / "m.gguf", "f16", tokenizer=tokenizer)
    scores = GGUFFile(tmp_path / "m.gguf").fields["tokenizer.ggml.scores"].copy()
    scores[:] = -1.0
    with pytest.raises(CheckpointError, match="have the same score, -1.0"):
        load_model(rewritten(tmp_path / "m.gguf", tmp_path / "same.gguf", {"tokenizer.ggml.scores": scores}))
