"""Which parameters get which optimizer, at which rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from llmbuilder.config.schema import TrainingConfig
from llmbuilder.model import LanguageModel
from llmbuilder.training.loop.muon import Muon
from llmbuilder.training.loop.schedules import learning_rate_factor, muon_momentum
from llmbuilder.training.processes.distributed import Processes

_MUON_RATE = 0.02  # where none is configured


class Optimizers:
    """The optimizers of a run behind one interface: set the step's rates, step, clear, save, restore.

    'adamw' is one AdamW with weight decay on matrices only, grouped and ordered as nanoGPT does it, so its
    optimizer state loads; embeddings, head and vectors with rates of their own get groups of their own.
    'muon' takes the matrices of the layers, and AdamW the rest.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: TrainingConfig,
        processes: Processes | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self._config = config
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        hidden = self._hidden_matrices(model, named) if config.optimizer == "muon" else []
        taken = {id(parameter) for parameter in hidden}
        rest = [parameter for parameter in named.values() if id(parameter) not in taken]
        # Fused kernels read every value once; sharded parameters and other devices have no such kernel everywhere.
        is_fused = model.device.type in ("cpu", "cuda") and all(type(p) is torch.nn.Parameter for p in rest)
        self.adamw = torch.optim.AdamW(
            self._groups(model, rest), lr=config.learning_rate, betas=(config.beta1, config.beta2),
            fused=True if is_fused else None,
        )  # fmt: skip
        self._all: list[torch.optim.Optimizer] = [self.adamw]
        if hidden:
            rate = _MUON_RATE if config.muon_learning_rate is None else config.muon_learning_rate
            # fp16 has too few exponents for what the polynomials pass through.
            products = torch.bfloat16 if precision == torch.bfloat16 else torch.float32
            self._all.append(Muon(hidden, rate, weight_decay=config.weight_decay, processes=processes,
                                  precision=products))  # fmt: skip
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group.setdefault("peak", group["lr"])

    @staticmethod
    def _hidden_matrices(model: LanguageModel, named: Mapping[str, Tensor]) -> list[Tensor]:
        outer = {id(model.embedding.weight), id(model.lm_head.weight)}
        return [p for name, p in named.items() if p.dim() == 2 and id(p) not in outer and "wpe" not in name]

    def _groups(self, model: LanguageModel, parameters: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Return AdamW's groups; parameters of the same rate and decay share one, in the model's order."""
        config = self._config
        own_rates = {
            id(model.embedding.weight): config.embedding_learning_rate,
            **({} if model.config.tie_embeddings else {id(model.lm_head.weight): config.head_learning_rate}),
        }
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for decayed in (True, False):
            for parameter in (p for p in parameters if (p.dim() >= 2) == decayed):
                own = own_rates.get(id(parameter), None if decayed else config.vector_learning_rate)
                rate = config.learning_rate if own is None else own
                decay = config.weight_decay if decayed else 0.0
                group = groups.setdefault((rate, -1.0 if decayed else 0.0), {"params": [], "lr": rate, "peak": rate})
                group["params"].append(parameter)
                group["weight_decay"] = decay
        return list(groups.values())

    def set_step(self, step: float, max_steps: int) -> float:
        """Set rates and momentum for a step and return AdamW's learning rate."""
        factor = learning_rate_factor(step, max_steps, self._config)
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
                if isinstance(optimizer, Muon):
                    group["momentum"] = muon_momentum(step, max_steps)
        self.learning_rate = self._config.learning_rate * factor
        return self.learning_rate

    def step(self, scaler: torch.amp.GradScaler) -> None:
        for optimizer in self._all:
            scaler.step(optimizer)
        scaler.update()

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        for optimizer in self._all:
            scaler.unscale_(optimizer)

    def zero_grad(self) -> None:
        for optimizer in self._all:
            optimizer.zero_grad(set_to_none=True)

    def forget(self) -> None:
        """Drop all moments and momenta, as before the first step."""
        for optimizer in self._all:
            optimizer.state.clear()

    def state_dict(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer in self._all]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take over moments and momenta; rates and the like stay as configured."""
        for optimizer, state in zip(self._all, states, strict=True):
            configured = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(state)
            for group, values in zip(optimizer.param_groups, configured, strict=True):
                group.update(values)
