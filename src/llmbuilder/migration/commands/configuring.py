"""The configuration that a call of a training program uses: the files it names, one read over the other."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmbuilder.migration.commands.arguments import Given
from llmbuilder.migration.commands.command_line import Draft
from llmbuilder.migration.commands.looping import choices
from llmbuilder.migration.commands.words import Word, joined

OUTPUT_NAMES = ("out_dir", "output_dir", "output", "work_dir", "save_dir", "checkpoint_dir", "ckpt_out", "ckpt_dir")
_CONFIG_NAMES = ("config", "config_file", "config_path", "cfg")
_SUFFIXES = (".py", ".json", ".yaml", ".yml")
_LIKE_A_CONFIGURATION = re.compile(r"(?:eval|train|finetune|pretrain|config)[_-]\w+")
_MORE = re.compile(r"[@*]|ARG|OPT|FLAG|EXTRA", re.IGNORECASE)
_PLACES = (*OUTPUT_NAMES, "dataset", "data_dir", "wandb_run_name", "run_name")  # may have a loop's variable in them


@dataclass(frozen=True)
class InForce:
    """The new configuration file, the legacy values in force, a call's options left out, and the out_dir.

    `is_default`: the out_dir is the program's own.
    """

    config: Word
    values: Mapping[str, Any]
    out_dir: Word
    is_default: bool


def configuration(draft: Draft) -> InForce | None:
    """Return the configuration of a call, with what further files say over it among the call's arguments.

    None if the call names a file that was not carried over, or a loop goes over files that differ in more than one
    command can say: a training with other settings is another training.
    """
    given = draft.arguments.find(*_CONFIG_NAMES)
    meant = [p for p in draft.arguments.positional() if _is_meant(draft, p, is_first=given is None)]
    meant = [p for p in meant if not _is_more(p.value)] or meant
    named = given if given is not None else (meant[0] if meant else None)
    script = draft.call.script
    if named is None:
        values = draft.places.config_values(None, script)
        out_dir = _out_dir(draft)
        own = Word(own_out_dir(values))
        return InForce(Word(draft.places.default_config(script)), values, out_dir or own, out_dir is None)
    found = _found(draft, named)
    if found is None:
        return None
    path, config = found
    named.is_taken = True
    if any(given.place < named.place for given in draft.arguments.options()) and draft.facts.style != "argparse":
        draft.note(f"{named.value} was read after the options before it and may have said otherwise")
    files = choices(path, draft.call.loops)
    each = [draft.places.config_values(file, script) for file in files] or [{}]
    values = {key: value for key, value in each[0].items() if all(other.get(key) == value for other in each)}
    further = [p for p in meant if p is not named] if given is None else []
    if not _read_over(draft, named, further, values):
        return None
    out_dir, is_default = _out_dir(draft), False
    if out_dir is None:
        out_dir = draft.mapped(path, lambda file: own_out_dir(draft.places.config_values(file, script)))
        is_default = not any(own_out_dir(draft.places.own_values(file)) for file in files)
    differing = [key for key in ("init_from", "eval_only") if key in each[0] and key not in values]
    if out_dir is None or any(draft.arguments.find(key) is None for key in differing):
        draft.note(f"the configurations {path} goes through differ in {', '.join(differing) or 'out_dir'}: write a "
                   "line for each of them")  # fmt: skip
        return None
    return InForce(config, values, out_dir, is_default)


def _is_meant(draft: Draft, positional: Given, *, is_first: bool) -> bool:
    """Whether an argument without a name is meant as a configuration: always, where nanoGPT's configurator reads it."""
    word = positional.value
    if word.endswith(_SUFFIXES) or (word.expansions and is_first):
        return True
    if draft.facts.style == "argparse" or word.settled is None or not word:
        return False
    return draft.facts.style == "configurator" or _LIKE_A_CONFIGURATION.fullmatch(word) is not None or (
        next(_candidates_that_are(draft, word), None) is not None
    )  # fmt: skip


def _is_more(word: Word) -> bool:
    """Whether a word stands for further arguments: "$@", $EXTRA_ARGS."""
    return any(_MORE.search(e.name) and e.end - e.start == len(word) for e in word.expansions)


