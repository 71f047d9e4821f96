"""Shared material: small texts, a tokenizer, and one model that is really trained."""

from __future__ import annotations

import os
import pydoc_data.topics
import signal
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import pytest
import torch
from hypothesis import settings

import llmbuilder as lb
from llmbuilder.config import Config
from llmbuilder.data import TextDataset
from llmbuilder.tokenizer import Tokenizer, train_tokenizer
from tests.shared import made_once

# The same examples every time: a failure belongs to the change that caused it.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# A shell starts what runs in its background with Ctrl-C ignored, and so would be all programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _take_a_share_of_the_processors() -> None:
    """Give each of several workers processors of its own, as `taskset` would.

    PyTorch, llama.cpp and the tokenizers start a thread for each processor they see, in this process and in those that
    tests start. Threads that wait for each other on processors that another worker uses spend most of their time spinning.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1 or not hasattr(os, "sched_setaffinity"):
        return
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    processors = sorted(os.sched_getaffinity(0))
    share = processors[number::workers] or [processors[number % len(processors)]]
    os.sched_setaffinity(0, share)
    torch.set_num_threads(len(share))
    os.environ["OMP_NUM_THREADS"] = str(len(share))


_take_a_share_of_the_processors()


def pytest_configure(config: pytest.Config) -> None:
    """Let workers of pytest-xdist take one test after another, instead of dozens that nobody else may take over."""
    if getattr(config.option, "maxschedchunk", 1) is None:
        config.option.maxschedchunk = 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that no worker is left with one when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _clean_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's environment, and no warning said in another test, reaches a test."""
    for name in list(os.environ):
        if name.startswith("LLMBUILDER_"):
            monkeypatch.delenv(name)
    from llmbuilder import notices

    notices._told.clear()


@pytest.fixture(scope="session")
def topics() -> list[str]:
    """English prose and code that every Python has."""
    return [text for _, text in sorted(pydoc_data.topics.topics.items())]


@pytest.fixture(scope="session")
def bpe(topics: list[str]) -> Tokenizer:
    return train_tokenizer(topics, vocab_size=512)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, topics: list[str], bpe: Tokenizer) -> Path:
    """A run directory of a Qwen3-shaped model trained until it has learned something (loss well below log 512)."""
    return made_once(tmp_path_factory, "trained", lambda folder: _train(folder / "run", topics, bpe)) / "run"


def _train(folder: Path, topics: list[str], bpe: Tokenizer) -> None:
    config = lb.load_config(
        preset="tiny",
        overrides={
            "model.vocab_size": 512, "model.embedding_dim": 64, "model.num_heads": 2, "model.num_layers": 2,
            "model.tie_embeddings": False, "training.optimizer": "muon", "training.learning_rate": 1e-2,
            "training.max_steps": 150, "training.lr_schedule": "linear", "training.warmup_steps": 5,
            "training.eval_every": 50, "training.save_every": 60, "training.log_every": 10,
        },
    )  # fmt: skip
    dataset = TextDataset(topics, block_size=128, train_split=0.9, tokenizer=bpe)
    results = lb.train_model(lb.build_model(config), dataset, config, folder, callbacks=[])
    assert results.best_validation_loss is not None
    assert results.best_validation_loss < 4.3


@pytest.fixture
def tiny_config() -> Config:
    """A model and a run small enough to take a second."""
    return lb.load_config(
        preset="tiny",
        overrides={
            "model.vocab_size": 300, "model.embedding_dim": 32, "model.num_heads": 2, "model.num_layers": 2,
            "model.max_seq_length": 32, "training.batch_size": 4, "training.max_steps": 12,
            "training.warmup_steps": 2, "training.eval_every": 4, "training.save_every": 4, "training.log_every": 2,
            "system.device": "cpu",
        },
    )  # fmt: skip


@pytest.fixture(scope="session")
def prose() -> str:
    """A paragraph repeated with small changes: enough text for a tiny run."""
    line = "Item {0}: the quick brown fox jumps over the lazy dog {0} times, and {1} more.\n"
    return "".join(line.format(n, n * 7 % 13) for n in range(400))
