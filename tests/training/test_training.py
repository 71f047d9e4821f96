"""Training: results, exact resume, interruption, refusals."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import llmbuilder as lb
from llmbuilder.config import Config, TrainingConfig
from llmbuilder.data import TextDataset
from llmbuilder.errors import CheckpointError, ConfigError, DataError, TokenizerError, TrainingError
from llmbuilder.files import read_json_lines
from llmbuilder.machine import cpu_count
from llmbuilder.model import build_model, load_model, read_metadata
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import Callback, StoppedRun, resume_training, train_model
from llmbuilder.training.loop.muon import orthogonalize
from llmbuilder.training.loop.optimizers import Optimizers
from llmbuilder.training.loop.schedules import learning_rate_factor
from llmbuilder.training.storage.checkpoints import list_checkpoints


def dataset_for(config: Config, prose: str, **options: object) -> TextDataset:
    return TextDataset([prose], config.model.max_seq_length, train_split=0.9, **options)  # type: ignore[arg-type]


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_json_lines(folder / "metrics.jsonl") if "loss" in line]


def test_a_run_learns_and_leaves_everything(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    tiny_config.training.max_steps = 60
    tiny_config.training.learning_rate = 1e-2
    model = build_model(tiny_config)
    results = train_model(model, dataset_for(tiny_config, prose), tiny_config.training, tmp_path / "run", callbacks=[])
    assert results.final_loss < 4.5 < math.log(300)
    assert results.best_validation_loss is not None
    assert results.perplexity == pytest.approx(math.exp(results.best_validation_loss))
    assert results.tokens_per_second > 0
    assert results.training_time > 0
    assert results.steps == 60
    assert {line["step"] for line in results.history if "validation_loss" in line} >= {4, 8, 60}
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"model.pt", "tokenizer", "config.json", "run.json", "metrics.jsonl", "checkpoints", "tokens"}
    assert len(list_checkpoints(tmp_path / "run" / "checkpoints")) == tiny_config.training.keep_checkpoints
    assert read_metadata(tmp_path / "run")["training_config"]["system"]["device"] == "cpu"
    text = lb.generate_text(results.model_path, results.tokenizer_path, "Item 7: the quick", max_new_tokens=20)
    assert text.startswith("Item 7: the quick")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resumed_run_equals_the_unbroken_one(
    tmp_path: Path, tiny_config: Config, prose: str, optimizer: str, accumulate: int
) -> None:
    tiny_config.training.optimizer = optimizer  # type: ignore[assignment]
    tiny_config.training.gradient_accumulation_steps = accumulate
    tiny_config.model.dropout = 0.1
    tiny_config.training.log_every = 1
    for name in ("unbroken", "broken"):
        train_model(
            build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path / name, callbacks=[]
        )
    newest = list_checkpoints(tmp_path / "broken" / "checkpoints")[-1]
    newest.unlink()  # as if it had been killed at step 9, after the checkpoint of step 8
    unfinished = newest.with_name(f".{newest.name}.abcdefgh.tmp")
    unfinished.write_bytes(b"half")
    resumed = resume_training(tmp_path / "broken", callbacks=[])
    assert resumed.steps == 12
    assert not unfinished.exists()
    assert losses(tmp_path / "broken") == losses(tmp_path / "unbroken")
    weights = [load_model(tmp_path / name, "cpu").weights() for name in ("unbroken", "broken")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_killed_process_resumes_with_identical_losses(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    tiny_config.training.max_steps = 300
    tiny_config.training.save_every = 10
    tiny_config.training.eval_every = 30
    tiny_config.training.log_every = 1
    tiny_config.save(tmp_path / "config.json")
    (tmp_path / "data.txt").write_text(prose)
    command = [sys.executable, "-m", "llmbuilder", "train", "model", "--config", "config.json", "--data", "data.txt"]

    def start(output: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, "--output", output], cwd=tmp_path, stderr=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip

    assert start("whole").wait() == 0
    process = start("killed")
    while len(read_json_lines(tmp_path / "killed" / "metrics.jsonl")) < 60:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    resume = [sys.executable, "-m", "llmbuilder", "train", "resume", "killed", "--json"]
    result = subprocess.run(resume, cwd=tmp_path, capture_output=True, text=True, check=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert json.loads(result.stdout)["steps"] == 300
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


@pytest.mark.parametrize(("sent", "status", "log_every"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 100_000)])
def test_a_signal_saves_and_says_how_to_go_on(
    tmp_path: Path, tiny_config: Config, prose: str, sent: signal.Signals, status: int, log_every: int
) -> None:
    """Also before the first line of metrics, when there is nothing to report yet."""
    tiny_config.training.max_steps = 100_000
    tiny_config.training.save_every = 0
    tiny_config.training.eval_every = 0 if log_every > 2 else 4
    tiny_config.training.log_every = log_every
    tiny_config.save(tmp_path / "config.json")
    (tmp_path / "data.txt").write_text(prose)
    process = subprocess.Popen(
        [sys.executable, "-m", "llmbuilder", "train", "model", "--config", "config.json", "--data", "data.txt",
         "--output", "run"], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() or len(read_json_lines(metrics)) < (5 if log_every == 2 else 0):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "go on with: llmbuilder train resume run" in errors
    assert "Traceback" not in errors
    step = int(list_checkpoints(tmp_path / "run" / "checkpoints")[0].stem.split("-")[1])
    results = resume_training(tmp_path / "run", overrides=[f"training.max_steps={step + 3}"], callbacks=[])
    assert results.steps == step + 3


class Stops(Callback):
    """Sends this process a signal at the third step."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def on_step(self, metrics: dict) -> None:
        if metrics["step"] == 3:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(("sent", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_reaches_the_caller_after_everything_is_saved(
    tmp_path: Path, tiny_config: Config, prose: str, sent: signal.Signals, kind: type[BaseException]
) -> None:
    tiny_config.training.log_every = 100
    tiny_config.training.eval_every = 0
    with pytest.raises(kind) as caught:
        train_model(
            build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path, callbacks=[Stops(sent)]
        )
    assert isinstance(caught.value, StoppedRun)
    assert caught.value.exit_status == 128 + sent
    assert getattr(caught.value, "code", 143) == 143
    assert caught.value.results.steps in (3, 4)
    assert caught.value.results.interrupted
    assert resume_training(tmp_path, callbacks=[]).steps == 12


@pytest.mark.parametrize(
    ("name", "elsewhere"), [("processor", "Another Processor"), ("instructions", ["amx_tile", "avx2"])]
)
def test_another_processor_chooses_anew_and_says_so(
    tmp_path: Path, tiny_config: Config, prose: str, caplog: pytest.LogCaptureFixture, name: str, elsewhere: object
) -> None:
    """Settings that are exact here may round on a processor with other instructions."""
    train_model(build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path, callbacks=[])
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["machine"]["processor"]
    record["acceleration"]["matmul"] = "from there"
    (tmp_path / "run.json").write_text(json.dumps(record))
    resume_training(tmp_path, overrides=["training.max_steps=13"], callbacks=[])
    assert json.loads((tmp_path / "run.json").read_text())["acceleration"]["matmul"] == "from there"
    assert "last bits" not in caplog.text
    record["machine"][name] = elsewhere
    (tmp_path / "run.json").write_text(json.dumps(record))
    resume_training(tmp_path, overrides=["training.max_steps=14"], callbacks=[])
    assert json.loads((tmp_path / "run.json").read_text())["acceleration"]["matmul"] in ("default", "onednn")
    assert f"{name} {elsewhere} -> " in caplog.text
    assert "losses may differ in their last bits" in caplog.text


def test_a_deterministic_run_reads_no_stopwatch(
    tmp_path: Path, tiny_config: Config, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> None:
        raise AssertionError("something is chosen by its speed")

    monkeypatch.setattr("llmbuilder.training.loop.processor.measure_acceleration", measured)
    monkeypatch.setattr("llmbuilder.training.loop.processor.choose_threads", measured)
    tiny_config.system.deterministic = True
    for threads, expected in ((None, cpu_count()), (1, 1)):
        tiny_config.system.num_threads = threads
        run = tmp_path / str(threads)
        train_model(build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, run, callbacks=[])
        chosen = json.loads((run / "run.json").read_text())["acceleration"]
        assert (chosen["matmul"], chosen["threads"]) == ("default", expected)


@pytest.mark.parametrize("flushed", [False, True])
def test_training_leaves_the_process_as_it_was(tmp_path: Path, tiny_config: Config, prose: str, flushed: bool) -> None:
    def state() -> dict[str, object]:
        return {
            "threads": torch.get_num_threads(),
            "denormals": (torch.tensor([1e-40]) * 0.5).item(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "only warning": torch.is_deterministic_algorithms_warn_only_enabled(),
            "products": torch.backends.mkldnn.matmul.fp32_precision,
            "random": torch.get_rng_state().tolist(),
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        }

    threads = torch.get_num_threads()
    tiny_config.system.num_threads = threads + 1
    tiny_config.system.deterministic = True
    model, dataset = build_model(tiny_config), dataset_for(tiny_config, prose)
    torch.use_deterministic_algorithms(flushed, warn_only=flushed)
    torch.set_flush_denormal(flushed)
    try:
        before = state()
        assert (before["denormals"] == 0) == flushed
        train_model(model, dataset, tiny_config, tmp_path, callbacks=[])
        assert state() == before
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    tiny_config.training.log_every = 1
    found = []
    for name, batch, accumulate in (("large", 8, 1), ("small", 2, 4)):
        tiny_config.training.batch_size = batch
        tiny_config.training.gradient_accumulation_steps = accumulate
        train_model(
            build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path / name, callbacks=[]
        )
        found.append([loss for _, loss in losses(tmp_path / name)])
    assert found[0] == pytest.approx(found[1], abs=5e-4)  # sums in another order, drifting apart over the steps


def test_without_output_directory_files_appear_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_config: Config, prose: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.pt").write_text("a legacy checkpoint")
    for _ in range(2):
        results = train_model(
            build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config.training, callbacks=[]
        )
    assert (results.model_path, results.tokenizer_path) == ("model.pt", "tokenizer")
    assert Path("model.1.pt").read_text() == "a legacy checkpoint"
    assert load_model("model.2.pt").num_parameters() == load_model("model.pt").num_parameters()
    assert lb.generate_text("model.pt", "tokenizer/", "Item", max_new_tokens=5).startswith("Item")
    assert resume_training("llmbuilder-run", callbacks=[]).steps == 12


def test_an_existing_run_is_not_overwritten(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    train_model(build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path, callbacks=[])
    with pytest.raises(CheckpointError, match=r"already holds a run.*train resume.*overwrite=True"):
        train_model(build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path, callbacks=[])
    train_model(
        build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path, callbacks=[], overwrite=True
    )


def test_a_run_that_memory_can_never_hold_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_config: Config, prose: str
) -> None:
    tiny_config.training.batch_size = 1_000_000
    with pytest.raises(ConfigError, match=r"batch_size \(1000000\) takes about .* GiB, and there are .*: a smaller"):
        train_model(build_model(tiny_config), TextDataset([prose], 32), tiny_config, tmp_path / "run", callbacks=[])
    assert not (tmp_path / "run").exists()


def test_non_finite_loss_stops_with_the_facts(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    model = build_model(tiny_config)

    class Poison(Callback):
        def on_step(self, metrics: dict) -> None:
            if metrics["step"] == 6:
                with torch.no_grad():
                    model.embedding.weight.fill_(float("nan"))

    with pytest.raises(
        TrainingError, match=r"became nan at step 7.*begin at tokens.*weights were bad.*last checkpoint is .*00000004"
    ):
        train_model(model, dataset_for(tiny_config, prose), tiny_config, tmp_path, callbacks=[Poison()])
    assert load_model(tmp_path).embedding.weight.isfinite().all()


def test_damaged_newest_checkpoint_falls_back_by_name(
    tmp_path: Path, tiny_config: Config, prose: str, caplog: pytest.LogCaptureFixture
) -> None:
    train_model(build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path, callbacks=[])
    newest = list_checkpoints(tmp_path / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert resume_training(tmp_path, callbacks=[]).steps == 12
    assert newest.name in caplog.text
    for path in list_checkpoints(tmp_path / "checkpoints"):
        path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"no usable checkpoint.*\(2 damaged\)"):
        resume_training(tmp_path, callbacks=[])
    with pytest.raises(TrainingError, match="holds no run"):
        resume_training(tmp_path / "absent")


def test_tokenizer_must_fit_the_model(tmp_path: Path, tiny_config: Config, prose: str, bpe: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"512 tokens but model.vocab_size is 300.*len\(tokenizer\)"):
        train_model(build_model(tiny_config), dataset_for(tiny_config, prose, tokenizer=bpe), tiny_config, tmp_path)


@pytest.mark.parametrize("prepared", [False, True])
def test_windows_longer_than_the_context_are_shortened_and_said(
    tmp_path: Path, tiny_config: Config, prose: str, caplog: pytest.LogCaptureFixture, prepared: bool
) -> None:
    dataset = TextDataset([prose], 64, train_split=0.9)
    if prepared:
        dataset.learn_tokenizer(vocab_size=300)
        dataset.prepare()
    results = train_model(build_model(tiny_config), dataset, tiny_config, tmp_path, callbacks=[])
    assert results.steps == 12
    assert "block_size (64) is longer than the model's context" in caplog.text
    assert dataset[0][0].shape == (32,)


def test_tokenizers_without_gguf_form_are_named_at_the_start(
    tmp_path: Path, tiny_config: Config, prose: str, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_config.tokenizer.algorithm = "unigram"
    train_model(build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path, callbacks=[])
    assert "a unigram tokenizer has no exact form in GGUF" in caplog.text


def test_wrong_settings_are_refused_before_anything_starts(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    tiny_config.training.learning_rate = -1.0
    with pytest.raises(ConfigError, match="training.learning_rate"):
        train_model(build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_warmup_longer_than_the_run_is_said(
    tmp_path: Path, tiny_config: Config, prose: str, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_config.training.warmup_steps = 1000
    train_model(build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path, callbacks=[])
    assert "covers the whole run of 12 steps" in caplog.text


def test_epochs_and_eval_only(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    tiny_config.training.max_steps = None
    tiny_config.training.num_epochs = 1
    dataset = dataset_for(tiny_config, prose)
    results = train_model(build_model(tiny_config), dataset, tiny_config, tmp_path / "epoch", callbacks=[])
    assert results.steps == math.ceil(len(dataset) / 4)
    tiny_config.training.eval_only = True
    dataset = dataset_for(tiny_config, prose, tokenizer=dataset.tokenizer)
    evaluated = train_model(build_model(tiny_config), dataset, tiny_config, tmp_path / "eval", callbacks=[])
    assert evaluated.final_loss == pytest.approx(math.log(300), abs=0.2)
    assert evaluated.steps == 0


def test_training_goes_on_from_a_model_file(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    first = train_model(
        build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path / "a", callbacks=[]
    )
    tiny_config.training.init_from = str(first.model_path)
    tiny_config.training.eval_only = True
    dataset = dataset_for(tiny_config, prose, tokenizer=Tokenizer.from_pretrained(tmp_path / "a" / "tokenizer"))
    second = train_model(build_model(tiny_config), dataset, tiny_config, tmp_path / "b", callbacks=[])
    assert second.final_loss == pytest.approx(first.best_validation_loss, abs=1e-6)
    tiny_config.training.eval_only = False
    third = train_model(build_model(tiny_config), dataset, tiny_config, tmp_path / "c", callbacks=[])
    assert third.best_validation_loss is not None
    assert third.best_validation_loss < second.final_loss


def test_absent_devices_fall_back_with_one_warning(
    tmp_path: Path, tiny_config: Config, prose: str, caplog: pytest.LogCaptureFixture
) -> None:
    if torch.cuda.device_count() > 7:
        pytest.skip("this machine has an eighth GPU")
    tiny_config.system.device = "cuda:7"
    train_model(build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path, callbacks=[])
    assert caplog.text.count("which this machine does not have: using") == 1


def test_weight_decay_is_for_matrices_only(tiny_config: Config) -> None:
    model = build_model(tiny_config)
    tiny_config.training.optimizer, tiny_config.training.learning_rate = "adamw", 1e-3
    tiny_config.training.weight_decay = 0.3
    adamw = Optimizers(model, tiny_config.training).adamw
    decayed = {id(p) for g in adamw.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(p) for p in model.parameters() if p.dim() >= 2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 32), (2, 32, 8)])
def test_muon_updates_are_nearly_orthogonal(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    found = torch.diagonal(left.mT @ orthogonalize(matrices, dtype) @ right.mT, dim1=-2, dim2=-1)
    assert found.max() < 2.0, "the singular vectors stay, the values come near to each other"
    assert found.median() > 0.6
    assert found.min() > 0.1


def test_schedules() -> None:
    config = TrainingConfig(warmup_steps=10, learning_rate=1.0e-3, min_learning_rate=1e-4)
    assert learning_rate_factor(0, 100, config) == pytest.approx(1 / 11)  # nanoGPT's (it + 1) / (warmup + 1)
    assert learning_rate_factor(10, 100, config) == 1.0
    assert learning_rate_factor(55, 100, config) == pytest.approx(0.55)
    assert learning_rate_factor(100, 100, config) == pytest.approx(0.1)
    linear = TrainingConfig(warmup_steps=0, lr_schedule="linear", min_learning_rate=0.0)
    assert [learning_rate_factor(s, 100, linear) for s in (0, 49, 75, 100)] == pytest.approx([1, 1, 0.5, 0])
    constant = TrainingConfig(warmup_steps=0, lr_schedule="constant")
    assert {learning_rate_factor(s, 100, constant) for s in (0, 50, 100)} == {1.0}


def test_metrics_go_to_weights_and_biases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_config: Config, prose: str
) -> None:
    """The real library, offline: its run folder holds the logged metrics."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    tiny_config.tracking.wandb = True
    tiny_config.tracking.wandb_run_name = "a-name"
    train_model(build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path / "run", callbacks=[])
    records = list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(records) == 1
    patience = time.monotonic() + 60  # a process of the library's own writes it
    while b"validation_loss" not in records[0].read_bytes() and time.monotonic() < patience:
        time.sleep(0.2)
    assert b"validation_loss" in records[0].read_bytes()


def test_workers_fetch_the_same_batches(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    for name, workers in (("none", 0), ("two", 2)):
        tiny_config.training.dataloader_num_workers = workers
        train_model(
            build_model(tiny_config), dataset_for(tiny_config, prose), tiny_config, tmp_path / name, callbacks=[]
        )
    assert losses(tmp_path / "none") == losses(tmp_path / "two")


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_foreign_token_file_with_ids_the_model_has_not_is_named(
    tmp_path: Path, tiny_config: Config, part: str
) -> None:
    for name in ("train", "val"):
        ids = np.arange(400, dtype=np.uint16) % 300
        ids[7] = 9999 if name == part else 0
        ids.tofile(tmp_path / f"{name}.bin")
    with pytest.raises(DataError, match=rf"{part}\.bin holds the token id 9,999, and model.vocab_size is 300"):
        lb.train_model(
            lb.build_model(tiny_config),
            TextDataset(tmp_path, block_size=16),
            tiny_config,
            tmp_path / "run",
            callbacks=[],
        )
