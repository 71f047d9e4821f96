"""A setting that is asked for acts, or is refused: every setting, in every command that takes a configuration."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from llmbuilder.building import building, stages
from llmbuilder.config import validation
from llmbuilder.config.in_force import TAKEN, all_settings
from llmbuilder.tokenizer import train_tokenizer
from llmbuilder.training.loop.learner import Learner
from tests.command_line import run
from tests.config.observing import Command, Seen, Settings, called, overrides, run_seen, tree, walk, watched
from tests.documents.test_scans import write_scan

Cases = dict[str, tuple[Any, Settings]]

BASE: Settings = {
    "model.num_layers": 1, "model.num_heads": 2, "model.embedding_dim": 16, "model.max_seq_length": 8,
    "model.vocab_size": 300, "training.max_steps": 4, "training.batch_size": 2, "training.warmup_steps": 1,
    "training.learning_rate": 0.01, "training.eval_every": 2, "training.eval_batches": 2, "training.save_every": 2,
    "training.sample_every": 0, "training.log_every": 1, "system.deterministic": True, "system.num_threads": 1,
    "tokenizer.vocab_size": 300,
}  # fmt: skip
_LLAMA: Settings = {"model.model_type": "llama"}
_MUON: Settings = {"training.optimizer": "muon"}
_BROKEN: Settings = {
    "broken loss": "nan",
    "training.eval_every": 0,
    "training.eval_batches": None,
}  # no setting: what the model computes from its third step on
_SPIKE: Settings = {"broken loss": "spike", "training.max_steps": 34, "training.eval_every": 0,
                    "training.eval_batches": None}  # fmt: skip

# A value other than the default of every setting, and what it needs beside it.
MODEL: Cases = {
    "model.model_type": ("llama", {}), "model.vocab_size": (290, {"tokenizer.vocab_size": None}),
    "model.num_layers": (2, {}), "model.num_heads": (1, {}), "model.embedding_dim": (32, {}),
    "model.max_seq_length": (12, {}), "model.dropout": (0.5, {}), "model.bias": (False, {}),
    "model.activation": ("gelu", {}), "model.intermediate_size": (24, {}),
    "model.num_key_value_heads": (1, _LLAMA), "model.head_dim": (4, _LLAMA), "model.qk_norm": (True, _LLAMA),
    "model.attention_bias": (True, _LLAMA), "model.output_bias": (True, _LLAMA), "model.mlp_bias": (True, _LLAMA),
    "model.rope_scaling": ({"kind": "linear", "factor": 4.0}, _LLAMA),
    "model.layers_without_positions": ([0], _LLAMA), "model.sliding_window": (2, _LLAMA),
    "model.sliding_window_layers": (
        [1], {**_LLAMA, "model.sliding_window": 2, "model.num_layers": 2}
    ),
    "model.windowed_rope_theta": (
        50.0, {"model.model_type": "gemma3", "model.qk_norm": True, "model.sliding_window": 4}
    ),
    "model.rope_theta": (50.0, _LLAMA), "model.norm_eps": (0.01, {}), "model.tie_embeddings": (False, {}),
}  # fmt: skip
TRAINING: Cases = {
    "training.batch_size": (3, {}), "training.gradient_accumulation_steps": (2, {}),
    "training.learning_rate": (0.02, {}), "training.embedding_learning_rate": (0.05, {}),
    "training.head_learning_rate": (0.05, {"model.tie_embeddings": False}),
    "training.vector_learning_rate": (0.05, {}), "training.min_learning_rate": (0.005, {}),
    "training.lr_schedule": ("linear", {}), "training.lr_decay_steps": (2, {}), "training.warmup_steps": (3, {}),
    "training.num_epochs": (1, {"training.max_steps": None, "training.batch_size": 64}),
    "training.max_steps": (5, {}), "training.time_budget_seconds": (30.0, {}),
    "training.time_reserve_seconds": (25.0, {"training.time_budget_seconds": 30.0}), "training.optimizer": ("muon", {}),
    "training.muon_learning_rate": (0.5, _MUON), "training.weight_decay": (0.5, {}), "training.beta1": (0.5, {}),
    "training.beta2": (0.5, {}), "training.max_grad_norm": (0.1, {}), "training.mixed_precision": ("bf16", {}),
    "training.eval_every": (1, {}), "training.eval_batches": (1, {}), "training.sample_every": (1, {}),
    "training.eval_only": (True, {}), "training.save_every": (1, {}), "training.save_best_only": (True, {}),
    "training.keep_checkpoints": (1, {"training.save_every": 1}), "training.log_every": (2, {}),
    "training.loss_spike_policy": ("skip", _BROKEN), "training.loss_spike_threshold": (0.0, _SPIKE),
    "training.gradient_checkpointing": (True, {}), "training.dataloader_num_workers": (3, {}),
    "training.init_from": ("other/model.pt", {}), "training.output_dir": ("elsewhere", {}),
}  # fmt: skip
_LORA: Settings = {"finetuning.method": "lora"}
FINETUNING: Cases = {
    "finetuning.method": ("lora", {}), "finetuning.rank": (2, _LORA), "finetuning.alpha": (3.0, _LORA),
    "finetuning.dropout": (0.5, _LORA), "finetuning.layers": (["c_proj"], _LORA),
    "finetuning.embeddings": (True, _LORA), "finetuning.objective": ("dpo", {}),
    "finetuning.dpo_beta": (0.5, {"finetuning.objective": "dpo"}),
}  # fmt: skip
SYSTEM: Cases = {
    "system.device": ("mps", {}), "system.seed": (7, {}), "system.deterministic": (False, {}),
    "system.compile": (True, {}), "system.num_threads": (3, {}),
}  # fmt: skip
# They act between processes (tests/training/test_distributed.py); the one process of these commands has nobody to ask.
BETWEEN_PROCESSES: Cases = {
    "system.distributed_backend": ("gloo", {}), "system.distributed_strategy": ("ddp", {}),
    "system.distributed_timeout_seconds": (5.0, {}),
}  # fmt: skip
DATA: Cases = {
    "data.path": ("docs/a.txt", {}), "data.text_column": ("note", {}), "data.ocr": (None, {}),
    "data.file_seconds": (0.001, {}), "data.file_memory_mb": (1, {}), "data.file_mb": (1, {}),
    "data.clean_text": (False, {}), "data.cleaning_rules": (["repair_unicode"], {}), "data.redact": (["email"], {}),
    "data.filter": ("web", {}), "data.filter_limits": ({"words": [40, None]}, {}),
    "data.filter_without": (["words"], {"data.filter_limits": {"words": [40, None]}}), "data.languages": (["en"], {}),
    "data.min_language_score": (1.0, {"data.languages": ["en"]}), "data.classifier": ("taste:score", {}),
    "data.classifier_label": ("good", {"data.classifier": "taste:score"}),
    "data.min_score": (0.1, {"data.classifier": "taste:score"}), "data.evaluation_files": (["exam.txt"], {}),
    "data.remove_duplicates": (False, {"data.near_duplicates": None}), "data.near_duplicates": (0.4, {}),
    "data.near_duplicate_ngram": (100, {"data.near_duplicates": 0.5}),
    "data.near_duplicate_permutations": (1, {"data.near_duplicates": 0.8}),
    "data.semantic_duplicates": (0.9, {}), "data.semantic_model": ("model", {}), "data.repeated_lines": (2, {}),
    "data.mixture": ({"docs": 2.0}, {}), "data.tokenize": (False, {}), "data.train_split": (0.5, {}),
    "data.stride": (3, {}), "data.documents_apart": (True, {"data.path": "many.jsonl", "training.max_steps": 3}),
}  # fmt: skip
TOKENIZER: Cases = {
    "tokenizer.path": ("tokenizer", {}), "tokenizer.algorithm": ("char", {}), "tokenizer.vocab_size": (270, {}),
    "tokenizer.min_frequency": (30, {}), "tokenizer.pretokenizer": ("qwen2", {}),
    "tokenizer.special_tokens": (["<|im_start|>"], {}),
}  # fmt: skip
GENERATION: Cases = {
    "generation.max_new_tokens": (5, {}), "generation.do_sample": (False, {}), "generation.temperature": (0.01, {}),
    "generation.top_k": (1, {}), "generation.top_p": (0.05, {}), "generation.min_p": (0.9, {}),
    "generation.repetition_penalty": (90.0, {}), "generation.num_samples": (2, {}),
    "generation.stop": (["e", "a", "i", " "], {}),
    "generation.stop_at_eos": (False, {"generation.max_new_tokens": 1500, "generation.temperature": 9.0, "generation.top_k": None}),
    "generation.seed": (5, {}),
}  # fmt: skip
TRACKING: Cases = {
    "tracking.tensorboard": (True, {}), "tracking.trackio": (True, {}),
    "tracking.trackio_project": ("own", {"tracking.trackio": True}), "tracking.wandb": (True, {}),
    "tracking.wandb_project": ("own", {"tracking.wandb": True}),
    "tracking.wandb_run_name": ("first", {"tracking.wandb": True}),
}  # fmt: skip
CASES: Cases = {
    **MODEL,
    **TRAINING,
    **FINETUNING,
    **SYSTEM,
    **BETWEEN_PROCESSES,
    **DATA,
    **TOKENIZER,
    **GENERATION,
    **TRACKING,
}


def taken_by(command: str, *parts: Cases, but: tuple[str, ...] = ()) -> Cases:
    """Return the cases of the settings that a command takes."""
    return {n: case for part in parts for n, case in part.items() if n in TAKEN[command] and n not in but}


def require_none(ignored: list[str]) -> None:
    """Fail with the settings that were ignored."""
    assert not ignored, "\n".join(["ignored:", *ignored])


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are computed fastest by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents that every setting of the data makes a difference to, a tokenizer, and a finished run."""
    folder = tmp_path_factory.mktemp("place")
    docs = folder / "docs"
    docs.mkdir()
    story = " ".join(
        f"The keeper wrote to harbour {n}, that ship {n * 37} had sailed with {n * 7} crates." for n in range(9)
    )
    (docs / "a.txt").write_text(f"{story}\nWrite to keeper@lighthouse.org about it.")
    (docs / "again.txt").write_text(f"{story}\nWRITE to keeper@lighthouse.org about it.")
    (docs / "near.txt").write_text(
        f"{story[:600]} But then the fog came in from the west, and none of them was seen.\nThe harbour office, quay 9."
    )
    (docs / "short.txt").write_text("Ship 4 is in.\x00 The cafÃ© is   open.\n")
    (docs / "dutch.txt").write_text(
        "De vuurtorenwachter schreef elke avond in zijn dagboek.\nThe harbour office, quay 9."
    )
    (docs / "page.html").write_text(
        "<html><body><h1>Harbour</h1><p>Ships 12 and 345 wait for the tide.</p></body></html>"
    )
    (docs / "large.txt").write_text("\n\n".join(f"Entry {n}: wind {n % 9}." for n in range(50)) + " " * (1 << 20))
    row = {"note": "A rather long note that stands beside the text of the row.", "body": "The body of the row."}
    (docs / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "scans").mkdir()
    (folder / "scans" / "a.txt").write_text(f"{story} {story}")
    write_scan(folder / "scans" / "scan.pdf", 1)
    (folder / "exam.txt").write_text(story[:400])
    (folder / "taste.py").write_text("def score(text):\n    return 0.3 if 'keeper' in text else 0.9\n")
    train_tokenizer([story], vocab_size=280).save_pretrained(folder / "tokenizer")
    (folder / "text.txt").write_text("\n".join(f"Ship {n} sails at {n * 37} to port {n % 5}." for n in range(24)))
    rows = [json.dumps({"text": f"Ship {n} sails at {n * 37} to port {n % 5}."}) for n in range(24)]
    (folder / "many.jsonl").write_text("\n".join(rows))
    run("train", "model", "--data", "text.txt", "-o", "other", "--quiet", *overrides({**BASE, "system.seed": 3}),
        cwd=folder)  # fmt: skip
    return folder


