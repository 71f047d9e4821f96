"""The training loop: one model, one dataset, one process or several.

Everything that decides what a step computes follows from the configuration, the step number and the saved state,
so that a resumed run repeats what an unbroken one would have done.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmbuilder.acceleration import Acceleration, apply_threads, choose_threads, measure_acceleration
from llmbuilder.config.schema import Config
from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import TrainingError
from llmbuilder.formats.model_file import save_model
from llmbuilder.machine import describe_machine, resolve_precision
from llmbuilder.model import LanguageModel
from llmbuilder.notices import warn_once
from llmbuilder.tokens.windows import TokenWindows
from llmbuilder.training.display.callbacks import Callback, RunPlan
from llmbuilder.training.loop.anomalies import LossWatch
from llmbuilder.training.loop.batches import StepBatch, StepBatches, dealt
from llmbuilder.training.loop.meter import Meter, timed
from llmbuilder.training.loop.optimizers import Optimizers
from llmbuilder.training.loop.rescue import Rescue
from llmbuilder.training.loop.time_budget import TimeBudget
from llmbuilder.training.processes.distributed import Processes, ReplicatedModel, ShardedModel, process_device
from llmbuilder.training.processes.interruption import noted_interruption
from llmbuilder.training.results import TrainingResults
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.snapshots import Snapshots

logger = logging.getLogger("llmbuilder")
_COMPILE_PAYS_AFTER_STEPS = 5000
_LATEST_LOSSES = 10


class Trainer:
    """Trains `model` on a prepared dataset as `config` says and writes the run's files to `paths`."""

    def __init__(
        self,
        model: LanguageModel,
        dataset: TextDataset,
        config: Config,
        paths: RunPaths,
        callbacks: Sequence[Callback] = (),
        *,
        processes: Processes | None = None,
        is_sharded: bool = False,
        acceleration: Acceleration | None = None,
    ) -> None:
        self.config = config
        self.settings = config.training
        self.paths = paths
        self.processes = processes or Processes()
        self.callbacks = list(callbacks) if self.processes.is_main else []
        self.tokenizer = dataset.tokenizer
        self.validation = dataset.validation
        self.windows: TokenWindows = dataset.train
        self.device = process_device(config.system)
        self.precision = resolve_precision(self.settings.mixed_precision, self.device)
        self.batches = StepBatches(self.windows, self.settings, self.processes, pinned=self.device.type == "cuda")
        self.step = 0
        self.data_shift = 0
        self.best_validation_loss: float | None = None
        self.history: list[dict[str, Any]] = []
        self.watch = LossWatch(self.settings.loss_spike_threshold)
        apply_threads(config.system.num_threads)
        self.model = model.to(self.device)
        model.gradient_checkpointing = self.settings.gradient_checkpointing
        self.parallel: ReplicatedModel | ShardedModel = (
            ShardedModel(model, self.device, self.precision, self.processes.count)
            if is_sharded
            else ReplicatedModel(model, self.processes)
        )
        self.optimizers = Optimizers(model, self.settings, self.processes)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.max_steps = self._count_steps()
        self.acceleration = acceleration or self._accelerate()
        self.meter = Meter(
            self.device,
            self.tokens_per_step,
            model.flops_per_token(self.windows.block_size),
            self.acceleration.peak_flops and self.acceleration.peak_flops * self.processes.count,
        )
        self.snapshots = Snapshots(self)
        self.rescue = Rescue(self)
        self.first_step = 0  # of this process
        self._forward: Callable[[Tensor], tuple[Tensor, None]] = self.parallel.module
        self._started = time.perf_counter()
        self._model_written = False
        self._is_interrupted = False

    @property
    def tokens_per_step(self) -> int:
        return self.batches.sequences_per_step * self.windows.block_size

    @property
    def position(self) -> int:
        """The number of the next batch: the steps taken and the batches left out."""
        return self.step + self.data_shift

    def _count_steps(self) -> int:
        if self.settings.max_steps is not None:
            return self.settings.max_steps
        return max(1, math.ceil(self.settings.num_epochs * len(self.windows) / self.batches.sequences_per_step))

    def _accelerate(self) -> Acceleration:
        """Measure how this machine computes fastest, its number of threads by a pass of this very model."""
        found = measure_acceleration(self.device, self.precision)
        if self.device.type != "cpu" or self.config.system.num_threads is not None or self.processes.count > 1:
            return found
        with found.applied():
            batch = self.batches.fetch(0)
            threads = choose_threads(lambda: self._loss(*batch[0]).backward())
        self.optimizers.zero_grad()
        return found.with_threads(threads)

    def run(self, state: Any = None) -> TrainingResults:
        """Train from the beginning, or on from a saved `TrainingState`, to the last step."""
        with (
            torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []),
            self._kernels(),
            noted_interruption() as interrupted,
            self.snapshots,
        ):
            torch.manual_seed(self.config.system.seed + self.processes.rank)
            budget = None
            if state is not None:
                self.snapshots.restore(state)
                self.first_step = self.step
                self._model_written = self.paths.model.exists()
            elif self.settings.time_budget_seconds is not None:
                budget = TimeBudget(self, self.settings.time_budget_seconds)
                budget.fit()
            self._compile()
            self._started = time.perf_counter()
            self._tell("on_start", self._plan())
            try:
                if not self.settings.eval_only:
                    self._train(interrupted, budget)
                return self._finish(interrupted=self._is_interrupted and self.step < self.max_steps)
            except BaseException:
                for callback in self.callbacks:
                    callback.on_failure()
                raise

    def _train(self, interrupted: threading.Event, budget: TimeBudget | None) -> None:
        with self.batches.stream(self.position) as batches:
            waiting = timed(batches)
            while self.step < self.max_steps and not self._is_interrupted:
                begin = time.perf_counter()
                waited, batch = next(waiting)
                metrics = self.one_step(batch, interrupted.is_set())
                if metrics is None:
                    continue
                self.meter.add_step(time.perf_counter() - begin, waited)
                metrics |= {**self.meter.speed(), "seconds_left": self._seconds_left()}
                self._tell("on_step", metrics)
                if budget is not None:
                    budget.correct()
                self._after_step(metrics)

    def one_step(self, batch: StepBatch, interrupted: bool = False) -> dict[str, Any] | None:
        """Take one step and return its metrics, or None if the loss was bad and the step was undone."""
        self.model.train()
        learning_rate = self.optimizers.set_step(self.step, self.max_steps)
        total = torch.zeros(2, device=self.device)
        for part, (inputs, targets) in enumerate(batch):
            with self.parallel.averaging(is_last=part == len(batch) - 1):
                loss = self._loss(inputs, targets) / len(batch)
                self.scaler.scale(loss).backward()
            total[0] += loss.detach()
        total[1] += interrupted
        # One transfer from the device a step; all processes learn the same.
        loss_value, interruptions = self.processes.mean(total).tolist()
        self._is_interrupted = interruptions > 0
        grad_norm = self._clip()
        if (problem := self.watch.problem(loss_value, grad_norm)) is not None:
            self.rescue.handle(problem, loss_value, grad_norm)
            return None
        self.optimizers.step(self.scaler)
        self.optimizers.zero_grad()
        self.step += 1
        return {
            "step": self.step,
            "loss": loss_value,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "max_steps": self.max_steps,
        }

    def _seconds_left(self) -> float:
        elapsed = time.perf_counter() - self._started
        return (self.max_steps - self.step) * elapsed / max(1, self.step - self.first_step)

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        inputs, targets = inputs.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)
        with self._autocast():
            logits = self._forward(inputs)[0]
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def _autocast(self) -> torch.autocast:
        enabled = self.precision != torch.float32 and not self.parallel.is_sharded
        return torch.autocast(self.device.type, self.precision if enabled else torch.bfloat16, enabled=enabled)

    def _clip(self) -> float | None:
        """Clip the gradients and return their norm; with fp16 scaling infinities are the scaler's to handle."""
        if not self.settings.max_grad_norm:
            return None
        self.optimizers.unscale(self.scaler)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        value = (norm.full_tensor() if hasattr(norm, "full_tensor") else norm).item()
        return None if self.scaler.is_enabled() and not math.isfinite(value) else value

    def _after_step(self, metrics: dict[str, Any]) -> None:
        due = self.settings
        last = self.step == self.max_steps
        if due.eval_every and self.validation is not None and (self.step % due.eval_every == 0 or last):
            improved = self._evaluate()
            if improved:
                self._save_model(self.paths.model)
                if due.save_best_only:
                    self.snapshots.save()
        if self.step % due.log_every == 0 or last:
            tokens = self.step * self.tokens_per_step
            self.log({**metrics, **self.meter.take(), "recent_loss": self.recent_loss(), "tokens": tokens})
        every = due.eval_every if due.sample_every is None else due.sample_every
        if every and self.step % every == 0 and not last:
            self._sample()
        if due.save_every and not due.save_best_only and self.step % due.save_every == 0 and not last:
            self.snapshots.save()
        self.snapshots.note_finished()

    def _evaluate(self) -> bool:
        loss = self.validation_loss()
        improved = self.best_validation_loss is None or loss < self.best_validation_loss
        if improved:
            self.best_validation_loss = loss
        self.log({"step": self.step, "validation_loss": loss, "best_validation_loss": self.best_validation_loss})
        return improved

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Return the mean loss over the validation windows in file order (at most `eval_batches` batches)."""
        if self.validation is None:
            raise TrainingError("there is no validation part: give TextDataset a train_split below 1")
        self.model.eval()
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        batches = self.validation.in_order(self.settings.batch_size, self.settings.eval_batches)
        for counts, (inputs, targets) in dealt(batches, self.processes):
            tokens = targets.numel() * counts
            total += torch.tensor([self._loss(inputs, targets).item() * tokens, tokens], device=self.device)
        self.model.train()
        loss, tokens = self.processes.mean(total).tolist()
        return loss / tokens

    def _sample(self) -> None:
        """Put a short text into the log, the same beginning each time."""
        if self.tokenizer is None or self.parallel.is_sharded or not self.processes.is_main:
            return
        from llmbuilder.training.display.samples import sample_text

        text = sample_text(self.model, self.tokenizer, self.windows.tokens, self.config.system.seed)
        self.log({"step": self.step, "sample": text})

    def _finish(self, *, interrupted: bool) -> TrainingResults:
        if self.settings.eval_only:
            loss = self.validation_loss()
            self.best_validation_loss = loss
            self.log({"step": self.step, "validation_loss": loss})
        else:
            self.snapshots.save()
            if not self._model_written or self.validation is None:
                self._save_model(self.paths.model)
            elif not self._ends_at_its_best():
                self._save_model(self.paths.last_model)
            loss = self._final_loss()
        self.snapshots.finish()
        elapsed = time.perf_counter() - self._started
        best = self.best_validation_loss
        results = TrainingResults(
            final_loss=loss,
            best_validation_loss=best,
            perplexity=math.exp(min(loss if best is None else best, 700)),
            tokens_per_second=(self.step - self.first_step) * self.tokens_per_step / elapsed,
            training_time=elapsed,
            steps=self.step,
            model_path=str(self.paths.model) if self._model_written or self.paths.model.exists() else None,
            tokenizer_path=str(self.paths.tokenizer) if self.tokenizer is not None else None,
            history=self.history,
            interrupted=interrupted,
        )
        self._tell("on_end", results)
        if interrupted and self.processes.is_main:
            logger.warning(f"stopped at step {self.step}; go on with: llmbuilder train resume {self.paths.folder}")
        return results

    def recent_loss(self) -> float | None:
        """The mean over the last few steps; None before the first one."""
        return self.watch.recent(_LATEST_LOSSES)

    def _final_loss(self) -> float:
        """The recent loss; for a resumed run that was already complete, what it logged."""
        recent = self.recent_loss()
        logged = [line["recent_loss"] for line in self.history if "recent_loss" in line]
        return recent if recent is not None else logged[-1] if logged else math.nan

    def _ends_at_its_best(self) -> bool:
        """Whether the current weights were evaluated and none were better."""
        evaluated = [line for line in self.history if "validation_loss" in line]
        return bool(evaluated) and (evaluated[-1]["step"], evaluated[-1]["validation_loss"]) == (
            self.step,
            self.best_validation_loss,
        )

    def _save_model(self, path: Any) -> None:
        is_first = path == self.paths.model and not self._model_written
        keep = is_first and self.paths.keep_earlier
        whole = self.snapshots.whole_model()
        self.processes.on_main(
            lambda: save_model(whole, path, self._metadata(), tokenizer=self.tokenizer, overwrite=not keep)
        )
        self._model_written = self._model_written or is_first

    def _metadata(self) -> dict[str, Any]:
        return {
            "training_config": self.config,
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "loss": self.recent_loss(),
            "best_validation_loss": self.best_validation_loss,
            "machine": describe_machine(),
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def _plan(self) -> RunPlan:
        return RunPlan(
            first_step=self.step,
            max_steps=self.max_steps,
            tokens_per_step=self.tokens_per_step,
            num_parameters=self.model.num_parameters(),
            device=str(self.device)
            if self.processes.count == 1
            else f"{self.processes.count} {self.device.type} processes",
            precision=str(self.precision).removeprefix("torch."),
            training_tokens=len(self.windows.tokens),
            validation_tokens=len(self.validation.tokens) if self.validation is not None else 0,
        )

    def log(self, metrics: dict[str, Any]) -> None:
        """Keep a line of metrics and pass it on."""
        self.history.append(metrics)
        self._tell("on_log", metrics)

    def _tell(self, event: str, value: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(value)

    def set_max_steps(self, steps: int) -> None:
        """Change the length of the run; the schedule follows."""
        self.max_steps = self.settings.max_steps = max(1, steps)
        if self.processes.is_main:
            self.config.save(self.paths.config)

    def _compile(self) -> None:
        if not self.config.system.compile:
            return
        if self.device.type == "cpu" and self.max_steps < _COMPILE_PAYS_AFTER_STEPS:
            warn_once(
                f"compiling costs a minute or more on a CPU and gains little; a run of {self.max_steps} steps will "
                "hardly earn it back (system.compile=false turns it off)"
            )
        self._forward = torch.compile(self.parallel.module)  # type: ignore[assignment]

    @contextlib.contextmanager
    def _kernels(self) -> Iterator[None]:
        before = torch.are_deterministic_algorithms_enabled()
        if self.config.system.deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            with self.acceleration.applied():
                yield
        finally:
            torch.use_deterministic_algorithms(before)
