"""A build that begins from a model: planned, measured before and after, resumed, exported with all that came along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import llmbuilder as lb
from llmbuilder.building import BuildResult, plan_build, resume_build
from llmbuilder.building.adapting import tuning_settings
from llmbuilder.building.answers import HELD_OUT, TRAINED
from llmbuilder.building.before_after import warnings_of
from llmbuilder.building.checks import check_build
from llmbuilder.building.general_text import HELP, LIBRARY, find_general_text, help_topics, library_docstrings
from llmbuilder.building.result import Adaptation
from llmbuilder.building.speed import tuning_speed
from llmbuilder.config import Config, load_config
from llmbuilder.config.recipe import choose_adapter_rate, choose_full_rate
from llmbuilder.data import TextDataset
from llmbuilder.errors import CheckpointError, ConfigError, DataError, LLMBuilderError, TokenizerError
from llmbuilder.files import read_json_lines
from llmbuilder.formats.gguf.file import GGUFFile
from llmbuilder.formats.model_file import read_metadata
from llmbuilder.model import build_model, load_model, save_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import Callback, train_model
from tests.command_line import run

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
SETTINGS = ["training.max_steps=12", "training.save_every=4", "training.eval_every=4", "training.batch_size=4",
            "training.learning_rate=0.01", "system.deterministic=true", "generation.max_new_tokens=20"]  # fmt: skip
BUDGET = 60.0

KILLED = """
import os, signal, sys
import llmbuilder as lb
from llmbuilder.training import Callback

class Kills(Callback):
    def on_step(self, metrics):
        if metrics["step"] == 7:
            os.kill(os.getpid(), signal.SIGKILL)

lb.build("docs", "run", base="base.pt", time_budget=60.0, overrides=sys.argv[1:], callbacks=[Kills()])
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, prose: str, bpe: Tokenizer) -> Path:
    """A small model with a chat template and a licence, which has learned some prose."""
    folder = tmp_path_factory.mktemp("base")
    config = Config()
    config.model = config.model.model_copy(update={
        "vocab_size": len(bpe), "num_layers": 2, "num_heads": 2, "embedding_dim": 32, "max_seq_length": 64})  # fmt: skip
    config.training = config.training.model_copy(update={
        "max_steps": 150, "batch_size": 8, "learning_rate": 0.01, "warmup_steps": 5, "eval_every": 0, "sample_every": 0,
    })  # fmt: skip
    train_model(build_model(config), TextDataset([prose], 64, tokenizer=bpe), config, folder / "run", [])
    model = load_model(folder / "run" / "model.pt", "cpu")
    model.metadata = {"chat_template": TEMPLATE, "license": "apache-2.0", "name": "Tiny Base"}
    save_model(model, folder / "base.pt")
    return folder / "base.pt"


