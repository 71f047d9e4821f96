"""What a run is about to do, for those who watch it."""

from __future__ import annotations

from llmbuilder.tokens.samples import SampleRows
from llmbuilder.tokens.windows import TokenWindows
from llmbuilder.training.display.callbacks import RunPlan
from llmbuilder.training.loop.learner import Learner
from llmbuilder.training.loop.run_state import RunState

Windows = TokenWindows | SampleRows


def plan_of(
    state: RunState, learner: Learner, train: Windows, validation: Windows | None, tokens_per_step: int
) -> RunPlan:
    """Return what is about to be trained, as it stands before the first step of this process."""
    device, count = learner.device, learner.processes.count
    return RunPlan(
        first_step=state.step,
        max_steps=state.max_steps,
        tokens_per_step=tokens_per_step,
        num_parameters=learner.model.num_parameters(),
        num_learned=sum(p.numel() for p in learner.model.parameters() if p.requires_grad),
        device=str(device) if count == 1 else f"{count} {device.type} processes",
        precision=str(learner.precision).removeprefix("torch."),
        training_tokens=len(train.tokens),
        validation_tokens=len(validation.tokens) if validation is not None else 0,
        by_clock=state.planned is not None,
    )
