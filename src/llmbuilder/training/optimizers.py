"""Which parameters get which optimizer."""

from __future__ import annotations

import torch
from torch import Tensor

from llmbuilder.config.schema import TrainingConfig
from llmbuilder.model import LanguageModel
from llmbuilder.training.muon import Muon
from llmbuilder.training.schedules import learning_rate_factor, muon_momentum


class Optimizers:
    """The optimizers of a run behind one interface: set the step's rates, step, clear, save, restore.

    'adamw' is one AdamW with weight decay on matrices only, grouped and ordered as nanoGPT does it, so its
    optimizer state loads. 'muon' takes the matrices of the layers, and AdamW the embeddings, head and vectors.
    """

    def __init__(self, model: LanguageModel, config: TrainingConfig) -> None:
        self._config = config
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        hidden: list[Tensor] = []
        if config.optimizer == "muon":
            outer = {id(model.embedding.weight), id(model.lm_head.weight)}
            hidden = [p for name, p in named.items() if p.dim() == 2 and id(p) not in outer and "wpe" not in name]
        taken = {id(parameter) for parameter in hidden}
        rest = [parameter for parameter in named.values() if id(parameter) not in taken]
        groups = [
            {"params": [p for p in rest if p.dim() >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(
            groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=model.device.type != "mps"
        )
        self._all: list[tuple[torch.optim.Optimizer, float]] = [(adamw, config.learning_rate)]
        if hidden:
            self._all.append((Muon(hidden, config.muon_learning_rate, weight_decay=config.weight_decay),
                              config.muon_learning_rate))  # fmt: skip

    def set_step(self, step: int, max_steps: int) -> float:
        """Set rates and momentum for a step and return AdamW's learning rate."""
        factor = learning_rate_factor(step, max_steps, self._config)
        for optimizer, peak in self._all:
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
                if isinstance(optimizer, Muon):
                    group["momentum"] = muon_momentum(step, max_steps)
        return self._config.learning_rate * factor

    def step(self, scaler: torch.amp.GradScaler) -> None:
        for optimizer, _ in self._all:
            scaler.step(optimizer)
        scaler.update()

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        for optimizer, _ in self._all:
            scaler.unscale_(optimizer)

    def zero_grad(self) -> None:
        for optimizer, _ in self._all:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, object]]:
        return [optimizer.state_dict() for optimizer, _ in self._all]

    def load_state_dict(self, states: list[dict[str, object]]) -> None:
        for (optimizer, _), state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(state)
