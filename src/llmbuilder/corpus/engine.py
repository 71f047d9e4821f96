"""Units of work on all cores or a Ray cluster: the same Daft program either way."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import daft

from llmbuilder.errors import ConfigError, DataError, LLMBuilderError, MissingDependencyError

ENGINES = ("local", "ray")


class Engine:
    """Runs tasks by Daft's native runner, or on a Ray cluster (`address`, default: the one of this machine).

    `workers` is the number of units worked on at a time (default: one for each CPU; on Ray for each of the cluster's).
    Raises ConfigError for an unknown engine, MissingDependencyError if a library is missing.
    """

    def __init__(self, name: str = "local", *, workers: int | None = None, address: str | None = None) -> None:
        if name not in ENGINES:
            raise ConfigError(f"unknown engine {name!r}; there are {', '.join(ENGINES)}")
        if address is not None and name != "ray":
            raise ConfigError("a Ray address is for --engine ray")
        self.name = name
        _choose_runner(name, address)
        self.workers = workers or (_cluster_cpus() if name == "ray" else os.cpu_count() or 1)

    def run(self, task: str, settings: dict[str, Any], units: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the results of a task of `tasks.TASKS` on each unit as they come, in no order.

        Raises DataError with the message of the first unit that failed.
        """
        if not units:
            return
        workers = min(self.workers, len(units))
        folder = os.getcwd()  # what names are relative to, also in processes that a cluster started elsewhere

        @daft.cls(max_concurrency=workers, use_process=True)
        class Worker:
            def __init__(self) -> None:
                # In the workers' own processes, one unit each: a pool of threads in each would only compete.
                os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
                self.answer = _answering(task, settings, folder)

            @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=1)
            def run(self, units: Any) -> list[str]:
                return [self.answer(unit) for unit in units.to_pylist()]

        frame = daft.from_pydict({"unit": [json.dumps(unit) for unit in units]})
        if self.name == "ray":
            frame = frame.into_partitions(min(len(units), 4 * workers))
        results = frame.select(Worker().run(daft.col("unit")).alias("result"))  # type: ignore[attr-defined]
        with daft.execution_config_ctx(maintain_order=False):  # no unit waits for a slower one
            for batch in results.to_arrow_iter():
                for text in batch.column("result").to_pylist():
                    result = json.loads(text)
                    if "error" in result:
                        raise DataError(result["error"])
                    yield result


def _answering(name: str, settings: dict[str, Any], folder: str) -> Callable[[str], str]:
    """Return a function from a unit to the result of a task, both as JSON; what goes wrong is a result, too."""
    from llmbuilder.corpus.tasks import TASKS

    try:
        os.chdir(folder)
        task = TASKS[name](settings)
    except (LLMBuilderError, OSError) as error:
        failed = json.dumps({"error": f"{error} (on {socket.gethostname()})"})
        return lambda unit: failed

    def answer(unit: str) -> str:
        try:
            return json.dumps(task.run(json.loads(unit)))
        except (LLMBuilderError, OSError) as error:
            return json.dumps({"error": str(error)})

    return answer


def _choose_runner(name: str, address: str | None) -> None:
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")  # its bars and lines would be drawn over ours
    os.environ.setdefault("DAFT_SHOW_QUERY_ID", "0")
    wanted = {"local": "native", "ray": "ray"}[name]
    if name == "ray":
        _join_cluster(address)
    try:
        if name == "ray":
            daft.set_runner_ray(noop_if_initialized=True)
        else:
            daft.set_runner_native()
    except Exception as error:  # Daft has no class of its own for this
        if daft.runners.get_or_infer_runner_type() != wanted:
            raise ConfigError(f"this process has used another engine already: start a new one for {name}") from error


def _join_cluster(address: str | None) -> None:
    try:
        import ray
    except ImportError:
        raise MissingDependencyError("ray", "ray", "the Ray engine") from None
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"no Ray cluster at {address}: {str(error).splitlines()[0]}") from error


def _cluster_cpus() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))
