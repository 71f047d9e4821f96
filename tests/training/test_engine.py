"""What the engine reports and shows, and what changes nothing about the result."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from llmbuilder.acceleration import bfloat16_pays
from llmbuilder.config import Config, load_config
from llmbuilder.config.sizes import estimate_training_memory
from llmbuilder.data import TextDataset
from llmbuilder.files import read_json_lines
from llmbuilder.model import build_model, load_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import Callback, resume_training, train_model
from llmbuilder.training.display.progress import TrainingProgress
from llmbuilder.training.loop import processor
from llmbuilder.training.loop.muon import Muon
from llmbuilder.training.loop.optimizers import Optimizers
from llmbuilder.training.storage.checkpoints import CheckpointStore, TrainingState, list_checkpoints, read_checkpoint


def train(config: Config, prose: str, run: Path, *callbacks: Callback) -> list[dict]:
    config.training.log_every = 1
    dataset = TextDataset([prose], config.model.max_seq_length, train_split=0.9)
    train_model(build_model(config), dataset, config, run, callbacks=callbacks)
    return read_json_lines(run / "metrics.jsonl")


def losses(lines: list[dict]) -> list[float]:
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("family", ["gpt", "llama"])
def test_gradient_checkpointing_changes_memory_only(
    tmp_path: Path, tiny_config: Config, prose: str, family: str
) -> None:
    if family == "gpt":
        tiny_config.model.model_type, tiny_config.model.qk_norm = "gpt", False
    plain = train(tiny_config, prose, tmp_path / "plain")
    before = estimate_training_memory(tiny_config.model, tiny_config.training).activations
    tiny_config.training.gradient_checkpointing = True
    recomputed = train(tiny_config, prose, tmp_path / "recomputed")
    assert losses(recomputed) == pytest.approx(losses(plain), abs=1e-6)
    assert estimate_training_memory(tiny_config.model, tiny_config.training).activations < before


def test_gradient_checkpointing_keeps_less(tiny_config: Config) -> None:
    tiny_config.model.num_layers = 6
    model = build_model(tiny_config)
    tokens = torch.randint(300, (4, 32))
    kept = []
    for setting in (False, True):
        model.gradient_checkpointing = setting
        sizes = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.setdefault(t.data_ptr(), t.numel()) and t, lambda t: t
        ):
            model(tokens, tokens)
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.5 * kept[0]


def test_every_logged_step_tells_where_the_time_went(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    lines = [line for line in train(tiny_config, prose, tmp_path / "run") if "loss" in line]
    for line in lines:
        assert 0 <= line["data_wait"] < 1
        assert 0 < line["mfu"] < 1.5
        assert line["tokens_per_second"] > 0
        assert line["memory_bytes"] > 1e7
    assert any("checkpoint_stall_seconds" in line for line in lines)


def test_samples_of_documents_shorter_than_a_prompt(tmp_path: Path, tiny_config: Config) -> None:
    """The first tokens hold the end of a document, whose letters this vocabulary has not."""
    names = ["ott", "eb", "bet", "otto"] * 40
    tokenizer = Tokenizer.from_characters(sorted(set("".join(names))))
    tiny_config.training.sample_every = 6
    dataset = TextDataset(names, block_size=16, train_split=None, tokenizer=tokenizer)
    train_model(build_model(tiny_config), dataset, tiny_config, tmp_path / "run", callbacks=[])
    samples = [line["sample"] for line in read_json_lines(tmp_path / "run" / "metrics.jsonl") if "sample" in line]
    assert all(sample.startswith("ott<|endoftext|>eb") for sample in samples)
    assert samples


def test_samples_do_not_disturb_the_run(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    tiny_config.model.dropout = 0.1
    without = tiny_config.copy_of()
    without.training.sample_every = 0
    tiny_config.training.sample_every = 3
    lines = train(tiny_config, prose, tmp_path / "with")
    assert [line["step"] for line in lines if "sample" in line] == [3, 6, 9]
    assert all(line["sample"].startswith("Item 0") for line in lines if "sample" in line)
    assert losses(lines) == losses(train(without, prose, tmp_path / "without"))


def test_batches_fetched_ahead_are_the_same(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    found = []
    for workers in (0, 1, 3):
        tiny_config.training.dataloader_num_workers = workers
        found.append(losses(train(tiny_config, prose, tmp_path / str(workers))))
    assert found[0] == found[1] == found[2]


def test_the_live_panel_shows_the_run(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=100, color_system=None)
    train(tiny_config, prose, tmp_path / "live", TrainingProgress(console))
    text = terminal.getvalue()
    for part in ("training", "12/12", "tokens/s", "MFU", "data wait", "memory", "left", "validation", "Item 0"):
        assert part in text
    assert "Training done after 12 steps" in text
    plain = io.StringIO()
    console = Console(file=plain, force_terminal=True, width=100, color_system=None)
    train(tiny_config, prose, tmp_path / "plain", TrainingProgress(console, plain=True))
    assert "─" not in plain.getvalue()
    assert len(plain.getvalue().splitlines()) >= 10


def test_parameters_get_the_rates_that_are_meant_for_them(tiny_config: Config) -> None:
    training = tiny_config.training
    tiny_config.model.tie_embeddings = False
    training.optimizer, training.learning_rate, training.muon_learning_rate = "muon", 1e-3, 0.05
    training.embedding_learning_rate, training.head_learning_rate, training.vector_learning_rate = 0.2, 0.01, 0.03
    model = build_model(tiny_config)
    optimizers = Optimizers(model, training)
    training.warmup_steps = 0
    optimizers.set_step(0, 100)
    rates = {id(p): group["lr"] for optimizer in optimizers._all for group in optimizer.param_groups
             for p in group["params"]}  # fmt: skip
    named = dict(model.named_parameters())
    assert len(rates) == len(named)
    expected = {"embed_tokens": 0.2, "lm_head": 0.01, "norm": 0.03, "_proj": 0.05}
    for name, parameter in named.items():
        kind = next(part for part in expected if part in name.replace("self_attn", ""))
        assert rates[id(parameter)] == pytest.approx(expected[kind]), name
    assert sum(isinstance(optimizer, Muon) for optimizer in optimizers._all) == 1


def test_a_checkpoint_is_of_the_moment_it_was_asked_for(tmp_path: Path) -> None:
    weights = {"a": torch.zeros(1000)}
    store = CheckpointStore(tmp_path, keep=2)
    store.write(TrainingState(1, weights, []))
    weights["a"].fill_(1.0)
    assert store.finish() == tmp_path / "step-00000001.pt"
    assert read_checkpoint(tmp_path / "step-00000001.pt").weights["a"].sum() == 0
    for step in (2, 3, 10):
        store.write(TrainingState(step, weights, []))
    store.finish()
    store.close()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000003.pt", "step-00000010.pt"]


@pytest.mark.parametrize(("pays", "chosen"), [(True, "bf16"), (False, "no")])
def test_auto_precision_is_measured_where_a_processor_has_two_and_kept_by_the_run(
    pays: bool, chosen: str, tmp_path: Path, tiny_config: Config, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "has_fast_bfloat16", lambda: True)
    monkeypatch.setattr(processor, "bfloat16_pays", lambda width: pays)
    tiny_config.training.mixed_precision = "auto"
    train(tiny_config, prose, tmp_path / "run")
    assert load_config(tmp_path / "run" / "config.json").training.mixed_precision == chosen
    monkeypatch.setattr(processor, "bfloat16_pays", lambda width: not pays)
    resume_training(tmp_path / "run", overrides=["training.max_steps=40"])
    assert load_config(tmp_path / "run" / "config.json").training.mixed_precision == chosen
    tiny_config.system.deterministic, tiny_config.training.mixed_precision = True, "auto"
    train(tiny_config, prose, tmp_path / "repeatable")
    assert load_config(tmp_path / "repeatable" / "config.json").training.mixed_precision == "no"


def test_narrow_models_stay_in_float32() -> None:
    assert not bfloat16_pays(width=32)


def test_bfloat16_learns_where_the_processor_has_it(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    tiny_config.training.mixed_precision = "bf16"
    found = losses(train(tiny_config, prose, tmp_path / "run"))
    assert found[-1] < found[0] - 0.5
    assert load_model(tmp_path / "run", "cpu").lm_head.weight.dtype == torch.float32
