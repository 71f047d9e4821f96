"""Three readers of the same questions: what is asked, what stands before it, and what is said of it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from llmbuilder.building.answers import (
    FEWEST_QUESTIONS,
    HELD_OUT,
    TRAINED,
    Asked,
    ask_adapted,
    ask_base,
    compare_readers,
)
from llmbuilder.building.before_after import warnings_of
from llmbuilder.building.result import Adaptation, Answers, BuildResult, Lead
from llmbuilder.building.summary import summary_markdown, write_summary
from llmbuilder.building.wording import describe_best, describe_result
from llmbuilder.data import TextDataset
from llmbuilder.evaluation.proportions import Proportion
from llmbuilder.evaluation.questions import Question
from llmbuilder.report.build import told_by_build
from llmbuilder.tokenizer import Tokenizer
from tests.building.test_result import a_result
from tests.evaluation.test_answering import a_model
from tests.evaluation.test_questions import harbour_texts
from tests.tokenizer.foreign import pieces_like_sentencepiece

QUESTION = Question("number", "It was built in", " 1712", (" 1713", " 1714", " 1715", " 1716"))


@pytest.fixture(scope="module")
def dataset(bpe: Tokenizer) -> TextDataset:
    """Documents that mention the names of others, too, so that some of what is held out stands elsewhere."""
    texts = harbour_texts(120)
    facts = [re.findall(r"town of (\w+) .* year (\d+) .* family of (\w+)", text)[0] for text in texts]
    letters = [f"Nobody at all remembers who wrote of {town} before {year}, or what was asked of {family} then."
               for town, year, family in facts]  # fmt: skip
    mixed = [f"{text} {letters[(7 * number + 40) % 120]}" for number, text in enumerate(texts)]
    return TextDataset(mixed, 64, None, 0.7, bpe).prepare()


def test_the_base_is_asked_about_both_groups(dataset: TextDataset, bpe: Tokenizer) -> None:
    asked = ask_base(a_model(bpe, 1024), bpe, dataset, 60.0, seed=1)
    assert asked.reason == "" and set(asked.questions) == {HELD_OUT, TRAINED}
    for name, questions in asked.questions.items():
        assert len(questions) == len(asked.base[name]) == len(asked.with_passages[name]) >= 10
    assert asked.seconds_alone > 0
    assert Asked.from_dict(json.loads(json.dumps(asdict(asked)))) == asked
    answers = ask_adapted(a_model(bpe, 1024), bpe, Asked.from_dict(asdict(asked)))
    assert [group.adapted for group in answers.groups] == [group.base for group in answers.groups], "the same model"
    assert answers.lead is not None and {"base", "adapted"} <= {answers.lead.best, *answers.lead.alike}


def test_questions_are_of_the_text_without_the_token_that_begins_it(topics: list[str]) -> None:
    tokenizer = pieces_like_sentencepiece(topics[:20], 700)
    begun = TextDataset(harbour_texts(120), 64, None, 0.7, tokenizer).prepare()
    asked = ask_base(a_model(tokenizer, 1024), tokenizer, begun, 60.0, seed=1)
    assert asked.count
    assert not any("<s>" in one.prompt for questions in asked.questions.values() for one in questions)


def test_passages_come_from_the_training_part(
    dataset: TextDataset, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []
    monkeypatch.setattr(
        "llmbuilder.building.answers.choose_options",
        lambda model, tokenizer, asked: [bool(prompts.append(prompt)) for prompt, _ in asked],
    )
    asked = ask_base(a_model(bpe, 1024), bpe, dataset, 60.0, seed=1)
    assert dataset.validation is not None
    held_out = bpe.decode(dataset.validation.tokens[:].tolist())
    trained = bpe.decode(dataset.train.tokens[:].tolist())
    found = [any(one.endswith(f"\n\n{question.prompt}") and question.prompt + question.answer in one for one in prompts)
             for question in asked.questions[TRAINED]]  # fmt: skip
    assert sum(found) > 0.7 * len(found), "mostly it is the sentence itself"
    for question in asked.questions[HELD_OUT]:
        with_passages = next(one for one in prompts if one.endswith(f"\n\n{question.prompt}"))
        assert with_passages.removesuffix(f"\n\n{question.prompt}") in trained
        assert question.prompt + question.answer in held_out


def test_less_time_asks_fewer_of_the_same_and_too_little_none(dataset: TextDataset, bpe: Tokenizer) -> None:
    model = a_model(bpe, 1024)
    asked = ask_base(model, bpe, dataset, 60.0, seed=1)
    none = ask_base(model, bpe, dataset, 0.0, seed=1)
    assert none.questions == {} and none.reason
    assert ask_adapted(model, bpe, none) == Answers(reason=none.reason)
    little = TextDataset(harbour_texts(2), 16, tokenizer=bpe).prepare()
    few = ask_base(model, bpe, little, 60.0, seed=1)
    assert f"{FEWEST_QUESTIONS} are the fewest" in few.reason and few.count == 0
    assert asked.count > FEWEST_QUESTIONS


def answers(base: int, adapted: int, with_passages: int, of: int = 100) -> Answers:
    def right(count: int) -> dict[str, list[bool]]:
        return {HELD_OUT: [number < count for number in range(of)]}

    return compare_readers(Asked({HELD_OUT: [QUESTION] * of}, right(base), right(with_passages)), right(adapted))


def best(found: Answers) -> str:
    assert found.lead is not None
    return describe_best(found, found.lead)


def test_who_serves_best_is_said_and_noise_is_called_noise() -> None:
    assert best(answers(30, 45, 80)) == "The base with passages found serves you best: generate text --documents."
    assert best(answers(30, 60, 40)) == "The adapted model serves you best."
    near = answers(30, 42, 40)
    assert near.lead == Lead("adapted", ["with_passages"])
    assert best(near) == (
        "The adapted model answers most, but the base with passages found is too near for so few questions to tell apart."
    )
    assert answers(30, 30, 30).lead == Lead("base", ["adapted", "with_passages"])
    assert near.groups[0].with_passages == Proportion.count([True] * 40 + [False] * 60)


def test_what_holds_of_one_group_alone_is_said_of_it() -> None:
    def readers(held_out: tuple[int, int, int]) -> Answers:
        right = [{name: [number < count for number in range(100)] for name, count in ((HELD_OUT, one), (TRAINED, other))}
                 for one, other in zip(held_out, (30, 35, 90), strict=True)]  # fmt: skip
        asked = Asked(dict.fromkeys((HELD_OUT, TRAINED), [QUESTION] * 100), right[0], right[2])
        return compare_readers(asked, right[1])

    serves = "The base with passages found serves you best: generate text --documents."
    assert best(readers((40, 41, 42))) == f"{serves} Of held-out documents alone so few questions do not tell."
    assert best(readers((40, 60, 45))) == f"{serves} Of held-out documents alone it is the adapted model."
    assert best(readers((40, 41, 80))) == serves
    assert best(readers((90, 91, 34))) == (
        "The adapted model answers most, but the base with passages found is too near for so few questions to tell apart. "
        "Of documents of the training part alone it is the base with passages found."
    )


def adapted(found: Answers) -> Adaptation:
    return Adaptation("base.gguf", "lora", 16, 5_000_000, 1.2, 1.1, "", None, None, answers=found, passes=0.05)


def test_fewer_right_answers_than_the_base_are_a_warning() -> None:
    assert warnings_of(adapted(answers(60, 40, 80)))[0].startswith("it answers fewer questions about your documents")
    for found in (answers(60, 58, 80), answers(40, 60, 50), Answers(reason="none")):
        assert warnings_of(adapted(found)) == []


def test_the_result_tells_of_it_everywhere(tmp_path: Path) -> None:
    result = a_result(adaptation=adapted(answers(30, 45, 80)))
    row = dict(describe_result(result))["what answers best"]
    assert row.startswith("The base with passages found serves you best: generate text --documents. Right are, of 100 ")
    assert "the base 30%, the adapted model 45%, the base with passages found 80%; guessing gets 20%." in row
    summary = summary_markdown(result)
    assert "| the base with passages found | 80% (71% to 87%) |" in summary
    assert "The adapted model has read 5% of the training part." in summary and "'1712', '1713'" in summary
    write_summary(tmp_path, result)
    written = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert written["adaptation"]["answers"]["groups"][0]["with_passages"]["right"] == 80
    assert BuildResult.from_dict(written).adaptation == result.adaptation
    page = told_by_build(written)
    assert "<h2>What answers best</h2>" in page and "<td>45% (36% to 55%)</td>" in page


def test_that_nothing_was_asked_is_said() -> None:
    result = a_result(adaptation=adapted(Answers(reason="the time allows 3 questions")))
    assert dict(describe_result(result))["what answers best"] == "Not asked: the time allows 3 questions."
    assert "What answers best" not in summary_markdown(result)