@pytest.fixture
def counted(place: Path) -> Iterator[Callable[[], str]]:
    """Names of folders for the runs of a test; they are removed behind it."""
    number = itertools.count()
    yield lambda: f"run{next(number)}"
    for folder in place.glob("run*"):
        shutil.rmtree(folder)


def _with_broken_loss(settings: Settings, patch: pytest.MonkeyPatch) -> Settings:
    """Take "broken loss" out of the settings, and let the model's loss be it."""
    kind = settings.get("broken loss")
    honest, calls = Learner.summed_loss, itertools.count(1)
    if kind is not None:
        at = 3 if kind == "nan" else 33
        factor = float("nan") if kind == "nan" else 9.0
        patch.setattr(Learner, "summed_loss", lambda *a: honest(*a) * (factor if next(calls) == at else 1.0))
    return {name: value for name, value in settings.items() if name != "broken loss"}


def trained(place: Path, name: str, settings: Settings, *arguments: object) -> Seen:
    """Call a training command and return everything that can be seen of it."""
    with pytest.MonkeyPatch.context() as patch, watched() as computed:
        settings = _with_broken_loss(settings, patch)
        seen = called(*arguments, "--quiet", *overrides(settings), cwd=place)
    folder = place / settings.get("training.output_dir", name)
    computed = {**computed, "calls": dict(computed["calls"])}
    found = {**seen, **computed, **run_seen(folder), "place": folder.name if folder.name != name else ""}
    if folder.name != name:
        shutil.rmtree(folder)
    return json.loads(json.dumps(found, default=sorted).replace(f"{name}/", "RUN/").replace(f'"{name}"', '"RUN"'))


