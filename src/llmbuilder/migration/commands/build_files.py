"""Commands in files that other programs carry out: Makefiles, Dockerfiles, YAML workflows, Windows' batch files."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from typing import Any

import yaml

from llmbuilder.migration.commands.snippets import Piece, Snippet, continued, lines_at, prose, with_variables
from llmbuilder.migration.commands.words import quoted

_MAKE_VARIABLE = re.compile(r"^(?:export\s+|override\s+)*([A-Za-z_]\w*)\s*(:{0,3}=|\?=|\+=)\s*(.*)$")
_MAKE_USE = re.compile(r"\$\(([A-Za-z_]\w*)\)|\$\$|\$[@<^?*%+|]")
_INSTRUCTION = re.compile(r"^\s*(RUN|CMD|ENTRYPOINT|WORKDIR|ENV|ARG)\s+(.*)$", re.IGNORECASE | re.DOTALL)
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}")
_COMMAND_KEYS = {
    "run",
    "command",
    "entrypoint",
    "script",
    "args",
    "cmd",
    "before_script",
    "after_script",
    "setup",
    "cmds",
}
_LARGEST_YAML = 300_000


def makefile(text: str) -> list[Snippet]:
    """Return the recipes of a Makefile; each line of one has a shell of its own."""
    variables: dict[str, str] = {}
    found: list[Snippet] = []
    for group in continued(lines_at(text)):
        first = group[0][1]
        if first.startswith("\t"):
            lead = re.match(r"[\s@+-]*", first)
            cut = lead.end() if lead is not None else 0
            body = [(group[0][0] + cut, first[cut:]), *group[1:]]
            if body[0][1].lstrip().startswith("#"):
                found += prose(body)
                continue
            pieces = [piece for at, line in body for piece in _make_pieces(line, at)]
            found.append(Snippet(pieces, keeps_state=False))
            continue
        whole = "".join(line for _, line in group).replace("\\\n", " ").strip()
        assigned = _MAKE_VARIABLE.match(whole)
        if assigned is not None:
            value = re.sub(r"\s+#.*$", "", assigned[3])
            value = _MAKE_USE.sub(lambda use: variables.get(use[1] or "", use[0]), value)
            if assigned[2] == "+=":
                value = f"{variables.get(assigned[1], '')} {value}".strip()
            if len(value) < 5000 and not (assigned[2] == "?=" and assigned[1] in variables):
                variables[assigned[1]] = value
        elif first.lstrip().startswith("#"):
            found += prose(group)
    return [with_variables(snippet, variables) for snippet in found]


def _make_pieces(line: str, at: int) -> Iterator[Piece]:
    """Yield a recipe's line as a shell reads it: $(X) is ${X}, $$ is $, make's own variables are nobody's."""
    end = 0
    for use in _MAKE_USE.finditer(line):
        if use.start() > end:
            yield Piece(line[end : use.start()], at + end)
        if use[0] == "$$":
            yield Piece("$", at + use.start() + 1)
        elif use[1] is not None:
            yield Piece(f"${{{use[1]}}}", at + use.start(), use[0])
        else:
            yield Piece("$_", at + use.start(), use[0])
        end = use.end()
    if end < len(line):
        yield Piece(line[end:], at + end)


def dockerfile(text: str) -> list[Snippet]:
    """Return what a Dockerfile runs, in its shell form and its JSON form; ENTRYPOINT goes before CMD."""
    found: list[Snippet] = []
    variables: dict[str, str] = {}
    cwd, entrypoint = ".", None
    lines = [(at, line) for at, line in lines_at(text) if not line.lstrip().startswith("#")]
    for group in continued(lines):
        whole = "".join(line for _, line in group)
        instruction = _INSTRUCTION.match(whole)
        if instruction is None:
            continue
        name, body = instruction[1].upper(), instruction[2]
        if name == "WORKDIR":
            # An absolute folder is where the project was copied to.
            cwd = "." if body.startswith("/") else posixpath.normpath(posixpath.join(cwd, body.strip()))
        elif name in ("ENV", "ARG"):
            variables |= dict(re.findall(r"(\w+)=([^\s\"']+)", body))
        else:
            words = _json_words(body)
            line = text.count("\n", 0, group[0][0]) + 1
            if words is not None and name == "ENTRYPOINT":
                entrypoint = words
            joined = [*(entrypoint or []), *words] if words is not None and name == "CMD" else words
            if joined is not None:
                found.append(Snippet([Piece(" ".join(map(quoted, joined)))], line, False, cwd, False, dict(variables)))
                continue
            cut = instruction.start(2)
            pieces = [Piece(whole_line[(cut if number == 0 else 0) :], at + (cut if number == 0 else 0))
                      for number, (at, whole_line) in enumerate(group)]  # fmt: skip
            found.append(Snippet(pieces, line, False, cwd, False, dict(variables)))
    return found + [snippet for at, line in lines_at(text) if line.lstrip().startswith("#")
                    for snippet in prose([(at, line)])]  # fmt: skip


def _json_words(body: str) -> list[str] | None:
    try:
        words = json.loads(body) if body.lstrip().startswith("[") else None
    except (json.JSONDecodeError, RecursionError):
        return None
    return [str(word) for word in words] if isinstance(words, list) else None


def workflow(text: str) -> list[Snippet]:
    """Return the commands of a YAML file: `run:` of workflows, `command:` of compose files, and their like."""
    if len(text) > _LARGEST_YAML:
        return []
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return []
    comments = [pair for pair in lines_at(text) if pair[1].lstrip().startswith("#")]
    return [*prose(comments), *(_commands(root, text, {}, ".", set()) if root is not None else ())]


