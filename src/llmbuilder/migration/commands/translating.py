"""`translate`: a call of a legacy program as a command of this package; nothing that was asked for disappears."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from llmbuilder.migration.commands.arguments import read_arguments
from llmbuilder.migration.commands.call import Call, TranslatedCommand
from llmbuilder.migration.commands.command_line import Draft, Written
from llmbuilder.migration.commands.places import Places, ScriptFacts
from llmbuilder.migration.commands.preparing import translate_preparation
from llmbuilder.migration.commands.sampling import translate_evaluation, translate_sampling
from llmbuilder.migration.commands.starting import in_front
from llmbuilder.migration.commands.training import translate_training

_TRANSLATORS: dict[str, Callable[[Draft], list[str]]] = {
    "train": translate_training, "sample": translate_sampling, "evaluate": translate_evaluation,
    "prepare": translate_preparation,
}  # fmt: skip


def translate_all(calls: Sequence[Call], places: Places) -> list[TranslatedCommand]:
    """Return the new forms of calls made one after the other: a training may replace what one before it made."""
    written: Written = {}
    return [translate(call, places, {} if call.is_example else written) for call in calls]


def translate(call: Call, places: Places, written: Written | None = None) -> TranslatedCommand:
    """Return the new form of a call, to be run in the new project's folder.

    `written` is what calls before this one trained in; that of this one is added.
    `left` lists what has no counterpart, as it was written; each argument of the old call is in the command, in `left`
    or in `notes`. The command is empty for a program that is not in the project, or is none of those this package
    stands for, and a comment where nothing need be run.
    """
    found = located(call, places)
    if found is None and call.loops and "$" in call.script:
        return _each_time(call, places)
    if found is None:
        return _untranslated(call, f"{call.script} is not in the project")
    script, base, facts = found
    if facts.role not in _TRANSLATORS:
        return _untranslated(call, f"{script} is a program of the project's own, which nothing here stands for")
    if any(word in ("--help", "-h", "--version") for word in call.arguments):
        return _untranslated(call, f"{script} only says what it is there")
    arguments = read_arguments(call.arguments, facts)
    draft = Draft(replace(call, script=script), facts, places, arguments, base, {} if written is None else written)
    if _by_path(call, places) is None:
        draft.note(f"{call.script} is taken to be {script}, the one program of that name")
    for given in draft.arguments.overridden():
        draft.note(f"{given.shown} is overridden by what follows it")
    words = _TRANSLATORS[facts.role](draft)
    if not words:
        return _untranslated(call, *draft.notes)
    left = [*draft.left, *draft.arguments.left()]
    if words[0] == "#":
        return TranslatedCommand(" ".join(words), [*_front(call), *left], draft.notes)
    return TranslatedCommand(" ".join([*in_front(draft), *words]), left, draft.notes)


def _each_time(call: Call, places: Places) -> TranslatedCommand:
    """Translate a program that is another one each time around a loop: only where nothing need be run each time."""
    scripts = [call.script]
    for loop in call.loops:
        scripts = [
            script.replace(f"${{{loop.variable}}}", value).replace(f"${loop.variable}", value)
            for script in scripts
            for value in loop.values
        ]
    results = [translate(replace(call, script=script, loops=()), places) for script in scripts]
    if not results or not all(result.command.startswith("#") for result in results):
        return _untranslated(call, f"{call.script} is another program each time, and not all of them stand for nothing")
    done = "; ".join(result.command.lstrip("# ") for result in results)
    return TranslatedCommand(f"# {done}", results[0].left, [note for result in results for note in result.notes])


def _untranslated(call: Call, *why: str) -> TranslatedCommand:
    launcher = call.launcher
    return TranslatedCommand("", [*_front(call), *map(str, (*launcher.arguments, *launcher.left)),
                                  *map(str, call.arguments)], list(why))  # fmt: skip


def _front(call: Call) -> Iterator[str]:
    yield from (f"{name}={value}" for name, value in call.environment)
    yield from map(str, call.prefix)


def located(call: Call, places: Places) -> tuple[str, str, ScriptFacts] | None:
    """Return a program's path in the project, the folder it was started in, and the facts about it.

    Text does not say where it is run: at the root, beside the file, or in a folder called like the project. Else it is
    the one program that is called so.
    """
    found = _by_path(call, places)
    if found is not None:
        return found
    called_so = places.scripts_called(posixpath.basename(call.script))
    facts = places.script(called_so[0]) if len(called_so) == 1 else None
    return (called_so[0], ".", facts) if facts is not None else None


def _by_path(call: Call, places: Places) -> tuple[str, str, ScriptFacts] | None:
    relative = posixpath.relpath(call.script, call.cwd) if not call.script.startswith(("/", "~", "$")) else call.script
    for base in _folders(call):
        path = posixpath.normpath(posixpath.join(base, relative))
        facts = places.script(path)
        if facts is not None:
            return path, base, facts
    parts = call.script.strip("/").split("/") if relative == call.script else []
    for start in range(1, len(parts)):
        path = "/".join(parts[start:])
        facts = places.script(path)
        if facts is not None:
            return path, ".", facts
    return None


def _folders(call: Call) -> Iterator[str]:
    beside = posixpath.dirname(str(call.file)) or "."
    yield call.cwd
    yield posixpath.normpath(posixpath.join(beside, call.cwd))
    parts = [part for part in call.cwd.strip("/").split("/") if part not in ("..", ".", "~")]
    for start in range(1, len(parts)):
        yield "/".join(parts[start:])
    yield "."
    while beside not in (".", "", "/"):
        yield beside
        beside = posixpath.dirname(beside)
