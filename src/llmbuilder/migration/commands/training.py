"""Calls of training programs: `llmbuilder train model`, and `train resume` for a run that goes on."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from llmbuilder.migration.commands.arguments import Given, literal
from llmbuilder.migration.commands.command_line import Draft, Trained
from llmbuilder.migration.commands.configuring import configuration
from llmbuilder.migration.commands.runs import folders_of, last_run, model_at, own_run, remember, trained_run
from llmbuilder.migration.commands.settings import add_settings
from llmbuilder.migration.commands.starting import add_processes, launched
from llmbuilder.migration.commands.words import Word, joined, quoted

_DATA_NAMES = ("dataset", "data", "data_dir", "data_path", "dataset_dir", "data_root", "train_data")
# What names the run, or its checkpoint, that a training goes on from.
_SOURCE_NAMES = (
    "resume_dir", "resume_from", "resume_path", "resume_ckpt", "resume_checkpoint", "resume_from_checkpoint",
    "resume_out_dir", "resume_run", "load_dir", "load_from", "load_checkpoint", "init_ckpt", "ckpt_path",
    "checkpoint_path", "checkpoint", "resume",
)  # fmt: skip
_START_NAMES = ("init_from", "resume", "resume_from", "resume_ckpt", "checkpoint", "resume_from_checkpoint")
# GPT-2's shapes as nanoGPT's from_pretrained forces them: layers, heads, width.
_GPT2 = {"gpt2": (12, 12, 768), "gpt2-medium": (24, 16, 1024), "gpt2-large": (36, 20, 1280), "gpt2-xl": (48, 25, 1600)}
_SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size")  # a resumed nanoGPT has the checkpoint's


def translate_training(draft: Draft) -> list[str]:
    """Return the words of the new command behind `llmbuilder`, and how it is started, in front of them."""
    found = configuration(draft)
    if found is None:
        return []
    values, is_evaluation = found.values, bool(literal(str(_value_of(draft, "eval_only", found.values))))
    start = draft.arguments.find(*_START_NAMES)
    init_from = start.value.settled if start is not None else _text(values.get("init_from"))
    resumes = init_from == "resume" or (start is not None and start.name == "resume" and init_from == "True")
    is_anew = init_from in ("", "scratch", "False", *_GPT2)
    source = None if is_anew else _source(draft, start, values, resumes=resumes)
    if start is not None and start.value.settled is None and source is None:
        draft.note(f"{start.shown}: what training starts from is only known to the shell")
    run, is_out_dir = trained_run(draft, found.config, found.out_dir, is_default=found.is_default)
    base = str(run)
    if not is_evaluation and (source in (run, last_run(draft, base)) if source is not None else resumes):
        return _resume(draft, start, values, last_run(draft, base) or run)
    if not is_out_dir and not is_evaluation:
        run = own_run(draft, run)
    draft.words = [*launched(draft), "train", "model"]
    draft.option("--config", found.config)
    _data(draft, values)
    trained = Trained(run, base, draft.call)
    _output(draft, trained, found.out_dir if is_out_dir else Word(), is_evaluation=is_evaluation)
    add_processes(draft)
    measured = run if is_evaluation and resumes and source is None else source
    if measured is not None and not is_evaluation:
        draft.note(f"training starts from the weights in {measured}, with a new optimizer, and counts from the start")
    add_settings(draft, "train model", values, _start(draft, start, init_from, measured, values))
    return draft.words


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _value_of(draft: Draft, name: str, values: Mapping[str, Any]) -> Any:
    given = draft.arguments.find(name)
    return given.value if given is not None else values.get(name, False)


def _source(draft: Draft, start: Given | None, values: Mapping[str, Any], *, resumes: bool) -> Word | None:
    """Return the model or the run that training goes on from, where the call names it: a checkpoint, or its folder."""
    given = next((g for name in _SOURCE_NAMES if (g := draft.arguments.find(name)) and not _is_switch(g.value)), None)
    path: Word | None = None
    if given is not None:
        path = given.value
    elif resumes:
        named = next((values[name] for name in _SOURCE_NAMES if values.get(name) and _text(values[name])), None)
        path = Word(named) if named is not None and not _is_switch(Word(named)) else None
    elif start is not None and start.value.endswith((".pt", ".pth", ".ckpt")):
        given, path = start, start.value
    if path is None:
        return None
    found = model_at(draft, path)
    if given is not None and found is not None:
        given.is_taken = True
    return found


def _is_switch(value: Word) -> bool:
    return value.lower() in ("true", "false", "none", "", "resume", "scratch", "auto", "latest", *_GPT2)


def _output(draft: Draft, trained: Trained, out_dir: Word, *, is_evaluation: bool) -> None:
    """Add the run folder; `out_dir` is empty where the legacy program names none."""
    run = trained.run
    if is_evaluation:
        # The old program wrote nothing then; a run of its own keeps the one that is measured as it is.
        draft.option("--output", joined([run.part(0, len(run.rstrip("/"))), Word("-evaluation")]))
        draft.say("--overwrite")
        return
    draft.option("--output", run)
    folders = folders_of(draft, out_dir) if out_dir else [str(run)]
    if out_dir and any(draft.places.replaces(folder) for folder in folders):
        draft.say("--overwrite")
        draft.note(f"a run that was carried over lies in {run}: it is replaced, as train.py replaced its checkpoint; "
                   "the model under model/ stays")  # fmt: skip
    elif draft.written.keys() & set(folders) or (draft.call.loops and not run.expansions):
        draft.say("--overwrite")
        draft.note(f"a command before this one trains in {run}, too: its run is replaced, as its checkpoint was")
    remember(draft, trained, folders)


def _data(draft: Draft, values: Mapping[str, Any]) -> None:
    """Add the data that the call names, with tokenizer and vocabulary if they are others than its configuration's."""
    given = draft.arguments.find(*_DATA_NAMES)
    if given is None:
        return
    found = draft.mapped(given.value, draft.places.data) or draft.mapped(draft.path(given.value), draft.places.data)
    if found is None:
        path = draft.path(given.value) if "/" in given.value else joined([Word("data/"), given.value])
        if given.value.settled is None:
            draft.note(f"{given.shown}: which data it is, only the shell knows; it is looked for at {path}")
        else:
            draft.note(f"{given.shown}: no such data was carried over; put it at {path}")
        found = path
    given.is_taken = True
    draft.option("--data", found)
    name = given.value.settled
    if name is None or given.name != "dataset" or name == values.get("dataset"):
        return
    tokenizer = draft.places.tokenizer(name)
    if tokenizer is not None:
        draft.option("--tokenizer", tokenizer)
    vocabulary = draft.places.vocabulary(name)
    if vocabulary is not None and draft.arguments.find("vocab_size") is None:
        draft.option("--set", f"model.vocab_size={vocabulary}")


