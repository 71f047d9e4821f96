"""Old command lines in their new form."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from llmbuilder.formats.nanogpt.configuration import CONVERTED_KEYS, FLAT_KEYS

_CALL = re.compile(
    r"(?:python[\d.]*|torchrun(?:\s+--\S+)*)\s+(?P<script>(?:[\w./-]*/)?"
    r"(?P<name>train|sample|generate|inference|prepare_data|prepare|eval|evaluate)\.py)(?P<rest>[^\n;&|#`]*)"
)
_KINDS = {
    "train": "train", "sample": "generate", "generate": "generate", "inference": "generate",
    "prepare_data": "data", "prepare": "data", "eval": "evaluate", "evaluate": "evaluate",
}  # fmt: skip
_GENERATE_OPTIONS = {
    "prompt": "--prompt", "start": "--prompt", "num_samples": "--num-samples", "max_new_tokens": "--max-new-tokens",
    "temperature": "--temperature", "top_k": "--top-k", "top_p": "--top-p", "seed": "--seed", "device": "--device",
}  # fmt: skip


@dataclass
class TranslatedCommand:
    """A new command line, and the arguments that have no counterpart."""

    command: str
    left: list[str] = field(default_factory=list)


def find_commands(text: str) -> list[tuple[int, str, TranslatedCommand]]:
    """Return (line number, old command, new command) for each call of a legacy script in a text."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        for match in _CALL.finditer(line):
            old = match.group(0).strip().rstrip("'\"\\")
            found.append((number, old, translate(_KINDS[match.group("name")], _arguments(match.group("rest")))))
    return found


def _arguments(rest: str) -> list[str]:
    rest = rest.strip().rstrip("\\").strip()
    try:
        return shlex.split(rest)
    except ValueError:
        return rest.split()


def translate(kind: str, arguments: list[str]) -> TranslatedCommand:
    """Translate the arguments of a legacy "train", "generate", "data" or "evaluate" script."""
    options, positional = _parse(arguments)
    build = {"train": _train, "generate": _generate, "data": _data, "evaluate": _evaluate}[kind]
    return build(options, positional)


def _parse(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    options: dict[str, str] = {}
    positional: list[str] = []
    waiting: str | None = None
    for argument in arguments:
        if argument.startswith("--"):
            name, separator, value = argument[2:].partition("=")
            waiting = None if separator else name
            options[name] = value if separator else "True"
        elif waiting is not None:
            options[waiting] = argument
            waiting = None
        else:
            positional.append(argument)
    return options, positional


def _train(options: dict[str, str], positional: list[str]) -> TranslatedCommand:
    config = options.pop("config", None) or next((p for p in positional if p.endswith((".py", ".json"))), None)
    parts = ["llmbuilder train model", f"--config {_new_config(config)}"]
    data = options.pop("data", "") or options.pop("dataset", "")
    if data:
        parts.append(f"--data {_new_data(data)}")
    parts.append(f"--output {shlex.quote(options.pop('output', '') or options.pop('out_dir', '') or 'run/')}")
    left = []
    for name, value in options.items():
        target = FLAT_KEYS.get(name)
        converted = CONVERTED_KEYS[name](_literal(value)) if name in CONVERTED_KEYS else None
        if target is not None:
            parts.append(f"--set {target}={shlex.quote(value)}")
        elif converted is not None:
            parts.append(f"--set {converted[0]}={str(converted[1]).lower()}")
        else:
            left.append(f"--{name}={value}")
    return TranslatedCommand(" ".join(parts), left + [p for p in positional if p != config])


def _literal(value: str) -> object:
    return {"true": True, "false": False}.get(value.lower(), value)


def _generate(options: dict[str, str], positional: list[str]) -> TranslatedCommand:
    model = options.pop("model", None) or options.pop("checkpoint", None)
    options.pop("out_dir", None)
    options.pop("config", None)
    tokenizer = options.pop("tokenizer", None) or "tokenizer/"
    parts = ["llmbuilder generate text", f"--model {_new_model(model)}", f"--tokenizer {shlex.quote(tokenizer)}"]
    left = []
    for name, value in options.items():
        if name in _GENERATE_OPTIONS:
            parts.append(f"{_GENERATE_OPTIONS[name]} {shlex.quote(value)}")
        elif name == "interactive":
            parts.append("--interactive")
        else:
            left.append(f"--{name}={value}")
    if "prompt" not in "".join(parts) and "--interactive" not in parts:
        parts.append('--prompt ""')
    return TranslatedCommand(" ".join(parts), left + positional)


def _data(options: dict[str, str], positional: list[str]) -> TranslatedCommand:
    source, output = options.pop("input", None), options.pop("output", None)
    places = f"--input {shlex.quote(source or 'raw/')} --output {shlex.quote(output or 'data.txt')}"
    command = f"llmbuilder data load {places} --clean"
    return TranslatedCommand(command, [f"--{name}={value}" for name, value in options.items()] + positional)


def _evaluate(options: dict[str, str], positional: list[str]) -> TranslatedCommand:
    model = options.pop("model", None) or options.pop("checkpoint", None)
    options.pop("config", None)
    options.pop("out_dir", None)
    data = _new_data(options.pop("data", "") or options.pop("dataset", "") or "data.txt")
    command = f"llmbuilder model evaluate {_new_model(model)} --data {data}"
    return TranslatedCommand(command, [f"--{name}={value}" for name, value in options.items()] + positional)


def _new_config(path: str | None) -> str:
    if path is None or PurePosixPath(path).name == "config.json":
        return "config.json"
    return shlex.quote(f"configs/{PurePosixPath(path).stem}.json")


def _new_data(path: str) -> str:
    return shlex.quote(path if path.startswith("data/") else f"data/{PurePosixPath(path).name}")


def _new_model(path: str | None) -> str:
    return shlex.quote(f"model/{PurePosixPath(path).name if path else 'ckpt.pt'}")
