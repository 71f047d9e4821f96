"""The readable end of a build: `summary.md`, and the same as `summary.json`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmbuilder.building.result import Answers, BuildResult, Sample
from llmbuilder.building.wording import answers_table, describe_best, describe_question, describe_result, list_uses
from llmbuilder.files import write_json, write_text
from llmbuilder.report.build import SUMMARY_NAME
from llmbuilder.training.display.progress import duration

_LISTED = 50


def write_summary(folder: Path, result: BuildResult) -> None:
    """Write summary.md and summary.json into the run directory; the words are in both, and the report shows them."""
    write_text(folder / "summary.md", summary_markdown(result))
    words: dict[str, Any] = {"facts": describe_result(result), "uses": [asdict(use) for use in list_uses(result)]}
    if (found := _answers(result)) is not None:
        words["answers"] = {
            "best": _best(found),
            "table": answers_table(found),
            "question": _question(result, found),
        }
    write_json(folder / SUMMARY_NAME, {**result.to_dict(), "words": words})


def summary_markdown(result: BuildResult) -> str:
    """Return what the model can do, what it writes, how to use it, and what was read, skipped and removed."""
    version, device = result.machine.get("llmbuilder", ""), result.machine.get("device", "cpu")
    lines = [
        f"# {Path(result.output).resolve().name}",
        "",
        f"Built in {duration(result.seconds)} by LLMBuilder {version} on {device}.",
        "",
        "| what | |",
        "| --- | --- |",
        *(f"| {name} | {_cell(text)} |" for name, text in describe_result(result)),
        "",
        *_answer_lines(result),
        "## What it writes",
        *(line for sample in result.samples for line in _sample(sample)),
        "",
        "## Use it",
    ]
    for use in list_uses(result):
        lines += ["", f"{use.program}:", "", "```bash", *use.commands, "```"]
    lines += _documents(result.documents, result.held_out)
    lines += _numbers(result)
    return "\n".join(lines) + "\n"


def _answers(result: BuildResult) -> Answers | None:
    """Return the answers to questions about the documents, None where none were asked."""
    found = result.adaptation.answers if result.adaptation is not None else None
    return found if found is not None and found.lead is not None else None


def _question(result: BuildResult, found: Answers) -> str:
    assert result.adaptation is not None
    return describe_question(found, result.adaptation.passes)


def _best(found: Answers) -> str:
    assert found.lead is not None
    return describe_best(found, found.lead)


def _answer_lines(result: BuildResult) -> list[str]:
    found = _answers(result)
    if found is None:
        return []
    titles, *rows = answers_table(found)
    table = [f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(titles), *rows)]
    return ["## What answers best", "", _best(found), "", *table, "", _question(result, found), ""]


def _sample(sample: Sample) -> list[str]:
    base = [] if sample.base is None else ["", "The base went on:", "", *_block(sample.base)]
    who = "It went on:" if sample.base is None else "The adapted model went on:"
    return ["", "Given:", "", *_block(sample.prompt), *base, "", who, "", *_block(sample.continuation)]


def _block(text: str) -> list[str]:
    """Return a block of text as it is, whatever marks are in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [f"{fence}text", text.strip("\n"), fence]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _documents(read: dict[str, Any], held_out: list[str]) -> list[str]:
    lines = ["", "## Documents", "", "| format | documents |", "| --- | --- |"]
    lines += [f"| {name} | {count:,} |" for name, count in sorted(read["formats"].items())]
    lines += _listing("Kept out of training", held_out, str)
    lines += _listing("Skipped", read["skipped"], lambda item: f"{item['source']}: {item['reason']}")
    lines += _listing("Filtered out", read.get("filtered", []), lambda item: f"{item['source']}: {item['reason']}")
    lines += _listing("Duplicates removed", read["duplicates"], lambda item: f"{item['source']} repeats {item['of']}")
    if any(read["cleaning"].values()):
        lines += ["", "### Cleaning", "", "| rule | changes |", "| --- | --- |"]
        lines += [f"| {rule} | {count:,} |" for rule, count in sorted(read["cleaning"].items()) if count]
    return lines


def _listing(title: str, items: list[Any], describe: Callable[[Any], str]) -> list[str]:
    if not items:
        return []
    more = len(items) - _LISTED
    kept = "summary.json" if title == "Kept out of training" else "corpus.txt.manifest.json"
    rest = [f"- and {more:,} more, in {kept}"] if more > 0 else []
    return ["", f"### {title}", "", *(f"- {describe(item)}" for item in items[:_LISTED]), *rest]


def _numbers(result: BuildResult) -> list[str]:
    training = result.training
    best, perplexity = training.best_validation_loss, training.perplexity
    rows = [
        ("training loss", f"{training.final_loss:.2f} nats per token"),
        ("best validation loss", f"{best:.2f} nats per token" if best is not None else None),
        (
            "validation perplexity",
            None if best is None or perplexity is None else f"{perplexity:,.1f}",
        ),
        ("steps", f"{training.steps:,} in {duration(training.training_time)}"),
        ("speed", f"{training.tokens_per_second:,.0f} tokens per second"),
    ]
    lines = ["", "## Numbers", "", "| measure | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in rows if value is not None]
    if result.plan:
        lines += ["", f"Plan: {result.plan}."]
    if result.export is not None:
        lines += ["", f"`{Path(result.export.path).name}`: {result.export.quantization}."]
        lines += [f"- {name} is {why}" for name, why in result.export.fallbacks.items()]
        lines += [f"- {note}" for note in result.export.notes]
    if result.verification is not None:
        lines += ["", f"Checked in llama.cpp: {result.verification.summary()}."]
    return lines
