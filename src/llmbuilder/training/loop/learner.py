"""What computes: the model of a run, where and how exactly, over which processes, and what updates its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from llmbuilder.config.schema import Config
from llmbuilder.machine import resolve_precision
from llmbuilder.model import LanguageModel
from llmbuilder.notices import warn_once
from llmbuilder.training.loop.batches import StepBatch
from llmbuilder.training.loop.objectives import objective_of
from llmbuilder.training.loop.optimizers import Optimizers
from llmbuilder.training.processes.distributed import Processes, ReplicatedModel, ShardedModel

_COMPILE_PAYS_AFTER_STEPS = 5000


class Learner:
    """A model that learns from one batch at a time; it knows nothing of the run that the batches belong to."""

    def __init__(
        self,
        model: LanguageModel,
        config: Config,
        device: torch.device,
        processes: Processes,
        *,
        is_sharded: bool = False,
    ) -> None:
        self._config = config
        self.device = device
        self.processes = processes
        self.precision = resolve_precision(config.training.mixed_precision, device)
        self.model = model.to(device)
        model.gradient_checkpointing = config.training.gradient_checkpointing
        self.objective = objective_of(config.finetuning)
        self.parallel: ReplicatedModel | ShardedModel = (
            ShardedModel(model, device, self.precision, processes.count, self.objective)
            if is_sharded
            else ReplicatedModel(model, processes, self.objective)
        )
        self.optimizers = Optimizers(model, config.training, processes, self.precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == torch.float16)
        self._summed_loss: Callable[..., Tensor] = self.parallel.module

    @property
    def is_sharded(self) -> bool:
        """Whether this process holds a part of the model only."""
        return self.parallel.is_sharded

    def compile(self, steps: int) -> None:
        """Compile the forward pass with its loss if that is configured; `steps` are those that have to pay for it."""
        if not self._config.system.compile:
            return
        if self.device.type == "cpu" and steps < _COMPILE_PAYS_AFTER_STEPS:
            warn_once(
                f"compiling costs a minute or more on a CPU and gains little; a run of {steps} steps will "
                "hardly earn it back (system.compile=false turns it off)"
            )
        self._summed_loss = torch.compile(self.parallel.module)  # type: ignore[assignment]

    def summed_loss(self, *batch: Tensor) -> Tensor:
        """Return the sum of the losses in nats of one part of a `StepBatch`; behind it, what the objective reports."""
        with self._autocast():
            return self._summed_loss(*self._on_device(batch))

    @torch.no_grad()
    def log_likelihoods(self, *batch: Tensor) -> Tensor:
        """Return the log-likelihood of each row of one part of a `StepBatch` in nats, on the processor."""
        with self._autocast():
            return self.model.log_likelihoods(*self._on_device(batch)).cpu()

    def _on_device(self, batch: Iterable[Tensor]) -> list[Tensor]:
        return [tensor.to(self.device, non_blocking=True) for tensor in batch]

    def _autocast(self) -> torch.autocast:
        enabled = self.precision != torch.float32 and not self.is_sharded
        return torch.autocast(self.device.type, self.precision if enabled else torch.bfloat16, enabled=enabled)

    def compute_gradients(self, batch: StepBatch) -> Tensor:
        """Compute the gradients of a step and return this process's share of the loss, still on the device.

        The mean of the shares is the step's loss: the sum over all targets that count, of all parts and processes,
        divided by their number. A mean of the parts' means would give targets of a part with few of them more weight.
        Behind the loss stand the shares of what the objective reports.
        """
        self.model.train()
        total = torch.zeros(1 + len(self.objective.reported), device=self.device)
        share = self.processes.count / max(1, batch.num_targets)  # gradients are averaged over the processes
        for number, part in enumerate(batch.parts):
            with self.parallel.averaging(is_last=number == len(batch.parts) - 1):
                sums = self.summed_loss(*part) * share
                self.scaler.scale(sums[0]).backward()
            total += sums.detach()
        return total

    def clip_gradients(self) -> Tensor | None:
        """Clip the gradients and return their norm, still on the device, or None where clipping is off."""
        most = self._config.training.max_grad_norm
        if not most:
            return None
        self.optimizers.unscale(self.scaler)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), most)
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm

    def drop_gradients(self) -> None:
        """Forget the gradients of a step, so that they never reach the weights."""
        self.optimizers.zero_grad()

    def update_weights(self) -> None:
        """Let the optimizers use the gradients up."""
        self.optimizers.step(self.scaler)
        self.optimizers.zero_grad()

    def whole_model(self) -> LanguageModel:
        """Return the model with all its weights; of a sharded one a copy, with weights in the main process only."""
        if not self.is_sharded:
            return self.model
        from llmbuilder.training.processes.sharding import gathered_model

        return gathered_model(self.model, self.processes)

    def has_finite_weights(self) -> bool:
        """Return whether no process holds a weight that is not finite."""
        parts = [p.to_local() if hasattr(p, "to_local") else p for p in self.model.parameters()]
        finite = all(bool(part.isfinite().all()) for part in parts)
        return self.processes.mean(torch.tensor(float(finite), device=self.device)).item() == 1.0

    def gradient_norms(self) -> dict[str, float]:
        """Return the norm of each parameter's gradient; of a sharded model, which holds parts of them, none."""
        if self.is_sharded:
            return {}
        return {
            name: torch.linalg.vector_norm(parameter.grad.detach().float()).item()
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }
