"""The readable end of a build: `summary.md`, and the same as `summary.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmbuilder.building.result import BuildResult
from llmbuilder.files import write_json, write_text
from llmbuilder.notices import command
from llmbuilder.training.display.progress import duration

_LISTED = 50


def write_summary(folder: Path, result: BuildResult) -> None:
    """Write summary.md and summary.json into the run directory."""
    write_text(folder / "summary.md", summary_markdown(result))
    write_json(folder / "summary.json", result.to_dict())


def summary_markdown(result: BuildResult) -> str:
    """Return what was read, skipped and removed, what was trained, how good it is, and how to use it."""
    read, training = result.documents, result.training
    best, overlap = training.best_validation_loss, training.validation_overlap
    lines = [
        f"# {Path(result.output).name}",
        "",
        f"Built in {duration(result.seconds)} by LLMBuilder {result.machine.get('llmbuilder', '')} "
        f"on {result.machine.get('device', 'cpu')}.",
        "",
        "## Use it",
        "",
        "```bash",
        command("generate", "text", "--model", result.model_path, "--prompt", "..."),
        *([f"llama-cli -m {result.gguf_path}"] if result.gguf_path else []),
        "```",
        "",
        "## Result",
        "",
        "| measure | value |",
        "| --- | --- |",
        f"| training loss | {training.final_loss:.4f} nats per token |",
        *([f"| best validation loss | {best:.4f} nats per token |"] if best is not None else []),
        *([f"| validation perplexity | {training.perplexity:,.2f} |"] if best is not None else []),
        *([f"| bits per byte | {result.bits_per_byte:.4f} |"] if result.bits_per_byte is not None else []),
        *([f"| held-out text that is in the training text | {overlap:.2%} |"] if overlap is not None else []),
        f"| steps | {training.steps:,} in {duration(training.training_time)} |",
        f"| speed | {training.tokens_per_second:,.0f} tokens per second |",
    ]
    if result.plan:
        lines += ["", f"Plan: {result.plan}."]
    lines += ["", "## Documents", "", f"{read['documents']:,} documents, {read['characters']:,} characters.", ""]
    lines += ["| format | documents |", "| --- | --- |"]
    lines += [f"| {name} | {count} |" for name, count in sorted(read["formats"].items())]
    lines += _listing("Skipped", read["skipped"], lambda item: f"{item['source']}: {item['reason']}")
    lines += _listing("Duplicates removed", read["duplicates"], lambda item: f"{item['source']} repeats {item['of']}")
    if read["cleaning"]:
        lines += ["", "### Cleaning", "", "| rule | changes |", "| --- | --- |"]
        lines += [f"| {rule} | {count:,} |" for rule, count in sorted(read["cleaning"].items()) if count]
    lines += ["", "## Samples"]
    for sample in result.samples:
        lines += ["", "```text", sample.replace("```", "'''"), "```"]
    lines += _export_lines(result)
    return "\n".join(lines) + "\n"


def _listing(title: str, items: list[dict[str, str]], describe: Any) -> list[str]:
    if not items:
        return []
    more = [f"- and {len(items) - _LISTED} more, in corpus.txt.manifest.json"] if len(items) > _LISTED else []
    return ["", f"### {title}", "", *(f"- {describe(item)}" for item in items[:_LISTED]), *more]


def _export_lines(result: BuildResult) -> list[str]:
    if result.export is None:
        return ["", "## Export", "", "The tokenizer has no form in GGUF; the model was not exported."]
    export = result.export
    lines = ["", "## Export", "", f"`{export.path}`: {export.quantization}, {export.bytes / 1e6:.1f} MB."]
    lines += [f"- {name} is {why}" for name, why in export.fallbacks.items()]
    lines += [f"- {note}" for note in export.notes]
    checked = result.verification
    lines.append(
        f"\nChecked in llama.cpp: {checked.summary()}." if checked else "\nNot checked: llama.cpp is not installed."
    )
    return lines