@pytest.fixture
def folder(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Documents of a kind that the base has not seen."""
    (tmp_path / "docs").mkdir()
    for number in range(30):
        lines = [f"Ship {number}{n} sails at {n % 24} to harbour {n * 7 % 90} with the tide." for n in range(40)]
        (tmp_path / "docs" / f"{number}.txt").write_text("\n".join(lines))
    (tmp_path / "base.pt").write_bytes(base.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(name: str = "run", callbacks: list[Callback] | None = None, **more: Any) -> BuildResult:
    more = {"base": "base.pt", "time_budget": BUDGET, "overrides": SETTINGS, **more}
    return lb.build("docs", name, callbacks=callbacks or [], **more)


def test_a_base_is_adapted_and_the_result_says_what_that_did(folder: Path) -> None:
    said: list[str] = []
    result = build(announce=said.append)
    plan = next(line for line in said if line.startswith("Plan: "))
    assert "LoRA of rank " in plan and "the base takes" in plan
    found = result.adaptation
    assert found is not None
    assert found.held_out_before is not None and found.held_out_after is not None
    assert found.held_out_after < found.held_out_before
    assert result.bits_per_byte == found.held_out_after
    assert f"{found.held_out_before:.3f} bits per byte of your held-out documents" in plan
    assert found.general_text == HELP and found.general_before is not None and found.general_after is not None
    tuned, base = load_model("run/model.pt", "cpu"), load_model("base.pt", "cpu")
    assert tuned.config == base.config
    assert tuned.tokenizer is not None and base.tokenizer is not None
    assert tuned.tokenizer.fingerprint == base.tokenizer.fingerprint
    assert Path("run/adapter/adapter_model.safetensors").is_file()
    assert all(sample.base is not None for sample in result.samples)
    summary, report = Path("run/summary.md").read_text(), Path("run/report.html").read_text()
    for page in (summary, report):
        assert "It predicts your documents better than the base" in page
    assert "The base went on:" in summary and "The adapted model went on:" in summary
    assert summary.index("did it help") < summary.index("tested on")
    again = BuildResult.from_dict(json.loads(Path("run/summary.json").read_text()))
    assert again.adaptation == found
    assert found.answers is not None and {group.group for group in found.answers.groups} == {HELD_OUT, TRAINED}
    for page in (summary, report):
        assert "What answers best" in page and "the base with passages found" in page


def test_the_best_is_kept_and_harm_is_said(folder: Path, prose: str) -> None:
    for number, path in enumerate(sorted(Path("docs").iterdir())):  # what the base has learned already
        path.write_text(prose[2000 * number : 2000 * (number + 1)])
    rates = ["training.learning_rate=0.99", "training.max_grad_norm=0", "training.lr_schedule=constant"]
    result = build(overrides=[*SETTINGS, *rates])
    found = result.adaptation
    assert found is not None and found.warnings
    summary = Path("run/summary.md").read_text()
    assert "| take care | It predicts your documents no better than the base" in summary
    losses = [
        line["validation_loss"] for line in read_json_lines(Path("run/metrics.jsonl")) if "validation_loss" in line
    ]
    assert result.training.best_validation_loss == min(losses) < max(losses)
    evaluation = read_metadata("run/model.pt")
    assert evaluation["best_validation_loss"] == min(losses)


def test_what_came_with_the_base_goes_out_again(folder: Path) -> None:
    result = build()
    assert result.gguf_path is not None and result.verification is not None
    fields = GGUFFile(result.gguf_path).fields
    assert fields["tokenizer.chat_template"] == TEMPLATE and fields["general.license"] == "apache-2.0"
    assert "TEMPLATE" not in Path("run/Modelfile").read_text()  # Ollama finds the one in the file


class _Stops(Callback):
    def on_step(self, metrics: dict) -> None:
        if metrics["step"] == 7:
            os.kill(os.getpid(), signal.SIGINT)


def test_stopped_and_resumed_it_ends_as_an_unbroken_one(folder: Path) -> None:
    build("whole")
    with pytest.raises(KeyboardInterrupt):
        build(callbacks=[_Stops()])
    Path("base.pt").unlink()  # the run has its own
    resume_build("run", callbacks=[])
    assert_alike("run", "whole")


@pytest.mark.slow
def test_killed_in_training_it_ends_as_an_unbroken_one(folder: Path) -> None:
    build("whole")
    killed = subprocess.run([sys.executable, "-c", KILLED, *SETTINGS], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run("train", "resume", "run", "--quiet", cwd=folder)
    assert_alike("run", "whole")
    build()  # is finished
    assert load_model("run/model.pt", "cpu").metadata["chat_template"] == TEMPLATE


def assert_alike(one: str, other: str) -> None:
    first, second = (load_model(f"{name}/model.pt", "cpu") for name in (one, other))
    assert all(torch.equal(tensor, second.weights()[name]) for name, tensor in first.weights().items())
    belongings = [{name: model.metadata.get(name) for name in ("chat_template", "license", "name")}
                  for model in (first, second)]  # fmt: skip
    assert belongings[0] == belongings[1] and belongings[0]["chat_template"] == TEMPLATE
    ends = [json.loads(Path(name, "summary.json").read_text()) for name in (one, other)]
    for key in ("samples", "bits_per_byte"):
        assert ends[0][key] == ends[1][key], key
    before_and_after = [[end["adaptation"][f"held_out_{when}"] for when in ("before", "after")] for end in ends]
    assert before_and_after[0] == before_and_after[1]  # how much general text is scored follows from the speed


def test_another_base_or_method_is_asked_for_otherwise(folder: Path) -> None:
    build()
    with pytest.raises(DataError, match="the method: auto then, full now"):
        build(method="full")
    Path("other.pt").write_bytes(Path("base.pt").read_bytes())
    with pytest.raises(DataError, match="the base: .*base.pt then, .*other.pt now"):
        build(base="other.pt")
    with pytest.raises(DataError, match="the base: .*base.pt then, not given now"):
        lb.build("docs", "run", time_budget=BUDGET, callbacks=[])
    os.utime("base.pt", (1, 1))
    with pytest.raises(DataError, match="the base has changed"):
        build()


@pytest.mark.parametrize("method", ["dora", "full"])
def test_other_methods(folder: Path, method: str) -> None:
    result = build(method=method, overrides=[*SETTINGS, "training.max_steps=4", "training.learning_rate=0.001"])
    assert result.adaptation is not None and result.adaptation.method == method
    config = lb.load_config("run/config.json")
    assert config.training.optimizer == "adamw" and config.finetuning.method == method
    assert Path("run/adapter").is_dir() == (method != "full")


def test_a_prepared_corpus_is_cut_by_the_bases_tokenizer(folder: Path) -> None:
    run("data", "prepare", "docs", "-o", "corpus", "--workers", "1", cwd=folder)
    result = lb.build("corpus", "run", base="base.pt", time_budget=BUDGET, overrides=SETTINGS, callbacks=[])
    base, tuned = load_model("base.pt", "cpu").tokenizer, load_model("run/model.pt", "cpu").tokenizer
    assert base is not None and tuned is not None and base.fingerprint == tuned.fingerprint
    assert result.adaptation is not None and result.adaptation.held_out_after is not None


def test_a_dry_run_trains_nothing(folder: Path) -> None:
    told = run("build", "docs", "--base", "base.pt", "--time-budget", "40s", "--dry-run", "--json", cwd=folder)
    plan = json.loads(told.stdout)
    assert plan["before"]["held_out"] > 0 and plan["learned"] < plan["parameters"] and plan["steps"] >= 20
    assert plan["general_text"] == HELP
    assert sorted(path.name for path in folder.iterdir()) == ["base.pt", "docs"]


def test_little_time_is_refused_with_the_least_that_makes_sense(folder: Path) -> None:
    with pytest.raises(ConfigError, match="the least that makes sense is --time-budget"):
        plan_build("docs", base="base.pt", time_budget=1.0)


def test_measuring_leaves_the_base_as_it_was(base: Path) -> None:
    model, untouched = load_model(base, "cpu"), load_model(base, "cpu").weights()
    for method in ("lora", "dora", "full"):
        config = tuning_settings(model, Config(), method, 10_000, {})
        assert tuning_speed(model, config, 16, 0.1) > 0
        assert model.weights().keys() == untouched.keys()
        assert all(torch.equal(tensor, untouched[name]) for name, tensor in model.weights().items())
        assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_settings_follow_from_the_text_and_win_when_given(base: Path) -> None:
    model = load_model(base, "cpu")
    few = tuning_settings(model, Config(), "auto", 1000, {})
    assert (few.finetuning.method, few.finetuning.rank) == ("lora", 16)
    assert few.training.learning_rate == choose_adapter_rate(model.config)
    assert few.data.documents_apart is True
    more = tuning_settings(model, Config(), "auto", 100_000, {})
    assert more.finetuning.rank > 16
    all_of_it = tuning_settings(model, Config(), "auto", 10**9, {})
    assert all_of_it.finetuning.method == "full"
    assert all_of_it.training.learning_rate == choose_full_rate(model.config)
    assert choose_adapter_rate(model.config) <= 10 * choose_full_rate(model.config)
    together = load_config(overrides=["data.documents_apart=false"])
    assert tuning_settings(model, together, "auto", 1000, {}).data.documents_apart is False
    asked = tuning_settings(model, Config(), "auto", 10**9, {"finetuning": {"rank": 4}})
    assert (asked.finetuning.method, asked.finetuning.rank) == ("lora", 4)


def test_general_text_is_one_that_the_documents_do_not_hold(tmp_path: Path, bpe: Tokenizer) -> None:
    def found(texts: list[str]) -> str | None:
        text = find_general_text(TextDataset(texts, 16, tokenizer=bpe).prepare(), bpe)
        return None if text is None else text.name

    topics, docstrings = list(help_topics()), list(library_docstrings())
    assert found(["the cold river sings to the grey stone"] * 20) == HELP
    assert found(topics) == LIBRARY
    assert found([*topics, "\n\n".join(docstrings)]) is None


def test_a_number_that_says_it_hurt_is_said() -> None:
    values: dict[str, Any] = {"base": "b", "method": "lora", "rank": 16, "learned": 1, "general_text": HELP}

    def warned(*scores: float | None) -> list[str]:
        names = ("held_out_before", "held_out_after", "general_before", "general_after")
        return warnings_of(Adaptation(**values, **dict(zip(names, scores, strict=True))))

    assert warned(1.0, 0.9, 1.0, 1.02) == []
    assert warned(None, None, None, None) == []
    assert "no better than the base" in warned(1.0, 1.1, 1.0, 1.0)[0]
    assert "general text 10% worse" in warned(1.0, 0.9, 1.0, 1.1)[0]


def test_what_cannot_be_is_found_before_anything_is_read(
    folder: Path, tiny_config: Config, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(build_model(tiny_config), "bare.pt")
    Path("bare").mkdir()
    Path("bare/config.json").write_text("{}")
    Path("untold").mkdir()
    Path("untold/config.json").write_text("{}")
    Path("untold/model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    cases: list[tuple[dict[str, Any], type[LLMBuilderError], str]] = [
        ({"base": "nowhere.pt"}, CheckpointError, "no such model file"),
        ({"base": "smollm"}, CheckpointError, "hub is named owner/smollm"),
        ({"base": "bare"}, CheckpointError, "holds no weights"),
        ({"base": "untold"}, TokenizerError, "it has no tokenizer"),
        ({"base": "base.pt", "preset": "tiny"}, ConfigError, "name no preset and no configuration"),
        ({"base": "base.pt", "config": Config()}, ConfigError, "name no preset and no configuration"),
        ({"base": "base.pt", "method": "prefix"}, ConfigError, "choose auto, lora, dora, qlora or full"),
        ({"method": "lora"}, ConfigError, "name one with --base"),
        ({"base": "base.pt", "overrides": ["model.num_layers=3"]}, ConfigError, "would not act here"),
        ({"base": "base.pt", "overrides": ["tokenizer.algorithm=char"]}, ConfigError, "would not act here"),
        ({"base": "base.pt", "method": "full", "overrides": ["finetuning.rank=3"]}, ConfigError, "all weights learn"),
    ]
    for arguments, error, said in cases:
        with pytest.raises(error, match=said):
            check_build("docs", "new", **arguments)
        assert not Path("new").exists()
    with pytest.raises(DataError, match="both input and output"):
        check_build("docs", ".", base="base.pt", overwrite=True)
    with pytest.raises(TokenizerError, match="without a tokenizer"):
        lb.build("docs", "new", base="bare.pt", callbacks=[])
    assert not Path("new").exists()
    monkeypatch.setattr("llmbuilder.building.bases.memory_bytes", lambda: 1000)
    with pytest.raises(CheckpointError, match="the largest base that fits"):
        check_build("docs", "new", base="base.pt")


def test_the_copied_piece_is_the_longest(bpe: Tokenizer) -> None:
    from llmbuilder.tokens.overlap import longest_shared_run

    random = np.random.default_rng(0)
    train = random.integers(0, 500, 5000)
    written = np.concatenate([random.integers(500, 600, 7), train[100:109], [-1], train[2000:2031], [700]])
    assert longest_shared_run(train, written, 4) == (17, 48)
    assert longest_shared_run(train, random.integers(500, 600, 40), 4) == (0, 0)
    assert longest_shared_run(train, written[:2], 4) == (0, 0)
