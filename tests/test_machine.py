"""What the machine tells about itself."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

from llmbuilder import machine
from llmbuilder.machine import others_running


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what runs")
def test_a_busy_process_is_seen_and_ones_own_threads_are_not() -> None:
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        seen = 0
        for _ in range(200):  # each needs a moment to start
            seen = max(seen, others_running())
            time.sleep(0.02)
        assert seen >= 2
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def test_a_pass_leaves_room_for_others_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, room in ((8 << 30, 1 << 30), (1 << 40, 3 << 30)):
        monkeypatch.setattr(machine, "memory_bytes", lambda device=None, there=there: there)
        assert machine.pass_bytes(torch.device("cpu")) == machine.pass_bytes() == room
        assert machine.pass_bytes(torch.device("cuda")) == there // 2
