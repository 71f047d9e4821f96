"""What happens when a step's loss is bad: stop with a report, leave the batch out, or go back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from llmbuilder.errors import CheckpointError, TrainingError
from llmbuilder.files import write_json
from llmbuilder.notices import command
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training.loop.batches import StepBatches
from llmbuilder.training.loop.learner import Learner
from llmbuilder.training.loop.run_state import RunState
from llmbuilder.training.loop.snapshots import Snapshots
from llmbuilder.training.storage.paths import BAD_STEP_NAME

_MOST_IN_A_ROW = 10  # batches left out without a good one between
_MOST_RETURNS = 5  # to a checkpoint in one process
_LISTED = 8


@dataclass(frozen=True)
class Incident:
    """A bad step as `bad-step.json` tells it: the batch, the gradients, the losses and the rate before."""

    problem: str
    step: int
    loss: str
    grad_norm: str
    learning_rate: float
    recent_losses: list[float]
    token_file: str
    window_starts: list[int]
    texts: list[str]
    largest_gradients: dict[str, str]


class Rescue:
    """Carries out `training.loss_spike_policy`; the bad step never reached the weights.

    `folder` is that of the run, `log` takes a line for metrics.jsonl, `take_back` what was logged after a step.
    """

    def __init__(
        self,
        policy: str,
        folder: Path,
        state: RunState,
        learner: Learner,
        batches: StepBatches,
        tokenizer: Tokenizer | None,
        snapshots: Snapshots,
        log: Callable[[dict[str, Any]], None],
        take_back: Callable[[int], None],
    ) -> None:
        self._policy = policy
        self._folder = folder
        self._state = state
        self._learner = learner
        self._batches = batches
        self._tokenizer = tokenizer
        self._snapshots = snapshots
        self._log = log
        self._take_back = take_back
        self._returns = 0
        self._left_out: list[int] = []  # the steps at which batches were left out

    def handle(self, problem: str, loss: float, grad_norm: float | None) -> None:
        """Bring the run into a state to go on from. Raises TrainingError if the policy is to stop."""
        incident = self._describe(problem, loss, grad_norm)
        self._learner.drop_gradients()
        bad_step = self._state.step
        self._left_out.append(bad_step)
        if self._policy == "skip" and self._left_out.count(bad_step) <= _MOST_IN_A_ROW:
            self._state.sequences_left_out += self._batches.sequences_per_step
            self._log({"step": bad_step, "event": f"{problem} at step {bad_step + 1}: its batch was left out"})
        elif self._policy == "rewind" and self._returns < _MOST_RETURNS:
            self._returns += 1
            next_sequence = self._state.position + self._batches.sequences_per_step
            step = self._go_back(incident)
            self._state.sequences_left_out = next_sequence - self._state.sequences
            event = f"{problem} at step {bad_step + 1}: back to step {step}, without the batches since"
            self._take_back(step)
            self._log({"step": step, "event": event})
        else:
            self._stop(incident)

    def _go_back(self, incident: Incident) -> int:
        self._learner.processes.on_main(self._snapshots.finish)
        if not self._snapshots.saved():
            self._stop(incident)
        try:
            return self._snapshots.go_back()
        except CheckpointError as error:
            raise TrainingError(f"{incident.problem}, and there is nothing to go back to: {error}") from error

    def _describe(self, problem: str, loss: float, grad_norm: float | None) -> Incident:
        windows = self._batches.windows
        starts = self._batches.starts(self._state.position)
        norms = self._learner.gradient_norms()
        texts = []
        if self._tokenizer is not None:
            parts = [windows.tokens[start : start + windows.block_size] for start in starts[:_LISTED]]
            texts = [self._tokenizer.decode(part.tolist()) for part in parts]
        return Incident(
            problem=problem,
            step=self._state.step + 1,
            loss=str(loss),
            grad_norm=str(grad_norm),
            learning_rate=self._learner.optimizers.learning_rate,
            recent_losses=list(self._state.watch.losses)[-_LISTED:],
            token_file=str(windows.path),
            window_starts=starts,
            texts=texts,
            largest_gradients={name: str(norms[name]) for name in sorted(norms, key=lambda n: -norms[n])[:_LISTED]},
        )

    def _stop(self, incident: Incident) -> NoReturn:
        """Save the state before the bad step, if that is sound, and what is known of the step; then raise."""
        remains = self._save_what_is_sound()
        path = self._folder / BAD_STEP_NAME
        self._learner.processes.on_main(lambda: write_json(path, asdict(incident)))
        starts = incident.window_starts
        resume = f"{command('train', 'resume', self._folder)} --set training.loss_spike_policy="
        raise TrainingError(
            f"{incident.problem} at step {incident.step}, at a learning rate of {incident.learning_rate:g}; its batch "
            f"is the {len(starts)} windows of {incident.token_file} that begin at tokens {starts[:_LISTED]}"
            f"{'...' if len(starts) > _LISTED else ''} (more in {path}); {remains}. Where the batch is at fault, "
            f"`{resume}skip` goes on without it; where earlier steps spoiled the weights, `{resume}rewind` "
            "goes back to an earlier checkpoint. A lower learning_rate, a longer warmup_steps or max_grad_norm=1.0 "
            "usually helps"
        )

    def _save_what_is_sound(self) -> str:
        """Save the state before the bad step if its weights are finite; return in words what there is to go on from."""
        self._snapshots.finish()
        earlier = self._snapshots.saved()
        if self._learner.has_finite_weights():
            self._snapshots.save()
            self._snapshots.finish()
            return "the state before that step is saved"
        if earlier:
            return f"the weights were bad before it; the last checkpoint is {earlier[-1]}"
        return "the weights were bad before it, and no checkpoint was written yet"
