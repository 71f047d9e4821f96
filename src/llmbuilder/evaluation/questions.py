"""Questions about documents, made by a rule: a sentence up to a name or a number, and five that could stand there.

The right one is what the document says. The other four are of the same kind, drawn from the same documents, and as many
tokens long, so that sums of log-probabilities can be compared as they are. Words to ask for and words to draw are the
same ones, each asked for once: how frequent a word is says nothing of whether it is right.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llmbuilder.evaluation.mentions import NUMBER, Mention, Mentions, find_mentions
from llmbuilder.tokenizer import Tokenizer

OTHERS = 4
CHANCE = 1 / (1 + OTHERS)
_MOST_WORDS = 5_000  # considered in each group
_MOST_TOKENS = 12
_TRIED_PLACES, _TRIED_OTHERS = 4, 40
_YEAR = re.compile(r"1[5-9]\d\d|20\d\d")  # more frequent than other numbers, which nobody would take for one


@dataclass(frozen=True)
class Question:
    """A text and what goes on from it: the `answer` that its document has, and `others` of the same kind.

    They begin with the blank that stands between, if there is one.
    """

    kind: str
    prompt: str
    answer: str
    others: tuple[str, ...]

    @property
    def options(self) -> tuple[str, ...]:
        """The answer, and behind it the others."""
        return (self.answer, *self.others)


@dataclass(frozen=True)
class QuestionGroups:
    """Questions about documents that are held out, and about those that are trained on."""

    held_out: list[Question]
    trained: list[Question]


def make_questions(
    trained: Sequence[str],
    held_out: Sequence[str],
    tokenizer: Tokenizer,
    *,
    most: int,
    seed: int = 0,
    characters: int = 200,
) -> QuestionGroups:
    """Make at most `most` questions of each group of texts, the same ones for the same texts, tokenizer and seed.

    Prompts have at most so many `characters`. What is asked for in held-out texts stands somewhere in the others, too:
    what no document knows that may be learned from or looked up in, nobody can answer. Texts with too few names and
    numbers of one kind give no questions.
    """
    known, asked = find_mentions(trained, characters), find_mentions(held_out, characters)
    counts = known.counts + asked.counts
    groups = []
    for texts, mentions, is_answerable in ((held_out, asked, known.counts.__contains__), (trained, known, _always)):
        maker = _Maker(texts, mentions, counts, is_answerable, tokenizer, random.Random(seed))
        groups.append(list(maker.questions(most)))
    return QuestionGroups(*groups)


def _always(word: str) -> bool:
    return True


class _Maker:
    """Makes the questions of one group."""

    def __init__(
        self,
        texts: Sequence[str],
        mentions: Mentions,
        counts: Counter[str],
        is_answerable: Callable[[str], bool],
        tokenizer: Tokenizer,
        lots: random.Random,
    ) -> None:
        self._texts, self._mentions, self._tokenizer, self._lots = texts, mentions, tokenizer, lots
        words = [word for word in mentions.known_names(counts) if is_answerable(word)]
        lots.shuffle(words)
        self._words = words[:_MOST_WORDS]
        self._alike: dict[tuple[str, int], list[str]] = {}  # words of a kind and a length
        for word in self._words:
            self._alike.setdefault(self._stratum(word), []).append(word)

    def _stratum(self, word: str) -> tuple[str, int]:
        kind = self._mentions.kinds[word]
        form = kind
        if kind == NUMBER:
            form = "year" if _YEAR.fullmatch(word) else re.sub(r"\d", "0", word)
        return form, len(self._tokenizer.encode(self._tokenizer.keep_known(f" {word}")))

    def questions(self, most: int) -> Iterator[Question]:
        made = 0
        for word in self._words:
            if made >= most:
                return
            others = self._alike[self._stratum(word)]
            if len(others) <= OTHERS or self._stratum(word)[1] > _MOST_TOKENS:
                continue
            places = self._mentions.places[word]
            for place in self._lots.sample(places, min(_TRIED_PLACES, len(places))):
                question = self._ask(word, place, others)
                if question is not None:
                    made += 1
                    yield question
                    break

    def _ask(self, word: str, place: Mention, alike: Sequence[str]) -> Question | None:
        """Return the question for a word at a place; None if there are not enough others that could stand there."""
        before = self._texts[place.text][place.prompt_begin : place.begin]
        prompt = before.rstrip()
        lead = before[len(prompt) :]
        context = self._tokenizer.encode(prompt)
        length = self._added_tokens(context, prompt + lead + word)
        if length is None:
            return None
        chosen: list[str] = []
        for other in self._lots.sample(alike, min(_TRIED_OTHERS, len(alike))):
            if any(_may_be_taken_for(other, taken) for taken in (word, *chosen)) or other.lower() in prompt.lower():
                continue
            if self._added_tokens(context, prompt + lead + other) == length:
                chosen.append(other)
            if len(chosen) == OTHERS:
                kind = self._mentions.kinds[word]
                return Question(kind, prompt, lead + word, tuple(lead + one for one in chosen))
        return None

    def _added_tokens(self, context: list[int], text: str) -> int | None:
        """Return how many tokens a text has behind its context; None where that does not end with a token."""
        tokens = self._tokenizer.encode(text)
        return len(tokens) - len(context) if tokens[: len(context)] == context else None


def _may_be_taken_for(one: str, other: str) -> bool:
    """Whether a word is another one or its beginning, which is then likely wherever the longer one is."""
    one, other = one.lower(), other.lower()
    return one.startswith(other) or other.startswith(one)
