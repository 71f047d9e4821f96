"""What a plan expects, and of what."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import llmbuilder as lb
from llmbuilder.building import plan_build
from llmbuilder.building.durations import in_words
from llmbuilder.building.plan import USEFUL_STEPS, choose_plan, require_useful
from llmbuilder.building.prediction import Corpus, predict, predicted_bits
from llmbuilder.building.speed import estimated_speed
from llmbuilder.config import Config
from llmbuilder.config.schema import GenerationConfig
from llmbuilder.errors import ConfigError, DataError
from tests.command_line import run

DOCS = Corpus(600_000, 2048, 3.0, 2.0)


@pytest.mark.parametrize("tokens", [1, 50, 10_000, 10**7, 10**12])
@pytest.mark.parametrize("ngram_bits", [None, 1e-6, 0.5, 2.0, 9.0, 1e6, math.nan])
def test_a_prediction_is_never_worse_than_guessing_and_never_nothing(tokens: int, ngram_bits: float | None) -> None:
    corpus = Corpus(tokens, 512, 2.0, ngram_bits)
    for seen in (1, 1000, 10**9):
        found = predict(corpus, 200_000, seen, speed_factor=1.5)
        assert 0 < found.low <= found.bits <= found.high <= math.log2(512) / 2.0


def test_a_harder_text_is_expected_to_need_more_bits() -> None:
    bits = [predicted_bits(Corpus(600_000, 2048, 3.0, ngrams), 200_000, 10**6) for ngrams in (1.3, 2.0, 2.6)]
    assert bits == sorted(bits)
    assert bits[2] > 1.3 * bits[0]


def test_a_less_certain_speed_and_a_text_not_measured_widen_the_interval() -> None:
    def width(corpus: Corpus, factor: float) -> float:
        found = predict(corpus, 200_000, 10**6, speed_factor=factor)
        return found.high - found.low

    assert width(DOCS, 1.0) < width(DOCS, 1.5) < width(DOCS, 3.0)
    assert width(DOCS, 1.0) < width(Corpus(600_000, 2048, 3.0), 1.0)


def test_a_plan_names_what_more_time_would_bring() -> None:
    plan = choose_plan(Config(), 600_000, 2048, 45, estimated_speed(1.2e10), 3.0, ngram_bits=2.0, besides=15)
    assert plan.bits_low < plan.expected_bits_per_byte < plan.bits_high
    assert plan.expected_loss == pytest.approx(plan.expected_bits_per_byte * math.log(2) * 3.0)
    seconds, bits = zip(*plan.longer, strict=True)
    assert seconds[0] > 1.5 * 60
    assert [plan.expected_bits_per_byte, *bits] == sorted([plan.expected_bits_per_byte, *bits], reverse=True)
    assert f"{in_words(seconds[0])} for the build instead would bring about 0." in plan.summary()


def test_what_is_learned_already_gains_nothing_from_more_time() -> None:
    plan = choose_plan(Config(), 2_000, 512, 24 * 3600, estimated_speed(1e13), 2.0, ngram_bits=2.0)
    assert plan.longer == []
    assert "instead" not in plan.summary()


def test_too_few_steps_are_refused_with_the_least_that_makes_sense() -> None:
    def plan(seconds: float, config: Config | None = None) -> None:
        config = config or Config()
        require_useful(choose_plan(config, 600_000, 2048, seconds, estimated_speed(2e9), besides=5), seconds + 5)

    with pytest.raises(ConfigError, match=rf"fewer than {USEFUL_STEPS} .* is --time-budget (\d+)s") as refused:
        plan(0.5)
    least = float(str(refused.value).rpartition(" ")[2].removesuffix("s"))
    plan(least - 5)
    few = Config()
    few.training.max_steps = 3  # asked for
    plan(0.5, few)


def test_sampling_of_a_planned_build_leaves_greedy_alone() -> None:
    speed = estimated_speed(1e10)
    assert choose_plan(Config(), 600_000, 2048, 60, speed).config.generation.min_p == 0.05
    greedy = Config(generation=GenerationConfig(do_sample=False))
    assert choose_plan(greedy, 600_000, 2048, 60, speed).config.generation.min_p is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(45, "45 seconds"), (60, "1 minute"), (150, "2.5 minutes"), (7200, "2 hours")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_budget_too_small_for_twenty_steps_is_refused_with_the_least(tmp_path: Path, prose: str) -> None:
    (tmp_path / "a.txt").write_text(prose)
    with pytest.raises(ConfigError, match=r"fewer than 20 teach a model nothing: the least that makes sense is"):
        plan_build(tmp_path / "a.txt", time_budget=0.5)
    with pytest.raises(ConfigError, match=r"few steps teach a model nothing: the least that makes sense is"):
        lb.build(tmp_path / "a.txt", tmp_path / "run", time_budget=5, callbacks=[])
    assert not (tmp_path / "run").exists(), "refused before anything is read"


def test_a_build_with_too_little_time_goes_on_with_more(
    tmp_path: Path, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text(prose)
    steps = ["training.max_steps=30"]
    with monkeypatch.context() as patched, pytest.raises(ConfigError, match="leaves .* for training"):
        patched.setattr("llmbuilder.building.planning.ending_seconds", lambda tokens, parameters=0: 20.0)
        lb.build(tmp_path / "a.txt", tmp_path / "run", time_budget=10, overrides=steps, callbacks=[])
    result = lb.build(tmp_path / "a.txt", tmp_path / "run", time_budget=60, overrides=steps, callbacks=[])
    assert result.training.steps == 30
    with pytest.raises(DataError, match="the time budget: 1 minute then, 1.5 minutes now"):
        lb.build(tmp_path / "a.txt", tmp_path / "run", time_budget=90, overrides=steps, callbacks=[])


def test_a_model_beyond_this_machines_memory_is_refused(tmp_path: Path, prose: str) -> None:
    (tmp_path / "a.txt").write_text(prose)
    with pytest.raises(ConfigError, match=r"takes at least .* GiB, and there are"):
        plan_build(tmp_path / "a.txt", time_budget=60, overrides=["model.max_seq_length=100000000"])


def test_a_dry_run_looks_at_the_output_as_the_build_will(tmp_path: Path, prose: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text(prose)
    into = run("build", "docs", "--output", "docs", "--dry-run", cwd=tmp_path, status=1).stderr
    assert "docs is both input and output" in into
    assert "cannot write docs/a.txt/x" in run("build", "docs", "-o", "docs/a.txt/x", "--dry-run", cwd=tmp_path,
                                              status=1).stderr  # fmt: skip


@pytest.mark.parametrize("more", [["--dry-run"], ["--output", "new"]])
def test_a_few_letters_are_no_text_to_train_on(tmp_path: Path, more: list[str]) -> None:
    (tmp_path / "hi.txt").write_text("hi")
    refused = run("build", "hi.txt", "--time-budget", "20s", *more, cwd=tmp_path, status=1).stderr
    assert "are too few to train on: add documents" in refused
    assert "block_size" not in refused
