"""The training loop: one model, one dataset, one process or several.

Everything that decides what a step computes follows from the configuration, the step number and the saved state,
so that a resumed run repeats what an unbroken one would have done.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from llmbuilder.acceleration import Acceleration, deterministic_algorithms
from llmbuilder.config.schema import Config
from llmbuilder.data.dataset import TextDataset
from llmbuilder.machine import describe_machine
from llmbuilder.model import LanguageModel
from llmbuilder.model.adapters import has_adapters
from llmbuilder.notices import command
from llmbuilder.tokens.samples import SampleRows
from llmbuilder.tokens.windows import TokenWindows
from llmbuilder.training.display.callbacks import Callback, RunPlan
from llmbuilder.training.loop.anomalies import LossWatch
from llmbuilder.training.loop.batches import StepBatch, StepBatches
from llmbuilder.training.loop.learner import Learner
from llmbuilder.training.loop.meter import Meter, timed
from llmbuilder.training.loop.plan import plan_of
from llmbuilder.training.loop.processor import choose_acceleration, fair_threads
from llmbuilder.training.loop.reference import keep_reference
from llmbuilder.training.loop.rescue import Rescue
from llmbuilder.training.loop.run_state import RunState
from llmbuilder.training.loop.schedules import is_due
from llmbuilder.training.loop.snapshots import Snapshots
from llmbuilder.training.loop.time_budget import Costs, TimeBudget, measure_costs
from llmbuilder.training.loop.validation import validate
from llmbuilder.training.processes.distributed import Processes, process_device
from llmbuilder.training.processes.interruption import Interruption, noted_interruption
from llmbuilder.training.results import TrainingResults
from llmbuilder.training.storage.checkpoints import TrainingState
from llmbuilder.training.storage.model_files import ModelFiles
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.run_record import record_overlap

logger = logging.getLogger("llmbuilder")


class Trainer:
    """Trains `model` on a prepared dataset as `config` says and writes the run's files to `paths`.

    What computes is its `learner`, where the run stands its `state`; it decides what happens when.
    """

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
        self.dataset = dataset
        self.validation = dataset.validation
        self.windows: TokenWindows | SampleRows = dataset.train
        device = process_device(config.system)
        self.batches = StepBatches(self.windows, self.settings, self.processes, pinned=device.type == "cuda")
        watch = LossWatch(self.settings.loss_spike_threshold, self.batches.sequences_per_step)
        self.state = RunState(self._count_steps(), watch)
        self.learner = Learner(model, config, device, self.processes, is_sharded=is_sharded)
        self.acceleration = acceleration or choose_acceleration(self.learner, self.batches, config)
        self.threads = fair_threads(self.acceleration, self.learner, config)
        self.meter = self._new_meter()
        self.models = ModelFiles(paths)
        self.snapshots = self._new_snapshots()
        self.rescue = self._new_rescue()
        self._first_step = 0  # of this process
        self._started = time.perf_counter()
        self._model_written = False
        self._is_interrupted = False
        self._budget: TimeBudget | None = None

    def _new_meter(self) -> Meter:
        return Meter(
            self.learner.device,
            self.tokens_per_step,
            self.learner.model.flops_per_token(self.windows.block_size),
            self.acceleration.peak_flops and self.acceleration.peak_flops * self.processes.count,
        )

    def _new_snapshots(self) -> Snapshots:
        return Snapshots(
            self.paths.checkpoints,
            self.config,
            self.state,
            self.learner,
            self.meter,
            tokenizer=self.tokenizer.fingerprint if self.tokenizer is not None else None,
            announce=lambda path: self._tell("on_checkpoint", path),
        )

    def _new_rescue(self) -> Rescue:
        return Rescue(
            self.settings.loss_spike_policy,
            self.paths.folder,
            self.state,
            self.learner,
            self.batches,
            self.tokenizer,
            self.snapshots,
            log=self.log,
            take_back=self._take_back,
        )

    @property
    def tokens_per_step(self) -> int:
        """The tokens that all processes together train on in a step."""
        return self.batches.sequences_per_step * self.windows.sequence_tokens

    def _count_steps(self, step: int = 0, sequences: int = 0) -> int:
        return self.settings.max_steps or self.batches.steps_of(self.settings.num_epochs, step, sequences)

    def run(self, saved: TrainingState | None = None) -> TrainingResults:
        """Train from the beginning, or on from a saved state, to the last step."""
        device = self.learner.device
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            deterministic_algorithms(self.config.system.deterministic),
            self.acceleration.applied(),
            self.threads,
            noted_interruption() as interruption,
            self.snapshots,
        ):
            torch.manual_seed(self.config.system.seed + self.processes.rank)
            if saved is not None:
                self.restore(saved)
                self._first_step = self.state.step
                self._model_written = self.state.best_validation_loss is not None and self._has_own_model()
            else:
                self.state.seconds = keep_reference(
                    self.learner, self.dataset, self.paths, self.settings.batch_size, self.log
                )
            if self.settings.time_budget_seconds is not None and not self.settings.eval_only:
                self._budget = self._new_budget(self.settings.time_budget_seconds, is_new=saved is None)
            else:
                self.state.planned = None
            self.learner.compile(self.state.max_steps)
            self._started = time.perf_counter()
            self._tell("on_start", self._plan())
            try:
                if not self.settings.eval_only:
                    self._train(interruption)
                results = self._finish(interrupted=self._is_interrupted and not self.state.is_complete)
                signals = self.processes.gather(interruption.signal)
                results.stopped_by = next((signal.name for signal in signals if signal is not None), None)
                return results
            except BaseException:
                for callback in self.callbacks:
                    callback.on_failure()
                raise

    def _new_budget(self, seconds: float, *, is_new: bool) -> TimeBudget | None:
        """Return what keeps the run in its time; None for one that was begun by steps, and goes on by them."""
        state, every = self.state, self.settings.eval_every
        settings = self.settings
        budget = TimeBudget(seconds, settings.max_steps, state, self.processes, settings.time_reserve_seconds)
        if is_new:
            budget.fit(self._rehearse(seconds), every)
        elif state.planned is not None:
            taken = [line["evaluation_seconds"] for line in state.history if "evaluation_seconds" in line]
            budget.start(every, evaluation=taken[-1] if taken else 0.0)
        return budget if state.planned is not None else None

    def restore(self, saved: TrainingState) -> None:
        """Put the run where `saved` was saved; its end follows from the sequences that are left."""
        self.snapshots.restore(saved)
        self.state.max_steps = self._count_steps(self.state.step, self.state.sequences)

    def _rehearse(self, seconds: float) -> Costs:
        """Measure a few steps and an evaluation of a run of `seconds`, and undo them."""
        evaluate = self.validated if self.validation is not None and self.settings.eval_every else None
        with self.snapshots.undone():
            callbacks, self.callbacks = self.callbacks, []
            sequences = self.batches.sequences_per_step
            costs = measure_costs(
                lambda step: self.one_step(self.batches.fetch(step * sequences)), evaluate, self.threads.note, seconds
            )
            self.callbacks = callbacks
        return costs

    def _train(self, interruption: Interruption) -> None:
        with self.batches.stream(self.state.position) as batches:
            waiting = timed(batches)
            while not self.state.is_complete and not self._is_interrupted:
                begin, (before, _) = time.perf_counter(), self.state.course
                waited, batch = next(waiting)
                metrics = self.one_step(batch, interruption.is_set)
                if metrics is None:
                    continue
                taken = time.perf_counter() - begin
                self.meter.add_step(taken, waited)
                self.threads.note(taken)
                if self._budget is not None:
                    self._budget.advance()
                left = {"max_steps": self.state.max_steps, "seconds_left": self._seconds_left()}
                metrics |= {**self.meter.speed(), **left}
                self._tell("on_step", metrics)
                self._after_step(metrics, before)

    def one_step(self, batch: StepBatch, interrupted: bool = False) -> dict[str, Any] | None:
        """Take one step and return its metrics, or None if the loss was bad and the step was undone."""
        state, learner = self.state, self.learner
        learning_rate = learner.optimizers.set_step(*state.course)
        sums = learner.compute_gradients(batch)
        # In one exchange, so that every process judges the same loss and stops after the same step.
        means = self.processes.mean(torch.cat([torch.full_like(sums[:1], interrupted), sums]))
        norm = learner.clip_gradients()
        # In one transfer, because each makes the processor wait until the device has finished.
        values = torch.cat([means, *([] if norm is None else [norm.view(1)])]).tolist()
        interruptions, loss_value, *reported = values[: len(means)]
        norms = values[len(means) :]
        self._is_interrupted = interruptions > 0
        # With fp16, infinite gradients are the scaler's to handle.
        grad_norm = next((n for n in norms if math.isfinite(n) or not learner.scaler.is_enabled()), None)
        if (problem := state.watch.problem(loss_value, grad_norm)) is not None:
            self.rescue.handle(problem, loss_value, grad_norm)
            return None
        learner.update_weights()
        state.step += 1
        state.sequences += self.batches.sequences_per_step
        return {
            "step": state.step,
            "loss": loss_value,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            **dict(zip(learner.objective.reported, reported, strict=True)),
        }

    def _seconds_left(self) -> float:
        if self._budget is not None:
            return self._budget.seconds_left()
        elapsed = time.perf_counter() - self._started
        taken = self.state.step - self._first_step
        return (self.state.max_steps - self.state.step) * elapsed / max(1, taken)

    def _after_step(self, metrics: dict[str, Any], before: float) -> None:
        """Do what is due after a step that began at `before` on the course."""
        settings, (after, _) = self.settings, self.state.course
        last, improved = self.state.is_complete, False
        if settings.eval_every and self.validation is not None and (is_due(settings.eval_every, before, after) or last):
            improved = self._evaluate()
            if improved:
                self._save_model(self.paths.model)
        if is_due(settings.log_every, before, after) or last:
            seen = {
                "recent_loss": self.state.recent_loss(),
                "tokens": self.state.sequences * self.windows.sequence_tokens,
            }
            self.log({**metrics, **self.meter.take(), **seen})
        every = settings.eval_every if settings.sample_every is None else settings.sample_every
        if is_due(every, before, after) and not last:
            self._sample()
        # Last, so that what the step has logged is on the disk when its checkpoint is.
        due = improved if settings.save_best_only else is_due(settings.save_every, before, after)
        if due and not last:
            self.snapshots.save()
        self.snapshots.note_finished()

    def _evaluate(self) -> bool:
        """Log the validation loss and return whether it is the best so far."""
        begin = time.perf_counter()
        found = self.validated()
        seconds = time.perf_counter() - begin
        if self._budget is not None:
            self._budget.note_evaluation(seconds)
        improved = self.state.note_validation(found["validation_loss"])
        best = {"best_validation_loss": self.state.best_validation_loss, "evaluation_seconds": seconds}
        self.log({"step": self.state.step, **found, **best})
        return improved

    def validated(self) -> dict[str, float]:
        """Return the mean loss over the validation part, and what is reported beside it. Raises as `validate`."""
        return validate(self.learner, self.validation, self.settings)

    def _sample(self) -> None:
        """Put a short text into the log, the same beginning each time."""
        if self.tokenizer is None or self.learner.is_sharded or not self.processes.is_main:
            return
        from llmbuilder.training.display.samples import sample_text

        text = sample_text(self.learner.model, self.tokenizer, self.windows.tokens, self.config.system.seed)
        self.log({"step": self.state.step, "sample": text})

    def _finish(self, *, interrupted: bool) -> TrainingResults:
        if self.settings.eval_only:
            found = self.validated()
            self.state.best_validation_loss = loss = found["validation_loss"]
            self.log({"step": self.state.step, **found})
        else:
            self._save_at_the_end()
            loss = self.state.final_loss()
        self.snapshots.finish()
        results = self._results(loss, interrupted=interrupted)
        try:
            self._tell("on_end", results)
        finally:
            if interrupted and self.processes.is_main:
                go_on = command("train", "resume", self.paths.folder)
                logger.warning(f"stopped at step {self.state.step}; go on with: {go_on}")
        return results

    def _save_at_the_end(self) -> None:
        self.snapshots.save()
        if not self._model_written or self.validation is None:
            self._save_model(self.paths.model)
        elif not self.state.ends_at_its_best():
            self._save_model(self.paths.last_model)
        else:
            self.processes.on_main(lambda: self.models.remove_own(self.paths.last_model))  # of an earlier stop

    def _results(self, loss: float, *, interrupted: bool) -> TrainingResults:
        state = self.state
        elapsed = time.perf_counter() - self._started
        best = state.best_validation_loss
        return TrainingResults(
            final_loss=loss,
            best_validation_loss=best,
            perplexity=self.learner.objective.perplexity(loss if best is None else best),
            reward_accuracy=state.at_its_best("validation_reward_accuracy"),
            tokens_per_second=(state.step - self._first_step) * self.tokens_per_step / elapsed,
            training_time=elapsed,
            steps=state.step,
            planned_steps=state.planned,
            model_path=str(self.paths.model) if self._model_written or self.paths.model.exists() else None,
            tokenizer_path=str(self.paths.tokenizer) if self.tokenizer is not None else None,
            adapter_path=str(self.paths.adapter) if self._has_adapter_files() else None,
            history=state.history,
            interrupted=interrupted,
            validation_overlap=self.processes.on_main(lambda: record_overlap(self.dataset, self.paths))
            if best is not None
            else None,
        )

    def _has_adapter_files(self) -> bool:
        return self.config.finetuning.method != "full" and self.paths.adapter.is_dir()

    def _save_model(self, path: Path) -> None:
        whole = self.learner.whole_model()
        self.processes.on_main(lambda: self.models.save(whole, path, self._metadata(), self.tokenizer))
        # Without the embedding that learned with them, adapters alone are not the tuned model.
        if path == self.paths.model and has_adapters(whole) and not self.config.finetuning.embeddings:
            self.processes.on_main(lambda: self.models.save_adapter(whole, self.config.training.init_from))
        self._model_written = self._model_written or path == self.paths.model

    def _has_own_model(self) -> bool:
        return self.processes.on_main(lambda: self.models.is_own(self.paths.model))

    def _metadata(self) -> dict[str, Any]:
        state = self.state
        return {
            "training_config": self.config,
            "step": state.step,
            "tokens": state.sequences * self.windows.sequence_tokens,
            "loss": state.recent_loss(),
            "best_validation_loss": state.best_validation_loss,
            "machine": describe_machine(),
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def _plan(self) -> RunPlan:
        return plan_of(self.state, self.learner, self.windows, self.validation, self.tokens_per_step)

    def log(self, metrics: dict[str, Any]) -> None:
        """Keep a line of metrics and pass it on."""
        self.state.history.append(metrics)
        self._tell("on_log", metrics)

    def _take_back(self, step: int) -> None:
        """Drop what was logged after a step that the run has gone back to, so that each step is told of once."""
        self.state.history = [line for line in self.state.history if line["step"] <= step]
        self._tell("on_rewind", step)

    def _tell(self, event: str, value: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(value)
