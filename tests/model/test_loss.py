from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llmbuilder.model.loss import IGNORE_INDEX, cross_entropies, summed_cross_entropy

ROWS, VOCABULARY, WIDTH = 700, 9000, 8  # more than one piece, the last one shorter


def problem(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    hidden = torch.randn(ROWS, WIDTH, generator=random).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=random).to(dtype).requires_grad_()
    targets = torch.randint(VOCABULARY, (ROWS,), generator=random)
    targets[::7] = IGNORE_INDEX
    targets[450:] = IGNORE_INDEX  # a piece with no target that counts
    return hidden, weight, targets


def reference(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """PyTorch's own cross-entropy of the whole logits, in double precision."""
    hidden, weight = (tensor.detach().double().requires_grad_() for tensor in (hidden, weight))
    loss = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return loss.detach(), *torch.autograd.grad(loss, (hidden, weight))


@pytest.mark.parametrize("rows", [ROWS, 100, 1])
def test_pieces_give_pytorchs_loss_and_gradients(rows: int) -> None:
    hidden, weight, targets = problem()
    hidden, targets = hidden[:rows].detach().requires_grad_(), targets.roll(-1)[:rows]
    loss, by_hidden, by_weight = reference(hidden, weight, targets)
    found = summed_cross_entropy(hidden, weight, targets)
    (found * 0.5).backward()
    assert found.item() == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(hidden.grad, by_hidden.float() * 0.5, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weight.grad, by_weight.float() * 0.5, rtol=1e-4, atol=1e-5)


def test_only_what_learns_gets_a_gradient() -> None:
    hidden, weight, targets = problem()
    _, by_hidden, by_weight = reference(hidden, weight, targets)
    (found,) = torch.autograd.grad(summed_cross_entropy(hidden, weight.detach(), targets), (hidden,))
    torch.testing.assert_close(found, by_hidden.float(), rtol=1e-4, atol=1e-5)
    (found,) = torch.autograd.grad(summed_cross_entropy(hidden.detach(), weight, targets), (weight,))
    torch.testing.assert_close(found, by_weight.float(), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert not summed_cross_entropy(hidden, weight, targets).requires_grad


def test_the_loss_of_each_row() -> None:
    hidden, weight, targets = problem()
    found = cross_entropies(hidden, weight, targets)
    expected = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORE_INDEX, reduction="none")
    torch.testing.assert_close(found, expected.detach())
    assert found.sum().item() == pytest.approx(reference(hidden, weight, targets)[0].item(), rel=1e-5)


def test_rows_that_count_differently_have_their_own_gradients() -> None:
    hidden, weight, targets = problem()
    shares = torch.linspace(-1, 2, len(targets))
    losses = F.cross_entropy(hidden.double() @ weight.double().T, targets, ignore_index=IGNORE_INDEX, reduction="none")
    expected = torch.autograd.grad((losses * shares.double()).sum(), (hidden, weight))
    found = torch.autograd.grad((cross_entropies(hidden, weight, targets) * shares).sum(), (hidden, weight))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    frozen = cross_entropies(hidden, weight.detach(), targets)
    torch.testing.assert_close(torch.autograd.grad((frozen * shares).sum(), (hidden,))[0], found[0])


@pytest.mark.parametrize("way", ["autocast", "weights"])
def test_in_bfloat16_the_loss_is_still_summed_in_float32(way: str) -> None:
    hidden, weight, targets = problem(torch.bfloat16)
    loss, by_hidden, by_weight = reference(hidden, weight, targets)
    if way == "autocast":
        hidden, weight = (tensor.detach().float().requires_grad_() for tensor in (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        found = summed_cross_entropy(hidden, weight, targets)
    found.backward()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss.item(), rel=2e-3)
    assert hidden.grad is not None and hidden.grad.dtype == hidden.dtype
    assert weight.grad is not None and weight.grad.dtype == weight.dtype
    assert F.cosine_similarity(hidden.grad.flatten().double(), by_hidden.flatten(), dim=0) > 0.999
    assert F.cosine_similarity(weight.grad.flatten().double(), by_weight.flatten(), dim=0) > 0.999


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_logits_never_exist_whole() -> None:
    hidden, weight, targets = problem()
    with Largest() as plain:
        F.cross_entropy(F.linear(hidden, weight), targets).backward()
    assert plain.elements >= ROWS * VOCABULARY  # the measure sees them where they do
    with Largest() as pieces:
        summed_cross_entropy(hidden, weight, targets).backward()
        cross_entropies(hidden, weight, targets).square().sum().backward()
    assert pieces.elements <= 0.7 * ROWS * VOCABULARY


def test_the_loss_can_be_compiled_without_a_break() -> None:
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    hidden, weight, targets = problem()
    compiled = torch.compile(summed_cross_entropy, backend=backend, fullgraph=True)
    found = compiled(hidden, weight, targets)
    found.backward()
    assert seen
    assert found.item() == pytest.approx(reference(hidden, weight, targets)[0].item(), rel=1e-6)
    torch.testing.assert_close(weight.grad, reference(hidden, weight, targets)[2].float(), rtol=1e-4, atol=1e-5)
