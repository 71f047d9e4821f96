"""Shared material: small texts, a tokenizer, and one model that is really trained."""

from __future__ import annotations

import os
import pydoc_data.topics
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

# The same examples every time: a failure belongs to the change that caused it.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


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
    folder = tmp_path_factory.mktemp("trained") / "run"
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
    return folder


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
