"""The hand-written gradients equal autograd's of the plain formulas."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from llmbuilder.model.functions import RMSNorm, adapted_product, causal_attention, rotate


def _mask(batch: int, length: int) -> torch.Tensor:
    """Return what each position sees: itself, and some of those before it."""
    random = torch.Generator().manual_seed(length)
    seen = torch.rand(batch, 1, length, length, generator=random) < 0.5
    return (seen | torch.eye(length, dtype=torch.bool)).tril()


def test_rms_norm_and_its_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, 16, dtype=torch.float32, requires_grad=True)
    norm = RMSNorm(16, eps=1e-6)
    torch.nn.init.normal_(norm.weight)
    weights = torch.randn_like(x)
    ours = torch.autograd.grad((norm(x) * weights).sum(), [x, norm.weight])
    double, double_weight = x.detach().double().requires_grad_(), norm.weight.detach().double().requires_grad_()
    reference = F.rms_norm(double, (16,), double_weight, 1e-6)
    expected = torch.autograd.grad((reference * weights.double()).sum(), [double, double_weight])
    assert torch.allclose(norm(x), reference.float(), atol=1e-6)
    for a, b in zip(ours, expected, strict=True):
        assert torch.allclose(a, b.float(), atol=2e-5)


def test_rms_norm_takes_bfloat16() -> None:
    x = torch.randn(4, 32, dtype=torch.bfloat16, requires_grad=True)
    norm = RMSNorm(32, eps=1e-6)
    norm(x).sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.bfloat16
    assert norm.weight.grad is not None and norm.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_product_with_an_adapter_and_its_gradients(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    exact = [torch.randn(*shape, dtype=torch.float64).to(dtype).double()
             for shape in [(2, 3, 8), (6, 8), (4, 8), (6, 4), (2, 3, 6)]]  # fmt: skip
    x, weight, a, b, upstream = exact
    learned = [tensor.clone().requires_grad_() for tensor in (x, a, b)]
    expected = learned[0] @ (weight + 0.3 * learned[2] @ learned[1]).mT
    wanted = torch.autograd.grad((expected * upstream).sum(), learned)
    # The parts of an adapter are float32 while bfloat16 is computed in.
    given = [x.to(dtype), a.to(dtype if dtype == torch.float64 else torch.float32), b.to(torch.float32).to(dtype)]
    given = [tensor.requires_grad_() for tensor in given]
    product = adapted_product(given[0], weight.to, given[1], given[2], 0.3)
    found = torch.autograd.grad(product, given, upstream.to(dtype))
    assert product.dtype == dtype and [tensor.dtype for tensor in found] == [tensor.dtype for tensor in given]
    tolerance = 1e-12 if dtype == torch.float64 else 0.15
    for one, other in zip([product, *found], [expected, *wanted], strict=True):
        assert torch.allclose(one.double(), other, atol=tolerance, rtol=0.02)


def test_rotation_and_its_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 7, 3, 8, dtype=torch.float64, requires_grad=True)
    angles = torch.randn(1, 7, 1, 4, dtype=torch.float64)
    pairs = torch.complex(*x.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angles), angles)
    expected = torch.cat((pairs.real, pairs.imag), dim=-1)
    assert torch.allclose(rotate(x, angles.cos(), angles.sin()), expected)
    assert torch.autograd.gradcheck(lambda x: rotate(x, angles.cos(), angles.sin()), x)


@pytest.mark.parametrize("length", [257, 700, 1030])
@pytest.mark.parametrize("masks", [0, 1, 2])
def test_attention_in_bfloat16_rounds_little_more_than_pytorchs(length: int, masks: int) -> None:
    torch.manual_seed(0)
    mask = _mask(masks, length) if masks else None
    exact = [torch.randn(2, heads, length, 8).bfloat16().float().requires_grad_() for heads in (4, 2, 2)]
    reference = partial(F.scaled_dot_product_attention, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
    expected = reference(*exact)
    wanted = [expected, *torch.autograd.grad(expected.square().sum(), exact)]
    errors = []
    for attend in (partial(causal_attention, mask_B1TT=mask), reference):
        given = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
        found = attend(*given)
        gradients = torch.autograd.grad(found.float().square().sum(), given)
        errors.append(
            [(a.float() - b).square().mean().sqrt() for a, b in zip([found, *gradients], wanted, strict=True)]
        )
    for ours, theirs in zip(*errors, strict=True):
        assert ours <= 3 * theirs


@pytest.mark.parametrize("length", [1, 17, 128, 150, 300, 512, 530])
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("masks", [0, 1, 3])
def test_attention_equals_pytorchs(length: int, key_heads: int, masks: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, 4, length, 8, requires_grad=True)
    key, value = (torch.randn(3, key_heads, length, 8, requires_grad=True) for _ in range(2))
    mask = _mask(masks, length) if masks else None
    ours = causal_attention(query, key, value, mask_B1TT=mask)
    theirs = F.scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, enable_gqa=True)
    assert torch.allclose(ours, theirs, atol=2e-6)
    mine = torch.autograd.grad(ours.square().sum(), [query, key, value])
    for a, b in zip(mine, torch.autograd.grad(theirs.square().sum(), [query, key, value]), strict=True):
        assert torch.allclose(a, b, atol=2e-5)
