"""Resuming as people do it: with other settings, wrong ones among them, another batch size, more or fewer steps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from llmbuilder.config import Config
from llmbuilder.config.in_force import TAKEN
from llmbuilder.data import TextDataset
from llmbuilder.errors import ConfigError, LLMBuilderError, TokenizerError
from llmbuilder.model import build_model, load_model, save_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import TrainingResults, resume_training, train_model
from llmbuilder.training.loop.batches import StepBatches
from llmbuilder.training.storage.checkpoints import (
    TrainingState,
    counted_sequences,
    list_checkpoints,
    read_checkpoint,
    remove_checkpoint,
)

HUGE = 10**30
BAD: dict[str, tuple[object, ...]] = {
    "model.dropout": (-0.5, 1.5, "much"),
    "system.device": ("abacus",),
    "system.deterministic": ("perhaps",),
    "system.compile": ("perhaps",),
    "system.num_threads": (0, -1, HUGE),
    "system.distributed_backend": ("pigeons",),
    "system.distributed_strategy": ("pigeons",),
    "system.distributed_timeout_seconds": (0, -1, 1e300),
    "tracking.tensorboard": ("perhaps",),
    "tracking.trackio": ("perhaps",),
    "tracking.trackio_project": ([1],),
    "tracking.wandb": ("perhaps",),
    "tracking.wandb_project": ([1],),
    "tracking.wandb_run_name": ([1],),
    "training.batch_size": (0, -4, HUGE, 1_000_000, "large"),
    "training.gradient_accumulation_steps": (0, -1, HUGE),
    "training.learning_rate": (-1.0, 0, 2.0, float("nan"), "fast"),
    "training.min_learning_rate": (-1.0, 0.9),
    "training.lr_schedule": ("zigzag",),
    "training.lr_decay_steps": (0, -1, 1),
    "training.warmup_steps": (-1,),
    "training.num_epochs": (0, -1),
    "training.max_steps": (0, -1, 3),
    "training.muon_learning_rate": (1, -1),
    "training.weight_decay": (-1, float("inf")),
    "training.beta1": (-1, 1),
    "training.beta2": (-1, 1),
    "training.max_grad_norm": (-1, float("inf")),
    "training.mixed_precision": ("int1",),
    "training.eval_every": (-1,),
    "training.eval_batches": (0, -1),
    "training.sample_every": (-1,),
    "training.eval_only": ("perhaps",),
    "training.save_every": (-1,),
    "training.save_best_only": ("perhaps",),
    "training.keep_checkpoints": (0, -1),
    "training.log_every": (0, -1),
    "training.loss_spike_policy": ("pray",),
    "training.loss_spike_threshold": (-1, float("nan")),
    "training.gradient_checkpointing": ("perhaps",),
    "training.dataloader_num_workers": (-1, HUGE),
    # Not to be changed any more.
    "model.num_layers": (5,), "model.vocab_size": (999,), "training.optimizer": ("muon",), "system.seed": (7, -1),
    "data.stride": (3,), "training.time_budget_seconds": (5,),
}  # fmt: skip


def trained(config: Config, prose: str, run: Path, **options: Any) -> TrainingResults:
    dataset = TextDataset([prose], config.model.max_seq_length, train_split=0.9)
    return train_model(build_model(config), dataset, config, run, callbacks=[], **options)


def content(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file() and ".lock" not in p.name}


@pytest.fixture
def run(tmp_path: Path, tiny_config: Config, prose: str) -> Path:
    trained(tiny_config, prose, tmp_path / "run")
    return tmp_path / "run"


def test_every_setting_of_a_resumed_run_is_tried_with_bad_values() -> None:
    assert set(BAD) >= TAKEN["train resume"]


def test_settings_that_fail_leave_every_byte_of_the_run(run: Path) -> None:
    before = content(run)
    for name, values in BAD.items():
        for value in values:
            with pytest.raises(LLMBuilderError):
                resume_training(run, overrides={name: value}, callbacks=[])  # type: ignore[arg-type]
            assert content(run) == before, f"{name}={value}"


def test_a_setting_that_only_a_step_finds_wrong_is_not_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmbuilder.training.loop.learner import Learner

    def no_memory(learner: Learner, *batch: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory\nbacktrace")

    before = content(run)
    monkeypatch.setattr(Learner, "summed_loss", no_memory)
    with pytest.raises(ConfigError, match=r"left as it was: DefaultCPUAllocator: not enough memory$"):
        resume_training(run, overrides=["training.batch_size=8", "training.max_steps=20"], callbacks=[])
    assert content(run) == before


def test_the_trial_of_new_settings_leaves_no_trace(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    tiny_config.model.dropout = 0.1
    whole = trained(tiny_config, prose, tmp_path / "whole")
    remove_checkpoint(list_checkpoints(tmp_path / "whole" / "checkpoints")[-1])
    resumed = resume_training(tmp_path / "whole", overrides=["training.log_every=1"], callbacks=[])
    assert resumed.final_loss == whole.final_loss


class Windows:
    """Notes which windows are trained on, in order; those of the trial are not a step's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from llmbuilder.training.loop.trainer import Trainer

        self.starts: list[int] = []
        honest = Trainer.one_step

        def one_step(trainer: Trainer, *arguments: Any) -> Any:
            self.starts += trainer.batches.starts(trainer.state.position)
            return honest(trainer, *arguments)

        monkeypatch.setattr(Trainer, "one_step", one_step)


