"""The recommended training recipe, and how its numbers follow from the model and the amount of training.

Where each number comes from, and what else was tried, is in docs/explanation/recipe.md.
"""

from __future__ import annotations

from typing import Any, Literal

from llmbuilder.config.schema import Config, FinetuningConfig, ModelConfig, TrainingConfig, is_auto
from llmbuilder.config.sizes import (
    activation_bytes_per_token,
    count_adapter_parameters,
    texts_a_sequence,
    with_window,
)

# What `build` and the presets train with.
RECOMMENDED: dict[str, Any] = {
    "optimizer": "auto",
    "learning_rate": "auto",
    "beta1": 0.8,
    "beta2": 0.98,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "lr_schedule": "linear",
    "min_learning_rate": 0.0,
    "warmup_steps": 10,
}

# What `build` samples with: small models spread much of their probability over tokens that make no word.
SAMPLING: dict[str, Any] = {"min_p": 0.05}

# For Muon: matrices move by their spectral norm, which makes one rate right for all widths; measured at three.
_MUON_RATE = 0.05
_EMBEDDING_RATE = 0.15
_VECTOR_RATE = 0.01
_HEAD_RATE = 0.015
# For AdamW alone: a rate found at one width, less in proportion for wider models (Yang et al. 2022, muP).
_ADAMW_RATE, _ADAMW_WIDTH = 3e-3, 128
_TIED_RATE = 3e-3

_FULL_RATE, _FULL_RATE_WIDTH, _FULL_RATE_POWER = 5e-5, 2000, 0.781  # for all weights of a model that knows something
_LARGEST_ADAPTER_RATE = 2e-3
_PREFERENCE_PART = 1 / 50  # of these rates, for preferences
_PAIRS_A_STEP = 16
_RANKS = (16, 32, 64, 128)
LARGEST_RANK = _RANKS[-1]
_BITS_A_PARAMETER, _BITS_A_TOKEN = 2.0, 1.0

_STEP_TOKENS, _AT_TOKENS, _GROWTH = 2048, 250_000, 0.38
_FREE_PASSES, _FOLDINGS_A_PASS, _MOST_FOLDINGS = 2.0, 1.75, 7.0
_LASTING_FOLDINGS_A_PASS = 0.7  # of a long run, whose weights then forget at the pace of its passes
_LARGEST_DECAY = 1.0  # a step of a short run must not take much of a weight at once
_PASSES_BEFORE_DROPOUT, _DROPOUT = 15.0, 0.1
_MEAN_RATE = 0.75  # of the peak, over a linear schedule
_LARGEST_STEP_TOKENS = 1 << 20
_FEWEST_STEPS = 50


def choose_optimizer(is_sharded: bool, *, has_adapters: bool = False) -> Literal["adamw", "muon"]:
    """Return the optimizer that 'auto' means.

    Muon needs whole matrices, which a sharded model has nowhere, and is for those that start at random, which the two
    parts of an adapter do not.
    """
    return "adamw" if is_sharded or has_adapters else "muon"


def choose_rates(model: ModelConfig, optimizer: str) -> dict[str, float]:
    """Return the learning rates that 'auto' means, by setting."""
    width = model.embedding_dim
    if optimizer == "adamw":
        return {"learning_rate": min(1e-2, _ADAMW_RATE * _ADAMW_WIDTH / width)}
    rates = {"vector_learning_rate": _VECTOR_RATE, "muon_learning_rate": _MUON_RATE}
    if model.tie_embeddings or model.model_type == "gpt":  # a table that also predicts starts small and stays so
        return {**rates, "learning_rate": _TIED_RATE}
    return {
        **rates,
        "learning_rate": _HEAD_RATE,
        "embedding_learning_rate": _EMBEDDING_RATE,
        "head_learning_rate": _HEAD_RATE,
    }


def choose_adapter_rate(model: ModelConfig) -> float:
    """Return the learning rate of adapters that 'auto' means, ten times what all weights would take.

    Source: Schulman et al. 2025, "LoRA Without Regret", whose fit over Llama models this is.
    """
    return min(_LARGEST_ADAPTER_RATE, 10 * choose_full_rate(model))


def choose_full_rate(model: ModelConfig) -> float:
    """Return the learning rate of all weights of a model that knows something; the source is that of adapters' rate."""
    return _FULL_RATE * (_FULL_RATE_WIDTH / model.embedding_dim) ** _FULL_RATE_POWER


def settle_tuning(config: Config) -> None:
    """Put numbers in the place of 'auto' that suit a model which knows something, and not weights that begin at random.

    Where all weights learn, AdamW and a small rate; where whole matrices learn beside adapters, a tenth of the rate of
    these, which is too much for them. Preferences take a fiftieth of each, which is what the Alignment Handbook trains
    Zephyr with (5e-7 for all weights of 7 billion, 5e-6 for adapters), and SmolLM2 (1e-6 for 1.7 billion).
    """
    training = config.training
    part = _PREFERENCE_PART if config.finetuning.objective == "dpo" else 1.0
    if config.finetuning.method == "full":
        training.optimizer = "adamw" if is_auto(training.optimizer) else training.optimizer
        if training.optimizer == "adamw" and is_auto(training.learning_rate):
            training.learning_rate = part * choose_full_rate(config.model)
    elif is_auto(training.learning_rate):
        rate = part * choose_adapter_rate(config.model)
        if config.finetuning.embeddings:
            training.embedding_learning_rate = training.embedding_learning_rate or rate / 10
            if not config.model.tie_embeddings:
                training.head_learning_rate = training.head_learning_rate or rate / 10
        training.learning_rate = rate


