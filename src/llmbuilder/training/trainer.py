"""The training loop: one process, one model, one dataset.

Everything that decides what a step computes follows from the configuration, the step number and the saved state,
so that a resumed run repeats what an unbroken one would have done.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmbuilder.config.schema import Config
from llmbuilder.data.dataset import TextDataset, TokenWindows
from llmbuilder.errors import TrainingError
from llmbuilder.machine import apply_threads, describe_machine, resolve_device, resolve_precision, warn_once
from llmbuilder.model import LanguageModel, save_model
from llmbuilder.training.batches import StepBatch, StepBatches
from llmbuilder.training.callbacks import Callback, RunPlan
from llmbuilder.training.checkpoints import TrainingState, list_checkpoints, write_checkpoint
from llmbuilder.training.interruption import noted_interruption
from llmbuilder.training.optimizers import Optimizers
from llmbuilder.training.paths import RunPaths
from llmbuilder.training.results import TrainingResults

logger = logging.getLogger("llmbuilder")
_COMPILE_PAYS_AFTER_STEPS = 5000
_CALIBRATION_STEPS = 8
_REFIT_SHARE = 0.2  # of the run, after which the number of steps is corrected by the speed seen so far
_BUDGET_RESERVE_SECONDS = 1.0
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
    ) -> None:
        self.model = model
        self.config = config
        self.settings = config.training
        self.paths = paths
        self.callbacks = list(callbacks)
        self.windows: TokenWindows = dataset.train
        self.batches = StepBatches(self.windows, self.settings)
        self.validation = dataset.validation
        self.tokenizer = dataset.tokenizer
        self.step = 0
        self.best_validation_loss: float | None = None
        self.history: list[dict[str, Any]] = []
        apply_threads(config.system.num_threads)
        self.device = resolve_device(config.system.device)
        self.precision = resolve_precision(self.settings.mixed_precision, self.device)
        self.model.to(self.device)
        self.optimizers = Optimizers(model, self.settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.max_steps = self._count_steps()
        self._forward: Callable[[Tensor], tuple[Tensor, None]] = model
        self._recent: deque[float] = deque(maxlen=_LATEST_LOSSES)
        self._first_step = 0  # of this process
        self._started = time.perf_counter()
        self._model_written = False
        self._deadline: float | None = None
        self._step_limit = 1 << 62

    @property
    def tokens_per_step(self) -> int:
        return self.batches.sequences_per_step * self.windows.block_size

    def _count_steps(self) -> int:
        if self.settings.max_steps is not None:
            return self.settings.max_steps
        return max(1, math.ceil(self.settings.num_epochs * len(self.windows) / self.batches.sequences_per_step))

    def run(self, state: TrainingState | None = None) -> TrainingResults:
        """Train from the beginning, or on from a saved state, to the last step."""
        with torch.random.fork_rng(devices=self._cuda_devices()), self._kernels(), noted_interruption() as interrupted:
            torch.manual_seed(self.config.system.seed)
            if state is not None:
                self._restore(state)
            elif self.settings.time_budget_seconds is not None:
                self._fit_time_budget(self.settings.time_budget_seconds)
            self._compile()
            self._started = time.perf_counter()
            self._tell("on_start", self._plan())
            if self.settings.eval_only:
                return self._finish(interrupted=False)
            self._train(interrupted)
            return self._finish(interrupted=interrupted.is_set() and self.step < self.max_steps)

    def _train(self, interrupted: threading.Event) -> None:
        refit_at = max(20, int(_REFIT_SHARE * self.max_steps)) if self._deadline is not None else None
        with self.batches.stream(self.step) as batches:
            while self.step < self.max_steps and not interrupted.is_set():
                metrics = self._one_step(next(batches))
                self._tell("on_step", metrics)
                self._after_step(metrics)
                if self.step == refit_at:
                    self._refit_time_budget()

    def _one_step(self, batch: StepBatch) -> dict[str, Any]:
        begin = time.perf_counter()
        self.model.train()
        learning_rate = self.optimizers.set_step(self.step, self.max_steps)
        loss = 0.0
        for inputs, targets in batch:
            part = self._loss(inputs, targets) / len(batch)
            self.scaler.scale(part).backward()
            loss += part.item()
        grad_norm = self._clip()
        if not math.isfinite(loss) or (grad_norm is not None and not math.isfinite(grad_norm)):
            self._stop_on_non_finite(loss)
        self.optimizers.step(self.scaler)
        self.optimizers.zero_grad()
        self.step += 1
        self._recent.append(loss)
        seconds = time.perf_counter() - begin
        elapsed = time.perf_counter() - self._started
        return {
            "step": self.step,
            "loss": loss,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "max_steps": self.max_steps,
            "tokens_per_second": self.tokens_per_step / seconds,
            "seconds_left": (self.max_steps - self.step) * elapsed / (self.step - self._first_step),
        }

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        inputs, targets = inputs.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = self._forward(inputs)[0]
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def _clip(self) -> float | None:
        """Clip the gradients and return their norm; with fp16 scaling infinities are the scaler's to handle."""
        if not self.settings.max_grad_norm:
            return None
        self.optimizers.unscale(self.scaler)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm).item()
        return None if self.scaler.is_enabled() and not math.isfinite(norm) else norm

    def _stop_on_non_finite(self, loss: float) -> None:
        starts = self.batches.starts(self.step)
        checkpoints = list_checkpoints(self.paths.checkpoints)
        last = f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "no checkpoint was written yet"
        raise TrainingError(
            f"the loss became {loss} at step {self.step + 1}; its batch is the {len(starts)} windows of "
            f"{self.windows.path} that begin at tokens {starts[:8]}{'...' if len(starts) > 8 else ''}; {last}. "
            "A lower learning_rate, a longer warmup_steps or max_grad_norm=1.0 usually helps"
        )

    def _after_step(self, metrics: dict[str, Any]) -> None:
        due = self.settings
        last = self.step == self.max_steps
        if due.eval_every and self.validation is not None and (self.step % due.eval_every == 0 or last):
            improved = self._evaluate()
            if improved:
                self._save_model(self.paths.model)
                if due.save_best_only:
                    self._save_checkpoint()
        if self.step % due.log_every == 0 or last:
            self._log({**metrics, "recent_loss": self._recent_loss(), "tokens": self.step * self.tokens_per_step})
        if due.save_every and not due.save_best_only and self.step % due.save_every == 0 and not last:
            self._save_checkpoint()

    def _evaluate(self) -> bool:
        loss = self.validation_loss()
        improved = self.best_validation_loss is None or loss < self.best_validation_loss
        if improved:
            self.best_validation_loss = loss
        self._log({"step": self.step, "validation_loss": loss, "best_validation_loss": self.best_validation_loss})
        return improved

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Return the mean loss over the validation windows in file order (at most `eval_batches` batches)."""
        if self.validation is None:
            raise TrainingError("there is no validation part: give TextDataset a train_split below 1")
        self.model.eval()
        total, tokens = 0.0, 0
        for inputs, targets in self.validation.in_order(self.settings.batch_size, self.settings.eval_batches):
            total += self._loss(inputs, targets).item() * targets.numel()
            tokens += targets.numel()
        self.model.train()
        return total / tokens

    def _finish(self, *, interrupted: bool) -> TrainingResults:
        if self.settings.eval_only:
            loss = self.validation_loss()
            self.best_validation_loss = loss
            self._log({"step": self.step, "validation_loss": loss})
        else:
            self._save_checkpoint()
            if not self._model_written or self.validation is None:
                self._save_model(self.paths.model)
            elif not self._ends_at_its_best():
                self._save_model(self.paths.last_model)
            loss = self._final_loss()
        elapsed = time.perf_counter() - self._started
        best = self.best_validation_loss
        results = TrainingResults(
            final_loss=loss,
            best_validation_loss=best,
            perplexity=math.exp(min(loss if best is None else best, 700)),
            tokens_per_second=(self.step - self._first_step) * self.tokens_per_step / elapsed,
            training_time=elapsed,
            steps=self.step,
            model_path=str(self.paths.model) if self._model_written or self.paths.model.exists() else None,
            tokenizer_path=str(self.paths.tokenizer) if self.tokenizer is not None else None,
            history=self.history,
            interrupted=interrupted,
        )
        self._tell("on_end", results)
        if interrupted:
            logger.warning(f"stopped at step {self.step}; go on with: llmbuilder train resume {self.paths.folder}")
        return results

    def _recent_loss(self) -> float | None:
        """The mean over the last few steps; None before the first one of this process."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    def _final_loss(self) -> float:
        """The recent loss; for a resumed run that was already complete, what it logged."""
        recent = self._recent_loss()
        logged = [line["recent_loss"] for line in self.history if "recent_loss" in line]
        return recent if recent is not None else logged[-1] if logged else math.nan

    def _ends_at_its_best(self) -> bool:
        """Whether the current weights were evaluated and none were better."""
        evaluated = [line for line in self.history if "validation_loss" in line]
        return bool(evaluated) and (evaluated[-1]["step"], evaluated[-1]["validation_loss"]) == (
            self.step,
            self.best_validation_loss,
        )

    def _save_checkpoint(self) -> None:
        path = write_checkpoint(self.paths.checkpoints, self._state(), self.settings.keep_checkpoints)
        self._tell("on_checkpoint", path)

    def _state(self) -> TrainingState:
        random: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return TrainingState(
            step=self.step,
            weights=self.model.weights(),
            optimizers=self.optimizers.state_dict(),
            random=random,
            best_validation_loss=self.best_validation_loss,
            scaler=self.scaler.state_dict(),
            tokenizer=self.tokenizer.fingerprint if self.tokenizer is not None else None,
        )

    def _restore(self, state: TrainingState) -> None:
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, tensor in state.weights.items():
                own[name].copy_(tensor)
        if state.optimizers:
            self.optimizers.load_state_dict(state.optimizers)
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)
        if "cpu" in state.random:
            torch.set_rng_state(state.random["cpu"])
        if "cuda" in state.random and self.device.type == "cuda":
            torch.cuda.set_rng_state(state.random["cuda"], self.device)
        self.step = self._first_step = state.step
        self.best_validation_loss = state.best_validation_loss
        self._model_written = self.paths.model.exists()

    def _save_model(self, path: Any) -> None:
        is_first = path == self.paths.model and not self._model_written
        keep = is_first and self.paths.keep_earlier
        save_model(self.model, path, self._metadata(), tokenizer=self.tokenizer, overwrite=not keep)
        self._model_written = self._model_written or is_first

    def _metadata(self) -> dict[str, Any]:
        return {
            "training_config": self.config,
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "loss": self._recent_loss(),
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
            device=str(self.device),
            precision=str(self.precision).removeprefix("torch."),
            training_tokens=len(self.windows.tokens),
            validation_tokens=len(self.validation.tokens) if self.validation is not None else 0,
        )

    def _log(self, metrics: dict[str, Any]) -> None:
        self.history.append(metrics)
        self._tell("on_log", metrics)

    def _tell(self, event: str, value: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(value)

    def _fit_time_budget(self, seconds: float) -> None:
        """Choose the number of steps that fits the budget, from a few measured steps that are then undone."""
        begin = time.perf_counter()
        self._deadline = begin + seconds - _BUDGET_RESERVE_SECONDS
        self._step_limit = self.settings.max_steps or 1 << 62
        weights = {name: tensor.clone() for name, tensor in self.model.weights().items()}
        optimizer_state = copy.deepcopy(self.optimizers.state_dict())
        callbacks, self.callbacks = self.callbacks, []
        times = []
        for step in range(_CALIBRATION_STEPS):
            one = time.perf_counter()
            self._one_step(self.batches.fetch(step))
            times.append(time.perf_counter() - one)
        evaluation = 0.0
        if self.validation is not None and self.settings.eval_every:
            one = time.perf_counter()
            self.validation_loss()
            evaluation = time.perf_counter() - one
        self.callbacks = callbacks
        self._restore(TrainingState(step=0, weights=weights, optimizers=[], best_validation_loss=None))
        self.optimizers.load_state_dict(optimizer_state)
        self._recent.clear()
        torch.manual_seed(self.config.system.seed)
        left = self._deadline - time.perf_counter() - evaluation
        cost = sorted(times)[len(times) // 2] + evaluation / max(1, self.settings.eval_every)
        self._set_max_steps(int(left / cost))

    def _refit_time_budget(self) -> None:
        """Correct the number of steps while the learning rate is still flat, so that nothing learned so far changes."""
        if self.settings.lr_schedule == "cosine" or self._deadline is None:
            return
        now = time.perf_counter()
        cost = (now - self._started) / self.step
        self._set_max_steps(max(2 * self.step, self.step + int((self._deadline - now) / cost)))

    def _set_max_steps(self, steps: int) -> None:
        self.max_steps = max(1, min(self._step_limit, steps))
        self.settings.max_steps = self.max_steps
        self.config.save(self.paths.config)

    def _compile(self) -> None:
        if not self.config.system.compile:
            return
        if self.device.type == "cpu" and self.max_steps < _COMPILE_PAYS_AFTER_STEPS:
            warn_once(
                f"compiling costs a minute or more on a CPU and gains little; a run of {self.max_steps} steps will "
                "hardly earn it back (system.compile=false turns it off)"
            )
        self._forward = torch.compile(self.model)  # type: ignore[assignment]

    @contextlib.contextmanager
    def _kernels(self) -> Iterator[None]:
        before = torch.are_deterministic_algorithms_enabled()
        if self.config.system.deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)

    def _cuda_devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []
