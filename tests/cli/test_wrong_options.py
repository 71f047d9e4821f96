"""Every option of every command, given wrong: a sentence that names it, before anything heavy is loaded or asked.

An option without a case here fails the test, so that a new one gets its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main

from llmbuilder.cli.main import app
from tests.command_line import run

Case = tuple[str, str]  # how it is given, and what the message says
CHECKPOINT: list[Case] = [("nowhere.pt", "no such model file: nowhere.pt"), ("", ". holds no model"),
                          ("text.txt", "text.txt is not a model file but a text that begins with 'Once"),
                          ("empty", "empty holds no model"),
                          ("holder", "did you mean holder/inner/model.pt?")]  # fmt: skip
MODEL: list[Case] = [*CHECKPOINT[:1], *CHECKPOINT[2:], ("", "the name of the model is empty"),
                     ("nowhere", "one of the Hugging Face hub is named owner/nowhere"),
                     ("./x/y", "no such model file: ./x/y"), ("runs/model.pt", "no such model file")]  # fmt: skip
ADAPTER: list[Case] = [("nowhere", "nowhere is not there"), ("text.txt", "text.txt is a file: name a folder with"),
                       ("empty", "empty holds no adapter: there is no adapter_config.json")]  # fmt: skip
TOKENIZER: list[Case] = [("my-tokenizer", "no tokenizer folder at my-tokenizer"), ("./x/y", "no tokenizer folder at"),
                         ("models/gpt2/", "no tokenizer folder at"), ("C:\\x", "no tokenizer folder at"),
                         ("empty", "empty holds no tokenizer"), ("", "is empty"), ("~/x", "no tokenizer folder")]  # fmt: skip
TOKENIZER_PATH = [(given, said) for given, said in TOKENIZER if given and not given.endswith("/")]
INPUT: list[Case] = [("nowhere", "no such file or folder: nowhere")]
FILE_OUTPUT: list[Case] = [("text.txt/x.jsonl", "text.txt is a file, not a folder"), ("empty", "empty is a folder")]
NEW_FOLDER: list[Case] = [("tiny.yaml", "tiny.yaml is a file"), ("text.txt/x", "text.txt is a file, not a folder")]
SET: list[Case] = [
    ("lr=1", "--set lr names no setting"), ("training.lr=1", "did you mean training.learning_rate?"),
    ("batch_size=8", "did you mean training.batch_size=...?"), ("training.max_steps=", "has no value"),
    ("training.max_steps", "is no setting"), ("training.dropout=0", "did you mean model.dropout"),
    ("training.seed=010", "--set training.seed=010: 010 could be"), ("training.max_steps=x", "--set training.max_steps=x"),
]  # fmt: skip
CONFIG: list[Case] = [("nowhere.yaml", "no such configuration file"), ("empty", "empty is a folder"),
                      ("wrong.yaml", "wrong.yaml, line 2: unknown key 'training.lr'"),
                      ("comments.json", "JSON has no comments"), ("none.yaml", "is empty"),
                      ("trailing.json", "remove the comma"), ("tabs.yaml", "a tab where blanks belong")]  # fmt: skip
PRESET: list[Case] = [("tinny", "did you mean 'tiny'?")]
NUMBER: list[Case] = [("0", "--"), ("-5", "--"), ("x", "--")]
THRESHOLD: list[Case] = [("5", "--near-duplicates"), ("x", "--near-duplicates")]
QUANTIZATION: list[Case] = [("q9", "unknown quantization 'q9'"), ("q4_k_m", "llama-quantize"), ("F16", "did you mean")]
DEVICE: list[Case] = [("gpu", "--device: 'gpu' is no device"), ("cuda:x", "is no device")]
ACTIVATION: list[Case] = [("relu", "gelu, or gelu_tanh")]
ANY: list[Case] = []  # any text is right, or what is wrong is known only later

# Of each command: arguments that are right as far as can be seen at once, and the wrong ones of each option.
COMMANDS: dict[str, tuple[dict[str, str], dict[str, list[Case]]]] = {
    "build": ({"documents": "text.txt", "--output": "new"}, {
        "documents": INPUT, "--data": INPUT, "--output": [*NEW_FOLDER[1:], ("full", "already exists")], "--preset": PRESET,
        "--config": CONFIG, "--base": MODEL, "--method": [("lora", "name one with --base")],
        "--time-budget": [("soon", "is no duration"), ("", "is no duration"), ("-3m", "duration"), ("5s", "leaves no time")],
        "--quantization": QUANTIZATION, "--set": [*SET, ("model.num_layers=0", "--set model.num_layers=0: model.num_l"),
                                                  ("training.batch_size=10000000", "GiB with the smallest model"),
                                                  ("tokenizer.path=my-tokenizer", "no tokenizer folder")]}),
    "train model": ({"--data": "text.txt", "--output": "new"}, {
        "--data": INPUT, "--output": NEW_FOLDER, "--config": CONFIG, "--preset": PRESET, "--tokenizer": TOKENIZER_PATH,
        "--nproc": NUMBER, "--set": [*SET, ("training.batch_size=0", "--set training.batch_size=0: training.batch"),
                                     ("system.seed=-1", "must be at least 0")]}),
    "train resume": ({"run": "empty"}, {
        "run": [("nowhere", "nowhere holds no run: it is not there"), ("text.txt", "it is a file")], "--nproc": NUMBER,
        "--set": SET[:1]}),
    "finetune model": ({"--model": "model.bin", "--data": "text.txt", "--output": "new"}, {
        "--model": MODEL, "--data": INPUT, "--output": NEW_FOLDER, "--method": [("lorra", "--method: finetuning.method")],
        "--objective": [("dpoo", "--objective: finetuning.objective")],
        "--window": [("0", "--window"), ("x", "--window")], "--inspect": [("0", "--inspect"), ("2", "trains nothing")], "--nproc": NUMBER, "--set": SET[:1]}),
    "data load": ({"--input": "text.txt", "--output": "new.txt"}, {
        "--input": INPUT, "--output": [*FILE_OUTPUT, ("x.doc", "cannot write a corpus"), ("text.txt", "both input and")],
        "--text-column": ANY, "--filter": ANY, "--language": ANY, "--near-duplicates": THRESHOLD}),
    "data prepare": ({"inputs": "text.txt", "--output": "new"}, {
        "inputs": INPUT, "--output": NEW_FOLDER, "--filter": [("bookz", "--filter bookz: data.filter")],
        "--language": [("english", "is no code")], "--near-duplicates": THRESHOLD, "--tokenizer": TOKENIZER_PATH,
        "--engine": [("cloud", "local, or ray")], "--ray-address": [("x:1", "--engine ray")], "--workers": NUMBER,
        "--config": CONFIG, "--set": SET, "--audit": [("-1", "--audit"), ("x", "--audit")]}),
    "data deduplicate": ({"input_": "text.txt", "output": "new.txt"}, {
        "input_": INPUT, "output": [*FILE_OUTPUT, ("text.txt", "both input and output")],
        "--near-duplicates": THRESHOLD}),
    "data inspect": ({"corpus": "text.txt"}, {"corpus": INPUT, "--tokenizer": TOKENIZER_PATH}),
    "tokenizer train": ({"--input": "text.txt", "--output": "new"}, {
        "--input": INPUT, "--output": NEW_FOLDER, "--algorithm": [("bpee", "--algorithm bpee")],
        "--vocab-size": [("0", "--vocab-size 0"), ("many", "--vocab-size")],
        "--min-frequency": [("0", "--min-frequency 0")], "--pretokenizer": [("gpt9", "--pretokenizer gpt9")],
        "--special-token": ANY}),
    "tokenizer inspect": ({"tokenizers": "tok"}, {
        "tokenizers": TOKENIZER, "--text": ANY, "--file": [("nowhere", "no such file"), ("empty", "is a folder")],
        "--corpus": INPUT}),
    "generate text": ({"--model": "model.bin"}, {
        "--model": MODEL, "--adapter": ADAPTER, "--tokenizer": TOKENIZER, "--prompt": ANY,
        "--prompt-file": [("nowhere", "no prompt file nowhere"), ("empty", "empty cannot be read")],
        "--max-new-tokens": [("x", "--max-new-tokens")], "--temperature": [("x", "--temperature")],
        "--top-k": [("x", "--top-k")], "--top-p": [("x", "--top-p")], "--min-p": [("x", "--min-p")],
        "--repetition-penalty": [("x", "--repetition")], "--num-samples": [("x", "--num-samples")], "--stop": ANY,
        "--seed": [("x", "--seed")], "--config": CONFIG, "--device": DEVICE, "--system": [("x", "give --chat, too")],
        "--documents": [*INPUT, ("text.txt", "say with --prompt what to look up"), ("empty", "empty is empty")],
        "--set": [*SET[:1], ("training.seed=1", "did you mean system.seed"), ("system.seed=1", "does not use it"),
                  ("generation.top_p=2", "--set generation.top_p=2: generation.top_p"),
                  ("generation.n_predict=3", "did you mean generation.max_new_tokens?")]}),
    "model evaluate": ({"model": "model.bin", "--data": "text.txt"}, {
        "model": MODEL, "--adapter": ADAPTER, "--data": INPUT, "--tokenizer": TOKENIZER, "--window": NUMBER,
        "--stride": NUMBER, "--batch-size": NUMBER, "--device": DEVICE, "--tasks": [("nowhere.yaml", "nowhere.yaml cannot")],
        "--limit": [*NUMBER, ("5", "is for --tasks")], "--num-fewshot": [("-5", "--num-fewshot"), ("2", "is for --tasks")]}),
    "model compare": ({"models": "model.bin", "--data": "text.txt"}, {
        "models": [*MODEL, ("model.bin", "two models or more")], "--data": INPUT, "--window": NUMBER, "--stride": NUMBER,
        "--batch-size": NUMBER, "--device": DEVICE}),
    "model merge": ({"base": "model.bin", "adapter": "ada", "output": "new.pt"}, {
        "base": MODEL, "adapter": ADAPTER, "output": [("text.txt", "already exists"), ("model.bin", "both input and")]}),
    "model info": ({"model": "model.bin"}, {"model": MODEL}),
    "export gguf": ({"model": "model.bin", "output": "new.gguf"}, {
        "model": MODEL, "output": [*FILE_OUTPUT, ("model.bin", "both input and output"), ("text.txt", "already exists")],
        "--quantization": QUANTIZATION, "--tokenizer": TOKENIZER}),
    "export adapter": ({"base": "model.bin", "folder": "ada", "output": "new.gguf"}, {
        "base": MODEL, "folder": ADAPTER, "output": [*FILE_OUTPUT, ("text.txt", "already exists")]}),
    "export hf": ({"model": "model.bin", "output": "new"}, {
        "model": MODEL, "output": [*NEW_FOLDER, ("full", "already exists")], "--tokenizer": TOKENIZER}),
    "import nanogpt": ({"source": "model.bin", "output": "new.pt"}, {
        "source": CHECKPOINT, "output": [("text.txt", "already exists"), ("text.txt/x.pt", "is a file, not a folder")],
        "--tokenizer": TOKENIZER, "--activation": ACTIVATION, "--source": [("nowhere.py", "no such file")]}),
    "import hf": ({"source": "model.bin", "output": "new.pt"}, {
        "source": MODEL, "output": [("text.txt", "already exists"), ("model.bin", "both input and output")],
        "--tokenizer": TOKENIZER}),
    "import gguf": ({"source": "model.bin", "output": "new.pt"}, {
        "source": MODEL, "output": [("text.txt", "already exists"), ("model.bin", "both input and output")],
        "--tokenizer": TOKENIZER}),
    "config create": ({}, {
        "--output": [("empty", "is a folder"), ("text.txt", "already exists")], "--preset": PRESET, "--set": SET}),
    "config validate": ({"path": "tiny.yaml"}, {"path": CONFIG, "--output": [("x.yaml", "--fix")]}),
    "config show": ({}, {"path": CONFIG, "--preset": PRESET, "--set": SET}),
    "config migrate": ({"source": "tiny.yaml", "output": "new.yaml"}, {
        "source": CONFIG, "output": [("text.txt", "already exists"), ("tiny.yaml", "both input and output")]}),
    "config schema": ({}, {}),
    "report": ({"run": "empty"}, {"run": [("nowhere", "nowhere")], "other": ANY, "--output": ANY}),
    "migrate": ({"legacy": "empty", "new": "new"}, {
        "legacy": [("nowhere", "no such folder: nowhere"), ("text.txt", "text.txt is a file")],
        "new": [("text.txt", "text.txt is a file"), ("text.txt/x", "is a file"), ("empty", "both input and output")],
        "--activation": ACTIVATION}),
    "info": ({}, {}),
}  # fmt: skip


def commands(group: click.Command = typer.main.get_command(app), name: str = "") -> Iterator[tuple[str, click.Command]]:
    inner = getattr(group, "commands", None)
    if inner is None:
        yield name, group
        return
    for key, command in inner.items():
        yield from commands(command, f"{name} {key}".strip())


def name_of(parameter: click.Parameter) -> str:
    is_option = parameter.param_type_name == "option"
    return max(parameter.opts, key=len) if is_option else str(parameter.name)


def test_every_option_of_every_command_has_its_wrong_values() -> None:
    wanted = {
        name: {name_of(p) for p in command.params if not getattr(p, "is_flag", False) and name_of(p) != "--help"}
        for name, command in commands()
    }
    assert {name: set(options) for name, (_, options) in COMMANDS.items()} == wanted


def invocations() -> list[tuple[list[str], str]]:
    found: list[tuple[list[str], str]] = []
    for name, command in commands():
        right, options = COMMANDS[name]
        order = [name_of(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
        for option, cases in options.items():
            for value, said in cases:
                given = {**right, option: value}
                if name == "build" and option == "--data":
                    given.pop("documents")
                named = [f"{key}={text}" for key, text in given.items() if key not in order]
                found.append(([*name.split(), *named, "--", *(given[key] for key in order if key in given)], said))
    return found


PROGRAM = """
import io, json, socket, sys
from contextlib import redirect_stderr, redirect_stdout