def test_another_batch_size_goes_on_with_the_windows_not_yet_seen(
    tmp_path: Path, tiny_config: Config, prose: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_config.training.max_steps = 10
    windows = Windows(monkeypatch)
    trained(tiny_config, prose, tmp_path / "run")
    dataset = TextDataset(tmp_path / "run" / "tokens", 32)
    resume_training(
        tmp_path / "run",
        overrides={"training.max_steps": 14, "training.batch_size": 6, "training.gradient_accumulation_steps": 2},
        callbacks=[],
    )  # type: ignore[arg-type]
    assert "training.batch_size 4 -> 6 and training.gradient_accumulation_steps 1 -> 2" in caplog.text
    more = len(windows.starts)
    assert more == 10 * 4 + 4 * 12
    resume_training(
        tmp_path / "run",
        overrides={"training.max_steps": None, "training.num_epochs": 1, "training.batch_size": 1},
        callbacks=[],
    )  # type: ignore[arg-type]
    assert windows.starts[: len(dataset.train)] == dataset.train.starts_at(0, len(dataset.train)).tolist()
    assert 0 <= len(windows.starts) - len(dataset.train) < 2, "one pass, to the end and not much further"
    assert sorted(set(windows.starts[: len(dataset.train)])) == [32 * n for n in range(len(dataset.train))]


def test_checkpoints_of_earlier_versions_are_counted_by_their_own_batch(tiny_config: Config) -> None:
    of_run = {"training": {"batch_size": 3, "gradient_accumulation_steps": 2}}
    state = TrainingState(10, {}, [], config=of_run, data_shift=2)
    assert counted_sequences(state, tiny_config.training) == (60, 12)
    state.config = {}
    assert counted_sequences(state, tiny_config.training) == (40, 8)


@pytest.mark.parametrize("how", ["default value", "other value"])
def test_init_from_resume_honours_what_was_set(tmp_path: Path, prose: str, tiny_config: Config, how: str) -> None:
    trained(tiny_config, prose, tmp_path / "run")
    asked = Config(model=tiny_config.model)
    asked.training.init_from = "resume"
    asked.training.max_steps = 15
    asked.training.batch_size = 16 if how == "default value" else 2  # 16 is the default
    results = trained(asked, prose, tmp_path / "run")
    assert results.steps == 15
    kept = Config.model_validate_json((tmp_path / "run" / "config.json").read_text())
    assert kept.training.batch_size == asked.training.batch_size
    assert kept.training.eval_every == 4, "what was not set stays"
    asked.system.seed = 43
    with pytest.raises(ConfigError, match=r"system\.seed would not act.* has 42"):
        trained(asked, prose, tmp_path / "run")


def test_a_copy_of_a_configuration_knows_what_was_set() -> None:
    config = Config()
    config.training.max_steps = 5
    assert config.copy_of().training.model_fields_set == {"max_steps"}


def test_evaluating_only_is_for_one_time(run: Path) -> None:
    before = content(run)
    found = resume_training(run, overrides=["training.eval_only=true"], callbacks=[])
    assert found.steps == 12
    assert content(run)["config.json"] == before["config.json"]
    assert resume_training(run, overrides=["training.max_steps=13"], callbacks=[]).steps == 13


def test_the_environment_that_does_not_act_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLMBUILDER_MODEL__NUM_LAYERS", "7")
    monkeypatch.setenv("LLMBUILDER_TRAINING__MAX_STEPS", "13")
    monkeypatch.setenv("LLMBUILDER_SYSTEM__SEED", "42")
    assert resume_training(run, callbacks=[]).steps == 13
    assert "LLMBUILDER_MODEL__NUM_LAYERS would not act" in caplog.text
    assert "LLMBUILDER_SYSTEM__SEED" not in caplog.text, "it asks for what the run has"


def test_a_complete_run_says_so_and_fewer_steps_are_refused(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert resume_training(run, callbacks=[]).steps == 12
    assert "is complete: its 12 steps are done; to train longer" in caplog.text
    assert "--set training.max_steps=24" in caplog.text
    with pytest.raises(ConfigError, match=r"max_steps \(3\) ends the run at step 3, and 12 steps are done"):
        resume_training(run, overrides=["training.max_steps=3"], callbacks=[])


def test_a_model_brings_its_tokenizer(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    first = trained(tiny_config, prose, tmp_path / "first")
    own = load_model(first.model_path, "cpu")
    assert own.tokenizer is not None
    tiny_config.training.init_from = str(first.model_path)
    trained(tiny_config, "Quite other words, of which no tokenizer was made.\n" * 200, tmp_path / "second")
    assert Tokenizer.from_pretrained(tmp_path / "second" / "tokenizer").fingerprint == own.tokenizer.fingerprint
    own.tokenizer = None
    save_model(own, tmp_path / "bare.pt")
    tiny_config.training.init_from = str(tmp_path / "bare.pt")
    with pytest.raises(TokenizerError, match="holds no tokenizer.*--tokenizer"):
        trained(tiny_config, prose, tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_a_decay_that_ends_with_the_warm_up_trains(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    tiny_config.training.lr_decay_steps = tiny_config.training.warmup_steps
    assert trained(tiny_config, prose, tmp_path / "run").steps == 12


def test_the_newest_checkpoint_counts_sequences(run: Path, tiny_config: Config) -> None:
    state = read_checkpoint(list_checkpoints(run / "checkpoints")[-1])
    assert (state.step, state.sequences, state.sequences_left_out) == (12, 48, 0)
    windows = TextDataset(run / "tokens", 32).train
    assert StepBatches(windows, tiny_config.training).starts(48) == windows.starts_at(48, 4).tolist()


def test_a_rate_that_spoils_the_weights_is_refused_and_leaves_the_run(run: Path) -> None:
    before, longer = content(run), ["training.warmup_steps=1", "training.max_steps=40"]
    with pytest.raises(ConfigError, match=r"left as it was: one step with them, at a learning rate of .*, takes the"):
        resume_training(run, overrides=["training.learning_rate=0.9", *longer], callbacks=[])
    assert content(run) == before
    faster = resume_training(run, overrides=["training.learning_rate=0.003", *longer], callbacks=[])
    assert faster.steps == 40
