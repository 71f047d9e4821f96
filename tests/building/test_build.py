"""The whole way: documents in, an exported model out."""

from __future__ import annotations

import itertools
import json
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import llmbuilder as lb
from llmbuilder.building import choose_plan, parse_duration, plan_build
from llmbuilder.building.plan import LADDER
from llmbuilder.building.prediction import predicted_nats_per_byte
from llmbuilder.building.speed import estimated_speed
from llmbuilder.config import Config
from llmbuilder.errors import ConfigError
from llmbuilder.export.verification import ask_llamacpp
from llmbuilder.tokenizer import choose_vocab_size
from tests.command_line import run
from tests.documents.samples import write_all


def test_a_folder_with_every_format(tmp_path: Path, prose: str) -> None:
    formats = write_all(tmp_path / "docs")
    (tmp_path / "docs" / "long.txt").write_text(prose)
    (tmp_path / "docs" / "copy.md").write_text(prose)
    (tmp_path / "docs" / "broken.pdf").write_bytes(b"%PDF-1.4 nonsense")
    said: list[str] = []
    result = lb.build(tmp_path / "docs", tmp_path / "run", time_budget=40, announce=said.append, callbacks=[])
    summary = (tmp_path / "run" / "summary.md").read_text()
    for name in formats:
        assert f"| {name} | " in summary
    assert "broken.pdf: cannot be read as pdf" in summary
    assert "long.txt repeats" in summary or "copy.md repeats" in summary
    assert "remove_page_furniture" in summary
    assert result.verification is not None
    assert result.verification.equal_tokenizations == result.verification.texts
    assert result.training.best_validation_loss is not None
    assert result.bits_per_byte is not None
    assert len(result.samples) >= 1
    assert result.ability.startswith("It ")
    assert result.held_out
    assert summary.index(result.ability) < summary.index("Given:")
    assert "1 duplicate, 1 unread file" in summary
    report = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "What it writes" in report and result.held_out[0] in report
    modelfile = (tmp_path / "run" / "Modelfile").read_text("utf-8")
    assert "FROM ./model.gguf" in modelfile and result.ability in modelfile
    assert lb.building.BuildResult.from_dict(json.loads((tmp_path / "run" / "summary.json").read_text())).ability
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["model_path"].endswith("model.pt")
    assert said[0] == "Reading documents"
    assert any("1 duplicate removed; 1 file skipped" in line for line in said)
    assert ask_llamacpp({"model": str(tmp_path / "run" / "model.gguf"), "context": 32, "threads": 1, "tokenize": ["a"],
                         "greedy": [], "predict": [], "anchor": 0})[0]["vocab_size"] > 256  # fmt: skip


@pytest.fixture
def _a_clock_of_work_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let budgets count processor time: how much is learned then does not depend on what else the machine does."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(time, "perf_counter", lambda: time.process_time() / threads)


@pytest.mark.slow
@pytest.mark.usefixtures("_a_clock_of_work_done")
def test_the_default_corpus_learns_what_python_documentation_looks_like(tmp_path: Path) -> None:
    result = lb.build(None, tmp_path / "run", time_budget=35, callbacks=[])
    assert result.documents["documents"] > 300
    assert result.bits_per_byte is not None
    assert result.bits_per_byte < 2.6
    assert result.verification is not None
    assert result.verification.mean_kl_divergence < 1e-3


def test_presets_and_overrides_are_honoured(tmp_path: Path, prose: str) -> None:
    (tmp_path / "a.txt").write_text(prose)
    result = lb.build(
        tmp_path / "a.txt", tmp_path / "run", preset="tiny", callbacks=[], quantization="q8_0",
        overrides=["training.max_steps=4", "model.num_layers=1", "tokenizer.algorithm=char", "model.max_seq_length=32"],
    )  # fmt: skip
    assert result.training.steps == 4
    assert result.plan is None
    assert result.export is not None
    assert result.export.quantization == "q8_0"
    assert lb.load_model(result.model_path).config.num_layers == 1


def test_overrides_win_over_the_plan(tmp_path: Path, prose: str) -> None:
    (tmp_path / "a.txt").write_text(prose)
    result = lb.build(tmp_path / "a.txt", tmp_path / "run", time_budget=60, callbacks=[],
                      overrides=["training.max_steps=3", "model.num_layers=1", "training.optimizer=adamw"])  # fmt: skip
    config = lb.load_config(tmp_path / "run" / "config.json")
    assert (result.training.steps, config.model.num_layers, config.training.optimizer) == (3, 1, "adamw")


