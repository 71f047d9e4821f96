"""Tasks of `lm-eval`, EleutherAI's evaluation harness, on any model that opens here."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llmbuilder.errors import ConfigError, DataError, LLMBuilderError, MissingDependencyError, suggestion
from llmbuilder.evaluation.intervals import Interval
from llmbuilder.evaluation.proportions import Proportion

if TYPE_CHECKING:
    from llmbuilder.model import LanguageModel
    from llmbuilder.tokenizer import Tokenizer

_FILES = (".yaml", ".yml")
_CODE = "!function"
_SHARES = ("acc", "acc_norm", "exact_match")  # metrics that count right answers


@dataclass(frozen=True)
class TaskScore:
    """What a model reached in a task of `samples` questions, by one its metrics, with the 95% interval if it has one.

    Of a share of right answers that is Wilson's, which holds for few questions, and for none or all of them, too; of
    another metric 1.96 of the standard errors that the harness gives.
    """

    task: str
    metric: str
    value: float
    interval: Interval | None
    samples: int


def evaluate_tasks(
    model: str | Path | LanguageModel,
    tasks: Sequence[str],
    tokenizer: str | Path | Tokenizer | None = None,
    *,
    num_fewshot: int | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    device: str | None = None,
    allow_code: bool = False,
) -> list[TaskScore]:
    """Run tasks of the evaluation harness `lm-eval` (extra 'tasks') and return their scores.

    A task is a name that the harness knows, whose questions it fetches from the hub, or a .yaml file of one's own,
    which may name files on this machine. `num_fewshot` are the examples before a question (default: the task's own
    number), `limit` the questions of each task (default: all). Seeds are fixed.

    Raises ConfigError for a task that is not known, DataError for one whose questions cannot be had, and for a file
    that names Python code, unless `allow_code` is set.
    """
    require_tasks(tasks, allow_code=allow_code)
    from lm_eval import simple_evaluate

    from llmbuilder.evaluation.harness_model import HarnessModel
    from llmbuilder.inference.generation import load_generator

    generator = load_generator(model, tokenizer, device)

    loaded = _loaded(tasks)
    try:
        found = simple_evaluate(
            HarnessModel(generator, batch_size), tasks=loaded, num_fewshot=num_fewshot, limit=limit,
            log_samples=False, bootstrap_iters=1000,
        )  # fmt: skip
    except LLMBuilderError:
        raise
    except Exception as error:
        raise DataError(
            f"the tasks {', '.join(tasks)} ask for what lm-eval cannot do: {type(error).__name__}: {error}"
        ) from error
    return list(_scores(found))


def _loaded(tasks: Sequence[str]) -> list[Any]:
    """Return tasks, and groups of them, with their questions."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it tells of each of its steps
    named = [str(Path(task).absolute()) if _is_file(task) else task for task in tasks]
    try:
        found = _manager().load(named)
    except Exception as error:
        hint = "; files that a task names are looked for in the folder that the command runs in"
        raise DataError(
            f"the tasks {', '.join(tasks)} cannot be had: {type(error).__name__}: {error}"
            f"{hint if isinstance(error, FileNotFoundError) else ''}"
        ) from error
    inside = set(itertools.chain(*found["group_map"].values()))
    whole = {**found["groups"], **found["tasks"]}
    return [task for name, task in whole.items() if name not in inside]


def require_tasks(tasks: Sequence[str], *, allow_code: bool = False) -> None:
    """Raise what `evaluate_tasks` raises for tasks that cannot be run, before a model is opened."""
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingDependencyError("lm-eval", "tasks", "running tasks")
    known: set[str] | None = None
    for task in tasks:
        if _is_file(task):
            _require_file(Path(task), allow_code=allow_code)
            continue
        known = set(_manager().all_tasks) if known is None else known
        if task not in known:
            raise ConfigError(
                f"no task is called {task!r}: name one that lm-eval knows, or a .yaml file{suggestion(task, known)}"
            )


def _require_file(path: Path, *, allow_code: bool) -> None:
    waiting, seen, is_named = [path], set[Path](), False
    while waiting:
        file = waiting.pop()
        if file.resolve() in seen:
            continue
        seen.add(file.resolve())
        nodes = _nodes(file)
        if not allow_code and any(node.tag == _CODE for node in nodes):
            raise DataError(f"the task {file} names Python code ({_CODE}), which runs if you say so: allow_code=True")
        is_named |= any(
            node.id == "mapping" and any(key.value == "task" for key, _ in node.value) for node in nodes[:1]
        )
        waiting += [file.parent / name for name in _included(nodes)]
    if not is_named:
        raise DataError(f"{path} is no task: it needs a line such as `task: {path.stem}`, which says what it is called")


def _included(nodes: list[Any]) -> Iterator[str]:
    """Yield the files that lm-eval reads into one with these nodes: a name, or a list of them."""
    for key, value in itertools.chain(*(node.value for node in nodes if node.id == "mapping")):
        if key.value == "include":
            yield from [item.value for item in value.value] if value.id == "sequence" else [value.value]


def _nodes(path: Path) -> list[Any]:
    """Return all that stands in a file, with its tags as YAML reads them, whatever way they are written."""
    try:
        waiting = [yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"the task {path} cannot be read: {error}") from error
    found: dict[int, Any] = {}
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in found:
            continue
        found[id(node)] = node
        if node.id == "mapping":
            waiting += itertools.chain(*node.value)
        elif node.id == "sequence":
            waiting += node.value
    return list(found.values())


def _is_file(task: str) -> bool:
    return Path(task).suffix in _FILES


@functools.cache
def _manager() -> Any:
    """Return the harness's index of tasks, which takes seconds to be made."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _scores(found: Mapping[str, Any]) -> Iterator[TaskScore]:
    for task, metrics in found["results"].items():
        samples = found["n-samples"].get(task, {}).get("effective", 0)
        for key, value in metrics.items():
            metric, comma, of_filter = key.partition(",")
            if not comma or metric.endswith("_stderr") or isinstance(value, str):
                continue
            name = metric if of_filter == "none" else f"{metric} ({of_filter})"
            interval = _interval(metric, float(value), metrics.get(f"{metric}_stderr,{of_filter}"), samples)
            yield TaskScore(task, name, float(value), interval, samples)


def _interval(metric: str, value: float, error: object, samples: int) -> Interval | None:
    if metric in _SHARES and samples:
        found = Proportion.of_counts(round(value * samples), samples)
        return found.low, found.high
    half = 1.96 * error if isinstance(error, int | float) else None
    return None if half is None else (value - half, value + half)
