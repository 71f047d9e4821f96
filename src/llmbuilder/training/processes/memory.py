"""Whether a run fits into the memory of its processes, and the model into each of them whole."""

from __future__ import annotations

import logging

from llmbuilder.config.schema import Config
from llmbuilder.config.sizes import MemoryEstimate, estimate_run_memory, least_run_memory
from llmbuilder.errors import ConfigError
from llmbuilder.machine import memory_bytes
from llmbuilder.training.processes.distributed import Processes, process_device

logger = logging.getLogger("llmbuilder")
_HOPELESS = 1.5  # times the memory: estimates are not so far off
_WAYS_OUT = "a smaller batch_size with more gradient_accumulation_steps, or gradient_checkpointing=true, needs less"
_LARGEST_SHARE = 0.8  # of the memory, for a model that every process holds whole


def needs_sharding(config: Config, processes: Processes, window: int) -> bool:
    """Return whether the model is cut over the processes: when asked for, or when it would not fit into one whole."""
    if processes.count == 1 or config.system.distributed_strategy == "ddp":
        return False
    if config.system.distributed_strategy == "fsdp":
        return True
    needed = estimate_run_memory(config, processes.count, window).total
    available = memory_bytes(process_device(config.system))
    return needed > _LARGEST_SHARE * available and config.training.optimizer != "muon"


def require_memory(config: Config, memory: int, processes: int, window: int, *, is_sharded: bool) -> None:
    """Raise ConfigError for a run that `memory` bytes a process can never hold: a system out of memory says nothing.

    That is a model which not even one sequence at a time can train, and a batch that needs far more than there is.
    """
    if config.training.eval_only:
        return
    there = f"{' in each process' * (processes > 1)}, and there are {memory / 2**30:.1f}"
    least = _bytes_of_a_process(least_run_memory(config, processes, window), processes, is_sharded=is_sharded)
    if least > memory:
        raise ConfigError(
            f"training this model takes at least {least / 2**30:,.1f} GiB{there}: choose a smaller "
            "model.max_seq_length, model.embedding_dim or model.num_layers"
        )
    estimate = estimate_run_memory(config, processes, window)
    needed = _bytes_of_a_process(estimate, processes, is_sharded=is_sharded)
    if needed > _HOPELESS * memory:
        raise ConfigError(
            f"training.batch_size ({config.training.batch_size}) takes about {needed / 2**30:,.1f} GiB{there}: "
            f"{_WAYS_OUT}"
        )


def warn_about_memory(config: Config, memory: int, processes: int, window: int, *, is_sharded: bool) -> None:
    """Log a warning if a process would need more than `memory` bytes, and what to do about it."""
    estimate = estimate_run_memory(config, processes, window)
    needed = _bytes_of_a_process(estimate, processes, is_sharded=is_sharded)
    if needed > memory and not config.training.eval_only:
        logger.warning(
            f"training needs about {needed / 2**30:.1f} GiB in each process ({estimate.activations / 2**30:.1f} of it "
            f"activations), and there are {memory / 2**30:.1f}: {_WAYS_OUT}"
        )


def _bytes_of_a_process(estimate: MemoryEstimate, processes: int, *, is_sharded: bool) -> float:
    return estimate.activations + (estimate.total - estimate.activations) / (processes if is_sharded else 1)
