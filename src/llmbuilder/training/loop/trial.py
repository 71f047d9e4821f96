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

_STEPS = 2  # of one batch: the first shows that the weights can be changed, the second what the change did
# Nats by which the loss of a batch may rise that was just learned, before the step was a wrong one.
_MOST_RISE = 0.25


def try_settings(trainer: Trainer, saved: TrainingState, before: Config) -> None:
    """Take two steps from `saved` on and forget them; nothing is written. `before` is what the run had until now.

    `trainer` must then be put to a saved state, as its run does. Raises ConfigError if the settings cannot be trained
    with: the end lies before the state, memory or a library refuses, numbers stop being finite, or a step makes the
    loss of its own batch worse.
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
            if not trainer.settings.eval_only:
                _require_learning(trainer, [_take_step(trainer, step) for step in range(_STEPS)])
    except LLMBuilderError:
        raise
    except Exception as error:
        said = str(error).strip().splitlines()
        reason = said[0] if said else type(error).__name__
        raise ConfigError(f"the run cannot go on with these settings, and is left as it was: {reason}") from error
    finally:
        trainer.learner.drop_gradients()
        trainer.learner.optimizers.forget()


def _take_step(trainer: Trainer, step: int) -> float:
    """Take one of the steps on the next batch and return the loss that it began with."""
    learner, state = trainer.learner, trainer.state
    place, length = state.course
    learner.optimizers.set_step(place + step, length)
    loss = learner.compute_gradients(trainer.batches.fetch(state.position))
    found = float(trainer.processes.mean(loss)[0])
    learner.clip_gradients()
    if math.isfinite(found):
        learner.update_weights()
    return found


def _require_learning(trainer: Trainer, losses: list[float]) -> None:
    """Refuse settings by which a step spoils the weights: it shows only in the loss after it."""
    first, *_, last = losses
    # A first loss that is not finite is the run's own trouble, and its spike policy's to settle.
    if math.isfinite(first) and not last <= first + _MOST_RISE:
        rate = trainer.learner.optimizers.learning_rate
        raise ConfigError(
            f"the run cannot go on with these settings, and is left as it was: one step with them, at a learning rate "
            f"of {rate:g}, takes the loss of its own batch from {first:.4g} to {last:.4g}"
        )


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
