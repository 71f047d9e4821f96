"""Muon: momentum whose update is brought near to an orthogonal matrix (Jordan et al. 2024).

PyTorch's own Muon computes in bfloat16, which CPUs without that format only emulate, and one matrix at a time.
Here equal shapes are stacked into one batched product, in bfloat16 where products are; several processes divide the
stack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from llmbuilder.training.processes.distributed import Processes

# Odd polynomials a x + b x^3 + c x^5, each optimal for the range of singular values that the one before leaves
# (Amsel et al. 2025, "The Polar Express", with its safety margin).
_POLYNOMIALS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
)
_MARGIN = 1.01


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bring the singular values of each matrix of shape (count, rows, columns) near to one, with products in `dtype`.

    Three polynomials leave them between about 0.5 and 1.9 where they were above 2% of the norm; the five that bring
    them closer to one cost time and gained nothing in training.
    """
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) * _MARGIN + 1e-7)
    for a, b, c in _POLYNOMIALS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled by sqrt(max(1, rows/columns)), with decoupled weight decay."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        processes: Processes | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._processes = processes or Processes()
        self._precision = precision

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[min(parameter.shape), max(parameter.shape)].append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update matrices of one shape; tall ones are turned, so that they are in one stack with the wide."""
        gradients = [_wide(parameter.grad) for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        buffers = [_wide(self.state[parameter]["momentum"]) for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        updates = self._orthogonalize(torch.stack(torch._foreach_lerp(buffers, gradients, 1 - group["momentum"])))
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for parameter, update in zip(parameters, updates.unbind(), strict=True):
            rows, columns = parameter.shape
            scale = max(1.0, rows / columns) ** 0.5
            parameter.add_(update if rows <= columns else update.mT, alpha=-group["lr"] * scale)

    def _orthogonalize(self, stack: Tensor) -> Tensor:
        """Orthogonalise a stack; of several processes each does a part, and all get the whole."""
        count = self._processes.count
        if count == 1:
            return orthogonalize(stack, self._dtype(stack))
        share = -(-len(stack) // count)
        padded = torch.cat([stack, stack.new_zeros(share * count - len(stack), *stack.shape[1:])])
        own = orthogonalize(padded[self._processes.rank * share :][:share], self._dtype(stack)).contiguous()
        whole = torch.empty_like(padded)
        dist.all_gather_into_tensor(whole, own)
        return whole[: len(stack)]

    def _dtype(self, stack: Tensor) -> torch.dtype:
        return torch.bfloat16 if stack.is_cuda else self._precision


def _wide(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
