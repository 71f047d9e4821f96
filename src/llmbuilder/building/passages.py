"""What a model writes, and what people wrote in its place, as numbers that can be compared.

The model continues passages of the held-out text. Each number is taken of its continuations and of the passages as they
really go on, so that a threshold means the same in every language and for every size of a corpus.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from llmbuilder.config.schema import GenerationConfig
from llmbuilder.data import TextDataset
from llmbuilder.inference import Generator
from llmbuilder.tokens.overlap import longest_shared_run, run_length, shared_runs

_MOST_WRITTEN, _MOST_REAL = 12, 48  # passages
_PROMPT, _LENGTH = 16, 80  # tokens
_MOST_KNOWN = 3_000_000  # characters of the training text, which is compared by words
_NO_TOKEN = -1  # between passages
_REPEATED = 4  # words of a group that is looked for again in the same passage
# Scripts that put no spaces between words: two neighbouring characters stand for a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORDS = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])[^\W\d_])+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")


@dataclass(frozen=True)
class Writing:
    """Passages in numbers, all shares from 0 to 1.

    `known_words` of the words, and `known_phrases` of three words in a row, are in the training text; `repetition` is
    the share of groups of four words that stood in the same passage before; `coherence` is how much more the halves of
    a passage have in common than halves of different ones, by rare words.
    """

    words: int
    known_words: float
    known_phrases: float
    repetition: float
    coherence: float


@dataclass(frozen=True)
class Comparison:
    """What a model wrote beside what people did; `copied` is the share of it that stands in the training text.

    `longest_copied` is the longest piece of it that does, "" if there is none of some length.
    """

    model: Writing
    people: Writing
    copied: float | None
    longest_copied: str = ""


def compare_writing(generator: Generator, dataset: TextDataset) -> Comparison:
    """Let a model continue passages of the held-out text (of the training text without one), and compare.

    What it writes depends on nothing but the model and the text: the settings of generation are the defaults.
    """
    held_out = dataset.validation.tokens if dataset.validation is not None else None
    tokens = held_out if held_out is not None and len(held_out) >= 2 * (_PROMPT + _LENGTH) else dataset.train.tokens
    length = min(_LENGTH, max(1, len(tokens) - _PROMPT))
    passages = [tokens[start : start + _PROMPT + length].tolist() for start in _spread(len(tokens), length)]
    prompts = [passage[:_PROMPT] for passage in passages[:: max(1, len(passages) // _MOST_WRITTEN)]][:_MOST_WRITTEN]
    written: list[list[int]] = [[] for _ in prompts]
    for row, token in generator.stream_tokens(prompts, GenerationConfig(max_new_tokens=length, seed=0)):
        written[row].append(token)
    decode = generator.tokenizer.decode
    known = _Known(_beginning(dataset, decode))
    own = [(decode(prompt), decode(new)) for prompt, new in zip(prompts, written, strict=True)]
    real = [(decode(passage[:_PROMPT]), decode(passage[_PROMPT:])) for passage in passages]
    run = run_length(dataset.info.tokens, dataset.info.bytes_of_text)
    shares = [shared_runs(dataset.train.tokens, np.asarray(new, np.int64), run) for new in written]
    weights = [len(new) for new, share in zip(written, shares, strict=True) if share is not None]
    found = [share for share in shares if share is not None]
    copied = float(np.average(found, weights=weights)) if found else None
    longest = decode(_longest_copied(dataset, written, run)).strip()
    return Comparison(known.measure(own), known.measure(real), copied, longest)


def _longest_copied(dataset: TextDataset, written: list[list[int]], run: int) -> list[int]:
    whole = [token for passage in written for token in (*passage, _NO_TOKEN)]
    begin, end = longest_shared_run(dataset.train.tokens, np.asarray(whole, np.int64), run)
    return whole[begin:end]


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case; where a script has no spaces, its pairs of characters."""
    found: list[str] = []
    for word in _WORDS.findall(text.lower()):
        if _IS_UNSPACED.match(word):
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        else:
            found.append(word)
    return found


def _spread(tokens: int, length: int) -> list[int]:
    """Return where passages begin, spread over a text and not overlapping."""
    most = max(1, min(_MOST_REAL, tokens // (_PROMPT + length)))
    return np.linspace(0, max(0, tokens - _PROMPT - length), most).astype(int).tolist()


def _beginning(dataset: TextDataset, decode: object) -> str:
    tokens = dataset.train.tokens
    size = dataset.info.bytes_of_text / max(1, dataset.info.tokens)
    return decode(tokens[: int(_MOST_KNOWN / max(1.0, size))].tolist())  # type: ignore[operator, no-any-return]


class _Known:
    """The words of the training text, and which of them follow each other."""

    def __init__(self, text: str) -> None:
        words = split_words(text)
        self._counts = Counter(words)
        self._total = max(1, len(words))
        self._phrases = set(_groups(words, 3))

    def measure(self, passages: Sequence[tuple[str, str]]) -> Writing:
        """Return the numbers of continuations; the beginnings count only for what the halves have in common."""
        texts = [split_words(text) for _, text in passages]
        total = sum(map(len, texts))
        phrases = [group for words in texts for group in _groups(words, 3)]
        groups = [_groups(words, _REPEATED) for words in texts]
        return Writing(
            total,
            _share(sum(word in self._counts for words in texts for word in words), total),
            _share(sum(phrase in self._phrases for phrase in phrases), len(phrases)),
            _share(sum(len(found) - len(set(found)) for found in groups), sum(map(len, groups))),
            self._coherence([split_words(prompt) + words for (prompt, _), words in zip(passages, texts, strict=True)]),
        )

    def _coherence(self, texts: Sequence[Sequence[str]]) -> float:
        halves = [(set(words[: len(words) // 2]), set(words[len(words) // 2 :])) for words in texts]
        if len(halves) < 2:
            return 0.0
        own = [self._likeness(first, second) for first, second in halves]
        # Every passage with the next one, which is of another place.
        other = [self._likeness(halves[i - 1][0], halves[i][1]) for i in range(len(halves))]
        return float(np.mean(own) - np.mean(other))

    def _likeness(self, first: set[str], second: set[str]) -> float:
        smaller = min((first, second), key=len)
        return _share(self._weight(first & second), self._weight(smaller))

    def _weight(self, words: Iterable[str]) -> float:
        """Return how much words say of a topic: those in everything say nothing, those in no text are none."""
        return sum(
            max(0.0, math.log(0.005 * self._total / self._counts[word])) for word in words if word in self._counts
        )


def _groups(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(size)), strict=False))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