def refuse(*arguments, **named):
    raise AssertionError("a socket was opened")

socket.socket.connect = socket.getaddrinfo = refuse
from llmbuilder.cli import main

answers = []
for arguments in json.load(sys.stdin):
    sys.argv = ["llmbuilder", *arguments]
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main.run()
        except SystemExit as end:
            status = end.code
        except BaseException as error:
            status = repr(error)
    answers.append([status, err.getvalue(), out.getvalue(), "torch" in sys.modules])
print(json.dumps(answers))
"""


def prepare(folder: Path) -> None:
    (folder / "text.txt").write_text("Once upon a time there was a text. " * 20)
    (folder / "empty").mkdir()
    (folder / "holder" / "inner").mkdir(parents=True)
    (folder / "holder" / "inner" / "model.pt").write_bytes(b"PK\x03\x04\x00")
    (folder / "model.bin").write_bytes(b"PK\x03\x04\x00\x01")
    (folder / "ada").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / "ada" / name).write_text("{}")
    (folder / "full").mkdir()
    (folder / "full" / "kept.txt").write_text("kept")
    (folder / "tok").mkdir()
    (folder / "tok" / "tokenizer.json").write_text("{}")
    (folder / "tiny.yaml").write_text("training:\n  batch_size: 2\n")
    (folder / "wrong.yaml").write_text("training:\n  lr: 1\n")
    (folder / "none.yaml").write_text("\n")
    (folder / "tabs.yaml").write_text("training:\n\tbatch_size: 2\n")
    (folder / "comments.json").write_text('{\n  // the batch\n  "training": {}\n}')
    (folder / "trailing.json").write_text('{\n  "training": {"batch_size": 2,}\n}')


def test_wrong_options_end_in_a_sentence_before_anything_is_loaded(tmp_path: Path) -> None:
    prepare(tmp_path)
    tried = invocations()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False,
        input=json.dumps([arguments for arguments, _ in tried]), env={**os.environ, "COLUMNS": "300"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wrong = []
    loaded = False
    for (arguments, said), (status, err, _, has_torch) in zip(tried, json.loads(done.stdout), strict=True):
        if status not in (1, 2) or said not in err or "Traceback" in err or (has_torch and not loaded):
            wrong.append(f"{' '.join(arguments)}\n   -> {status} {err.strip()} (wanted {said!r}; torch: {has_torch})")
        loaded = loaded or has_torch
    assert not wrong, "\n".join(wrong)
    assert {path.name for path in tmp_path.iterdir()} & {"new", "new.txt", "new.pt", "new.gguf", "new.yaml"} == set()


@pytest.mark.parametrize("name", ["LLMBUILDER_TRAINING__LR", "LLMBUILDER_LR", "LLMBUILDER_TRAINING_LEARNING_RATE"])
def test_a_variable_is_named_with_the_one_that_is_meant(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    said = run("config", "show", cwd=tmp_path, status=1).stderr
    assert f"the environment variable {name}" in said
    assert "training.learning_rate" in said.lower().replace("__", ".")


def test_an_unknown_variable_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMBUILDER_ZZZZ", "1")
    assert "note: the environment variable LLMBUILDER_ZZZZ is no setting" in run("config", "show", cwd=tmp_path).stderr
