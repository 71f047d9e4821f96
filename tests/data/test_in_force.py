"""A setting of the data that is asked for acts, or is refused: never ignored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import llmbuilder as lb
from llmbuilder.config import Config, DataConfig
from llmbuilder.data import TextDataset
from llmbuilder.data.in_force import require_in_force
from llmbuilder.errors import ConfigError

# A value other than the default for every setting; those that are about the split and the window act everywhere.
ASKED: dict[str, object] = {
    "text_column": "body", "ocr": None, "file_seconds": 5.0, "file_memory_mb": 100, "file_mb": 5, "clean_text": False,
    "cleaning_rules": ["repair_unicode"], "redact": ["email"], "filter": "notes", "filter_limits": {"words": (1, None)},
    "filter_without": ["words"], "languages": ["en"], "min_language_score": 0.5, "classifier": "model.bin",
    "classifier_label": "good", "min_score": 0.1, "evaluation_files": ["test.txt"], "remove_duplicates": False,
    "near_duplicates": 0.9, "near_duplicate_ngram": 3, "near_duplicate_permutations": 32, "semantic_duplicates": 0.9,
    "semantic_model": "model", "repeated_lines": 5, "mixture": {"raw": 2.0}, "tokenize": False,
}  # fmt: skip
ACT_EVERYWHERE = {"path", "stride", "train_split", "documents_apart"}
TRUE_ALREADY = {"clean_text", "remove_duplicates"}  # for a text that is taken as it is
IDLE_ALONE = {
    "filter_without", "min_language_score", "classifier_label", "min_score", "near_duplicate_ngram",
    "near_duplicate_permutations",
}  # fmt: skip
IN_PREPARE_ONLY = {"semantic_duplicates", "semantic_model", "repeated_lines", "mixture", "tokenize"}


def test_every_setting_of_the_data_is_looked_at() -> None:
    assert set(ASKED) | ACT_EVERYWHERE == set(DataConfig.model_fields)


@pytest.mark.parametrize("name", ASKED)
def test_a_setting_acts_or_is_refused(tmp_path: Path, name: str) -> None:
    data = DataConfig(**{name: ASKED[name]})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("text")
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.jsonl").write_text('{"body": "text"}')
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "train.bin").write_bytes(b"\0\0")
    acts = {
        "folder": set(ASKED) - IN_PREPARE_ONLY - IDLE_ALONE,
        "a.txt": TRUE_ALREADY,
        "a.jsonl": TRUE_ALREADY | {"text_column"},
        "tokens": TRUE_ALREADY,
    }
    for source, names in acts.items():
        if name in names:
            require_in_force(data, tmp_path / source)
        else:
            with pytest.raises(ConfigError, match=f"data.{name} would not act here"):
                require_in_force(data, tmp_path / source)


def test_documents_are_read_as_configured(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(6):
        (raw / f"{number}.txt").write_text(
            f"Letter {number}: write to keeper{number}@lighthouse.org about ship {number}."
        )
    (raw / "again.txt").write_text("letter 1: WRITE to keeper1@lighthouse.org about ship 1.")
    (raw / "rows.jsonl").write_text(json.dumps({"note": "A row of its own.", "body": "The body of the row."}))
    config = lb.load_config(overrides=["data.redact=[email]", "data.text_column=body", "model.max_seq_length=8"])
    texts = [text for text, _ in TextDataset.from_config(raw, config).iter_texts()]
    assert len(texts) == 7, "the duplicate is gone before anything is split"
    assert not any("@" in text for text in texts)
    assert "The body of the row." in texts


def test_a_prepared_corpus_keeps_to_its_own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    for number in range(8):
        Path(f"raw/{number}.txt").write_text(f"Number {number} writes to a{number}@b.org of {number * 7} things. " * 9)
    config = Config.model_validate({"data": {"redact": ["email"], "near_duplicates": None, "train_split": 0.8}})
    config.tokenizer.vocab_size = 300
    config.model.max_seq_length = 8
    lb.prepare_corpus("raw", "corpus", config)
    assert TextDataset.from_config("corpus", config).is_prepared
    for name, value in {"redact": ["phone"], "train_split": 0.5, "languages": ["en"]}.items():
        other = config.copy_of()
        setattr(other.data, name, value)
        with pytest.raises(
            ConfigError, match=f"data.{name} would not act here: corpus was prepared with another value"
        ):
            TextDataset.from_config("corpus", other)
