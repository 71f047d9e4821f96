"""How llama.cpp cuts words before byte-level BPE, by the names that GGUF files have for it.

Expressions are applied one after another: each match is a piece, and so is what lies between two. They are llama.cpp's
own, which differ in places from those of the models' authors; several names mean the same expressions, and some of them
also that a word that is a token is that token, whatever the merges say.
Source: llama.cpp's llama-vocab.cpp. Tests compare each with llama.cpp itself.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from random import Random
from typing import Any

import tokenizers
from tokenizers import Regex, pre_tokenizers

from llmbuilder.errors import TokenizerError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_SIGNS}|{_BLANKS}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_SIGNS}|{_BLANKS}"
_CAPITALS = r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+"
_WORDS = r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*"
_SLASHED = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"

EXPRESSIONS: dict[str, tuple[str, ...]] = {
    "gpt-2": (_GPT2,),
    "llama-bpe": (_LLAMA3,),
    "qwen2": (_QWEN2,),
    "smollm": (r"\p{N}", _GPT2),
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
    "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"),
    "tekken": (rf"{_CAPITALS}|{_WORDS}|\p{{N}}|{_SLASHED}",),
    "gpt-4o": (rf"{_CAPITALS}{_CONTRACTIONS}?|{_WORDS}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_SLASHED}",),
    "qwen35": (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
        rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_BLANKS}",
    ),
    "seed-coder": (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_BLANKS}",
    ),
    "deepseek-coder": ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}"),
    "bloom": (r" ?[^(\s|.,!?…。，、।۔،)]+",),
    "viking": (r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"),
    "minicpm5": (r"\p{N}{1,3}", _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}+")),
}


@dataclass(frozen=True)
class EnginePretokenizer:
    """How a name of llama.cpp's cuts words: `kind` names the expressions.

    `whole_words`: a word that is a token is taken whole; `begins`: texts begin with the begin-of-text token if the file
    does not say whether they do.
    """

    kind: str
    whole_words: bool = False
    begins: bool = False


def _all(kind: str, names: str, **flags: bool) -> dict[str, EnginePretokenizer]:
    return dict.fromkeys(names.split(), EnginePretokenizer(kind, **flags))


# The first name of a kind is the one that is written.
ENGINE_PRETOKENIZERS = {
    **_all("gpt-2", "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert mpt olmo "
                    "jais trillion granite-docling exaone4 jina-v1-en jina-v2-code roberta-bpe"),
    **_all("llama-bpe", "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
           whole_words=True, begins=True),
    **_all("llama-bpe", "dbrx smaug-bpe glm4 chatglm-bpe"),
    **_all("qwen2", "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2"),
    **_all("smollm", "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2"),
    **_all("default", "default"),
    **_all("falcon", "falcon"),
    **_all("tekken", "tekken", whole_words=True, begins=True),
    **_all("gpt-4o", "gpt-4o llama4 kanana2 talkie minimax-m2"),
    **_all("qwen35", "qwen35"),
    **_all("seed-coder", "seed-coder"),
    **_all("deepseek-coder", "deepseek-coder"),
    **_all("bloom", "bloom poro-chat gpt3-finnish"),
    **_all("viking", "viking"),
    **_all("minicpm5", "minicpm5", whole_words=True),
}  # fmt: skip


def engine_pretokenizer(name: str) -> tuple[Any, EnginePretokenizer]:
    """Return the pre-tokenizer that a GGUF file names, and what the name says besides.

    Raises TokenizerError for a name whose way to cut words is not known here.
    """
    if name not in ENGINE_PRETOKENIZERS:
        raise TokenizerError(
            f"tokenizer.ggml.pre {name!r} is not supported: only {', '.join(ENGINE_PRETOKENIZERS)} are"
        )
    found = ENGINE_PRETOKENIZERS[name]
    return cutting(found.kind), found


@functools.cache
def cutting(kind: str) -> Any:
    """Return the pre-tokenizer of one of `EXPRESSIONS`."""
    expressions, is_gpt2 = EXPRESSIONS[kind], EXPRESSIONS[kind][-1] == _GPT2
    # The library has GPT-2's expression built in, and so have others that read its files.
    steps: list[Any] = [
        pre_tokenizers.Split(Regex(expression), "isolated")
        for expression in (expressions[:-1] if is_gpt2 else expressions)
    ]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=is_gpt2))
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def kind_of(backend: tokenizers.Tokenizer, description: dict[str, Any]) -> str | None:
    """Return which of llama.cpp's ways to cut words a byte-level BPE has, told by what it does to texts made for that.

    None if it does something else to any of them: expressions can be spelled in many ways. Also for a model that marks
    where words begin or end, or that drops merges at random.
    """
    model, cut = description["model"], backend.pre_tokenizer
    marked = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix") or model.get("dropout")
    if cut is None or marked:
        return None
    if (named := _spelled().get(json.dumps(description["pre_tokenizer"]))) is not None:
        return named
    left = list(EXPRESSIONS)
    for number, text in enumerate(_probes()):
        found = cut.pre_tokenize_str(text)
        left = [kind for kind in left if _expected(kind, number) == found]
        if not left:
            return None
    return left[0]


@functools.cache
def _spelled() -> dict[str, str]:
    """Return which of llama.cpp's ways a description is, letter by letter."""
    found = {}
    for kind in EXPRESSIONS:
        plain = tokenizers.Tokenizer(tokenizers.models.BPE())
        plain.pre_tokenizer = cutting(kind)
        found[json.dumps(json.loads(plain.to_str())["pre_tokenizer"])] = kind
    return found


