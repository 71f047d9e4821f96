"""A build's result in words for its owner: the same in the terminal, the summary and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmbuilder.building.adaptation_methods import ADAPTERS
from llmbuilder.building.durations import in_words
from llmbuilder.building.modelfile import ollama_name
from llmbuilder.building.plan import USEFUL_STEPS
from llmbuilder.building.result import (
    READERS,
    WITH_PASSAGES,
    Adaptation,
    Answers,
    BuildResult,
    Expectation,
    GroupAnswers,
    Lead,
)
from llmbuilder.notices import counted, quoted
from llmbuilder.tokens.overlap import describe_overlap
from llmbuilder.training import TrainingResults

_LESS_TIME = "there was less time for them than planned"
_MORE_TIME = "there was more time for them than planned"
_NAMED = 3  # documents in a sentence
_AS_PLANNED = 0.05  # of the speed: no more than measuring it varies by
_WORTH_NAMING = 0.05  # bits per byte
_SHOWN = 120  # characters of a copied piece
_READERS = dict(zip(READERS, ("the base", "the adapted model", "the base with passages found"), strict=True))
_LITTLE, _MUCH = 0.01, 0.1  # of the held-out text in the training text


@dataclass(frozen=True)
class Use:
    """A way to use the model: what with, and the lines to paste into a terminal."""

    program: str
    commands: list[str]


def describe_result(result: BuildResult) -> list[tuple[str, str]]:
    """Return what an owner wants to know, the most important first: names and sentences."""
    rows = [
        *(_adaptation_rows(result.adaptation) if result.adaptation is not None else []),
        ("what it can do", result.ability),
        ("how well it predicts", _prediction(result) if result.adaptation is None else ""),
        ("planned and reached", describe_plan_kept(result.expected, result.training) if result.expected else ""),
        ("with more time", _more_time(result)),
        ("tested on", _held_out(result)),
        ("is the test fair", _overlap(result.training.validation_overlap)),
        ("copied", _copied(result.copied_share, result.longest_copied)),
        ("read", describe_documents(result)),
        ("size", _size(result)),
        ("time", f"{in_words(result.seconds)}, {in_words(result.training.training_time)} of them training."),
        ("in llama.cpp and Ollama", _checked(result)),
    ]
    return [(name, text) for name, text in rows if text]


def describe_plan_kept(expected: Expectation, training: TrainingResults) -> str:
    """Return how the steps that were trained compare with those planned, and why."""
    said = f"Planned {counted(expected.steps, 'step')}, trained {training.steps:,}"
    if training.interrupted:
        return f"{said}: it was stopped."
    planned, reached = expected.tokens_per_second, training.tokens_per_second
    if training.steps < USEFUL_STEPS and training.steps < expected.steps:
        return f"{said}: {_LESS_TIME}."  # so few steps tell no speed
    if reached <= 0 or abs(training.steps - expected.steps) <= _AS_PLANNED * expected.steps:
        return f"{said}."
    if training.steps < expected.steps:
        slower = planned > reached * (1 + _AS_PLANNED)
        why = f"the machine was {_times(planned / reached)} slower than measured" if slower else _LESS_TIME
    else:
        faster = reached > planned * (1 + _AS_PLANNED)
        why = f"the machine was {_times(reached / planned)} faster than measured" if faster else _MORE_TIME
    return f"{said}: {why}."


def _more_time(result: BuildResult) -> str:
    return describe_more_time(result.expected, result.seconds, result.bits_per_byte) if result.expected else ""


def describe_more_time(expected: Expectation, seconds: float, reached: float | None = None) -> str:
    """Return what builds longer than one of `seconds` would gain over what was reached, "" where nothing is known."""
    foreseen = expected.bits_per_byte
    if foreseen is None:
        return ""
    now = foreseen if reached is None else max(reached, foreseen)
    gains = [(longer, now - bits) for longer, bits in expected.longer if longer > seconds]
    gains = [(longer, gain) for longer, gain in gains if gain >= _WORTH_NAMING]
    if not gains:
        return "More time would hardly help: more documents would." if expected.longer else ""
    said = [f"{in_words(longer)} instead of {in_words(seconds)}: about {gain:.2g} bits per byte less"
            for longer, gain in gains]  # fmt: skip
    return f"{'; '.join(said)}."


def describe_documents(result: BuildResult) -> str:
    """Return what was read and left out in one sentence."""
    read = result.documents
    text = f"{counted(read['documents'], 'document')}, {counted(read['characters'], 'character')}"
    left = [(len(read["duplicates"]), "duplicate"), (len(read.get("filtered", [])), "filtered document"),
            (len(read["skipped"]), "unread file")]  # fmt: skip
    out = [counted(number, name) for number, name in left if number]
    return f"{text}; left out: {', '.join(out)}." if out else f"{text}."


def list_uses(result: BuildResult) -> list[Use]:
    """Return the ways to use the model, with commands that can be pasted as they are."""
    prompt = quoted(_prompt(result))
    uses = [Use("LLMBuilder", [f"llmbuilder generate text --model {quoted(result.model_path)} --prompt {prompt}"])]
    if result.modelfile is not None:
        name = ollama_name(result.output)
        uses.append(Use("Ollama", [f"ollama create {name} -f {quoted(result.modelfile)}",
                                   f"ollama run {name} {prompt}"]))  # fmt: skip
    if result.gguf_path is not None:
        uses.append(Use("llama.cpp", [f"llama-completion -m {quoted(result.gguf_path)} -no-cnv -n 100 -p {prompt}"]))
    return uses


def join_names(names: Sequence[str], most: int = _NAMED) -> str:
    """Return some names as a list in a sentence, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def _prompt(result: BuildResult) -> str:
    """Return a beginning in the language of the documents: that of the first sample, as far as it is one line."""
    found = result.samples[0].prompt.strip().split("\n")[0] if result.samples else ""
    return found if found and not found.startswith("-") else "The"


