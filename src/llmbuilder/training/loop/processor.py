"""How a run uses the processor it is on: measured before it begins, and looked at again while it goes on."""

from __future__ import annotations

import torch

from llmbuilder.acceleration import (
    Acceleration,
    bfloat16_pays,
    choose_threads,
    fixed_acceleration,
    measure_acceleration,
)
from llmbuilder.config.schema import Config
from llmbuilder.machine import cpu_count, has_fast_bfloat16
from llmbuilder.threads import FairThreads
from llmbuilder.training.loop.batches import StepBatches
from llmbuilder.training.loop.learner import Learner
from llmbuilder.training.processes.distributed import Processes


def choose_precision(config: Config, device: torch.device, processes: Processes) -> None:
    """Put a format in the place of `mixed_precision: auto` where a CPU has two to choose from.

    It is measured, and a run keeps what was chosen. A deterministic run depends on no measurement. Preferences compare
    sums over whole answers with those of a reference: in bfloat16 rounding moves them by more than many steps teach.
    """
    if config.training.mixed_precision != "auto" or device.type != "cpu" or not has_fast_bfloat16():
        return
    width = config.model.embedding_dim
    is_exact = config.system.deterministic or config.finetuning.objective == "dpo"
    pays = not is_exact and processes.on_main(lambda: bfloat16_pays(width))
    config.training.mixed_precision = "bf16" if pays else "no"


def choose_acceleration(learner: Learner, batches: StepBatches, config: Config) -> Acceleration:
    """Measure how this machine computes fastest, its number of threads by a pass of this very model.

    A stopwatch never reads the same twice: a run that is to be deterministic takes what is always the same.
    """
    count = learner.processes.count
    if config.system.deterministic:
        threads = config.system.num_threads or max(1, cpu_count() // learner.processes.count_here)
        return fixed_acceleration(learner.device, learner.precision, threads)
    found = measure_acceleration(learner.device, learner.precision)
    if learner.device.type != "cpu" or config.system.num_threads is not None or count > 1:
        return found
    with found.applied():
        batch = batches.fetch(0)
        threads = choose_threads(lambda: learner.summed_loss(*batch.parts[0])[0].backward())
    learner.drop_gradients()
    return found.with_threads(threads)


def fair_threads(acceleration: Acceleration, learner: Learner, config: Config) -> FairThreads:
    """Return what adapts the threads to the load of the machine; their number only where the clock rules anyway.

    How they wait changes no result, so that a deterministic run waits as the load has it, too.
    """
    system = config.system
    is_alone = learner.processes.count == 1 and learner.device.type == "cpu"
    is_by_the_clock = config.training.time_budget_seconds is not None and not system.deterministic
    may_change_number = is_alone and is_by_the_clock and system.num_threads is None
    return FairThreads((acceleration.threads or 1) if is_alone else 1, may_change_number=may_change_number)
