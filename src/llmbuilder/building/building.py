"""`build`: documents in; a run directory with a trained, evaluated, exported model and a readable summary out."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmbuilder.building.adapting import ADAPTING_SECONDS, AdaptationPlan, open_base
from llmbuilder.building.adapting_build import AdaptingBuild
from llmbuilder.building.bases import AUTO
from llmbuilder.building.checks import check_base, check_build, require_buildable
from llmbuilder.building.choosing import Choice, choose_base, plan_text
from llmbuilder.building.corpus_text import BuildText, read_text
from llmbuilder.building.journal import JOURNAL, STAGES, Journal
from llmbuilder.building.plan import Plan
from llmbuilder.building.request import Request
from llmbuilder.building.result import BuildResult
from llmbuilder.building.stages import DEFAULT_SECONDS, Build
from llmbuilder.config import load_config
from llmbuilder.config.loading import explicit_settings, parse_overrides, read_config
from llmbuilder.config.schema import Config
from llmbuilder.errors import ConfigError, DataError, LLMBuilderError
from llmbuilder.files import remove_path
from llmbuilder.locking import locked_folder
from llmbuilder.notices import command
from llmbuilder.report.build import SUMMARY_NAME
from llmbuilder.stages import Progress, no_progress
from llmbuilder.training import Callback, StoppedRun
from llmbuilder.training.processes.interruption import raised_termination
from llmbuilder.training.storage.model_files import run_name
from llmbuilder.training.storage.paths import RunPaths

logger = logging.getLogger("llmbuilder")
Announce = Callable[[str], None]
_LOCK = ".build.lock"


def build(
    documents: str | Path | Sequence[str | Path] | None,
    output: str | Path,
    *,
    preset: str | None = None,
    config: Config | None = None,
    time_budget: float | None = None,
    overrides: Iterable[str] = (),
    quantization: str = "f16",
    overwrite: bool = False,
    base: str | Path | None = None,
    method: str | None = None,
    announce: Announce = lambda message: None,
    callbacks: Sequence[Callback] | None = None,
    progress: Progress = no_progress,
    elapsed: float = 0.0,
) -> BuildResult:
    """Read documents, clean and deduplicate them, train a tokenizer and a model, evaluate, sample and export.

    `documents` is a folder, a file or several of them; None takes data.path, or the running interpreter's own
    documentation. A setting that was asked for and would not act is a ConfigError.
    Without a preset or config the model is chosen for the corpus, the machine and `time_budget`, the seconds for
    the whole build (default 110, with a base 1200), `elapsed` of which have passed already. With a `base`, anything
    that `load_model` opens, that model is adapted to the documents instead, by `method` lora, dora, full or auto (the
    default), with its own tokenizer; it is measured before and after. The base "auto" is the best way to begin, from
    nothing or from a model of Hugging Face's cache (see `choosing`). `overrides` are "section.key=value" settings that
    always win. `progress` is called with "extract", the files read and all of them.

    A build that was stopped, however that was, goes on when it is asked for again: what is done is not done twice, and
    training repeats what an unbroken run would have done. One that is finished is returned as it is.

    Raises DataError if there is nothing to read, or if `output` holds something else or a build of other documents or
    settings, which `overwrite` replaces.
    """
    begin = time.perf_counter() - elapsed
    folder, given = Path(output), list(overrides)
    sources = [documents] if isinstance(documents, str | Path) else documents
    planned = check_build(
        documents, output, preset=preset, config=config, time_budget=time_budget, overrides=given,
        quantization=quantization, overwrite=overwrite, base=base, method=method,
    )  # fmt: skip
    journal = None if overwrite else Journal.read(folder)
    if base == AUTO:
        seconds = time_budget = ADAPTING_SECONDS if time_budget is None else time_budget
        if journal is not None:
            base = journal.request["base"]
        else:
            with _read_aside(sources, planned, announce, progress) as text:
                choice = _choose(text, planned, explicit_settings(given), method, begin, seconds, announce)
            base = choice.taken.base
        method = method if base is not None else None
        check_base(planned, base, method)
    request = Request.of(
        sources if sources is not None or planned.data.path is None else [planned.data.path],
        folder, planned, explicit_settings(given), chooses=preset is None and config is None,
        time_budget=time_budget, quantization=quantization, base=base,
        method=None if base is None else method or "auto",
    )  # fmt: skip
    if journal is not None:
        if not journal.has("plan") and request.time_budget != journal.request["time_budget"]:
            # Nothing that is done yet depends on the time, which begins anew: it may have been too little.
            journal.request["time_budget"] = request.time_budget
            begin += journal.seconds
        request.require_same(journal.request, folder)
        return _go_on(journal, announce, callbacks, progress, begin)
    with _held(folder):
        remove_path(folder / JOURNAL)
        journal = Journal(folder, request.to_dict(), replaces=run_name(RunPaths.choose(folder)))
        journal.write()
        return _run(_kind_of(journal)(journal, announce, callbacks, progress=progress, begin=begin))


def resume_build(
    folder: str | Path,
    *,
    overrides: Iterable[str] = (),
    announce: Announce = lambda message: None,
    callbacks: Sequence[Callback] | None = None,
    progress: Progress = no_progress,
) -> BuildResult:
    """Go on with the build in `folder` as it was asked for. `overrides` change settings of its training.

    Raises DataError if there is no build.
    """
    journal = Journal.read(Path(folder))
    if journal is None:
        raise DataError(f"{folder} holds no build: there is no {JOURNAL} in it")
    return _go_on(journal, announce, callbacks, progress, time.perf_counter(), overrides)


def _go_on(
    journal: Journal,
    announce: Announce,
    callbacks: Sequence[Callback] | None,
    progress: Progress,
    begin: float,
    overrides: Iterable[str] = (),
) -> BuildResult:
    """Finish a build that was begun, or return one that is finished."""
    folder, changes = journal.folder, list(overrides)
    _require_own_run(journal)
    if changes:
        _require_steps_left(journal, changes)
        journal.forget("training")
    summary = folder / SUMMARY_NAME
    if journal.is_finished and summary.is_file():
        announce(f"{folder} is built already, from the same documents with the same settings")
        return BuildResult.from_dict(json.loads(summary.read_text("utf-8")))
    done = [STAGES[stage] for stage in STAGES if journal.has(stage)]
    with _held(folder):
        announce(f"Going on with the build in {folder}" + (f"; done already: {', '.join(done)}" if done else ""))
        if journal.changed and not changes and not journal.has("training"):
            announce(f"Training goes on with {', '.join(journal.changed)}, as `train resume` was asked for")
        begin -= journal.seconds
        return _run(_kind_of(journal)(journal, announce, callbacks, progress=progress, begin=begin, overrides=changes))


def _require_own_run(journal: Journal) -> None:
    """Raise DataError if another run was trained in the place of the build's own."""
    made = journal.left_by("training").get("run") if journal.has("training") else None
    if made is not None and run_name(RunPaths.choose(journal.folder)) not in (None, made):
        raise DataError(
            f"{journal.folder} no longer holds the run that its build made, because another was trained there: pass "
            "overwrite=True to build again in its place, or choose another folder"
        )