def train_model_command(place: Path, counted: Callable[[], str], source: str = "text.txt") -> Command:
    def command(settings: Settings) -> Seen:
        name = counted()
        where = [] if "training.output_dir" in settings else ["-o", name]
        data = [] if "data.path" in settings else ["--data", source]
        return trained(place, name, settings, "train", "model", *data, *where)

    return command


def test_every_setting_has_a_case() -> None:
    assert list(CASES) and set(CASES) == set(all_settings())
    assert set().union(*TAKEN.values()) == set(all_settings()), "a setting that no command takes"


def test_the_walk_finds_a_setting_that_is_ignored() -> None:
    def command(settings: Settings) -> Seen:
        if "made.refused" in settings:
            return {"refused": "made.refused would not act"}
        if "made.unsaid" in settings:
            return {"refused": "something is wrong"}
        return {"said": settings.get("made.heard")}

    cases: Cases = {name: (1, {}) for name in ("made.heard", "made.ignored", "made.refused", "made.unsaid")}
    found = walk(command, {}, cases)
    assert [line.split(":")[0] for line in found] == ["made.ignored", "made.unsaid"]


def test_train_model(place: Path, counted: Callable[[], str]) -> None:
    command = train_model_command(place, counted)
    assert command(BASE) == command(BASE), "what is seen follows from the settings alone"
    cases = taken_by("train model", MODEL, TRAINING, FINETUNING, SYSTEM, TOKENIZER, TRACKING)
    split = {name: DATA[name] for name in ("data.train_split", "data.stride", "data.documents_apart", "data.path")}
    require_none(walk(command, BASE, {**cases, **split}))


