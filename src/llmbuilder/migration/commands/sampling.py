"""Calls of programs that sample from a model, or measure one: `llmbuilder generate text` and `model evaluate`."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from llmbuilder.migration.commands.arguments import Given, literal
from llmbuilder.migration.commands.command_line import Draft
from llmbuilder.migration.commands.runs import experiment_name, known_folder, last_run, model_at, named_run, run_of
from llmbuilder.migration.commands.starting import refuse_processes
from llmbuilder.migration.commands.words import Word, quoted

# What nanoGPT's sample.py does by itself (at 3adf61e).
NANOGPT_SAMPLING: dict[str, Any] = {
    "start": "\n", "num_samples": 10, "max_new_tokens": 500, "temperature": 0.8, "top_k": 200, "seed": 1337,
}  # fmt: skip
_OPTIONS = {
    "--num-samples": ("num_samples", "num_return_sequences", "n_samples"),
    "--max-new-tokens": ("max_new_tokens", "max_tokens", "max_length", "num_tokens", "steps", "length"),
    "--temperature": ("temperature", "temp"),
    "--top-k": ("top_k", "topk"),
    "--top-p": ("top_p", "topp"),
    "--min-p": ("min_p",),
    "--repetition-penalty": ("repetition_penalty",),
    "--seed": ("seed",),
    "--device": ("device",),
}  # fmt: skip
_FILTERS = ("--top-k", "--top-p", "--min-p")
_PROMPTS = ("start", "prompt", "text", "input_text")
_MODELS = (
    "model", "checkpoint", "ckpt", "model_path", "checkpoint_path", "ckpt_path", "model_file", "resume_from",
    "resume_ckpt", "load",
)  # fmt: skip
_FOLDERS = ("out_dir", "model_dir", "run_dir", "checkpoint_dir", "output_dir", "work_dir")
_SAYING_NOTHING = ("ckpt", "checkpoint", "best", "last", "latest", "final")  # of which model a file at the root holds
_GPT2 = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
_NOT_HERE = {
    "dtype": "text is generated in the numbers that the model's file has",
    "compile": "a model is not compiled to generate text",
}


def translate_sampling(draft: Draft) -> list[str]:
    """Return the words of `llmbuilder generate text`, with what the old program does by itself written out."""
    measures = draft.arguments.find("eval_only")
    if measures is not None and literal(measures.value) is True:
        measures.is_taken = True
        draft.note(f"{measures.shown}: nothing is sampled then, the model is measured")
        return translate_evaluation(draft)
    defaults = _defaults(draft)
    draft.words = ["llmbuilder", "generate", "text", "--model"]
    if not _model(draft, defaults, draft.places.tokenizer):
        return []
    refuse_processes(draft, "generating text")
    is_interactive = draft.arguments.find("interactive")
    if is_interactive is not None and literal(is_interactive.value) is True:
        is_interactive.is_taken = True
        draft.say("--interactive")
    else:
        _prompt(draft, defaults)
    _sampling(draft, defaults)
    for name, why in _NOT_HERE.items():
        given = draft.arguments.find(name)
        if given is not None:
            given.is_taken = literal(given.value) is False
            draft.note(f"{given.shown}: {why}")
    return draft.words


def _defaults(draft: Draft) -> dict[str, Any]:
    """Return what the program does by itself: its own constants, over nanoGPT's where it is of that kind."""
    own = {name: value for name, value in draft.facts.defaults.items() if value is not None}
    from_file: Mapping[str, Any] = {}
    for positional in draft.arguments.positional():
        path = draft.path(positional.value).settled
        if draft.facts.style != "argparse" and path is not None and draft.places.config(path) is not None:
            from_file = draft.places.config_values(path, draft.call.script)
            positional.is_taken = True
            draft.note(f"{positional.shown}: what it says of sampling is written out")
    base = NANOGPT_SAMPLING if draft.facts.style == "configurator" else {}
    return {**base, **own, **from_file}