def _found(draft: Draft, named: Given) -> tuple[Word, Word] | None:
    """Return the path of a configuration in the legacy project and its new one; a note says why there is none."""
    found = next(_candidates_that_are(draft, named.value), None)
    if found is None:
        files = choices(draft.path(named.value), draft.call.loops)
        if files and all(draft.places.config(file) is not None for file in files):
            draft.note(f"no one name stands for the configurations that {named.value} goes through: write a line for "
                       "each of them")  # fmt: skip
        else:
            draft.note(f"{named.shown} is no configuration that was carried over: nothing stands for this call")
        return None
    if found[0] != draft.path(named.value):
        draft.note(f"{named.value} is taken to be {found[0]}")
    return found


def _candidates_that_are(draft: Draft, word: Word) -> Iterator[tuple[Word, Word]]:
    for path in _candidates(draft, word):
        config = draft.mapped(path, draft.places.config)
        if config is not None:
            yield path, config


def _candidates(draft: Draft, word: Word) -> Iterator[Word]:
    """Yield where a configuration may lie: as it is named, beside the program, without its folder or its suffix."""
    yield draft.path(word)
    if word.startswith(("/", "~", "$")):
        return
    beside = posixpath.dirname(draft.call.script)
    folders = ["", "config/", "configs/"] if "/" not in word else [""]
    suffixes = ["", *_SUFFIXES] if not word.endswith(_SUFFIXES) else [""]
    for folder in folders:
        for suffix in suffixes:
            path = joined([Word(folder), word, Word(suffix)])
            yield draft.path(path)
            if beside:
                yield joined([Word(f"{beside}/"), path])


def _read_over(draft: Draft, first: Given, further: list[Given], values: Mapping[str, Any]) -> bool:
    """Add what further files say otherwise to the call's arguments; whether one command can say it.

    Files and options are read in the order in which they stand on the command line, the later over the earlier.
    """
    said: dict[str, Given] = {}
    for named in further:
        path = draft.path(named.value)
        files = choices(path, draft.call.loops)
        if not files or any(draft.places.config(file) is None for file in files):
            found = _found(draft, named)
            if found is None:
                return False
            path, files = found[0], choices(found[0], draft.call.loops)
        each = [draft.places.own_values(file) for file in files]
        keys = list(each[0]) if each else []
        if not each or any(set(own) != set(keys) for own in each):
            draft.note(f"what {path} says over {first.value} differs from file to file: write a line for each of them")
            return False
        for key in keys:
            value = _value(draft, path, key, each)
            if value is None:
                draft.note(f"the files that {path} goes through differ in {key}: write a line for each of them")
                return False
            options = [given for given in draft.arguments.given if given.name == key]
            if any(given.place > named.place for given in options):
                continue
            for given in options:
                given.is_taken = True
                draft.note(f"{given.shown} is overridden by {named.value}")
            said[key] = Given(
                key, value, (Word(f"{named.value}:"), joined([Word(f"{key}="), value])), place=named.place
            )
        named.is_taken = True
        draft.note(f"{named.value} is read over {first.value}: what it says otherwise is written out")
    draft.arguments.given += [given for key, given in said.items() if _text(values.get(key, _NOTHING)) != given.value]
    return True


_NOTHING = object()


def _value(draft: Draft, path: Word, key: str, each: list[Mapping[str, Any]]) -> Word | None:
    """Return a value that further files give a key, with a loop's variable in it where it names a place."""
    texts = {_text(own[key]) for own in each}
    if len(texts) == 1:
        return Word(texts.pop())
    if key not in _PLACES:
        return None
    return draft.mapped(path, lambda file: _text(draft.places.own_values(file)[key]))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _out_dir(draft: Draft) -> Word | None:
    """Return the out_dir that the call names."""
    given = draft.arguments.take(*OUTPUT_NAMES)
    if given is None:
        return None
    return draft.path(given) if draft.facts.style == "argparse" or given.startswith(".") else given


def own_out_dir(values: Mapping[str, Any]) -> str:
    """Return the out_dir that a configuration names, or nothing."""
    return next((values[name] for name in OUTPUT_NAMES if isinstance(values.get(name), str)), "")