@functools.cache
def _expected(kind: str, number: int) -> list[tuple[str, tuple[int, int]]]:
    return cutting(kind).pre_tokenize_str(_probes()[number])


@functools.cache
def _probes() -> list[str]:
    """Return texts in which signs of every kind that expressions tell apart meet in every order."""
    random = Random(0)
    kinds = [
        "sdmtlrev", "STREVLDM", "abz", "ABZ", "'", "\u2019", "0123456789", "\u0663\u096a", "\u00b2\u00bd\u216b", " ",
        "  ",
        "\t", "\n", "\r", "\r\n", "\n\n", "\u00a0\u2003\u3000", "\u2028\u0085", ".,:;!?", "()[]{}", "$+<=>^~|`", "/\\",
        "-_*&%#@\"", "éüß", "ÉÜ", "ǅʰ", "жщ", "ЖЩ", "中文字", "ひらカタ", "한국", "कि", "עם", "عر", "ไท",
        "\u0301\u0303",
        "\u200d\ufe0f", "🙂👩", "€£", "∑√", "\u00ad", "\x00\x1f",
    ]  # fmt: skip
    common = [group for group in kinds if group.isascii()]
    texts = [one + other for one in kinds for other in kinds]
    texts += ["".join(random.choice(random.choice(common)) for _ in range(random.randint(1, 12))) for _ in range(1500)]
    texts += ["".join(random.choice(random.choice(kinds)) for _ in range(random.randint(1, 12))) for _ in range(1500)]
    texts += [
        "I'm we'LL You'Ve it'S they'd 'tis don't",
        "x = 1234567,890 12 123 1234 ",
        "a" * 70 + "1" * 70 + " " * 1100,
    ]
    return texts


def engine_name(kind: str | None, description: dict[str, Any]) -> str | None:
    """Return the name that a GGUF file has for a way to cut words, None if there is none.

    Whether words that are tokens are taken whole is part of a name; where the merges make each of them anyway, it is
    the same.
    """
    whole_words = bool(description["model"].get("ignore_merges"))
    names = {found.whole_words: name for name, found in reversed(ENGINE_PRETOKENIZERS.items()) if found.kind == kind}
    if not names or whole_words in names:
        return names.get(whole_words)
    return names[not whole_words] if _merges_make_every_word(description) else None


def _merges_make_every_word(description: dict[str, Any]) -> bool:
    model = description["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    plain: Any = tokenizers.models.BPE(vocab=model["vocab"], merges=merges)
    added = {token["content"] for token in description["added_tokens"]}
    return all(len(plain.tokenize(token)) == 1 for token in model["vocab"] if token not in added)