def test_train_model_on_documents(place: Path, counted: Callable[[], str]) -> None:
    command = train_model_command(place, counted, "docs")
    require_none(walk(command, {**BASE, "training.max_steps": 1}, taken_by("train model", DATA, but=("data.ocr",))))
    scans = train_model_command(place, counted, "scans")
    require_none(walk(scans, {**BASE, "training.max_steps": 1}, {"data.ocr": DATA["data.ocr"]}))


def test_finetune_model(place: Path, counted: Callable[[], str]) -> None:
    def command(settings: Settings) -> Seen:
        name = counted()
        return trained(place, name, settings, "finetune", "model", "--model", "other/model.pt", "--data", "many.jsonl",
                       "-o", name)  # fmt: skip

    base = {name: value for name, value in BASE.items() if name in TAKEN["finetune model"]}
    split = {name: DATA[name] for name in ("data.train_split", "data.stride")} | {"data.documents_apart": (False, {})}
    cases = taken_by("finetune model", TRAINING, FINETUNING, but=("training.optimizer", "finetuning.dpo_beta"))
    whole: Settings = {"finetuning.method": "full"}
    cases |= {
        name: (cases[name][0], whole) for name in ("training.embedding_learning_rate", "training.vector_learning_rate")
    }
    cases |= {"training.lr_schedule": ("constant", {}), "training.num_epochs": (3, cases["training.num_epochs"][1])}
    cases |= {"training.muon_learning_rate": (0.5, {**_MUON, **whole}), "finetuning.method": ("full", {})}
    require_none(walk(command, base, {**cases, **split}))


