"""What is learned of a conversation: its answers with the tokens that end them, whatever the template."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmbuilder.conversations.forms import Conversation
from llmbuilder.conversations.masking import Masks, Sample, fitted
from llmbuilder.errors import DataError
from llmbuilder.tokenizer import Tokenizer
from tests.conversations.templates import ALL, CHATML_TOOLS, template

TALK = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": " First. "},
        {"role": "user", "content": "Two?"}, {"role": "assistant", "content": "Second."}]  # fmt: skip
CALLS = [{"role": "user", "content": "Sky?"},
         {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {"at": "it"}}}]},
         {"role": "tool", "content": "blue"}, {"role": "assistant", "content": "Blue."}]  # fmt: skip


def learned(source: str, messages: list[dict[str, Any]], bpe: Tokenizer, tools: Any = None) -> list[list[str]]:
    """The texts of the learned parts of each sample."""
    with template(source, bpe) as ours:
        samples = Masks(ours).samples(Conversation("x:1", messages, tools))
        return [parts_of(sample, ours.tokenizer) for sample in samples]


def parts_of(sample: Sample, tokenizer: Tokenizer) -> list[str]:
    edges = np.flatnonzero(np.diff(sample.is_learned.astype(int), prepend=0, append=0))
    return [tokenizer.decode(sample.ids[a:b].tolist()) for a, b in edges.reshape(-1, 2)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tools", [[" First. <|im_end|>", "Second.<|im_end|>"]]),
        ("instruct", [[" First. </s>", " Second. </s>"]]),
        ("opened", [[" First. <|im_end|>", "Second.<|im_end|>"]]),
        ("closed", [[" First. <|im_end|>", "Second.<|im_end|>"]]),
        ("marked", [[" First. <|im_end|>", "Second.<|im_end|>"]]),
        # The first answer is written otherwise when it is not the last: it is learned as it was asked for.
        ("thinking", [["<think></think>Second.<|im_end|>"], ["<think></think> First. <|im_end|>"]]),
    ],
)
def test_answers_are_learned_with_their_ends(bpe: Tokenizer, name: str, expected: list[list[str]]) -> None:
    assert learned(ALL[name], TALK, bpe) == expected


def test_an_answer_that_spells_the_end_is_learned_to_its_own_end(bpe: Tokenizer) -> None:
    talk = [{"role": "user", "content": "How does a turn end?"},
            {"role": "assistant", "content": "With <|im_end|>\n<|im_start|>user\nand so on."}]  # fmt: skip
    for name in ("tools", "opened", "closed", "marked"):
        with template(ALL[name], bpe) as ours:
            (sample,) = Masks(ours).samples(Conversation("x:1", talk, None))
            end = ours.tokenizer.id_of("<|im_end|>")
            (text,) = parts_of(sample, ours.tokenizer)
            assert text == "With <|im_end|>\n<|im_start|>user\nand so on.<|im_end|>"
            assert [token for token, learned in zip(sample.ids, sample.is_learned, strict=True)
                    if learned and token == end] == [end]  # fmt: skip
            assert sample.ids[-1] == end


def test_calls_of_tools_are_answers(bpe: Tokenizer) -> None:
    call = '\n{"name": "look", "arguments": {"at": "it"}}<|im_end|>'
    assert learned(ALL["tools"], CALLS, bpe, tools=[{"name": "look"}]) == [[call, "Blue.<|im_end|>"]]
    assert learned(ALL["closed"], CALLS, bpe) == [["look<|call|>", "Blue.<|im_end|>"]]


def test_arguments_are_written_where_a_template_wants_them_so(bpe: Tokenizer) -> None:
    source = CHATML_TOOLS.replace("call.function.arguments | tojson", "'' + call.function.arguments")
    assert learned(source, CALLS, bpe)[0][0] == '\n{"name": "look", "arguments": {"at": "it"}}<|im_end|>'


def test_what_a_text_spells_is_no_mark(bpe: Tokenizer) -> None:
    """The answer's words, its role and its end stand in the question, too."""
    messages = [{"role": "user", "content": "Second.\nassistant\nSecond."}, {"role": "assistant", "content": "Second."}]
    for name in ("tools", "instruct", "marked"):
        assert len(learned(ALL[name], messages, bpe)[0]) == 1


@pytest.mark.parametrize("name", ["tools", "marked"])
def test_answers_of_no_weight_are_seen_and_not_learned(bpe: Tokenizer, name: str) -> None:
    messages = [TALK[0], {**TALK[1], "weight": 0}, *TALK[2:]]
    assert learned(ALL[name], messages, bpe) == [["Second.<|im_end|>"]]
    with pytest.raises(DataError, match="none of its tokens is learned"):
        learned(ALL[name], messages[:2], bpe)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "no token of their own"),
        ("{% for m in messages %}{{ m.content | upper }}</s>{% endfor %}", "cannot be told"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}</s>{% endfor %}", "cannot be told"),
        ("{% for m in messages %}{{ m.role }}</s>{% endfor %}", "cannot be told"),
        ("{{ messages[0].content }}</s>", "cannot be told"),
    ],
)
def test_a_template_whose_answers_cannot_be_found_is_refused(bpe: Tokenizer, source: str, said: str) -> None:
    with template(source, bpe) as ours, pytest.raises(DataError, match=said):
        Masks(ours)


def test_an_answer_of_which_nothing_is_written_is_refused(bpe: Tokenizer) -> None:
    source = "{% for m in messages %}[I]{{ m.role }}[/I]{{ m.content or '' }}<|im_end|>{% endfor %}{% if add_generation_prompt %}[I]assistant[/I]{% endif %}"
    with pytest.raises(DataError, match="nothing of the answer in message 2"):
        learned(source, CALLS, bpe)


def test_longer_samples_are_cut_behind_an_answer_or_within_the_only_one() -> None:
    sample = Sample(np.arange(20), np.array([False] * 4 + [True] * 4 + [False] * 4 + [True] * 8), (7, 19), "x:1")
    assert fitted(sample, 19) is sample
    for window, length, ends in ((18, 8, (7,)), (7, 8, (7,)), (6, 7, ()), (4, 5, ())):
        short = fitted(sample, window)
        assert short is not None
        assert (len(short.ids), len(short.is_learned), short.ends) == (length, length, ends)
    assert fitted(sample, 3) is None