def _model(draft: Draft, defaults: Mapping[str, Any], tokenizer_of: Callable[[str], str | None]) -> bool:
    """Add the model that is read, and its tokenizer where it has none of its own; whether it is known."""
    initial = draft.arguments.find("init_from")
    start = initial.value.settled if initial is not None else defaults.get("init_from")
    if start in _GPT2:
        draft.say(str(start))
        draft.note(f"put {start} there first: hf download openai-community/{start} --local-dir {start}")
        folder = draft.arguments.take(*_FOLDERS)
        if folder is not None:
            draft.note(f"out_dir={folder} has no effect, there as here: the model is {start}")
        tokenizer = None
    else:
        found = _own_model(draft, defaults)
        if found is None:
            return False
        model, folder_name = found
        tokenizer = tokenizer_of(folder_name)
        draft.say(quoted(model))
    if initial is not None:
        initial.is_taken = start in (*_GPT2, "resume")
    _tokenizer(draft, tokenizer)
    return True


def _own_model(draft: Draft, defaults: Mapping[str, Any]) -> tuple[Word, str] | None:
    """Return the model that a call names by its file or its folder, and the folder it lay in; None if nobody knows."""
    named = next((g for name in _MODELS if (g := draft.arguments.find(name)) and _is_path(draft, g)), None)
    files = [p for p in draft.arguments.positional() if p.value.endswith((".pt", ".pth", ".ckpt"))]
    named = named or (files[0] if files else None)
    folder = draft.arguments.find(*_FOLDERS)
    default = next((defaults[name] for name in _MODELS if isinstance(defaults.get(name), str)), "")
    if named is None and (folder is not None or not default.endswith((".pt", ".pth", ".ckpt"))):
        return _run(draft, folder, defaults)
    path = Word(default)
    if named is not None:
        named.is_taken = True
        path = named.value
    found = model_at(draft, path)
    if found is None and path.expansions:
        draft.note(f"which model {path} is, is only known to the shell: nothing stands for this call")
        return None
    is_carried = path.settled is None or found in [draft.places.model(one) for one in (path, draft.path(path))]
    if found is None and posixpath.splitext(path or "model.pt")[0] not in _SAYING_NOTHING:
        found = Word(f"model/{posixpath.basename(path or 'model.pt')}")
        draft.note(f"{path} was not carried over: convert it to {found} with `llmbuilder import nanogpt`")
    elif found is None or not is_carried:
        found = found or last_run(draft) or Word(draft.places.sampled_model(""))
        draft.note(f"{path} was not carried over: {found} is what a training leaves there; the file itself is "
                   "converted with `llmbuilder import nanogpt`")  # fmt: skip
    return found, posixpath.dirname(path.settled or "")


def _is_path(draft: Draft, given: Given) -> bool:
    """Whether an argument is a file or a folder, and not the name of an architecture."""
    word = given.value
    if given.name != "model" or word.expansions or "/" in word or "." in word:
        return True
    return str(word) in draft.written or draft.places.replaces(word) or draft.places.model(word) is not None


def _run(draft: Draft, folder: Given | None, defaults: Mapping[str, Any]) -> tuple[Word, str] | None:
    """Return the run that a call reads: by its folder, by its experiment's name, else what was trained before it."""
    name = experiment_name(draft) if folder is None else None
    if name is not None:
        name.is_taken = True
        run = named_run(draft, name)
        return last_run(draft, str(run)) or run, ""
    own = next((defaults[name] for name in _FOLDERS if isinstance(defaults.get(name), str)), "")
    out_dir = Word(own)
    if folder is not None:
        folder.is_taken = True
        out_dir = folder.value
    if not out_dir:
        return last_run(draft) or Word(draft.places.sampled_model("")), ""
    out_dir = known_folder(draft, out_dir)
    found = draft.mapped(out_dir, draft.places.sampled_model)
    return found if found is not None else run_of(draft, out_dir), out_dir.settled or ""


def _tokenizer(draft: Draft, tokenizer: str | None) -> None:
    given = draft.arguments.find("tokenizer", "tokenizer_path", "tokenizer_model")
    if given is not None:
        found = draft.mapped(draft.path(given.value), draft.places.tokenizer)
        if found is not None and not found.expansions:
            given.is_taken = True
            tokenizer = str(found)
        elif given.value.settled is None:
            draft.note(f"{given.shown}: which tokenizer it is, only the shell knows; a run holds its own")
        else:
            draft.note(f"{given.shown}: no such tokenizer was carried over")
    if tokenizer is not None:
        draft.option("--tokenizer", tokenizer)


