"""Whether adapting helps to answer: a base, the adapted model, and the base with passages found, on the same questions.

The rules are in docs/explanation/adaptation.md.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from llmbuilder.building.result import ADAPTED, BASE, READERS, Answers, GroupAnswers, Lead
from llmbuilder.data import TextDataset
from llmbuilder.errors import DataError, GenerationError, TokenizerError
from llmbuilder.evaluation.answering import choose_options
from llmbuilder.evaluation.ngrams import Tokens, sample_tokens
from llmbuilder.evaluation.proportions import Proportion, chance_of_difference
from llmbuilder.evaluation.questions import CHANCE, Question, make_questions
from llmbuilder.model import LanguageModel
from llmbuilder.notices import counted
from llmbuilder.retrieval import Passage, PassageIndex, cut_passages, fit_passages, join_passages
from llmbuilder.tokenizer import Tokenizer

HELD_OUT, TRAINED = "held-out documents", "documents of the training part"
FEWEST_QUESTIONS, _FEWEST_OF_A_GROUP, _MOST_OF_A_GROUP = 20, 10, 200
_TOGETHER = 8  # questions, between two looks at the clock
_READING_SHARE, _CHARACTERS_A_SECOND = 0.25, 500_000  # of the time for finding questions and passages; of text read
_MOST_CHARACTERS = 8_000_000
_PROMPT, _PASSAGE, _PASSAGES = 200, 400, 1  # characters of a prompt, of a passage, and how many of these
_SEARCHED = 100  # characters at the end of a prompt, which are mostly of the sentence itself
_NOISE = 0.05  # a difference that equally good readers show more often is none


@dataclass
class Asked:
    """Questions with what the base made of them, alone and with passages; `reason` says why there are none.

    `seconds_alone` is what the base took without passages, and the adapted model will.
    """

    questions: dict[str, list[Question]] = field(default_factory=dict)
    base: dict[str, list[bool]] = field(default_factory=dict)
    with_passages: dict[str, list[bool]] = field(default_factory=dict)
    seconds_alone: float = 0.0
    reason: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Asked:
        """Return what `asdict` gave, also after it was JSON."""
        groups = {name: [Question(**{**one, "others": tuple(one["others"])}) for one in made]
                  for name, made in values["questions"].items()}  # fmt: skip
        return cls(**{**values, "questions": groups})

    @property
    def count(self) -> int:
        return sum(map(len, self.questions.values()))


def ask_base(model: LanguageModel, tokenizer: Tokenizer, dataset: TextDataset, seconds: float, seed: int) -> Asked:
    """Ask a base as many questions about the documents as `seconds` allow, the adapted model's turn included.

    They are the same ones in the same order for the same documents: less time gives fewer of them.
    """
    begin = time.perf_counter()
    separator = tokenizer.end_of_text_id
    most = int(min(_MOST_CHARACTERS, _READING_SHARE * seconds * _CHARACTERS_A_SECOND))
    size = dataset.info.bytes_of_text / max(1, dataset.info.tokens) or 4.0
    trained = _texts(dataset.train.tokens, int(most / size), separator, tokenizer)
    held_out = []
    if dataset.validation is not None:
        held_out = _texts(dataset.validation.tokens, int(most / size), separator, tokenizer)
    window = model.config.max_seq_length
    made = make_questions(
        trained, held_out, tokenizer, most=_MOST_OF_A_GROUP, seed=seed, characters=max(24, min(_PROMPT, window // 2))
    )
    groups = {HELD_OUT: made.held_out, TRAINED: made.trained}
    groups = {name: found for name, found in groups.items() if len(found) >= _FEWEST_OF_A_GROUP}
    if sum(map(len, groups.values())) < FEWEST_QUESTIONS:
        few = len(made.held_out) + len(made.trained)
        return Asked(reason=f"the documents hold names and numbers for {counted(few, 'question')}, and "
                            f"{FEWEST_QUESTIONS} are the fewest that say anything")  # fmt: skip
    try:
        index = PassageIndex(
            passage for text in trained for passage in cut_passages(text, size=max(40, min(_PASSAGE, window // 4)))
        )
    except DataError as error:
        return Asked(reason=str(error))
    asked = _ask_in_time(model, tokenizer, groups, index, seconds - (time.perf_counter() - begin))
    if asked.count < FEWEST_QUESTIONS:
        return Asked(reason=f"the time allows {counted(asked.count, 'question')}, and {FEWEST_QUESTIONS} are the "
                            "fewest that say anything")  # fmt: skip
    return asked


def _texts(tokens: Tokens, most: int, separator: int | None, tokenizer: Tokenizer) -> list[str]:
    """Return the documents that tokens are of, or where they are many those of a part, taken from all over."""
    sample = sample_tokens(tokens, max(1, most))
    if separator is None:
        return [tokenizer.decode_document(sample.tolist())]
    ends = [*np.flatnonzero(sample == separator).tolist(), len(sample)]
    begins = [0, *(end + 1 for end in ends)]
    parts = (sample[begin:end].tolist() for begin, end in zip(begins, ends, strict=False))
    return [tokenizer.decode_document(part) for part in parts if part]


def _ask_in_time(
    model: LanguageModel, tokenizer: Tokenizer, groups: dict[str, list[Question]], index: PassageIndex, seconds: float
) -> Asked:
    begin, asked = time.perf_counter(), Asked()
    slowest = 0.0
    for name, part in _turns(groups):
        started = time.perf_counter()
        if started - begin + slowest + asked.seconds_alone > seconds:
            break
        alone = choose_options(model, tokenizer, [(one.prompt, one.options) for one in part])
        taken = time.perf_counter() - started
        asked.seconds_alone += taken
        given = [(_with_passages(one, index, model, tokenizer), one.options) for one in part]
        found = choose_options(model, tokenizer, given)
        asked.questions.setdefault(name, []).extend(part)
        asked.base.setdefault(name, []).extend(alone)
        asked.with_passages.setdefault(name, []).extend(found)
        slowest = max(slowest, time.perf_counter() - started + taken)
    return asked


def _turns(groups: dict[str, list[Question]]) -> Iterator[tuple[str, list[Question]]]:
    """Yield some questions of each group in turn."""
    parts = ([(name, made[begin : begin + _TOGETHER]) for begin in range(0, len(made), _TOGETHER)]
             for name, made in groups.items())  # fmt: skip
    return (part for turn in itertools.zip_longest(*parts) for part in turn if part is not None)


def _with_passages(question: Question, index: PassageIndex, model: LanguageModel, tokenizer: Tokenizer) -> str:
    """Return the prompt of a question behind passages found for it; alone where none is found, or has room."""
    found: Sequence[Passage] = index.find(question.prompt[-_SEARCHED:], _PASSAGES)
    longest = max(question.options, key=len)
    window = model.config.max_seq_length

    def fits(text: str) -> bool:
        return len(tokenizer.beginning_ids) + len(tokenizer.encode(text + longest)) <= window

    try:
        return join_passages(fit_passages(found, question.prompt, fits), question.prompt)
    except (GenerationError, TokenizerError):  # of characters, and without one for a line break
        return question.prompt


def ask_adapted(model: LanguageModel, tokenizer: Tokenizer, asked: Asked) -> Answers:
    """Ask the adapted model what the base was asked, and say which of the three serves best."""
    if asked.reason:
        return Answers(reason=asked.reason)
    adapted = {
        name: choose_options(model, tokenizer, [(one.prompt, one.options) for one in made])
        for name, made in asked.questions.items()
    }
    return compare_readers(asked, adapted)


def compare_readers(asked: Asked, adapted: Mapping[str, Sequence[bool]]) -> Answers:
    """Return what each reader got right, and which is best; a lead that may be chance makes none better."""
    by_reader = dict(zip(READERS, (asked.base, adapted, asked.with_passages), strict=True))
    groups = []
    for name in asked.questions:
        right = {reader: found[name] for reader, found in by_reader.items()}
        shares = {reader: Proportion.count(found) for reader, found in right.items()}
        groups.append(GroupAnswers(name, **shares, lead=_find_lead(right)))
    whole = {reader: [one for name in asked.questions for one in right[name]] for reader, right in by_reader.items()}
    is_less = sum(whole[ADAPTED]) < sum(whole[BASE])
    harm = is_less and chance_of_difference(whole[BASE], whole[ADAPTED]) < _NOISE
    example = asdict(next(iter(asked.questions.values()))[0])
    return Answers(groups, CHANCE, _find_lead(whole), harm, {**example, "others": list(example["others"])})


def _find_lead(right: Mapping[str, Sequence[bool]]) -> Lead:
    best = max(READERS, key=lambda reader: sum(right[reader]))
    others = (reader for reader in READERS if reader != best)
    return Lead(best, [reader for reader in others if chance_of_difference(right[best], right[reader]) >= _NOISE])
