"""Changed settings of a run that goes on, tried before anything of the run is changed."""

from __future__ import annotations

import copy
import dataclasses
import math

import torch

from llmbuilder.config.schema import Config
from llmbuilder.config.sizes import estimate_run_memory
from llmbuilder.errors import ConfigError, LLMBuilderError
from llmbuilder.machine import memory_bytes
from llmbuilder.training.loop.trainer import Trainer
from llmbuilder.training.storage.checkpoints import TrainingState

_STEPS = 2  # the first shows that the weights can be changed, the second what the change did


def try_settings(trainer: Trainer, saved: TrainingState, before: Config) -> None:
    """Take two steps from `saved` on and forget them; nothing is written. `before` is what the run had until now.

    `trainer` must then be put to a saved state, as its run does. Raises ConfigError if the settings cannot be trained
    with: the end lies before the state, memory or a library refuses, or numbers stop being finite.
    """
    # Optimizers work on the very tensors that they are given.
    trainer.restore(dataclasses.replace(saved, optimizers=copy.deepcopy(saved.optimizers)))
    _require_steps_left(trainer)
    _require_memory(trainer, before)
    device = trainer.learner.device
    try:
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            trainer.acceleration.applied(),
        ):
            for step in range(0 if trainer.settings.eval_only else _STEPS):
                _take_step(trainer, step)
    except LLMBuilderError:
        raise
    except Exception as error:
        said = str(error).strip().splitlines()
        reason = said[0] if said else type(error).__name__
        raise ConfigError(f"the run cannot go on with these settings, and is left as it was: {reason}") from error
    finally:
        trainer.learner.drop_gradients()
        trainer.learner.optimizers.forget()


def _take_step(trainer: Trainer, step: int) -> None:
    learner, state, batches = trainer.learner, trainer.state, trainer.batches
    place, length = state.course
    learner.optimizers.set_step(place + step, length)
    loss = learner.compute_gradients(batches.fetch(state.position + step * batches.sequences_per_step))
    found = float(trainer.processes.mean(loss.unsqueeze(0))[0])
    learner.clip_gradients()
    # A first loss that is not finite is the run's own trouble, and its spike policy's to settle.
    if step and not math.isfinite(found):
        raise ConfigError(
            f"the run cannot go on with these settings, and is left as it was: a step with them makes the loss {found}"
        )
    if math.isfinite(found):
        learner.update_weights()


def _require_steps_left(trainer: Trainer) -> None:
    step, end = trainer.state.step, trainer.state.max_steps
    if end < step and not trainer.settings.eval_only:
        name = "max_steps" if trainer.settings.max_steps is not None else "num_epochs"
        raise ConfigError(
            f"training.{name} ({getattr(trainer.settings, name)}) ends the run at step {end:,}, and {step:,} steps are "
            f"done: to train longer, name more; {trainer.paths.model} is the model as it is"
        )


def _require_memory(trainer: Trainer, before: Config) -> None:
    """Refuse a batch that can never fit, because a system out of memory ends processes without a word."""
    config = trainer.config
    needed, known = (
        estimate_run_memory(one, trainer.processes.count, trainer.windows.block_size).total for one in (config, before)
    )
    available = memory_bytes(trainer.learner.device)
    if needed > max(known, available):
        raise ConfigError(
            f"training.batch_size ({config.training.batch_size}) would need about {needed / 2**30:,.1f} GiB, and there "
            f"are {available / 2**30:.1f}: a smaller one with more gradient_accumulation_steps trains on as much a step"
        )
