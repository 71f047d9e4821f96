"""Settings chosen by measurement: faster or nothing, exact, and undone afterwards."""

from __future__ import annotations

import time

import pytest
import torch

from llmbuilder.acceleration import Acceleration, choose_threads, measure_acceleration
from llmbuilder.machine import has_fast_bfloat16, resolve_precision


def test_what_is_chosen_is_exact_and_undone() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    found = measure_acceleration(torch.device("cpu"), torch.float32)
    assert found.peak_flops is not None
    assert found.peak_flops > 1e9
    torch.manual_seed(0)
    a, b = torch.randn(300, 500), torch.randn(500, 200)
    exact = a.double() @ b.double()
    with found.applied():
        assert ((a @ b).double() - exact).abs().max() / exact.abs().max() < 3e-6
        tiny = torch.tensor([1e-40]) * 0.5
        assert tiny.item() == 0.0, "denormal numbers are flushed"
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    assert (torch.tensor([1e-40]) * 0.5).item() > 0


def test_inexact_products_are_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with matrix units, where the switch would round to bfloat16."""
    from llmbuilder import acceleration

    for speeds, chosen in (
        ([(1e11, 4e-7), (9e11, 2e-3)], "default"),
        ([(1e11, 4e-7), (2e11, 6e-7)], "onednn"),
        ([(1e11, 4e-7), (1.1e11, 6e-7)], "default"),  # too little to be told from noise
    ):
        found = iter(speeds)
        monkeypatch.setattr(acceleration, "_probe", lambda dtype, found=found: next(found))
        acceleration._fastest_products.cache_clear()
        for _ in range(2):  # whatever is measured later, runs of one process compute alike
            assert measure_acceleration(torch.device("cpu"), torch.float32).matmul == chosen
    acceleration._fastest_products.cache_clear()


def test_records_survive_new_names() -> None:
    kept = Acceleration(matmul="onednn", threads=3, keep_memory=True, peak_flops=1e12)
    assert Acceleration.from_dict({**kept.to_dict(), "a_later_setting": 1}) == kept


def test_threads_are_halved_while_that_helps() -> None:
    before = torch.get_num_threads()

    def work() -> None:  # best with four
        time.sleep({16: 0.004, 8: 0.003, 4: 0.001, 2: 0.002}.get(torch.get_num_threads(), 0.01))

    assert choose_threads(work, most=16) == 4
    assert choose_threads(lambda: time.sleep(1), most=2) == 2, "nothing is measured on two processors"
    assert torch.get_num_threads() == before


def test_precision_falls_back_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) == torch.float32
    assert resolve_precision("fp16", cpu) == torch.float32
    assert "'fp16' is not fast on this CPU" in caplog.text
    assert resolve_precision("bf16", cpu) == (torch.bfloat16 if has_fast_bfloat16() else torch.float32)