def test_finetune_model_on_pairs(place: Path, counted: Callable[[], str]) -> None:
    pairs = [{"prompt": f"Ship {n}?", "chosen": f"At {n}.", "rejected": "No."} for n in range(6)]
    (place / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    run("train", "model", "--data", "text.txt", "-o", "talker", "--quiet", "--set", "training.max_steps=1",
        *overrides({name: value for name, value in BASE.items() if name.startswith(("model", "tokenizer"))}),
        "--set", "model.max_seq_length=64", cwd=place)  # fmt: skip

    def command(settings: Settings) -> Seen:
        name = counted()
        return trained(place, name, settings, "finetune", "model", "--model", "talker", "--data", "pairs.jsonl",
                       "-o", name)  # fmt: skip

    base = {name: value for name, value in BASE.items() if name in TAKEN["finetune model"]}
    base |= {"finetuning.objective": "dpo", "data.train_split": 0.7}
    require_none(walk(command, base, {"finetuning.dpo_beta": FINETUNING["finetuning.dpo_beta"]}))


def test_train_resume(place: Path, counted: Callable[[], str]) -> None:
    def command(settings: Settings) -> Seen:
        name, context = counted(), {n: v for n, v in settings.items() if n not in TAKEN["train resume"]}
        first = {**BASE, **context, **{n: settings[n] for n in ("tracking.wandb", "tracking.trackio") if n in settings}}
        first.pop("broken loss", None)
        if settings.get("training.max_steps") is None:
            first |= {"training.max_steps": None, "training.num_epochs": 1, "training.batch_size": 64}
        with watched():
            run("train", "model", "--data", "text.txt", "-o", name, "--quiet", *overrides(first), cwd=place)
        given = {n: v for n, v in settings.items() if n in TAKEN["train resume"] or n == "broken loss"}
        return trained(place, name, given, "train", "resume", name)

    base: Settings = {"training.max_steps": 8}
    cases = taken_by("train resume", MODEL, TRAINING, SYSTEM, TRACKING)
    cases["training.max_steps"] = (9, {})
    cases["training.num_epochs"] = (9, {"training.max_steps": None})
    cases["training.loss_spike_threshold"] = (0.0, {**_SPIKE, "training.max_steps": 40})
    cases["training.save_best_only"] = (True, {"training.keep_checkpoints": 9, "training.eval_every": 4})
    cases["training.keep_checkpoints"] = (1, {"training.save_every": 1})
    require_none(walk(command, base, cases))


def test_generate_text(place: Path) -> None:
    numbers = itertools.count()

    def command(settings: Settings) -> Seen:
        file = place / f"generation{next(numbers)}.yaml"
        nested: dict[str, Settings] = {}
        for name, value in settings.items():
            nested.setdefault(name.split(".")[0], {})[name.split(".")[1]] = value
        file.write_text(yaml.safe_dump(nested))
        seen = called("generate", "text", "-m", "other", "-p", "Ship", "--config", file.name, cwd=place)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(f"LLMBUILDER_{name.replace('.', '__')}".upper(), json.dumps(value))
            assert called("generate", "text", "-m", "other", "-p", "Ship", cwd=place) == seen, (
                "the environment is alike"
            )
        return seen

    cases = taken_by("generate text", GENERATION, SYSTEM)
    base: Settings = {"generation.seed": 1, "generation.max_new_tokens": 60}
    require_none(walk(command, base, cases))


@pytest.mark.slow
def test_data_prepare(place: Path, counted: Callable[[], str]) -> None:
    def command(settings: Settings) -> Seen:
        name = counted()
        seen = called("data", "prepare", "docs", "-o", name, "--quiet", "--workers", 1, *overrides(settings), cwd=place)
        files = tree(place / name) if (place / name).is_dir() else {}
        shown = {path: value for path, value in files.items() if not path.startswith("work/")}
        return {"refused": seen["refused"]} if "refused" in seen else {"files": shown}

    cases = taken_by("data prepare", DATA, TOKENIZER, SYSTEM, but=("data.ocr",))
    base: Settings = {"tokenizer.vocab_size": 300}
    assert command(base) == command(base)
    require_none(walk(command, base, cases))


class _Reached(Exception):
    """A build has come to training."""


def test_build(place: Path, counted: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    reached: dict[str, Any] = {}

    def trained_with(model: Any, dataset: Any, config: Any, folder: Path, *_: Any, **__: Any) -> None:
        texts = [text for text, _ in dataset.iter_texts()]
        reached.update(config=config.to_dict(), model=model.config.model_dump(), texts=texts, folder=folder.name,
                       window=(dataset.block_size, dataset.stride, dataset.train_split, dataset.seed, dataset.documents_apart),
                       tokenizer=dataset.tokenizer.fingerprint)  # fmt: skip
        for section in ("data", "tokenizer", "generation"):  # they have acted, or act later
            del reached["config"][section]
        raise _Reached

    monkeypatch.setattr(stages, "train_model", trained_with)
    said: list[str] = []
    monkeypatch.setattr(validation.logger, "warning", said.append)

    def command(settings: Settings) -> Seen:
        name = counted()
        said.clear()
        where = [] if "training.output_dir" in settings else ["-o", name]
        docs = [] if "data.path" in settings else ["docs"]
        reached.clear()
        (place / "build.yaml").write_text("{}")
        try:
            seen = called("build", *docs, *where, "--config", "build.yaml", "--quiet", *overrides(settings), cwd=place)
        except _Reached:
            return json.loads(json.dumps({**reached, "said": said}).replace(name, "RUN"))
        finally:
            shutil.rmtree(place / "elsewhere", ignore_errors=True)
        return seen

    cases = taken_by("build", MODEL, TRAINING, SYSTEM, DATA, TOKENIZER, TRACKING)
    del cases["data.ocr"]  # acts in the loader, as it does for `train model`
    cases["training.eval_only"] = (True, {})
    cases = {
        name: (v, {k: c for k, c in context.items() if k != "broken loss"}) for name, (v, context) in cases.items()
    }
    require_none(walk(command, BASE, cases))


def test_the_samples_of_a_build(place: Path, counted: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.Build, "_export", lambda _: None)

    def command(settings: Settings) -> Seen:
        result = building.build(place / "text.txt", place / counted(), preset="tiny", callbacks=[],
                                overrides=overrides({**BASE, **settings})[1::2])  # fmt: skip
        return {"samples": result.samples}

    require_none(walk(command, {"generation.seed": 1, "generation.max_new_tokens": 60}, GENERATION))


COMMANDS: dict[str, list[str]] = {
    "train model": ["train", "model", "--data", "text.txt", "-o", "never"],
    "train resume": ["train", "resume", "other"],
    "build": ["build", "docs", "-o", "never"],
    "data prepare": ["data", "prepare", "docs", "-o", "never"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_never_uses_is_refused(place: Path, command: str) -> None:
    before = tree(place)
    for name in sorted(set(CASES) - TAKEN[command]):
        refused = called(*COMMANDS[command], *overrides({name: CASES[name][0]}), cwd=place)["refused"]
        assert refused.startswith(f"ConfigError: {name} would not act here"), refused
        assert "it acts in `" in refused and f"`{command}` uses " in refused
    assert tree(place) == before


def test_files_and_the_environment_are_shared_by_all_commands(
    place: Path, counted: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = {name: CASES[name][0] for name in set(CASES) - TAKEN["train model"]}
    nested: dict[str, Settings] = {}
    for name, value in foreign.items():
        nested.setdefault(name.split(".")[0], {})[name.split(".")[1]] = value
    (place / "shared.yaml").write_text(yaml.safe_dump(nested))
    command = train_model_command(place, counted)
    alone = command(BASE)
    name = counted()
    shared = trained(place, name, BASE, "train", "model", "--data", "text.txt", "-o", name, "--config", "shared.yaml")
    assert shared == alone
    for name, value in foreign.items():
        monkeypatch.setenv(f"LLMBUILDER_{name.replace('.', '__')}".upper(), json.dumps(value))
    assert command(BASE) == alone
    monkeypatch.setenv("LLMBUILDER_MODEL__NUM_LAYERS", "7")
    assert "refused" not in called("train", "resume", "other", "--quiet", cwd=place), "a run keeps its model"
