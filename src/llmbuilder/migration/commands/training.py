"""Calls of training programs: `llmbuilder train model`, and `train resume` for a run that goes on."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from llmbuilder.migration.commands.arguments import Given, literal
from llmbuilder.migration.commands.command_line import Draft
from llmbuilder.migration.commands.looping import choices
from llmbuilder.migration.commands.settings import add_settings
from llmbuilder.migration.commands.starting import add_processes, launched
from llmbuilder.migration.commands.words import Word, joined, quoted

_CONFIG_NAMES = ("config", "config_file", "config_path", "cfg")
_OUTPUT_NAMES = ("out_dir", "output_dir", "output", "work_dir", "save_dir", "checkpoint_dir", "ckpt_out", "ckpt_dir")
_DATA_NAMES = ("dataset", "data", "data_dir", "data_path", "dataset_dir", "data_root", "train_data")
_START_NAMES = ("init_from", "resume", "resume_from", "resume_ckpt", "checkpoint", "resume_from_checkpoint")
# GPT-2's shapes as nanoGPT's from_pretrained forces them: layers, heads, width.
_GPT2 = {"gpt2": (12, 12, 768), "gpt2-medium": (24, 16, 1024), "gpt2-large": (36, 20, 1280), "gpt2-xl": (48, 25, 1600)}
_SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size")  # a resumed nanoGPT has the checkpoint's


def translate_training(draft: Draft) -> list[str]:
    """Return the words of the new command behind `llmbuilder`, and how it is started, in front of them."""
    found = _configuration(draft)
    if found is None:
        return []
    config, values, out_dir = found
    start = draft.arguments.find(*_START_NAMES)
    init_from = start.value.settled if start is not None else _text(values.get("init_from"))
    if start is not None and start.value.settled is None:
        draft.note(f"{start.shown}: what training starts from is only known to the shell")
    is_evaluation = bool(literal(str(_value_of(draft, "eval_only", values))))
    resumes = init_from == "resume" or (start is not None and start.name == "resume" and init_from == "True")
    if resumes and not is_evaluation:
        return _resume(draft, start, out_dir, values)
    draft.words = [*launched(draft), "train", "model"]
    draft.option("--config", config)
    _data(draft, values)
    _output(draft, out_dir, is_evaluation=is_evaluation)
    add_processes(draft)
    add_settings(draft, "train model", values, _start(draft, start, init_from, out_dir, values))
    return draft.words


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _value_of(draft: Draft, name: str, values: Mapping[str, Any]) -> Any:
    given = draft.arguments.find(name)
    return given.value if given is not None else values.get(name, False)


def _configuration(draft: Draft) -> tuple[Word, Mapping[str, Any], Word] | None:
    """Return the new configuration file, the legacy values in force, options left out, and the out_dir.

    None if the call names a file that was not carried over, or a loop goes over files that differ in more than one
    command can say: a training with other settings is another training.
    """
    given = draft.arguments.find(*_CONFIG_NAMES)
    positional = [
        p
        for p in draft.arguments.positional()
        if p.value.endswith((".py", ".json", ".yaml", ".yml")) or (p.value.expansions and given is None)
    ]
    named = given if given is not None else (positional[0] if positional else None)
    script = draft.call.script
    if named is None:
        values = draft.places.config_values(None, script)
        return Word(draft.places.default_config(script)), values, _out_dir(draft) or Word(_own_out_dir(values))
    path = draft.path(named.value)
    found = draft.mapped(path, draft.places.config)
    if found is None:
        draft.note(f"{named.shown} is no configuration that was carried over: nothing stands for this call")
        return None
    named.is_taken = True
    if any(given.place < named.place for given in draft.arguments.options()) and draft.facts.style == "configurator":
        draft.note(f"{named.value} was read after the options before it and may have said otherwise")
    files = choices(path, draft.call.loops)
    each = [draft.places.config_values(file, script) for file in files] or [{}]
    values = {key: value for key, value in each[0].items() if all(other.get(key) == value for other in each)}
    out_dir = _out_dir(draft)
    if out_dir is None:
        out_dir = draft.mapped(path, lambda file: _own_out_dir(draft.places.config_values(file, script)))
    differing = [key for key in ("init_from", "eval_only") if key in each[0] and key not in values]
    if out_dir is None or any(draft.arguments.find(key) is None for key in differing):
        draft.note(f"the configurations {path} goes through differ in {', '.join(differing) or 'out_dir'}: write a "
                   "line for each of them")  # fmt: skip
        return None
    return found, values, out_dir


def _out_dir(draft: Draft) -> Word | None:
    """Return the out_dir that the call names."""
    given = draft.arguments.take(*_OUTPUT_NAMES)
    if given is None:
        return None
    return draft.path(given) if draft.facts.style == "argparse" or given.startswith(".") else given


def _own_out_dir(values: Mapping[str, Any]) -> str:
    return next((values[name] for name in _OUTPUT_NAMES if isinstance(values.get(name), str)), "")


def run_of(draft: Draft, out_dir: Word) -> Word:
    """Return the run folder of an out_dir."""
    found = draft.mapped(out_dir, draft.places.run)
    if found is not None:
        return found
    draft.note(f"the run folder of {out_dir} is only known to the shell")
    return joined([Word("run/"), out_dir])


def _output(draft: Draft, out_dir: Word, *, is_evaluation: bool) -> None:
    run = run_of(draft, out_dir)
    if is_evaluation:
        # The old program wrote nothing then; a run of its own keeps the one that is measured as it is.
        draft.option("--output", joined([run.part(0, len(run.rstrip("/"))), Word("-evaluation")]))
        draft.say("--overwrite")
        return
    draft.option("--output", run)
    folders = choices(out_dir, draft.call.loops) or [str(out_dir)]
    if any(draft.places.replaces(folder) for folder in folders):
        draft.say("--overwrite")
        draft.note(f"a run that was carried over lies in {run}: it is replaced, as train.py replaced its checkpoint; "
                   "the model under model/ stays")  # fmt: skip
    elif draft.written & set(folders) or (draft.call.loops and not run.expansions):
        draft.say("--overwrite")
        draft.note(f"a command before this one trains in {run}, too: its run is replaced, as its checkpoint was")
    draft.written.update(folders)


def _data(draft: Draft, values: Mapping[str, Any]) -> None:
    """Add the data that the call names, with tokenizer and vocabulary if they are others than its configuration's."""
    given = draft.arguments.find(*_DATA_NAMES)
    if given is None:
        return
    found = draft.mapped(given.value, draft.places.data) or draft.mapped(draft.path(given.value), draft.places.data)
    if found is None:
        path = draft.path(given.value) if "/" in given.value else joined([Word("data/"), given.value])
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
    draft: Draft, start: Given | None, init_from: str | None, out_dir: Word, values: Mapping[str, Any]
) -> dict[str, str]:
    """Return the settings that say what training starts from."""
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
    if init_from == "resume":  # an evaluation of the run as it is
        if start is not None:
            start.is_taken = True
        settled = out_dir.settled
        return {} if settled is None else {"training.init_from": draft.places.sampled_model(settled)}
    model = draft.places.model(draft.path(Word(init_from)))
    if model is None:
        draft.note(f"training started from {init_from}, which was not carried over: this begins anew")
        return {}
    if start is not None:
        start.is_taken = True
    draft.note(f"training starts from the weights in {model}, with a new optimizer")
    return {"training.init_from": model}


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


def _resume(draft: Draft, start: Given | None, out_dir: Word, values: Mapping[str, Any]) -> list[str]:
    """Return `train resume`, which has the run's model and data, with the options that can still be changed."""
    if start is not None:
        start.is_taken = True
    draft.words = [*launched(draft), "train", "resume"]
    draft.say(quoted(run_of(draft, out_dir)))
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
