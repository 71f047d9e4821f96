"""`--base auto`: the way is taken that begins best, and each is told of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import llmbuilder as lb
from llmbuilder.building.choosing import bases_at_hand
from llmbuilder.building.journal import Journal
from llmbuilder.config import ModelConfig
from llmbuilder.data import TextDataset
from llmbuilder.errors import ConfigError
from llmbuilder.export import export_huggingface
from llmbuilder.model import LanguageModel, build_model, load_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import train_model
from llmbuilder.training.tuning import tuning_config
from tests.command_line import run

SETTINGS = ["training.max_steps=12", "training.batch_size=4", "generation.max_new_tokens=20"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hugging Face's cache with nothing but what cannot be a base, beside a folder of documents."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    encoder = tmp_path / "hub" / "models--some--encoder" / "snapshots" / "1"
    encoder.mkdir(parents=True)
    (encoder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    (tmp_path / "hub" / "models--half--downloaded" / "blobs").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    for number in range(30):
        lines = [f"Ship {number}{n} sails at {n % 24} to harbour {n * 7 % 90} with the tide." for n in range(40)]
        (tmp_path / "docs" / f"{number}.txt").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def put(model: LanguageModel, cache: Path, name: str) -> Path:
    folder = cache / f"models--{name.replace('/', '--')}" / "snapshots" / "1"
    folder.parent.mkdir(parents=True)
    export_huggingface(model, folder)
    return folder


def small_model(bpe: Tokenizer) -> LanguageModel:
    shape = ModelConfig(vocab_size=len(bpe), num_layers=2, num_heads=2, embedding_dim=32, max_seq_length=64)
    model = build_model(shape.model_copy(update={"qk_norm": False}), seed=0)
    model.tokenizer = bpe
    return model


def learned(model: LanguageModel, folder: Path) -> LanguageModel:
    config = tuning_config({
        "training": {"max_steps": 250, "batch_size": 8, "learning_rate": 0.01, "eval_every": 0, "sample_every": 0},
        "finetuning": {"method": "full"},
    })  # fmt: skip
    train_model(model, TextDataset(folder / "docs", 64, tokenizer=model.tokenizer), config, folder / "learned", [])
    return load_model(folder / "learned", "cpu")


@pytest.mark.slow
def test_a_base_that_knows_the_documents_is_taken_and_stays_taken(tmp_path: Path, cache: Path, bpe: Tokenizer) -> None:
    knows = put(learned(small_model(bpe), tmp_path), cache, "us/knows")
    put(small_model(bpe), cache, "us/random")
    said: list[str] = []
    result = lb.build(
        "docs", "run", base="auto", time_budget=40.0, overrides=SETTINGS, callbacks=[], announce=said.append
    )
    told = [next(line for line in said if line.startswith(f"{name}: "))
            for name in ("from nothing", "us/knows", "us/random", "some/encoder")]  # fmt: skip
    assert "expected" in told[0] and "untouched" in told[1] and "not possible" in told[3]
    assert any(line.startswith("Taken: us/knows, because") for line in said)
    assert result.adaptation is not None and result.adaptation.base == str(knows)
    said.clear()
    again = lb.build("docs", "run", base="auto", time_budget=40.0, overrides=SETTINGS, announce=said.append)
    assert again.adaptation == result.adaptation and "built already" in said[-1], "nothing is chosen twice"


@pytest.mark.slow
def test_nothing_is_better_than_a_base_that_knows_less(cache: Path, bpe: Tokenizer) -> None:
    put(small_model(bpe), cache, "us/random")
    shown = run(
        "build", "docs", "--base", "auto", "--dry-run", "--time-budget", "40s", "--json", cwd=cache.parent
    )  # fmt: skip
    assert "expected_bits_per_byte" in json.loads(shown.stdout), "the plan of a build from nothing"
    assert "Taken: from nothing, because" in shown.stderr
    result = lb.build("docs", "run", base="auto", method="lora", time_budget=40.0, overrides=SETTINGS, callbacks=[])
    journal = Journal.read(Path("run"))
    assert result.adaptation is None and journal is not None and journal.request["base"] is None


def test_what_lies_in_the_cache_is_found_by_its_name(cache: Path, bpe: Tokenizer) -> None:
    folder = put(small_model(bpe), cache, "us/small")
    found = bases_at_hand()
    assert found.keys() == {"some/encoder", "us/small"} and found["us/small"] == folder


def test_wrong_methods_are_found_before_anything_is_read(cache: Path) -> None:
    with pytest.raises(ConfigError, match="'lorra' is no way to adapt"):
        lb.build("docs", "run", base="auto", method="lorra")
    assert not Path("run").exists()