def _prompt(draft: Draft, defaults: Mapping[str, Any]) -> None:
    given = draft.arguments.find(*_PROMPTS)
    default = next((defaults[name] for name in _PROMPTS if isinstance(defaults.get(name), str)), "")
    text = Word(default)
    if given is not None:
        given.is_taken = True
        text = given.value
    if text.startswith("FILE:"):
        path = draft.path(text.part(len("FILE:")))
        found = draft.mapped(path, draft.places.data)
        if found is None:
            draft.note(f"put {path} into the new project: the prompt is read from it")
        draft.option("--prompt-file", found if found is not None else path)
        return
    if not text.expansions and draft.facts.style != "argparse" and text[:1] in ("'", '"'):
        meant = literal(text)
        text = Word(meant) if isinstance(meant, str) else text
    if text.startswith("-"):
        draft.say(f"--prompt={quoted(text)}")
    else:
        draft.option("--prompt", text)


def _sampling(draft: Draft, defaults: Mapping[str, Any]) -> None:
    values: dict[str, Word] = {}
    for option, names in _OPTIONS.items():
        given = draft.arguments.find(*names)
        default = next((defaults[name] for name in names if defaults.get(name) is not None), None)
        if given is not None and _fits(option, given.value):
            given.is_taken = True
            is_off = given.value.settled is not None and literal(given.value.settled) is None
            values[option] = Word("none") if is_off else given.value
        elif given is not None:
            draft.note(f"{given.shown} is no value that generating text takes")
        elif default is not None and option != "--device" and _fits(option, Word(str(default))):
            values[option] = Word(str(default))
        elif default is not None and option != "--device":
            draft.note(f"{names[0]} is {default} there by itself, which is no value that generating text takes")
    heat = values.get("--temperature")
    if heat is not None and heat.settled is not None and literal(heat.settled) == 0:
        for option in ("--temperature", *_FILTERS):
            if option in values:
                draft.note(f"{option} {values.pop(option)} is what --greedy stands for, or has no effect beside it")
        draft.say("--greedy")
    for option, value in values.items():
        draft.option(option, value)


def _fits(option: str, value: Word) -> bool:
    """Whether an option can take a value: a number of the right kind, or none where a filter can be off."""
    if value.settled is None or option == "--device":
        return True
    meant = literal(value.settled)
    if meant is None:
        return option in _FILTERS
    if isinstance(meant, bool) or not isinstance(meant, int | float) or meant < 0:
        return False
    return isinstance(meant, int) or option not in ("--num-samples", "--max-new-tokens", "--top-k", "--seed")


def translate_evaluation(draft: Draft) -> list[str]:
    """Return the words of `llmbuilder model evaluate`."""
    defaults = {name: value for name, value in draft.facts.defaults.items() if value is not None}
    draft.words = ["llmbuilder", "model", "evaluate"]
    config = draft.arguments.find("config")
    if config is not None:
        config.is_taken = True
        draft.note(f"{config.shown}: a model's file says all of its shape")
    given = draft.arguments.find("data", "dataset", "eval_dataset", "data_path", "data_dir", "input")
    if not _model(draft, defaults, lambda folder: draft.places.tokenizer(folder) if folder else None):
        return []
    refuse_processes(draft, "an evaluation")
    own = next((defaults[key] for key in ("data", "dataset", "data_path") if isinstance(defaults.get(key), str)), None)
    name = given.value if given is not None else Word(own if own is not None else "data.txt")
    found = draft.mapped(name, draft.places.data) or draft.mapped(draft.path(name), draft.places.data)
    if given is not None:
        given.is_taken = True
    if found is None and given is None:
        draft.note(f"what {draft.call.script} measures a model on is not known: nothing stands for it")
        return []
    if found is None:
        draft.note(f"{name}: no such data was carried over; --data names the text to predict")
    elif not found.endswith((".txt", ".jsonl", ".parquet")):
        draft.note(f"{found} is no text: name the .txt, .jsonl or .parquet file that it was made from")
    draft.option("--data", found if found is not None else name)
    for option, names in (("--batch-size", ("batch_size",)), ("--device", ("device",))):
        value = draft.arguments.take(*names)
        if value is not None:
            draft.option(option, value)
    return draft.words
