"""What happens when a step's loss is bad: stop with a report, leave the batch out, or go back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from llmbuilder.errors import CheckpointError, TrainingError
from llmbuilder.files import write_json
from llmbuilder.training.storage.checkpoints import list_checkpoints

if TYPE_CHECKING:
    from llmbuilder.training.loop.trainer import Trainer

_MOST_IN_A_ROW = 10  # batches left out without a good one between
_MOST_RETURNS = 5  # to a checkpoint in one process
_LISTED = 8


class Rescue:
    """Carries out `training.loss_spike_policy`; the bad step never reached the weights."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._returns = 0
        self._left_out: list[int] = []  # the steps at which batches were left out

    def handle(self, problem: str, loss: float, grad_norm: float | None) -> None:
        """Bring the trainer into a state to go on from. Raises TrainingError if the policy is to stop."""
        trainer = self._trainer
        policy = trainer.settings.loss_spike_policy
        incident = self._describe(problem, loss, grad_norm)
        trainer.optimizers.zero_grad()
        bad_step = trainer.step
        self._left_out.append(bad_step)
        if policy == "skip" and self._left_out.count(bad_step) <= _MOST_IN_A_ROW:
            trainer.data_shift += 1
            trainer.log({"step": bad_step, "event": f"{problem} at step {bad_step + 1}: its batch was left out"})
            return
        if policy == "rewind" and self._returns < _MOST_RETURNS:
            self._returns += 1
            next_batch = trainer.position + 1
            step = self._go_back(incident)
            trainer.data_shift = next_batch - step
            event = f"{problem} at step {bad_step + 1}: back to step {step}, without the batches since"
            trainer.log({"step": step, "event": event})
            return
        self._stop(incident)

    def _go_back(self, incident: dict[str, Any]) -> int:
        trainer = self._trainer
        trainer.processes.on_main(trainer.snapshots.finish)
        if not list_checkpoints(trainer.paths.checkpoints):
            self._stop(incident)
        try:
            return trainer.snapshots.go_back()
        except CheckpointError as error:
            raise TrainingError(f"{incident['problem']}, and there is nothing to go back to: {error}") from error

    def _describe(self, problem: str, loss: float, grad_norm: float | None) -> dict[str, Any]:
        """Gather what someone would look at: the batch, the gradients, the losses before."""
        trainer = self._trainer
        starts = trainer.batches.starts(trainer.position)
        norms = {
            name: torch.linalg.vector_norm(parameter.grad.detach().float()).item()
            for name, parameter in trainer.model.named_parameters()
            if parameter.grad is not None and not trainer.parallel.is_sharded
        }
        texts = []
        if trainer.tokenizer is not None:
            size = trainer.windows.block_size
            texts = [trainer.tokenizer.decode(trainer.windows.tokens[s : s + size].tolist()) for s in starts[:_LISTED]]
        return {
            "problem": problem,
            "step": trainer.step + 1,
            "loss": str(loss),
            "grad_norm": str(grad_norm),
            "recent_losses": list(trainer.watch.losses)[-_LISTED:],
            "token_file": str(trainer.windows.path),
            "window_starts": starts,
            "texts": texts,
            "largest_gradients": {name: str(norms[name]) for name in sorted(norms, key=lambda n: -norms[n])[:_LISTED]},
        }

    def _weights_are_finite(self) -> bool:
        """Whether no process holds a weight that is not finite."""
        trainer = self._trainer
        parts = [p.to_local() if hasattr(p, "to_local") else p for p in trainer.model.parameters()]
        finite = all(bool(part.isfinite().all()) for part in parts)
        return trainer.processes.mean(torch.tensor(float(finite), device=trainer.device)).item() == 1.0

    def _stop(self, incident: dict[str, Any]) -> None:
        """Save the state before the bad step, if that is sound, and what is known of the step; then raise."""
        trainer = self._trainer
        trainer.snapshots.finish()
        checkpoints = list_checkpoints(trainer.paths.checkpoints)
        if self._weights_are_finite():
            trainer.snapshots.save()
            trainer.snapshots.finish()
            state = "the state before that step is saved"
        elif checkpoints:
            state = f"the weights were bad before it; the last checkpoint is {checkpoints[-1]}"
        else:
            state = "the weights were bad before it, and no checkpoint was written yet"
        path = trainer.paths.folder / "bad-step.json"
        trainer.processes.on_main(lambda: write_json(path, incident))
        starts = incident["window_starts"]
        raise TrainingError(
            f"{incident['problem']} at step {incident['step']}; its batch is the {len(starts)} windows of "
            f"{trainer.windows.path} that begin at tokens {starts[:_LISTED]}{'...' if len(starts) > _LISTED else ''} "
            f"(more in {path}); {state}. `llmbuilder train resume {trainer.paths.folder} "
            "--set training.loss_spike_policy=skip` goes on without such batches; a lower learning_rate, a longer "
            "warmup_steps or max_grad_norm=1.0 usually helps"
        )
