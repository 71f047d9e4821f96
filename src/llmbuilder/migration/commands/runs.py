"""The run folder that a call trains in or reads: by its out_dir, by the name of its experiment, by its configuration.

Trainings with different settings never share a run, unless the legacy programs wrote them to the same out_dir.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Hashable

from llmbuilder.migration.commands.arguments import Given
from llmbuilder.migration.commands.command_line import Draft, Trained
from llmbuilder.migration.commands.looping import choices
from llmbuilder.migration.commands.words import Word, joined

# What programs call an experiment by. The first ones name its files, the others may name something else as well.
_RUN_NAMES = (
    "run_name", "exp_name", "experiment_name", "run_id", "exp", "experiment", "save_name", "ckpt_name",
    "checkpoint_name",
)  # fmt: skip
_OTHER_NAMES = ("name", "wandb_run_name", "wandb_name", "tag", "model_name")
_ONLY_NAMES = {"run_name", "exp_name", "experiment_name", "run_id", "wandb_run_name", "wandb_name"}
_TRACKED = ("wandb_run_name", "wandb_name")  # settings of their own as well
_NO_RESULT = {"device", "compile", "backend", "log_interval", "wandb_log", "wandb_project", "num_workers", "resume"}
_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar")


class RunNames:
    """Gives trainings with different settings different run folders: the first one the name, the next ones a number."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, Hashable], str] = {}

    def name(self, run: str, training: Hashable) -> str:
        """Return a training's run folder; the same training gets the same one again."""
        if (run, training) not in self._given:
            taken, number, name = set(self._given.values()), 1, run
            while name in taken:
                number += 1
                name = f"{run}-{number}"
            self._given[run, training] = name
        return self._given[run, training]


def experiment_name(draft: Draft, *, is_certain: bool = False) -> Given | None:
    """Return the argument that names an experiment; `is_certain`: and nothing else, such as a model's architecture."""
    found = draft.arguments.find(*_RUN_NAMES, *(() if is_certain else _OTHER_NAMES))
    is_value = found is not None and found.value and found.value not in ("True", "False", "None")
    return found if is_value else None


def run_of(draft: Draft, out_dir: Word) -> Word:
    """Return the run folder of an out_dir."""
    found = draft.mapped(out_dir, draft.places.run)
    if found is not None:
        return found
    draft.note(f"the run folder of {out_dir} is only known to the shell")
    return joined([Word("run/"), out_dir])


def trained_run(draft: Draft, config: Word, out_dir: Word, *, is_default: bool) -> tuple[Word, bool]:
    """Return the run folder of a training, and whether it is that of an out_dir.

    `is_default`: the out_dir is what the program takes by itself. There a name that the call gives says more.
    """
    name = experiment_name(draft, is_certain=bool(out_dir))
    if out_dir and not (is_default and name is not None):
        return run_of(draft, out_dir), True
    if name is None:
        return draft.mapped(config, draft.places.default_run) or Word("run"), False
    return named_run(draft, name), False


def named_run(draft: Draft, name: Given) -> Word:
    """Return the run folder of a named experiment, without a number, and account for the name."""
    run = draft.mapped(name.value, draft.places.named_run) or joined([Word("run/"), name.value])
    if name.name in _TRACKED:
        draft.note(f"{name.shown} names the run: no out_dir does")
        return run
    name.is_taken = True
    if name.name not in _ONLY_NAMES:
        draft.note(f"{name.shown} names the run; what else {draft.call.script} makes of it is not in this command")
    return run


def own_run(draft: Draft, run: Word) -> Word:
    """Return the run folder of a training that no out_dir names: one that no other training has."""
    varying = {e.name for given in draft.arguments.given for e in given.value.expansions}
    for loop in draft.call.loops:
        if loop.variable in varying and all(e.name != loop.variable for e in run.expansions):
            word = next(g.value.part(e.start, e.end) for g in draft.arguments.given for e in g.value.expansions
                        if e.name == loop.variable)  # fmt: skip
            run = joined([run, Word("-"), word])
    settings = tuple(sorted((given.name, str(given.value)) for given in draft.arguments.given
                            if given.name not in _NO_RESULT))  # fmt: skip
    name = draft.places.own_run(str(run), (draft.call.script, settings))
    if name == run:
        return run
    draft.note(f"another training has {run}: this one, with settings of its own, gets {name}")
    return joined([run, Word(name[len(run) :])])


def last_run(draft: Draft, base: str | None = None) -> Word | None:
    """Return the run that the last training before this call in its file wrote: any one, or one of that name."""
    for one in reversed(draft.written.values()):
        inside = {loop.variable for loop in one.call.loops} - {loop.variable for loop in draft.call.loops}
        is_readable = not any(e.name in inside for e in one.run.expansions)  # its loop may be over by now
        if one.call.file == draft.call.file and is_readable and base in (None, one.base):
            return one.run
    return None


def remember(draft: Draft, trained: Trained, folders: list[str]) -> None:
    """Keep what a training writes, for the calls after it."""
    for folder in folders:
        draft.written.pop(folder, None)
        draft.written[folder] = trained


def folders_of(draft: Draft, out_dir: Word) -> list[str]:
    """Return the out_dirs that a call goes through, as far as they are known."""
    return choices(out_dir, draft.call.loops) or [str(out_dir)]


def model_at(draft: Draft, path: Word) -> Word | None:
    """Return the model of a checkpoint's path: its file if it was carried over, else the run of the folder it lies in.

    None where only the shell knows the folder, or there is none.
    """
    for place in (draft.path(path), path):
        found = draft.mapped(place, draft.places.model)
        if found is not None or not path:
            return found
    folder = path
    if path.endswith(_CHECKPOINT_SUFFIXES) or re.search(r"[*?]", posixpath.basename(path)):
        inside = [(e.start, e.end) for e in path.expansions]
        cuts = [at for at, letter in enumerate(path) if letter == "/" and not any(a <= at < b for a, b in inside)]
        folder = path.part(0, cuts[-1]) if cuts else Word()
    if folder in ("", ".", ".."):
        return None
    if folder.settled is None and len(list(folder.pieces())) == 1 and not path.endswith(_CHECKPOINT_SUFFIXES):
        return None  # a file or a folder, which nobody can tell
    folder = known_folder(draft, folder)
    run = draft.mapped(folder, draft.places.sampled_model) or run_of(draft, folder)
    return last_run(draft, str(run)) or run


def known_folder(draft: Draft, folder: Word) -> Word:
    """Return a folder as the training called it that wrote there: from where it was started, or from the root."""
    based = draft.path(folder)
    if str(folder) not in draft.written and (str(based) in draft.written or folder.startswith(".")):
        return based
    return folder
