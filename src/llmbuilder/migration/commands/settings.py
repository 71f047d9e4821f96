"""Legacy options as settings: `--key=value` of a training program as `--set section.key=value` that would act."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llmbuilder.config.in_force import TAKEN, require_taken
from llmbuilder.config.loading import build_config, merge, parse_overrides
from llmbuilder.config.parsing import parse_value
from llmbuilder.config.schema import Config
from llmbuilder.config.validation import find_problems
from llmbuilder.errors import ConfigError
from llmbuilder.formats.nanogpt.configuration import CONVERTED_KEYS, FLAT_KEYS
from llmbuilder.migration.commands.arguments import Given, literal
from llmbuilder.migration.commands.command_line import Draft
from llmbuilder.migration.commands.looping import choices
from llmbuilder.migration.commands.words import Word, joined

# What other programs call the same: llama2.c, minGPT, argparse projects.
_OTHER_NAMES = {
    "dim": "model.embedding_dim", "n_layers": "model.num_layers", "n_heads": "model.num_heads",
    "n_kv_heads": "model.num_key_value_heads", "n_kv_head": "model.num_key_value_heads",
    "max_seq_len": "model.max_seq_length", "max_seq_length": "model.max_seq_length", "d_model": "model.embedding_dim",
    "num_layers": "model.num_layers", "num_heads": "model.num_heads", "context_length": "model.max_seq_length",
    "lr": "training.learning_rate", "max_steps": "training.max_steps", "epochs": "training.num_epochs",
    "num_epochs": "training.num_epochs", "warmup_steps": "training.warmup_steps", "eval_every": "training.eval_every",
    "log_every": "training.log_every", "save_every": "training.save_every", "min_learning_rate":
    "training.min_learning_rate", "grad_norm_clip": "training.max_grad_norm", "num_workers":
    "training.dataloader_num_workers", "grad_accum": "training.gradient_accumulation_steps",
}  # fmt: skip
_DECAY_ONLY = ("min_lr", "lr_decay_iters", "warmup_iters")


_NOT_SETTINGS = ("dataset", "out_dir", "init_from")  # options of the command, taken by then or without a counterpart


def add_settings(
    draft: Draft, command: str, values: Mapping[str, Any], settings: Mapping[str, str] | None = None
) -> None:
    """Add `--set` for every option left that has a setting, and for `settings`; what would not act is noted.

    `values` are the legacy ones in force without the call's options: what acts depends on them, too.
    """
    found: dict[str, tuple[Given, Word]] = {}
    decays = _decays(draft, values)
    for given in draft.arguments.options():
        if given.name in _DECAY_ONLY and not decays:
            given.is_taken = True
            draft.note(f"{given.shown} has no effect, there as here: the learning rate does not decay (decay_lr)")
            continue
        setting = None if given.name in _NOT_SETTINGS else _setting(draft, given)
        if setting is not None:
            found[setting[0]] = given, setting[1]
    taken: dict[str, str] = dict(settings or {})
    taken |= _acting(draft, command, _config_of(values), taken, found)
    if "training.lr_schedule" in taken:
        _settle_warmup(taken, values)
    for key, value in taken.items():
        draft.option("--set", joined([Word(f"{key}="), value if isinstance(value, Word) else Word(value)]))


def _acting(
    draft: Draft, command: str, config: Config, fixed: dict[str, str], found: dict[str, tuple[Given, Word]]
) -> dict[str, str]:
    """Return the settings that would act, each beside all others; what would not is noted."""

    def refuse(problems: dict[str, str]) -> None:
        for key, problem in problems.items():
            given, _ = found.pop(key)
            draft.note(f"{given.shown}: {problem}")
            given.is_taken = key in TAKEN[command] and "would not act" in problem

    ways = {key: choices(text, draft.call.loops) for key, (_, text) in found.items()}
    refuse({key: why for key, values in ways.items() if (why := _wrong_alone(command, key, values)) is not None})
    while True:
        together: dict[str, str] = {**fixed, **{key: text for key, (_, text) in found.items()}}
        problems = {key: _problem(command, config, together, key, ways[key]) for key in found}
        refused = {key: problem for key, problem in problems.items() if problem is not None}
        if not refused:
            break
        refuse(refused)
    for given, _ in found.values():
        given.is_taken = True
    return {key: text for key, (_, text) in found.items()}


def _settle_warmup(taken: dict[str, str], values: Mapping[str, Any]) -> None:
    """nanoGPT warms up only while it decays; here the warm-up is a setting of its own."""
    if taken["training.lr_schedule"] == "constant":
        taken["training.warmup_steps"] = "0"
    elif not literal(str(values.get("decay_lr", True))) and "training.warmup_steps" not in taken:
        warmup = values.get("warmup_iters")
        if isinstance(warmup, int):
            taken["training.warmup_steps"] = str(warmup)


def _decays(draft: Draft, values: Mapping[str, Any]) -> bool:
    given = draft.arguments.find("decay_lr")
    return bool(literal(str(given.value)) if given is not None else values.get("decay_lr", True))


def _setting(draft: Draft, given: Given) -> tuple[str, Word] | None:
    """Return the setting of an option and its value as it is written for `--set`, or None if there is none."""
    if given.name in CONVERTED_KEYS:
        if given.value.settled is None:
            draft.note(f"{given.shown}: what it becomes depends on the value, which only the shell knows")
            return None
        value = literal(given.value.settled)
        converted = CONVERTED_KEYS[given.name](value) if isinstance(value, str | bool | int | float) else None
        if converted is None:
            draft.note(f"{given.shown}: there is no such value here")
            return None
        return converted[0], Word(json.dumps(converted[1]) if not isinstance(converted[1], str) else converted[1])
    key = FLAT_KEYS.get(given.name) or _OTHER_NAMES.get(given.name)
    if key is None:
        return None
    settled = given.value.settled
    if settled is None:
        return key, given.value
    meant = literal(settled)
    if given.value.expansions or _means(key, parse_value(settled), meant):
        return key, given.value
    return key, Word(json.dumps(meant, ensure_ascii=False) if not isinstance(meant, str) else meant)


def _means(key: str, value: Any, meant: Any) -> bool:
    """Whether a value and what the legacy program understood are the same to the configuration."""
    section, _, name = key.partition(".")
    try:
        both = [build_config({section: {name: each}}, "a value").to_dict() for each in (value, meant)]
    except ConfigError:
        return True  # refused either way, or told apart by what checks the whole
    return both[0] == both[1]


def _config_of(values: Mapping[str, Any]) -> Config:
    """Return the legacy values as a configuration, leaving out what does not fit; it decides only what acts."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        converted = CONVERTED_KEYS[name](value) if name in CONVERTED_KEYS and isinstance(value, str | bool) else None
        key = converted[0] if converted is not None else FLAT_KEYS.get(name)
        if key is None:
            continue
        section, _, setting = key.partition(".")
        own = {section: {setting: converted[1] if converted is not None else value}}
        try:
            build_config(own, name)
        except ConfigError:
            continue  # the migrated configuration, which is not made here, says what became of it
        found = merge(found, own)
    return build_config(found, "the legacy values")


def _wrong_alone(command: str, key: str, values: list[str]) -> str | None:
    """Return why a setting would be refused whatever the others are."""
    if key not in TAKEN[command]:
        return f"{key} is no setting of `llmbuilder {command}`"
    for value in values:
        try:
            build_config(parse_overrides([f"{key}={value}"]), "its value")
        except ConfigError as error:
            return " ".join(str(error).split())
    return None


def _problem(command: str, config: Config, taken: dict[str, str], key: str, values: list[str]) -> str | None:
    """Return why a setting would be refused beside those already taken, or None if it would act."""
    known = {name: text for name, text in taken.items() if name != key and not getattr(text, "expansions", ())}
    for value in values:
        overrides = [*(f"{name}={text}" for name, text in known.items()), f"{key}={value}"]
        try:
            whole = build_config(merge(config.to_dict(), parse_overrides(overrides)), "the command")
            require_taken(command, [f"{key}={value}"], whole)
            wrong = [problem for problem in find_problems(whole) if problem.path == key]
            if wrong:
                return str(wrong[0]).replace("\n", " ")
        except ConfigError as error:
            return str(error).replace("\n", " ")
    return None
