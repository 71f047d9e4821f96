"""How a run begins: from nothing, again, in place of an earlier run, beside it, or from its newest checkpoint.

Every way of starting is decided here, from what is on the disk, what was asked for, and which launch this is.
"""

from __future__ import annotations

import enum
import logging
from pathlib import Path

from llmbuilder.errors import CheckpointError, TrainingError
from llmbuilder.files import set_aside
from llmbuilder.locking import locked_folder
from llmbuilder.training.processes.distributed import Launch
from llmbuilder.training.storage.checkpoints import list_checkpoints
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.sharded_checkpoints import remove_sharded

logger = logging.getLogger("llmbuilder")


class Asked(enum.Enum):
    """What the caller wants done in the run directory."""

    NEW = "a new run"
    OVERWRITE = "a new run in place of an earlier one"
    RESUME = "the run that is there, continued"


class Start(enum.Enum):
    """How the run begins."""

    NEW = "nothing is here yet"
    AGAIN = "an earlier start left nothing to go on from"
    REPLACE = "the earlier run is removed"
    ASIDE = "the earlier run is kept under a numbered name"
    RESUME = "from the newest checkpoint"


def prepare_start(paths: RunPaths, asked: Asked, launch: Launch) -> Start:
    """Decide how the run begins and move an earlier one aside if that is the decision.

    Raises CheckpointError if an earlier run may not be touched, TrainingError if one is at work here.
    """
    if asked is Asked.RESUME:
        return Start.RESUME
    with locked_folder(paths.folder, TrainingError):
        start = choose_start(paths, asked, launch)
    if start is Start.ASIDE:
        set_aside(paths.folder)
    elif start is Start.AGAIN:
        logger.warning(f"{paths.folder} holds a start that ended before its first checkpoint: starting again")
    return start


def choose_start(paths: RunPaths, asked: Asked, launch: Launch) -> Start:
    """Return how the run begins. Raises CheckpointError where the table says "refused".

    | in the run directory                           | a new run | overwrite | no directory named | resume    |
    | ---------------------------------------------- | --------- | --------- | ------------------ | --------- |
    | nothing                                        | NEW       | NEW       | NEW                | RESUME *  |
    | a start without a model or a checkpoint        | AGAIN     | AGAIN     | AGAIN              | RESUME *  |
    | a run of this launch, with a checkpoint        | RESUME    | RESUME    | RESUME             | RESUME    |
    | a run of this launch, with a model only        | AGAIN     | AGAIN     | AGAIN              | RESUME *  |
    | a run of another launch                        | refused   | REPLACE   | ASIDE              | RESUME    |
    | files named like checkpoints, but no run.json  | refused   | refused   | ASIDE              | RESUME *  |

    * which then says that there is nothing to resume.

    A run is of this launch if torchrun started these processes again after the same launch began it: run.json holds
    the launch's name. Names can be given twice (torchrun's default is "none"); the first processes of a launch that
    are refused therefore take their name out of run.json, so that those started after them are refused as well.
    """
    if asked is Asked.RESUME:
        return Start.RESUME
    has_checkpoint = bool(list_checkpoints(paths.checkpoints))
    has_model = not paths.keep_earlier and (paths.model.exists() or paths.last_model.exists())
    is_own = launch.is_restarted and _launch_of(paths) == launch.name
    if is_own or not (has_checkpoint or has_model):
        return Start.RESUME if has_checkpoint and is_own else Start.AGAIN if paths.record.exists() else Start.NEW
    if paths.keep_earlier:
        return Start.ASIDE
    if has_checkpoint and not paths.record.exists():
        raise CheckpointError(
            f"{paths.checkpoints} holds files named like checkpoints, but {paths.record} is missing, so that nothing "
            "says whose they are: move them away, or choose another directory"
        )
    if asked is Asked.OVERWRITE:
        return Start.REPLACE
    _disown(paths, launch)
    raise CheckpointError(
        f"{paths.folder} already holds a run: continue it with `llmbuilder train resume {paths.folder}`, "
        "replace it with --overwrite (overwrite=True), or choose another directory"
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


def remove_earlier_run(paths: RunPaths) -> None:
    """Delete what the run that run.json tells of has left behind, and nothing else that may lie beside it."""
    if not paths.record.exists():
        return
    for checkpoint in list_checkpoints(paths.checkpoints):
        if checkpoint.is_dir():
            remove_sharded(checkpoint)
        else:
            checkpoint.unlink()
    models: list[Path] = [] if paths.keep_earlier else [paths.model, paths.last_model]
    for path in (paths.metrics, *models):
        path.unlink(missing_ok=True)
