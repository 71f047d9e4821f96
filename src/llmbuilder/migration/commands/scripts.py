"""`translate_script`: a whole shell script with its commands in their new form, everything else as it was."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from llmbuilder.migration.commands.call import Call
from llmbuilder.migration.commands.places import Places
from llmbuilder.migration.commands.translating import located, translate_all
from llmbuilder.migration.commands.words import quoted


def translate_script(text: str, calls: Sequence[Call], places: Places) -> str:
    """Return a shell script with the `calls` that `find_calls` found in it replaced; loops and redirections stay.

    What has no new form stays, too. What was left out or is worth knowing is said in comments at the head.
    """
    remarks: list[str] = []
    changes: list[tuple[int, int, str]] = []
    for call, new in zip(calls, translate_all(calls, places), strict=True):
        said = [*(f"left out: {argument}" for argument in new.left), *new.notes] if new.command else new.notes
        remarks += [_comment(f"line {call.line}: {remark}") for remark in said if not call.is_example]
        if call.span is None and not call.is_example:
            remarks.append(_comment(f"line {call.line}: put this in yourself: {new.command or 'nothing'}"))
        elif call.span is not None and new.command:
            place = located(call, places)
            changes.append((*call.span, _in_place(place[1] if place is not None else ".", new.command)))
            if call.cwd.startswith(("/", "~", "$")):
                remarks.append(_comment(f"line {call.line}: {call.cwd} has to be the new project's folder"))
    for start, end, command in sorted(changes, reverse=True):
        text = text[:start] + command + text[end:]
    if not remarks:
        return text
    first, newline, rest = text.partition("\n")
    head = "".join(f"{remark}\n" for remark in dict.fromkeys(remarks))
    return f"{first}{newline}{head}{rest}" if first.startswith("#!") and newline else head + text


def _comment(text: str) -> str:
    return "# " + " ".join(text.split())


def _in_place(base: str, command: str) -> str:
    if command.startswith("#"):
        return f": {quoted(command.lstrip('# '))}"
    if base == "." or base.startswith(("/", "~", "$", "..")):
        return command
    # The new command's paths begin at the project's folder, and the script is in another one here.
    return f"(cd {quoted(posixpath.relpath('.', base))} && {command})"
