"""From text to the configuration that is trained: tokenizer, plan, rhythm."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from llmbuilder.building.corpus_text import BuildText
from llmbuilder.building.plan import Plan, choose_plan, require_useful
from llmbuilder.building.speed import measured_speed
from llmbuilder.config.loading import apply_settings
from llmbuilder.config.schema import Config, TrainingConfig
from llmbuilder.data import TextDataset
from llmbuilder.errors import DataError
from llmbuilder.evaluation.ngrams import ngram_bits_per_byte
from llmbuilder.evaluation.token_bytes import mean_token_bytes, token_bytes
from llmbuilder.machine import CROWDED, memory_bytes, resolve_device, slowdown
from llmbuilder.notices import counted
from llmbuilder.tokenizer import Tokenizer, choose_vocab_size
from llmbuilder.tokenizer.in_force import require_made_as
from llmbuilder.training.processes.memory import require_memory

# What follows training takes, alone on two cores, some seconds, and more for a long text and for many parameters.
_ENDING_SECONDS, _TOKENS_A_SECOND, _PARAMETERS_A_SECOND = 4.5, 500_000, 10_000_000
_MOST_RESERVED = 0.3  # of the whole time, beside others: a crowded moment must not leave training none
LEAST_TRAINING = 1.0
LEAST_TOKENS = 9  # the smallest window of a model that is chosen, and the token that it predicts last
_NO_TIME = 0.001
_MEASURING_SHARE = 0.03  # of the time, for speeds alone: the whole of planning takes less than 5%
_SPEED_FACTOR, _CROWDED_SPEED_FACTOR = 1.5, 2.5  # within which the speed may turn out otherwise
_EVALUATIONS, _CHECKPOINTS, _LOG_LINES = 10, 5, 200  # in the course of a planned run
# All evaluations together take no more of the training's time than that: fewer of them first, then of less text.
EVALUATION_SHARE, _FEWEST_EVALUATIONS = 0.06, 3
_STEP_OVER_EVALUATION = 3.0  # a step does as much again for its gradients, twice


def ending_seconds(tokens: int, parameters: int = 0) -> float:
    """Return what the last evaluations, samples, the export and its check take on a quiet machine."""
    return _ENDING_SECONDS + tokens / _TOKENS_A_SECOND + parameters / _PARAMETERS_A_SECOND


def reserved_seconds(alone: float, load: float, seconds: float) -> float:
    """Return what to keep of a build's `seconds` for what follows training and takes `alone` on a quiet machine.

    Beside others it takes `load` times as long.
    """
    return min(alone * load, max(alone, _MOST_RESERVED * seconds))


def choose_vocabulary(config: Config, characters: int, explicit: Mapping[str, Mapping[str, Any]]) -> None:
    """Set the size of vocabulary that suits so much text, where none was asked for."""
    config.model.vocab_size = choose_vocab_size(characters)
    apply_settings(config, explicit)


def find_tokenizer(text: BuildText, config: Config, announce: Callable[[str], None]) -> Tokenizer:
    """Return the tokenizer that was asked for or belongs to the text; else learn one."""
    place = config.tokenizer.path or text.tokenizer
    if place is not None:
        found = Tokenizer.from_pretrained(place)
        require_made_as(config.tokenizer, found, place, None if config.tokenizer.path else text.tokenizer_settings)
        return found
    size = config.tokenizer.vocab_size or config.model.vocab_size
    announce(f"Training a {config.tokenizer.algorithm} tokenizer of {size:,} tokens")
    return TextDataset(text.path, block_size=1).learn_tokenizer(vocab_size=size, **config.tokenizer.training_options)


def open_text(text: BuildText, config: Config, tokenizer: Tokenizer) -> TextDataset:
    """Return the text as a dataset; it is read already, so the settings of reading have acted."""
    return TextDataset(text.path, 1, None, config.data.train_split, tokenizer, seed=config.system.seed)


def make_plan(
    config: Config,
    dataset: TextDataset,
    explicit: Mapping[str, Mapping[str, Any]],
    begin: float,
    seconds: float,
    announce: Callable[[str], None],
) -> Plan:
    """Choose the shape and the recipe for a build of `seconds` since `begin`, on perf_counter; `explicit` settings win.

    What is expected is in bytes, and in tokens as the result is: by the bytes of the tokens that will validate.
    """
    assert dataset.tokenizer is not None
    vocabulary, scored = len(dataset.tokenizer), dataset.validation or dataset.train
    sizes = token_bytes(dataset.tokenizer)
    if dataset.info.tokens < LEAST_TOKENS:
        raise DataError(
            f"{counted(dataset.info.tokens, 'token')} of text are too few to train on: add documents, pages of them"
        )
    announce("Measuring how predictable the text is and how fast this machine trains")
    # Text that was counted is predicted better than any model will do: without a held-out part nothing is known.
    ngram_bits = ngram_bits_per_byte(dataset.train.tokens, scored.tokens, sizes) if dataset.validation else None
    speed = measured_speed(config, _MEASURING_SHARE * seconds)
    load = slowdown()
    besides = time.perf_counter() - begin + reserved_seconds(ending_seconds(dataset.info.tokens), load, seconds)
    training_seconds = config.training.time_budget_seconds or max(_NO_TIME, seconds - besides)
    learning_seconds = training_seconds * (1 - EVALUATION_SHARE) if dataset.validation else training_seconds
    plan = choose_plan(
        config, dataset.info.tokens, vocabulary, learning_seconds, speed, mean_token_bytes(scored.tokens, sizes),
        ngram_bits=ngram_bits, besides=besides,
        speed_factor=_CROWDED_SPEED_FACTOR if load > CROWDED else _SPEED_FACTOR,
    )  # fmt: skip
    if config.training.time_budget_seconds is None:
        require_useful(plan, seconds, besides)
    possible = plan.training_seconds * plan.tokens_per_second * _STEP_OVER_EVALUATION
    choose_rhythm(plan.config.training, plan.steps, possible, len(scored.tokens), plan.config.model.max_seq_length)
    apply_settings(plan.config, explicit)
    memory = memory_bytes(resolve_device(config.system.device))
    require_memory(plan.config, memory, 1, plan.config.model.max_seq_length, is_sharded=False)
    return plan


def choose_rhythm(training: TrainingConfig, steps: int, possible: float, tokens: int, window: int) -> None:
    """Set when a run of `steps` evaluates, on how much of `tokens` of validation, saves and logs.

    In the time of the whole training `possible` tokens could be evaluated; sequences have `window` of them.
    """
    assert not isinstance(training.batch_size, str)
    evaluations, training.eval_batches = _choose_evaluations(possible, tokens, training.batch_size * window)
    training.eval_every = max(1, steps // evaluations)
    training.save_every = max(1, steps // _CHECKPOINTS)
    training.log_every = max(1, steps // _LOG_LINES)


def _choose_evaluations(possible: float, tokens: int, of_a_batch: int) -> tuple[int, int | None]:
    """Return how often to evaluate on `tokens` of validation, and on how many batches of it; None for all."""
    affordable = EVALUATION_SHARE * possible
    evaluations = max(_FEWEST_EVALUATIONS, min(_EVALUATIONS, int(affordable // tokens)))
    if evaluations * tokens <= affordable:
        return evaluations, None
    return evaluations, max(1, int(affordable / evaluations / of_a_batch))
