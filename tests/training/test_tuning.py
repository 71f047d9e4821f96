"""Tuning: the one engine, from a model that knows something, all weights or adapters beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import llmbuilder as lb
from llmbuilder.config import Config
from llmbuilder.config.recipe import choose_full_rate
from llmbuilder.data import TextDataset
from llmbuilder.errors import ConfigError, TokenizerError
from llmbuilder.files import read_json_lines
from llmbuilder.finetuning import load_adapter
from llmbuilder.model import build_model, load_model, save_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import Callback, finetune_model, resume_training, train_model
from llmbuilder.training.storage.checkpoints import list_checkpoints, read_checkpoint
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.run_record import open_dataset
from llmbuilder.training.tuning import tuning_config
from tests.command_line import run

VERSES = "\n".join(
    f"the {a} river sings to the {b} stone" for a in ["cold", "deep", "old", "slow"] for b in ["grey", "wet"]
)


@pytest.fixture
def base(tmp_path: Path, tiny_config: Config, prose: str) -> Path:
    """A small model that has learned other text."""
    dataset = TextDataset([prose], tiny_config.model.max_seq_length)
    train_model(build_model(tiny_config), dataset, tiny_config, tmp_path / "base-run", [])
    return tmp_path / "base-run" / "model.pt"


@pytest.fixture
def verses(tmp_path: Path) -> Path:
    (tmp_path / "verses.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in [VERSES] * 12))
    return tmp_path / "verses.jsonl"


def settings(method: str = "lora", **training: object) -> Config:
    wanted = {"max_steps": 12, "batch_size": 4, "learning_rate": 0.01, "save_every": 4, "eval_every": 6, "warmup_steps": 1,
              "mixed_precision": "no", "sample_every": 0, **training}  # fmt: skip
    return tuning_config({"training": wanted, "finetuning": {"method": method}, "system": {"seed": 3}})


def logits(model: object) -> torch.Tensor:
    tokens = torch.arange(24).view(2, 12) % 90
    with torch.no_grad():
        return model.eval()(tokens)[0]  # type: ignore[operator]


@pytest.mark.parametrize("method", ["lora", "dora", "qlora", "full"])
def test_a_model_learns_other_text(method: str, tmp_path: Path, base: Path, verses: Path) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    before = lb.evaluate_model(base, verses).loss
    results = finetune_model(base, verses, tmp_path / "run", settings(method), callbacks=[])
    after = lb.evaluate_model(tmp_path / "run" / "model.pt", verses).loss
    assert after < before - 0.2
    assert results.best_validation_loss is not None
    tuned = load_model(tmp_path / "run", "cpu")
    assert tuned.config.model_dump() == load_model(base, "cpu").config.model_dump()
    assert tuned.tokenizer is not None
    assert (tmp_path / "run" / "adapter").is_dir() == (method != "full")
    if method != "full":
        again = load_adapter(load_model(base, "cpu"), tmp_path / "run" / "adapter")
        assert (logits(again) - logits(tuned)).abs().max() < 1e-5


def test_a_model_tuned_in_bfloat16_is_its_base_and_its_adapters_unrounded(
    tmp_path: Path, base: Path, verses: Path
) -> None:
    given = load_model(base, "cpu")
    finetune_model(given, verses, tmp_path / "run", settings(mixed_precision="bf16"), callbacks=[])
    tuned = load_model(tmp_path / "run", "cpu")
    again = load_adapter(load_model(base, "cpu"), tmp_path / "run" / "adapter")
    weights = again.weights()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in tuned.weights().items())
    assert {tensor.dtype for tensor in given.state_dict().values()} == {torch.float32}  # the caller's goes on whole


def test_a_checkpoint_holds_what_learns_and_nothing_else(tmp_path: Path, base: Path, verses: Path) -> None:
    finetune_model(base, verses, tmp_path / "run", settings(), callbacks=[])
    saved = read_checkpoint(list_checkpoints(tmp_path / "run" / "checkpoints")[-1])
    assert saved.weights and all(".lora_" in name for name in saved.weights)


class _Stop(Callback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, metrics: dict) -> None:
        if metrics["step"] == self._step:
            raise RuntimeError("pulled the plug")


@pytest.mark.parametrize(("method", "precision"), [("lora", "no"), ("lora", "bf16"), ("dora", "no"), ("qlora", "no")])
def test_a_stopped_run_goes_on_bit_for_bit(
    method: str, precision: str, tmp_path: Path, base: Path, verses: Path
) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    config = settings(method, mixed_precision=precision)
    finetune_model(base, verses, tmp_path / "whole", config, callbacks=[])
    with pytest.raises(RuntimeError, match="plug"):
        finetune_model(base, verses, tmp_path / "stopped", config, callbacks=[_Stop(7)])
    base.unlink()  # the run has its own
    resume_training(tmp_path / "stopped", callbacks=[])
    whole, stopped = (load_model(tmp_path / name / "model.pt", "cpu").weights() for name in ("whole", "stopped"))
    assert all(torch.equal(tensor, stopped[name]) for name, tensor in whole.items())
    lines = [[line for line in read_json_lines(tmp_path / name / "metrics.jsonl") if "loss" in line]
             for name in ("whole", "stopped")]  # fmt: skip
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]


def test_batch_and_memory_are_those_of_the_window_and_not_of_the_bases_context(
    tmp_path: Path, tiny_config: Config, verses: Path, bpe: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_config.model.max_seq_length, tiny_config.model.vocab_size = 1 << 17, len(bpe)

    def tuned(name: str, config: Config) -> Config:
        model = build_model(tiny_config)
        model.tokenizer = bpe
        finetune_model(model, verses, tmp_path / name, config, callbacks=[], window=16)
        return lb.load_config(tmp_path / name / "config.json")

    tuned("asked", settings(max_steps=1, batch_size=16))
    assert "GiB" not in caplog.text
    assert tuned("chosen", settings(max_steps=None, batch_size="auto", num_epochs=1)).training.batch_size > 1


def test_what_cannot_be_is_refused(tmp_path: Path, tiny_config: Config, base: Path, verses: Path) -> None:
    wrong = settings()
    wrong.finetuning.layers = ["q_prj"]
    with pytest.raises(ConfigError, match="there are .*q_proj"):
        finetune_model(base, verses, tmp_path / "run", wrong, callbacks=[])
    assert not (tmp_path / "run").exists()
    save_model(build_model(tiny_config), tmp_path / "bare.pt")
    with pytest.raises(TokenizerError, match="without a tokenizer"):
        finetune_model(tmp_path / "bare.pt", verses, tmp_path / "run", settings(), callbacks=[])


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_came_with_the_base_stays_with_its_children(method: str, tmp_path: Path, base: Path, verses: Path) -> None:
    own = {"chat_template": "{{ messages }}", "license": "apache-2.0", "huggingface": {"generation": {"top_k": 5}}}
    model = load_model(base, "cpu")
    model.metadata |= own
    save_model(model, tmp_path / "base.pt")
    config = settings(method, learning_rate=0.001)
    finetune_model(tmp_path / "base.pt", verses, tmp_path / "whole", config, callbacks=[])
    with pytest.raises(RuntimeError, match="plug"):
        finetune_model(tmp_path / "base.pt", verses, tmp_path / "stopped", config, callbacks=[_Stop(7)])
    resume_training(tmp_path / "stopped", callbacks=[])
    config.training.init_from = str(tmp_path / "base.pt")
    config.finetuning.method = "full"
    child = build_model(load_model(base, "cpu").config)
    config.model = child.config
    config.training.learning_rate = 0.001
    train_model(child, TextDataset.from_config(verses, config), config, tmp_path / "child", [])
    for name in ("whole", "stopped", "child"):
        metadata = load_model(tmp_path / name / "model.pt", "cpu").metadata
        assert {key: metadata.get(key) for key in own} == own, name
        assert metadata["training_config"]["training"]["max_steps"] == 12


def test_all_weights_are_tuned_by_a_small_rate(tmp_path: Path, base: Path, verses: Path) -> None:
    config = settings("full", learning_rate="auto", max_steps=1)
    finetune_model(base, verses, tmp_path / "run", config, callbacks=[])
    chosen = lb.load_config(tmp_path / "run" / "config.json").training
    assert chosen.optimizer == "adamw"
    assert chosen.learning_rate == choose_full_rate(load_model(base, "cpu").config) < 0.002


def test_the_command(tmp_path: Path, base: Path, verses: Path) -> None:
    told = run("finetune", "model", "--model", base, "--data", verses, "-o", tmp_path / "run", "--json",
               "--set", "training.max_steps=4", "--set", "training.batch_size=2", "--set", "finetuning.rank=2", cwd=tmp_path)  # fmt: skip
    found = json.loads(told.stdout)
    assert found["steps"] == 4
    assert load_adapter(load_model(base, "cpu"), found["adapter_path"]) is not None
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["finetuning"]["method"] == "lora" and config["training"]["optimizer"] == "adamw"
    assert config["data"]["documents_apart"] is True
    assert open_dataset(RunPaths.choose(tmp_path / "run")).documents_apart
    refused = run("finetune", "model", "--model", base, "--data", verses, "-o", tmp_path / "other",
                  "--set", "model.num_layers=3", cwd=tmp_path, status=1)  # fmt: skip
    assert "would not act here" in refused.stderr
