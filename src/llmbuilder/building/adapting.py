"""The plan of a build that begins from a model: what learns, how fast, for how long, and what the base knows already.

The rules and where they come from are in docs/explanation/adaptation.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmbuilder.building.adaptation_methods import ADAPTERS
from llmbuilder.building.bases import NEEDS_TOKENIZER
from llmbuilder.building.before_after import Measure, Scores, measure_scores
from llmbuilder.building.beginnings import held_out_beginnings
from llmbuilder.building.durations import in_words
from llmbuilder.building.general_text import find_general_text
from llmbuilder.building.plan import require_useful
from llmbuilder.building.planning import (
    EVALUATION_SHARE,
    choose_rhythm,
    ending_seconds,
    reserved_seconds,
)
from llmbuilder.building.result import Expectation
from llmbuilder.building.speed import tuning_speed
from llmbuilder.config.loading import apply_settings
from llmbuilder.config.recipe import (
    LARGEST_RANK,
    choose_rank,
    choose_step_tokens,
    divide_step,
    longest_batch,
    resolve_recipe,
    settle_documents,
    settle_tuning,
)
from llmbuilder.config.schema import Config, GenerationConfig
from llmbuilder.config.sizes import (
    count_adapter_parameters,
    count_parameters,
    estimate_run_memory,
    least_run_memory,
    with_window,
)
from llmbuilder.data import TextDataset
from llmbuilder.errors import ConfigError, TokenizerError
from llmbuilder.finetuning.adapting import adapter_shapes
from llmbuilder.formats.model_file import load_model
from llmbuilder.inference import Generator
from llmbuilder.machine import memory_bytes, pass_bytes, resolve_device, slowdown
from llmbuilder.model import LanguageModel
from llmbuilder.notices import counted
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training.tuning import TUNING

ADAPTING_SECONDS = 20 * 60.0  # for the whole build, where nothing is said
ASKING_SHARE = 0.03  # of the time, for questions to the base and to the adapted model
_LONGEST_WINDOW = 512  # tokens: more costs memory, and most documents fill less
_WINDOWS_OF_A_TEXT = 20  # at least, so that a short text is not one window seen over and over
_MOST_PASSES = 4  # repeated text is worth nearly as much as new text so often (Muennighoff et al. 2023)
_WARMUP_SHARE, _MOST_WARMUP = 0.05, 100
_MEASURING_SHARE = 0.03  # of the time, for the speed
_SCORING_SHARE = 0.04  # of the time, for what the base knows, and as much again for what the adapted model does
_FEWEST_SCORED, _GENERAL_SHARE = 4, 0.5  # windows of held-out text; those of general text as a share of them
_STEP_OVER_SCORE = 2.0  # a step with frozen matrices does as much again for its gradients
_TEST_TOKENS = 120  # one after the other: 80 for each of more passages than there are samples
_TRIED_TOKENS = 8
_OF_THE_BASE = ("model", "tokenizer")  # sections of which nothing is chosen
_SAMPLES = 3
_ROOM = 0.6  # of the memory, for what learns as a whole


@dataclass(frozen=True)
class AdaptationPlan:
    """How a base is adapted, what the time allows, and the `before`: what the base predicts untouched.

    `window` tokens are a training sequence; `learned` of the `parameters` learn; `memory` is an estimate in bytes.
    `measure` says what is scored before and after.
    """

    config: Config
    window: int
    parameters: int
    learned: int
    memory: int
    tokens_per_second: float
    training_tokens: int
    passes: float
    steps: int
    training_seconds: float
    before: Scores
    measure: Measure
    seconds_after: float  # what follows training, on a quiet machine

    @property
    def tokens_per_step(self) -> int:
        """The tokens that a step trains on."""
        training = self.config.training
        assert not isinstance(training.batch_size, str)
        return training.batch_size * training.gradient_accumulation_steps * self.window

    @property
    def general_text(self) -> str:
        """What the general text is, in words; "" if there is none that the documents do not hold."""
        return self.measure.general.name if self.measure.general is not None else ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        own = {**vars(self), "config": self.config.to_dict(), "before": asdict(self.before)}
        return {**own, "measure": self.measure.to_dict(), "general_text": self.general_text}

    def expectation(self) -> Expectation:
        """Return what is foreseen, to be kept beside what is reached."""
        return Expectation(
            self.steps, self.training_tokens, self.tokens_per_second, training_seconds=self.training_seconds
        )

    def summary(self) -> str:
        """Return two or three sentences for people."""
        asked, said = self.config.finetuning, "all weights learn"
        if asked.method != "full":
            name = ADAPTERS[asked.method]
            which = "all matrices of the layers" if not asked.layers else ", ".join(asked.layers)
            said = f"{name} of rank {asked.rank} on {which}"
        text = (
            f"{said}: {self.learned / 1e6:.1f}M of {self.parameters / 1e6:.1f}M parameters learn, at a rate of "
            f"{self.config.training.learning_rate:.2g}; about {counted(self.steps, 'step')} of "
            f"{self.tokens_per_step:,} tokens = {self.training_tokens:,} tokens ({self.passes:.2g} passes) at "
            f"{self.tokens_per_second:,.0f} tokens/s in {in_words(self.training_seconds)}, about "
            f"{self.memory / 2**30:.1f} GiB of memory"
        )
        if self.before.held_out is not None:
            text += f"; the base takes {self.before.held_out:.3f} bits per byte of your held-out documents"
        if self.before.general is not None:
            text += f" and {self.before.general:.3f} of general text ({self.general_text})"
        return text


def open_base(base: str | Path, config: Config) -> LanguageModel:
    """Open the model that is to be adapted. Raises TokenizerError for one without a tokenizer."""
    model = load_model(base, config.system.device)
    base_tokenizer(model, base)
    return model


def base_tokenizer(model: LanguageModel, base: str | Path | None) -> Tokenizer:
    """Return the tokenizer that came with a base. Raises TokenizerError if none did."""
    if model.tokenizer is None:
        raise TokenizerError(f"{base} comes without a tokenizer, and its tokens would mean nothing: {NEEDS_TOKENIZER}")
    return model.tokenizer


def plan_adaptation(
    model: LanguageModel,
    config: Config,
    method: str,
    dataset: TextDataset,
    explicit: Mapping[str, Mapping[str, Any]],
    begin: float,
    seconds: float,
    announce: Callable[[str], None],
) -> AdaptationPlan:
    """Choose how to adapt `model` in a build of `seconds` since `begin`, on perf_counter; `explicit` settings win.

    The speed is measured by a few steps of the method chosen, and the base is scored. The model is afterwards what it
    was. Raises ConfigError if there is too little time or memory, or a setting does not fit the base.
    """
    assert dataset.tokenizer is not None
    tokens = dataset.info.tokens
    planned = tuning_settings(model, config, method, tokens, explicit)
    window = _choose_window(model, tokens)
    dataset.set_configured_windows(window, planned.data)
    if planned.finetuning.method != "full":
        adapter_shapes(model, planned)  # what it would refuse, before anything is measured
    _require_memory(planned, window)
    announce("Measuring how fast the base is tuned here, and what it knows of the documents")
    speed = tuning_speed(model, planned, window, _MEASURING_SHARE * seconds)
    general = find_general_text(dataset, dataset.tokenizer)
    windows = max(_FEWEST_SCORED, int(_SCORING_SHARE * seconds * _STEP_OVER_SCORE * speed / window))
    measure = Measure(windows, max(2, int(_GENERAL_SHARE * windows)), general)
    started = time.perf_counter()
    before = measure_scores(model, dataset, dataset.tokenizer, measure)
    scoring = time.perf_counter() - started
    parameters = count_parameters(planned.model)
    a_token = _seconds_a_token(model, dataset)
    samples = a_token * planned.generation.max_new_tokens  # of the base, and later of the adapted model
    after = ending_seconds(tokens, parameters) + scoring + samples + a_token * _TEST_TOKENS
    besides = time.perf_counter() - begin + samples + ASKING_SHARE * seconds
    besides += reserved_seconds(after, slowdown(), seconds)
    training_seconds = planned.training.time_budget_seconds or max(0.001, seconds - besides)
    plan = _fill(planned, window, training_seconds, speed, dataset, _Known(before, measure, after))
    apply_settings(plan.config, {"training": explicit.get("training", {})})
    if planned.training.time_budget_seconds is None:
        require_useful(plan, seconds, besides)
    return plan


def tuning_settings(
    model: LanguageModel, config: Config, method: str, tokens: int, explicit: Mapping[str, Mapping[str, Any]]
) -> Config:
    """Return the configuration for adapting `model` to `tokens` of text: what learns, its rank and its rate."""
    planned = config.copy_of()
    planned.model = model.config.model_copy()
    planned.training = planned.training.model_copy(update=TUNING)
    asked = {section: values for section, values in explicit.items() if section not in _OF_THE_BASE}
    rank = choose_rank(planned.model, planned.finetuning, tokens)
    if method == "auto":
        is_much = rank is None and _all_fits(planned) and "finetuning" not in asked  # more text than adapters hold
        method = "full" if is_much else "lora"
    else:
        asked["finetuning"] = {**asked.get("finetuning", {}), "method": method}
    planned.finetuning.method = method  # type: ignore[assignment]
    if method != "full":
        planned.finetuning.rank = rank or LARGEST_RANK
    apply_settings(planned, asked)
    settle_tuning(planned)
    settle_documents(planned)
    return planned


def _choose_window(model: LanguageModel, tokens: int) -> int:
    return max(1, min(model.config.max_seq_length, _LONGEST_WINDOW, max(8, tokens // _WINDOWS_OF_A_TEXT)))


@dataclass(frozen=True)
class _Known:
    """What is measured already: the base's scores, on what, and the seconds that follow training."""

    before: Scores
    measure: Measure
    seconds_after: float


