"""How a run begins: from nothing, again, in place of an earlier run, beside it, or from its newest checkpoint.

Every way of starting is decided here, from what is on the disk, what was asked for, and which launch this is.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import uuid
from pathlib import Path

from llmbuilder.errors import CheckpointError, TrainingError
from llmbuilder.files import set_aside
from llmbuilder.finetuning.peft_files import ADAPTER_FILES
from llmbuilder.locking import locked_folder
from llmbuilder.notices import command
from llmbuilder.report.page import REPORT_NAME
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training.processes.distributed import Launch
from llmbuilder.training.storage.checkpoints import list_checkpoints, remove_checkpoint
from llmbuilder.training.storage.model_files import ModelFiles
from llmbuilder.training.storage.paths import BAD_STEP_NAME, RunPaths
from llmbuilder.training.storage.run_tokenizer import keep_other_tokenizer

logger = logging.getLogger("llmbuilder")


class Asked(enum.Enum):
    """What the caller wants done in the run directory."""

    NEW = "a new run"
    OVERWRITE = "a new run in place of an earlier one"
    CONTINUE = "the run that is there, continued; a new one if there is none"
    RESUME = "the run that is there, continued"


class Start(enum.Enum):
    """How the run begins."""

    NEW = "nothing is here yet"
    AGAIN = "an earlier start left nothing to go on from"
    REPLACE = "the earlier run is removed"
    ASIDE = "the earlier run is kept under a numbered name"
    RESUME = "from the newest checkpoint"


def prepare_start(paths: RunPaths, asked: Asked, launch: Launch) -> Start:
    """Decide how the run begins; nothing is moved or removed yet.

    Raises CheckpointError if an earlier run may not be touched, TrainingError if one is at work here.
    """
    if asked is Asked.RESUME:
        return Start.RESUME
    if not paths.folder.exists():  # a lock would make it
        return choose_start(paths, asked, launch)
    with locked_folder(paths.folder, TrainingError):
        start = choose_start(paths, asked, launch)
    if start is Start.AGAIN:
        logger.warning(f"{paths.folder} holds a start that ended before its first checkpoint: starting again")
    return start


def choose_start(paths: RunPaths, asked: Asked, launch: Launch) -> Start:
    """Return how the run begins. Raises CheckpointError where the table says "refused".

    | in the run directory                          | a new run | overwrite | unnamed | continue | resume   |
    | --------------------------------------------- | --------- | --------- | ------- | -------- | -------- |
    | nothing                                       | NEW       | NEW       | NEW     | NEW      | RESUME * |
    | a start without a model or a checkpoint       | AGAIN     | AGAIN     | AGAIN   | AGAIN    | RESUME * |
    | a run of this launch, with a checkpoint       | RESUME    | RESUME    | RESUME  | RESUME   | RESUME   |
    | a run of this launch, with a model only       | AGAIN     | AGAIN     | AGAIN   | AGAIN    | RESUME * |
    | a run of another launch, with a checkpoint    | refused   | REPLACE   | ASIDE   | RESUME   | RESUME   |
    | a run of another launch, with a model only    | refused   | REPLACE   | AGAIN   | AGAIN    | RESUME * |
    | a model, but no run.json                      | refused   | REPLACE   | NEW     | refused  | RESUME * |
    | files named like checkpoints, but no run.json | refused   | refused   | ASIDE   | refused  | RESUME * |

    "Unnamed" is a new run without an output directory.
    * which then says that there is nothing to resume. A run.json that is none of this program's counts as none.

    A run is of this launch if torchrun started these processes again after the same launch began it: run.json holds
    the launch's name. Names can be given twice (torchrun's default is "none"); the first processes of a launch that
    are refused therefore take their name out of run.json, so that those started after them are refused as well.
    """
    if asked is Asked.RESUME:
        return Start.RESUME
    has_run = paths.has_record
    has_checkpoint = bool(list_checkpoints(paths.checkpoints))
    has_model = not paths.keep_earlier and (paths.model.exists() or paths.last_model.exists())
    is_own = has_run and (asked is Asked.CONTINUE or (launch.is_restarted and _launch_of(paths) == launch.name))
    if is_own or not (has_checkpoint or has_model):
        return Start.RESUME if has_checkpoint and is_own else Start.AGAIN if has_run else Start.NEW
    if paths.keep_earlier and asked is not Asked.CONTINUE:
        return Start.ASIDE
    if has_checkpoint and not has_run:
        raise CheckpointError(
            f"{paths.checkpoints} holds files named like checkpoints, but {paths.record} is missing or not this "
            "program's, so that nothing says whose they are: move them away, or choose another directory"
        )
    if asked is Asked.OVERWRITE:
        return Start.REPLACE
    _disown(paths, launch)
    if not has_run:
        raise CheckpointError(
            f"{paths.folder} holds a model already, but no run that could go on: replace it with "
            "overwrite=True, or choose another directory"
        )
    raise CheckpointError(
        f"{paths.folder} already holds a run: continue it with `{command('train', 'resume', paths.folder)}`, "
        "replace it with overwrite=True, or choose another directory"
    )


def _launch_of(paths: RunPaths) -> str | None:
    """Return the name of the launch that began the run; None if run.json is missing, damaged or names none."""
    try:
        return paths.read_record().get("launch")
    except TrainingError:
        return None


def _disown(paths: RunPaths, launch: Launch) -> None:
    if launch.name is not None and _launch_of(paths) == launch.name:
        paths.write_record({**paths.read_record(), "launch": None})


def make_room(
    paths: RunPaths, start: Start, tokens: Path, tokenizer: Tokenizer | None, held: contextlib.ExitStack
) -> None:
    """Give the run directory to a new run: remove an earlier one of this program, keep everything else.

    `tokens` is the folder of the new run's, which stays if it lies here, as does an equal tokenizer. Call it when
    nothing can be refused any more. `held` has the lock of the folder, and gets that of the one that takes its place.
    """
    if start is Start.ASIDE:
        held.close()  # Windows renames no folder in which a file is open
        set_aside(paths.folder)
        held.enter_context(locked_folder(paths.folder, TrainingError))
    has_run = paths.has_record
    is_in_place = tokens.resolve() == paths.tokens.resolve()
    own_tokens = has_run and paths.read_record().get("own_tokens", True)
    if has_run:
        _remove_earlier_run(paths)
    else:
        _keep_the_users(paths)
    if tokenizer is not None and (paths.keep_earlier or not has_run):
        keep_other_tokenizer(tokenizer, paths)
    if not is_in_place and not own_tokens:
        set_aside(paths.tokens)
    # From here on what is written is a run's: a start after a kill knows it for one.
    paths.write_record({"name": uuid.uuid4().hex, "own_tokens": own_tokens or not is_in_place})


def _remove_earlier_run(paths: RunPaths) -> None:
    """Delete what the run that run.json tells of has left behind, and nothing else that may lie beside it."""
    for checkpoint in list_checkpoints(paths.checkpoints):
        remove_checkpoint(checkpoint)
    for path in (paths.metrics, paths.base, paths.reference, *(paths.adapter / name for name in ADAPTER_FILES)):
        path.unlink(missing_ok=True)
    models = ModelFiles(paths)
    for path in [] if paths.keep_earlier else [paths.model, paths.last_model]:
        if models.is_own(path):
            path.unlink()


def _keep_the_users(paths: RunPaths) -> None:
    """Give numbered names to files that lie where a run writes its own; models get theirs when one is written."""
    names = (paths.record, paths.config, paths.metrics, paths.base, paths.reference, paths.adapter)
    for path in (*names, paths.folder / REPORT_NAME, paths.folder / BAD_STEP_NAME):
        set_aside(path)
    if paths.checkpoints.is_file():
        set_aside(paths.checkpoints)