def _require_steps_left(journal: Journal, changes: list[str]) -> None:
    """Raise ConfigError for settings of a training that is complete, unless they make it longer."""
    config_file = RunPaths.choose(journal.folder).config
    if not journal.has("training") or not config_file.is_file():
        return
    by_clock = read_config(config_file).training.time_budget_seconds is not None
    names = [f"{section}.{key}" for section, values in parse_overrides(changes).items() for key in values]
    if by_clock or not {"training.max_steps", "training.num_epochs"}.intersection(names):
        longer = "" if by_clock else "; training.max_steps=N trains longer"
        raise ConfigError(
            f"{', '.join(names)} would not act here: the training of {journal.folder} is complete{longer}"
        )


def _kind_of(journal: Journal) -> type[Build]:
    return Build if journal.request.get("base") is None else AdaptingBuild


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder for one build at a time; one in which nothing could come to be is not left behind."""
    is_new = not folder.exists()
    try:
        with locked_folder(folder, DataError, _LOCK):
            yield
    except LLMBuilderError:
        if is_new and folder.is_dir() and {path.name for path in folder.iterdir()} <= {_LOCK, JOURNAL}:
            remove_path(folder)
        raise


def _run(work: Build) -> BuildResult:
    """Do the work; who stops it is told what is kept and how to go on."""
    try:
        with raised_termination():
            return work.run()
    except StoppedRun:
        raise  # it has been said where the run stands
    except (KeyboardInterrupt, SystemExit):
        journal = work.journal
        done = ", ".join(STAGES[stage] for stage in STAGES if journal.has(stage))
        if journal.is_written:
            logger.warning(
                f"stopped while {STAGES[journal.at_work]}; done and kept: {done or 'nothing yet'}; go on with the same "
                f"command (without --overwrite) or with: {command('train', 'resume', journal.folder)}"
            )
        raise


def plan_build(
    documents: str | Path | Sequence[str | Path] | None,
    *,
    time_budget: float | None = None,
    overrides: Iterable[str] = (),
    base: str | Path | None = None,
    method: str | None = None,
    announce: Announce = lambda message: None,
    progress: Progress = no_progress,
) -> Plan | AdaptationPlan:
    """Return what `build` would train, and the loss to expect, from the documents and a short measurement.

    With a `base`, what it would make of that, and what the base predicts untouched; with "auto", the plan of the way
    that is taken. Nothing is left on the disk. Raises DataError if there is nothing to read. `time_budget` defaults as
    in `build`.
    """
    begin = time.perf_counter()
    given = list(overrides)
    planned, explicit = load_config(overrides=given), explicit_settings(given)
    check_base(planned, base, method)
    require_buildable(planned, given, {"documents": documents, "base": None if base == AUTO else base})
    model = None if base in (None, AUTO) else open_base(base, planned)
    usual = DEFAULT_SECONDS if base is None else ADAPTING_SECONDS
    seconds = usual if time_budget is None else time_budget
    sources = [documents] if isinstance(documents, str | Path) else documents
    with _read_aside(sources, planned, announce, progress) as text:
        if base == AUTO:
            return _choose(text, planned, explicit, method, begin, seconds, announce).plan
        return plan_text(text, planned, model, method or AUTO, explicit, begin, seconds, announce)


@contextlib.contextmanager
def _read_aside(
    sources: Sequence[str | Path] | None, planned: Config, announce: Announce, progress: Progress
) -> Iterator[BuildText]:
    """Read documents for a plan alone: what is written for it is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="llmbuilder-plan-") as folder:
        announce("Reading documents")
        text = read_text(sources if sources is not None else planned.data.path, Path(folder) / "run", planned, progress)
        announce(text.summary())
        yield text


def _choose(
    text: BuildText,
    planned: Config,
    explicit: Mapping[str, Mapping[str, Any]],
    method: str | None,
    begin: float,
    seconds: float,
    announce: Announce,
) -> Choice:
    """Return the way to begin that suits the documents best, and say why."""
    choice = choose_base(text, planned, method or AUTO, explicit, begin, seconds, announce)
    announce(choice.reason())
    return choice