def settle_documents(config: Config) -> None:
    """Put True in the place of 'auto' in data.documents_apart, for text that a model is adapted to.

    A document is read from its beginning, and where many are short, what stands before them in a window is another
    one: docs/explanation/adaptation.md has the measurements.
    """
    if is_auto(config.data.documents_apart):
        config.data.documents_apart = True


def choose_rank(model: ModelConfig, finetuning: FinetuningConfig, tokens: int) -> int | None:
    """Return the rank of adapters for a text of so many tokens; None if no usual one holds it.

    A parameter holds about two bits (Allen-Zhu and Li 2024), a token of text brings about one that is new.
    """
    for rank in _RANKS:
        sized = finetuning.model_copy(update={"rank": rank})
        if _BITS_A_PARAMETER * count_adapter_parameters(model, sized) >= _BITS_A_TOKEN * tokens:
            return rank
    return None


def choose_step_tokens(training_tokens: int) -> int:
    """Return how many tokens a step should have in a run over `training_tokens` of them, repetitions included.

    The batch that is worth its cost grows with the run, as a power of its tokens (nanochat measured 0.383).
    """
    wanted = _STEP_TOKENS * (training_tokens / _AT_TOKENS) ** _GROWTH
    return max(1, min(int(wanted), _LARGEST_STEP_TOKENS, max(1, training_tokens // _FEWEST_STEPS)))


def choose_weight_decay(passes: float, steps: int) -> float:
    """Return the weight decay for a run that sees its text `passes` times in `steps`.

    Text seen once or twice needs none; more passes memorise without it. What counts is by how many e-foldings a
    weight would shrink over the run, its rate falling to zero in the second half.
    """
    most = max(_MOST_FOLDINGS, _LASTING_FOLDINGS_A_PASS * passes)
    foldings = min(most, _FOLDINGS_A_PASS * max(0.0, passes - _FREE_PASSES))
    return min(_LARGEST_DECAY, round(foldings / (_MEAN_RATE * _MUON_RATE * max(1, steps)), 4))


def choose_dropout(passes: float) -> float:
    """Return the dropout for a run that sees its text `passes` times: it pays only after very many."""
    return _DROPOUT if passes > _PASSES_BEFORE_DROPOUT else 0.0


def longest_batch(model: ModelConfig, room: int) -> int:
    """Return how many sequences of a forward pass surely fit into `room` bytes; one, if none does."""
    return max(1, room // (activation_bytes_per_token(model) * model.max_seq_length))


def resolve_recipe(
    config: Config,
    dataset_tokens: int,
    room: int,
    *,
    window: int | None = None,
    is_sharded: bool = False,
    pairs: int | None = None,
) -> dict[str, Any]:
    """Put numbers in the place of every 'auto' of `config.training` and return them.

    `dataset_tokens` is one pass over the data, in sequences of `window` tokens (default: the model's context), `room`
    the bytes that a forward pass may take; `pairs` is the number of preference pairs, where the data are such. What
    was set explicitly stays.
    """
    training, has_adapters = config.training, config.finetuning.method != "full"
    chosen: dict[str, Any] = {}
    if is_auto(training.optimizer):
        training.optimizer = choose_optimizer(is_sharded, has_adapters=has_adapters)
        chosen["optimizer"] = training.optimizer
    if is_auto(training.learning_rate):
        adapter_rates = {"learning_rate": choose_adapter_rate(config.model)}
        rates = adapter_rates if has_adapters else choose_rates(config.model, training.optimizer)
        for name, rate in rates.items():
            if getattr(training, name) in ("auto", None):
                chosen[name] = rate
                setattr(training, name, rate)
    if is_auto(training.batch_size):
        model = with_window(config.model, window)
        longest = max(1, longest_batch(model, room) // texts_a_sequence(config.finetuning))
        sequences = (
            _choose_sequences(model, training, dataset_tokens) if pairs is None else _choose_pairs(training, pairs)
        )
        chosen |= divide_step(training, sequences, longest)
    return chosen


def _choose_sequences(model: ModelConfig, training: TrainingConfig, dataset_tokens: int) -> int:
    """Return how many sequences a step should have."""
    step_tokens = choose_step_tokens(dataset_tokens * training.num_epochs)
    if training.max_steps is not None:
        for _ in range(20):  # the length of the run follows from the step, and the step from the length
            step_tokens = choose_step_tokens(training.max_steps * step_tokens)
    return max(1, round(step_tokens / model.max_seq_length))


def _choose_pairs(training: TrainingConfig, pairs: int) -> int:
    """Return how many preference pairs a step should have: 16, as in TRL's examples, if that leaves fifty steps."""
    if training.max_steps is not None:
        return min(_PAIRS_A_STEP, pairs)
    return max(1, min(_PAIRS_A_STEP, pairs * training.num_epochs // _FEWEST_STEPS))


def divide_step(training: TrainingConfig, sequences: int, longest: int) -> dict[str, int]:
    """Set and return the batch and the passes of a step of so many sequences, of which `longest` fit into a pass."""
    passes = -(-sequences // longest)
    chosen = {"batch_size": -(-sequences // passes), "gradient_accumulation_steps": passes}
    for name, value in chosen.items():
        setattr(training, name, value)
    return chosen
