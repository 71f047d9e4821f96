"""Calls of programs that prepare data: mostly done by the migration, else `llmbuilder data load`."""

from __future__ import annotations

from llmbuilder.migration.commands.command_line import Draft
from llmbuilder.migration.commands.starting import refuse_processes

_CORPUS_SUFFIXES = (".txt", ".jsonl", ".parquet")


def translate_preparation(draft: Draft) -> list[str]:
    """Return the words of the new command: a comment where nothing need be run, none where nothing is known."""
    refuse_processes(draft, "preparing data")
    prepared = draft.places.prepared(draft.call.script)
    if prepared is None:
        return _loaded(draft)
    if prepared.has_tokens:
        draft.note(f"the token files of {prepared.name} were carried over to {prepared.data}: nothing need be run")
        return ["#", f"{prepared.data} has its token files already"]
    if prepared.raw_text is None:
        where = prepared.data or f"data/{prepared.name}"
        draft.note(f"the text of {prepared.name} is not in the project, prepared from elsewhere: put it at {where}")
        return ["#", f"put the text of {prepared.name} at {where}"]
    if prepared.data is None or prepared.data == prepared.raw_text or not prepared.data.endswith(_CORPUS_SUFFIXES):
        draft.note(f"{prepared.raw_text} is read and tokenized when training starts: nothing need be run")
        return ["#", f"{prepared.raw_text} is read as it is when training starts"]
    draft.words = ["llmbuilder", "data", "load"]
    draft.option("--input", prepared.raw_text)
    draft.option("--output", prepared.data)
    draft.say("--no-clean", "--keep-duplicates")
    return draft.words


def _loaded(draft: Draft) -> list[str]:
    """Return `data load` for a program that says what it reads and where it writes."""
    source = draft.arguments.find("input", "input_dir", "raw", "input_file", "source")
    target = draft.arguments.find("output", "output_file", "out", "output_path")
    defaults = draft.facts.defaults
    read = source.value if source is not None else defaults.get("input")
    written = target.value if target is not None else defaults.get("output")
    if not isinstance(read, str):
        draft.note(f"what {draft.call.script} prepares is not known: nothing stands for it")
        return []
    output = draft.places.data(written) if isinstance(written, str) else None
    output = output or _below_data(written if isinstance(written, str) else "data.txt")
    if not output.endswith(_CORPUS_SUFFIXES):
        draft.note(f"`llmbuilder data load` writes .txt, .jsonl or .parquet, not {output}")
        return []
    for given in (source, target):
        if given is not None:
            given.is_taken = True
    draft.words = ["llmbuilder", "data", "load"]
    found = draft.places.data(read)
    if found is None:
        draft.note(f"no documents were carried over from {read}: put them there")
    draft.option("--input", found or read)
    draft.option("--output", output)
    draft.say("--clean")
    return draft.words


def _below_data(path: str) -> str:
    """Return where a text that is still to be written belongs in the new project: where trainings look for it."""
    return path if path.startswith("data/") else f"data/{path.rsplit('/', 1)[-1]}"