def _start(
    draft: Draft, start: Given | None, init_from: str | None, source: Word | None, values: Mapping[str, Any]
) -> dict[str, str]:
    """Return the settings that say what training starts from; `source` is the model or run that it goes on from."""
    if source is not None:
        if start is not None:
            start.is_taken = True
        return {"training.init_from": source}
    if start is None and init_from in (None, "", "scratch"):
        return {}
    if init_from in ("", "scratch", "False", "None"):
        if start is not None:
            start.is_taken = True
        return {"training.init_from": "scratch"}
    if init_from is None:
        return {}
    if init_from in _GPT2:
        if start is not None:
            start.is_taken = True
        return _gpt2(draft, init_from, values)
    draft.note(f"training started from {init_from}, which was not carried over: this begins anew")
    return {}


def _gpt2(draft: Draft, name: str, values: Mapping[str, Any]) -> dict[str, str]:
    layers, heads, width = _GPT2[name]
    block = literal(str(_value_of(draft, "block_size", {"block_size": values.get("block_size", 1024)})))
    if isinstance(block, int) and block < 1024:
        draft.note(f"a block_size of {block} cut {name}'s positions; here the model keeps its 1024")
    for given in draft.arguments.options():
        if given.name in _SHAPE:
            given.is_taken = True
            draft.note(f"{given.shown} has no effect: {name} has a shape of its own")
    draft.note(f"put {name} there first: hf download openai-community/{name} --local-dir {name}")
    return {
        "training.init_from": name, "model.model_type": "gpt", "model.num_layers": str(layers),
        "model.num_heads": str(heads), "model.embedding_dim": str(width), "model.max_seq_length": "1024",
        "model.vocab_size": "50257", "model.bias": "true",
    }  # fmt: skip


def _resume(draft: Draft, start: Given | None, values: Mapping[str, Any], run: Word) -> list[str]:
    """Return `train resume`, which has the run's model and data, with the options that can still be changed."""
    if start is not None:
        start.is_taken = True
    draft.words = [*launched(draft), "train", "resume"]
    draft.say(quoted(run))
    add_processes(draft)
    for given in draft.arguments.options():
        if given.name in _SHAPE:
            given.is_taken = True
            draft.note(f"{given.shown} has no effect, there as here: the run's model has its shape already")
    source = " ".join(given.shown for given in draft.arguments.given if given.value.endswith((".py", ".json")))
    draft.note(f"{source or posixpath.basename(draft.call.script)} said all settings there; the run keeps those "
               "it was begun with, and --set changes them")  # fmt: skip
    add_settings(draft, "train resume", values)
    return draft.words