def _commands(node: Any, text: str, variables: dict[str, str], cwd: str, seen: set[int]) -> Iterator[Snippet]:
    if id(node) in seen or len(seen) > 100_000:
        return  # an alias, which says nothing new
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _commands(child, text, variables, cwd, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    own = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    inner = variables | _environment(own.get("env")) | _environment(own.get("environment"))
    folder = own.get("working-directory") or own.get("working_dir")
    if isinstance(folder, yaml.ScalarNode) and not folder.value.startswith(("/", "$")):
        cwd = posixpath.normpath(folder.value)
    for key, value in own.items():
        if key in _COMMAND_KEYS and isinstance(value, yaml.ScalarNode):
            yield _scalar(value, text, inner, cwd)
        elif key in _COMMAND_KEYS and isinstance(value, yaml.SequenceNode) and value.value:
            yield from _sequence(key, value, own, text, inner, cwd)
        else:
            yield from _commands(value, text, inner, cwd, seen)


def _environment(node: Any) -> dict[str, str]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {k.value: v.value for k, v in pairs
            if isinstance(k, yaml.ScalarNode) and isinstance(v, yaml.ScalarNode) and "${{" not in v.value}  # fmt: skip


def _sequence(
    key: str, node: Any, own: dict[str, Any], text: str, variables: dict[str, str], cwd: str
) -> Iterator[Snippet]:
    """Yield a list's commands: a script's lines, or the words of one command, whose `args` may stand beside it."""
    scalars = [child for child in node.value if isinstance(child, yaml.ScalarNode)]
    if key in ("script", "before_script", "after_script", "cmds", "run"):
        for child in scalars:
            yield _scalar(child, text, variables, cwd)
        for child in node.value:
            if isinstance(child, yaml.MappingNode):
                yield from _commands(child, text, variables, cwd, set())
        return
    if key == "args" and "command" in own:
        return
    more = own.get("args") if key == "command" else None
    behind = more.value if isinstance(more, yaml.SequenceNode) else []
    words = [quoted(child.value) for child in [*scalars, *behind] if isinstance(child, yaml.ScalarNode)]
    yield Snippet([Piece(" ".join(words))], node.start_mark.line + 1, False, cwd, False, variables)


def _scalar(node: Any, text: str, variables: dict[str, str], cwd: str) -> Snippet:
    """Return a scalar with the way back to the file, where its lines stand there as they are."""
    start, end = node.start_mark.index, node.end_mark.index
    written = text[start:end]
    value: str = node.value
    line = node.start_mark.line + (2 if node.style in ("|", ">") else 1)
    if written == value:
        pieces = list(_expressions(value, start))
    elif node.style == "|":
        pieces = list(_literal(written, start, value))
    else:
        pieces = list(_expressions(value, None))
    return Snippet(pieces, line, False, cwd, True, variables)


def _literal(written: str, start: int, value: str) -> Iterator[Piece]:
    wanted = value.split("\n")
    lines = lines_at(written, start)[1:]
    for number, line in enumerate(wanted):
        ending = "\n" if number + 1 < len(wanted) else ""
        at, whole = lines[number] if number < len(lines) else (start, "")
        indent = whole.find(line) if line else 0
        yield from _expressions(line, at + indent if indent >= 0 and whole else None)
        if ending:
            yield Piece(ending, at + len(whole) - 1 if whole.endswith("\n") else None)


def _expressions(text: str, at: int | None) -> Iterator[Piece]:
    """Yield a text with GitHub's ${{ expressions }}, which no shell can read, as variables of the same length."""
    end = 0
    for found in _EXPRESSION.finditer(text):
        yield Piece(text[end : found.start()], None if at is None else at + end)
        name = f"${{{'_' * (len(found[0]) - 3)}}}"
        yield Piece(name, None if at is None else at + found.start(), found[0])
        end = found.end()
    yield Piece(text[end:], None if at is None else at + end)


def batch_file(text: str) -> list[Snippet]:
    """Return the commands of a .bat, .cmd or .ps1 file, with the variables that `set` sets put in their places."""
    variables: dict[str, str] = {}
    found: list[Snippet] = []
    for group in continued((at, re.sub(r"[\^`](\r?\n)$", r"\\\1", line)) for at, line in lines_at(text)):
        line = text.count("\n", 0, group[0][0]) + 1
        whole = "".join(part for _, part in group).replace("\r\n", "\n").strip().lstrip("@")
        assigned = re.match(r'(?i)set\s+"?(\w+)=([^"\n]*)"?$', whole) or re.match(
            r'\$(\w+)\s*=\s*"?([^"$\n]*)"?$', whole
        )
        if assigned is not None:
            variables[assigned[1].lower()] = assigned[2]
            continue
        is_comment = re.match(r"(?i)(?:rem\b|::|#)\s*", whole)
        body = whole[is_comment.end() :] if is_comment is not None else whole
        body = re.sub(r"%~?(\w+)%|\$(\w+)\b", lambda use: variables.get((use[1] or use[2]).lower(), use[0]), body)
        body = re.sub(r"\\(?!\n)", "/", body).replace(" & ", " ; ")
        if is_comment is not None:
            snippets = prose([(0, body)])
            found += [Snippet([Piece(snippet.text)], line, True, keeps_state=False) for snippet in snippets]
        elif len(body) < 20_000:
            found.append(Snippet([Piece(re.sub(r"(?i)^cd /d ", "cd ", body))], line))
    return found