def _prediction(result: BuildResult) -> str:
    bits, expected = result.bits_per_byte, result.expected
    if bits is None:
        return "Not measured: nothing was held out to test it on."
    said = f"{bits:.2f} bits per byte of text it has not seen (lower is better; guessing takes 8)"
    if expected is None or expected.bits_low is None or expected.bits_high is None:
        return f"{said}."
    span = f"{expected.bits_low:.2f} to {expected.bits_high:.2f}"
    if bits < expected.bits_low:
        return f"{said}, better than expected ({span})."
    return f"{said}, {'worse than' if bits > expected.bits_high else 'as'} expected ({span})."


def _adaptation_rows(found: Adaptation) -> list[tuple[str, str]]:
    """Return whether adapting helped, what it cost in general ability, where it did harm, and how it was done."""
    before, after = found.general_before, found.general_after
    kept = ""
    if before is not None and after is not None:
        kept = (
            f"{after:.3f} bits per byte of a general text, {found.general_text}, where the base takes {before:.3f} "
            f"({_change(before, after)})."
        )
    what = "all weights" if found.rank is None else f"{ADAPTERS[found.method]} of rank {found.rank}"
    return [
        ("did it help", _helped(found)),
        ("take care", " ".join(f"{warning[:1].upper()}{warning[1:]}." for warning in found.warnings)),
        ("what answers best", _answers(found.answers) if found.answers is not None else ""),
        ("what it knew before", kept),
        (
            "how it was adapted",
            f"{what}, {found.learned / 1e6:,.1f} million parameters, from {found.base}.{_read(found.passes)}",
        ),
    ]


def _helped(found: Adaptation) -> str:
    before, after = found.held_out_before, found.held_out_after
    if before is None or after is None:
        return "Not measured: nothing was held out to test it on."
    verdict = "better than" if after < before else "no better than"
    return (
        f"It predicts your documents {verdict} the base: {after:.3f} bits per byte of text it has not seen, where the "
        f"base takes {before:.3f} ({_change(before, after)})."
    )


def _answers(found: Answers) -> str:
    if found.lead is None:
        return f"Not asked: {found.reason}."
    said = [
        f"of {counted(group.base.of, 'question')} about {group.group}, "
        + ", ".join(f"{name} {share.share:.0%}" for name, share in zip(_READERS.values(), group.shares, strict=True))
        for group in found.groups
    ]
    return f"{describe_best(found, found.lead)} Right are, {'; '.join(said)}; guessing gets {found.chance:.0%}."


def describe_best(found: Answers, lead: Lead) -> str:
    """Return in a sentence or two which of the three serves best, or that so few questions do not tell."""
    best = _capitalised(_READERS[lead.best])
    if lead.alike:
        others = " and ".join(_READERS[reader] for reader in lead.alike)
        verb = "is" if len(lead.alike) == 1 else "are"
        said = f"{best} answers most, but {others} {verb} too near for so few questions to tell apart."
    else:
        how = ": generate text --documents" if lead.best == WITH_PASSAGES else ""
        said = f"{best} serves you best{how}."
    return said + "".join(_exception(group, lead) for group in found.groups)