def test_the_environment_wins_over_the_plan(tmp_path: Path, prose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text(prose)
    monkeypatch.setenv("LLMBUILDER_TRAINING__OPTIMIZER", "adamw")
    monkeypatch.setenv("LLMBUILDER_TRAINING__MAX_STEPS", "3")
    lb.build(tmp_path / "a.txt", tmp_path / "run", time_budget=60, callbacks=[])
    config = lb.load_config(tmp_path / "run" / "config.json")
    assert (config.training.optimizer, config.training.max_steps) == ("adamw", 3)


def test_the_plan_counts_bytes_as_the_result_does(tmp_path: Path, prose: str) -> None:
    """Of the documents that validate, and not of the beginning, which is of another kind here."""
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "0.txt").write_text(prose[:40_000])
    random = np.random.default_rng(0)
    for number in range(1, 12):
        (documents / f"{number}.txt").write_text(" ".join(str(n) for n in random.integers(0, 10**9, 800)))
    settings = ["training.max_steps=3", "model.num_layers=1"]
    plan = plan_build(documents, time_budget=60, overrides=settings)
    result = lb.build(documents, tmp_path / "run", time_budget=60, callbacks=[], overrides=settings)
    reached, bits = result.training.best_validation_loss, result.bits_per_byte
    assert reached is not None and bits is not None
    expected = plan.expected_loss / plan.expected_bits_per_byte
    assert expected == pytest.approx(reached / bits, rel=0.01)


def test_tokenizers_without_gguf_form_build_without_export(
    tmp_path: Path, prose: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.txt").write_text(prose)
    result = lb.build(tmp_path / "a.txt", tmp_path / "run", preset="tiny", callbacks=[],
                      overrides=["training.max_steps=2", "tokenizer.algorithm=unigram", "model.vocab_size=120",
                                 "model.max_seq_length=32"])  # fmt: skip
    assert result.gguf_path is None
    assert "will not export to llama.cpp" in caplog.text
    assert result.modelfile is None
    assert "no form in GGUF" in (tmp_path / "run" / "summary.md").read_text()


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("3m", 180), ("1h30m", 5400), ("2.5m", 150)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3m", "0", "1..5m"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="is no duration"):
        parse_duration(text)


def test_more_time_chooses_larger_models() -> None:
    def size(tokens: int, seconds: float) -> int:
        return choose_plan(Config(), tokens, 4096, seconds, estimated_speed(1e11)).parameters

    assert size(600_000, 60) <= size(600_000, 600) <= size(600_000, 60_000)
    assert size(60_000_000, 60) < size(60_000_000, 60_000)
    assert choose_plan(Config(), 900, 300, 60, estimated_speed(1e11)).config.model.max_seq_length < LADDER[0][3]


def test_a_dry_run_prints_the_plan_and_leaves_nothing(tmp_path: Path, prose: str) -> None:
    (tmp_path / "a.txt").write_text(prose)
    command = ("build", "a.txt", "--time-budget", "25s", "--dry-run")
    done = run(*command, cwd=tmp_path)
    assert re.search(r"Plan: \d.*parameters.*expected: \d+\.\d+ bits per byte of held-out text", done.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    plan = json.loads(run(*command, "--json", cwd=tmp_path).stdout)
    assert plan["steps"] >= 1
    assert plan["config"]["training"]["optimizer"] == "auto"


def test_a_tiny_corpus_is_named_and_not_trained_on_for_long(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_text("hello world, a short text")
    result = lb.build(tmp_path / "a.txt", tmp_path / "run", callbacks=[])
    assert "25 characters are very little to learn language from" in caplog.text
    assert result.training.steps < 400


def test_evaluations_take_a_small_part_of_a_short_build(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = (
        draw.choice(["river", "stone", "light", "never", "under"]) + str(draw.randrange(5000)) for _ in iter(int, 1)
    )
    (tmp_path / "long.txt").write_text(" ".join(itertools.islice(words, 400_000)))
    plan = plan_build(tmp_path / "long.txt", time_budget=30)
    training = plan.config.training
    evaluations = plan.steps / training.eval_every
    assert training.eval_batches is not None
    assert 3 <= evaluations < 5  # fewer of them first, then of less text
    evaluated = evaluations * training.eval_batches * training.batch_size * plan.config.model.max_seq_length
    assert evaluated < 0.25 * plan.training_tokens  # over the whole validation part it would be more than all of it


def test_repeated_text_is_worth_less_than_new_text() -> None:
    assert (
        predicted_nats_per_byte(10**6, 10**7, 10**7)
        < predicted_nats_per_byte(10**6, 10**7, 10**6)
        < predicted_nats_per_byte(10**6, 10**6, 10**6)
    )


def test_vocabulary_grows_with_the_corpus() -> None:
    sizes = [choose_vocab_size(n) for n in (1000, 2_000_000, 100_000_000, 10**12)]
    assert sizes == [512, 2048, 16384, 32768]
