"""How fast this machine trains a shape: measured, within a time set for that, or by the shape's operations."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from llmbuilder.acceleration import limited_threads, measure_acceleration
from llmbuilder.config.recipe import RECOMMENDED, longest_batch, resolve_recipe
from llmbuilder.config.schema import Config, ModelConfig
from llmbuilder.config.sizes import count_flops_per_token, with_window
from llmbuilder.finetuning.adapting import adapt_model, hold_base
from llmbuilder.machine import pass_bytes, resolve_device, resolve_precision
from llmbuilder.model import LanguageModel, build_model
from llmbuilder.model.adapters import adapted_layers, remove_adapters
from llmbuilder.threads import FairThreads
from llmbuilder.training.loop.optimizers import Optimizers
from llmbuilder.training.loop.processor import choose_precision
from llmbuilder.training.processes.distributed import Processes

Speed = Callable[[ModelConfig, int], float]  # model, sequences a step -> tokens per second

_MOST_SECONDS = 10.0  # of measuring, where nothing else is said
_SECONDS_A_SHAPE = 0.5
_FEWEST_STEPS, _MOST_STEPS = 3, 10
_MOST_OF_A_PASS = 6  # sequences
_GPU_TOKENS = 4096  # of a step
_RATES = ("learning_rate", "muon_learning_rate", "vector_learning_rate", "embedding_learning_rate",
          "head_learning_rate")  # fmt: skip
# With less time than that, the first shape is measured by small steps: nobody knows yet what one takes.
_LITTLE_SECONDS, _FEW_TOKENS = 2.0, 512


def estimated_speed(flops_per_second: float) -> Speed:
    """Return a function that divides by a model's operations per token."""
    return lambda shape, _: flops_per_second / count_flops_per_token(shape)


def measured_speed(config: Config, seconds: float = _MOST_SECONDS) -> Speed:
    """Return a function that measures how many tokens a second a model trains on, whole steps counted.

    It measures for `seconds` in all, from now on; what is asked for later, or would take longer than what is left of
    them, is worked out from the last measurement by the operations per token. The first shape asked for is measured
    in any case, by small steps if there is little time.
    """
    return _Stopwatch(config, seconds)


class _Stopwatch:
    def __init__(self, config: Config, seconds: float) -> None:
        self._config = config
        self._deadline = time.perf_counter() + seconds
        self._device = resolve_device(config.system.device)
        self._threads: FairThreads | None = None
        self._flops: float | None = None  # a second, of the last measurement

    def __call__(self, shape: ModelConfig, sequences: int) -> float:
        per_token = count_flops_per_token(shape)
        left = self._deadline - time.perf_counter()
        if self._flops is None:
            few = max(1, _FEW_TOKENS // shape.max_seq_length)
            sequences = min(sequences, few) if left < _LITTLE_SECONDS else sequences
        else:
            least = _FEWEST_STEPS * sequences * shape.max_seq_length * per_token / self._flops
            if least > left:
                return self._flops / per_token
        with limited_threads(self._config.system.num_threads), self._fair_threads() as threads:
            found = self._measure(shape, sequences, threads)
        self._flops = found * per_token
        return found

    def _fair_threads(self) -> FairThreads:
        """Return what adapts threads to the load, as training will; it remembers the way from one shape to the next."""
        if self._threads is None:
            self._threads = FairThreads.on(self._device, may_change_number=self._config.system.num_threads is None)
        return self._threads

    def _measure(self, shape: ModelConfig, sequences: int, threads: FairThreads) -> float:
        whole = Config(model=shape, training=self._config.training.model_copy(update=RECOMMENDED))
        resolve_recipe(whole, 1, 1 << 40)
        choose_precision(whole, self._device, Processes())
        model = build_model(shape, seed=0).to(self._device)
        size = (sequences, shape.max_seq_length)
        return _time_steps(model, whole, size, threads, min(time.perf_counter() + _SECONDS_A_SHAPE, self._deadline))


def tuning_speed(model: LanguageModel, config: Config, window: int, seconds: float) -> float:
    """Return the tokens a second that a model is tuned on as `config` says, in sequences of `window` tokens.

    A step has one of them on a processor, and where the time allows as many as a pass of training may have, by which
    some processors are half as fast again; on a GPU it has some thousand tokens. Three steps of a size are taken, and
    more as long as a part of the `seconds` allows. The model is afterwards what it was.
    """
    end = time.perf_counter() + seconds
    whole = config.copy_of()
    resolve_recipe(whole, 1, 1 << 40, window=window)
    whole.training = whole.training.model_copy(update={**dict.fromkeys(_RATES, 0.0), "min_learning_rate": None})
    choose_precision(whole, model.device, Processes())
    has_adapters = whole.finetuning.method != "full"
    if has_adapters:
        adapt_model(model, whole)
        precision = resolve_precision(whole.training.mixed_precision, model.device)
        whole_weights = {name: layer.weight for name, layer in adapted_layers(model)}
        hold_base(model, whole, precision, whole_weights.__getitem__)  # as training will
    model.train()
    model.gradient_checkpointing = whole.training.gradient_checkpointing
    fair = FairThreads.on(model.device, may_change_number=whole.system.num_threads is None)
    try:
        with limited_threads(whole.system.num_threads), fair as threads:
            if model.device.type != "cpu":
                return _time_steps(model, whole, (max(1, _GPU_TOKENS // window), window), threads, end)
            found = _time_steps(model, whole, (1, window), threads, time.perf_counter() + seconds / 4)
            sequences = min(_MOST_OF_A_PASS, longest_batch(with_window(model.config, window), pass_bytes(model.device)))
            if sequences > 1 and time.perf_counter() + _FEWEST_STEPS * sequences * window / found < end:
                found = max(found, _time_steps(model, whole, (sequences, window), threads, 0.0))
            return found
    finally:
        model.zero_grad(set_to_none=True)
        model.gradient_checkpointing = False
        if has_adapters:
            remove_adapters(model)
        model.eval()


def _time_steps(model: LanguageModel, config: Config, size: tuple[int, int], threads: FairThreads, end: float) -> float:
    """Return the tokens a second of whole steps over sequences of random tokens, a few of them and more until `end`."""
    device, precision = model.device, resolve_precision(config.training.mixed_precision, model.device)
    optimizers = Optimizers(model, config.training, precision=precision)
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    tokens = torch.randint(model.config.vocab_size, size, device=device)
    times: list[float] = []
    with measure_acceleration(device, precision).applied():
        while len(times) < _FEWEST_STEPS or (len(times) < _MOST_STEPS and time.perf_counter() < end):
            start = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
                loss = model.summed_loss(tokens, tokens) / tokens.numel()
            loss.backward()
            optimizers.set_step(0, 100)
            optimizers.step(scaler)
            optimizers.zero_grad()
            loss.item()  # waits for the device
            times.append(time.perf_counter() - start)
            threads.note(times[-1])
    settled = sorted(times[1:])  # the first step allocates
    return tokens.numel() / settled[len(settled) // 4]  # some were taken in ways that are not kept