def _exception(group: GroupAnswers, lead: Lead) -> str:
    """Return what holds of one group of documents and not of all, "" if that is nothing."""
    if group.lead.alike:
        return "" if lead.alike else f" Of {group.group} alone so few questions do not tell."
    differs = lead.alike or group.lead.best != lead.best
    return f" Of {group.group} alone it is {_READERS[group.lead.best]}." if differs else ""


def _capitalised(name: str) -> str:
    return f"{name[:1].upper()}{name[1:]}"


def answers_table(found: Answers) -> list[list[str]]:
    """Return a table of who got what right, titles first; nothing where nothing was asked."""
    if not found.groups:
        return []
    titles = ["", *(f"{group.base.of:,} about {group.group}" for group in found.groups)]
    rows = [
        [name, *(f"{share.share:.0%} ({share.low:.0%} to {share.high:.0%})"
                 for share in (group.shares[place] for group in found.groups))]
        for place, name in enumerate(_READERS.values())
    ]  # fmt: skip
    return [titles, *rows, ["guessing", *(f"{found.chance:.0%}" for _ in found.groups)]]


def describe_question(found: Answers, passes: float | None) -> str:
    """Return what kind of question was asked, with one of them; the training part was read `passes` times."""
    asked = found.example
    options = ", ".join(repr(str(option).strip()) for option in sorted([asked["answer"], *asked["others"]]))
    return (
        "A question is a sentence of a document up to a name or a number, and five of a kind that could stand there; "
        "right is whoever finds likeliest what the document says. In brackets is where the true share lies with 95%. "
        "Passages are found in the training part, where the sentence itself stands if it belongs to it."
        f"{_read(passes)} For example: "
        f"{' '.join(asked['prompt'].split())!r} and then {options}; it is {str(asked['answer']).strip()!r}."
    )


def _read(passes: float | None) -> str:
    if passes is None:
        return ""
    much = f"the training part {passes:.1f} times" if passes >= 1 else f"{_percent(passes)} of the training part"
    return f" The adapted model has read {much}."


def _change(before: float, after: float) -> str:
    share = after / before - 1
    return "no change" if abs(share) < 0.0005 else f"{abs(share):.1%} {'less' if share < 0 else 'more'}"


def _held_out(result: BuildResult) -> str:
    if result.held_out:
        return f"{join_names(result.held_out)}: kept out of training."
    if result.bits_per_byte is None:
        return ""
    return "A part of the documents that was kept out of training; this kind of input has no list of their names."


def _overlap(share: float | None) -> str:
    if share is None:
        return ""
    said = describe_overlap(share)
    if share >= _MUCH:
        return f"No: {said}, so it is worse on new text than it looks."
    return f"Mostly: {said}." if share >= _LITTLE else f"Yes: {said}."


def _copied(share: float | None, longest: str) -> str:
    if share is None:
        return ""
    said = f"{_percent(share)} of what it wrote in the test is in its documents word for word"
    if share and longest:
        piece = " ".join(longest.split())
        shown = piece if len(piece) <= _SHOWN else f"{piece[:_SHOWN].rstrip()} ..."
        said += f"; the longest piece has {counted(len(longest.split()), 'word')}: {shown!r}"
    return f"{said[:1].upper()}{said[1:]}."


def _size(result: BuildResult) -> str:
    if result.parameters is None:
        return ""
    millions = result.parameters / 1e6
    return f"{millions:,.1f} million parameters." if millions >= 0.1 else f"{result.parameters:,} parameters."


def _checked(result: BuildResult) -> str:
    export, found = result.export, result.verification
    if export is None:
        return "Not exported: the tokenizer has no form in GGUF."
    size = f"{export.bytes / 1e6:.1f} MB as {export.quantization}"
    if found is None:
        return f"{size}; not checked: `pip install 'llmbuilder[verify]'` installs what opens it."
    same = found.equal_tokenizations == found.texts and found.equal_tokens == found.greedy_tokens
    return (
        f"{size}; llama.cpp opens it and {'writes the same text' if same else 'does not always write the same text'}."
    )


def _percent(share: float) -> str:
    if 0 < share < 0.01:
        return "less than 1%"
    return "nothing" if share == 0 else f"{share:.0%}"


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times"