def _fill(
    planned: Config, window: int, seconds: float, speed: float, dataset: TextDataset, known: _Known
) -> AdaptationPlan:
    """Choose batch, steps and rhythm for `seconds` of training."""
    tokens = dataset.info.tokens
    share = 1 - EVALUATION_SHARE if dataset.validation is not None else 1.0
    affordable = max(1, min(int(speed * seconds * share), _MOST_PASSES * tokens))
    a_step = _choose_batch(planned, window, affordable)
    most = planned.training.max_steps or max(1, -(-_MOST_PASSES * tokens // a_step))
    steps = max(1, min(affordable // a_step, most))
    planned.training.max_steps = most
    scored = len(dataset.validation.tokens) if dataset.validation is not None else 1
    training = planned.training
    training.warmup_steps = max(1, min(_MOST_WARMUP, int(_WARMUP_SHARE * steps)))
    choose_rhythm(training, steps, seconds * speed * _STEP_OVER_SCORE, scored, window)
    training.sample_every = 0  # what it writes is seen at the end, beside what the base does
    asked, parameters = planned.finetuning, count_parameters(planned.model)
    return AdaptationPlan(
        config=planned,
        window=window,
        parameters=parameters,
        learned=parameters if asked.method == "full" else count_adapter_parameters(planned.model, asked),
        memory=estimate_run_memory(planned, window=window).total,
        tokens_per_second=speed,
        training_tokens=steps * a_step,
        passes=steps * a_step / max(1, tokens),
        steps=steps,
        training_seconds=min(seconds, steps * a_step / speed / share),
        before=known.before,
        measure=known.measure,
        seconds_after=known.seconds_after,
    )


def _choose_batch(planned: Config, window: int, affordable: int) -> int:
    """Choose the sequences of a step for a run over `affordable` tokens, and the rate; return the tokens of a step."""
    training = planned.training
    room = pass_bytes(resolve_device(planned.system.device))
    if training.batch_size == "auto":
        longest = longest_batch(with_window(planned.model, window), room)
        divide_step(training, max(1, round(choose_step_tokens(affordable) / window)), longest)
    resolve_recipe(planned, affordable, room, window=window)
    return training.batch_size * training.gradient_accumulation_steps * window


def _seconds_a_token(model: LanguageModel, dataset: TextDataset) -> float:
    """Return how long a token takes of each of the samples, which are written side by side."""
    prompts, generator = held_out_beginnings(dataset, _SAMPLES), Generator(model)
    times = []
    for tokens in (1, 1 + _TRIED_TOKENS):  # the first one comes with reading the prompts
        begin = time.perf_counter()
        generator.generate(prompts, GenerationConfig(max_new_tokens=tokens, seed=0))
        times.append(time.perf_counter() - begin)
    return max(0.0, times[1] - times[0]) / _TRIED_TOKENS


def _all_fits(planned: Config) -> bool:
    whole = planned.copy_of()
    whole.finetuning.method = "full"
    needed = estimate_run_memory(whole, window=min(_LONGEST_WINDOW, planned.model.max_seq_length)).total
    return needed < _ROOM * memory_bytes(resolve_device(planned.system.device))


def _require_memory(planned: Config, window: int) -> None:
    """Raise ConfigError for a base that no batch of this machine's memory tunes, before anything is tried."""
    needed = least_run_memory(planned, window=window).total
    there = memory_bytes(resolve_device(planned.system.device))
    if needed > there:
        less = "" if planned.finetuning.method != "full" else ", or --method lora, which needs about a third"
        raise ConfigError(
            f"tuning this base takes at least {needed / 2**30:,.1f} GiB, and there are {there / 2**30:.1f}: choose a "
            f"smaller base{less}"
        )
