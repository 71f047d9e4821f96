"""The tokenizer of a run: given, found, or learned from its text, and kept beside the model."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from llmbuilder.config.schema import Config
from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import DataError, TokenizerError
from llmbuilder.files import set_aside
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokenizer.in_force import require_made_as, unlike_settings
from llmbuilder.training.storage.paths import RunPaths

logger = logging.getLogger("llmbuilder")


def choose_tokenizer(
    model: LanguageModel, dataset: TextDataset, config: Config, paths: RunPaths, *, replaces: bool = False
) -> Tokenizer | None:
    """Return the tokenizer of the run, learning one if there is none; None for tokens without a known tokenizer.

    One that a run learned which this one `replaces` was made for that run's text, and is not taken.
    Raises ConfigError if there is one and it was not made as `config.tokenizer` asks.
    """
    if dataset.tokenizer is None and not dataset.is_prepared:
        dataset.tokenizer = _existing_tokenizer(model, config, paths, replaces=replaces)
    if dataset.tokenizer is None and not dataset.is_prepared:
        size = min(config.tokenizer.vocab_size or model.config.vocab_size, model.config.vocab_size)
        logger.warning(
            f"no tokenizer given: learning a {config.tokenizer.algorithm} tokenizer of at most {size:,} tokens "
            f"from {dataset.source_name}, saved to {paths.tokenizer}"
        )
        dataset.learn_tokenizer(vocab_size=size, **config.tokenizer.training_options)
    elif dataset.tokenizer is not None:
        require_made_as(config.tokenizer, dataset.tokenizer, dataset.source_name, dataset.tokenizer_settings)
    tokenizer = dataset.tokenizer
    if tokenizer is not None and tokenizer.end_of_text_id is None and tokenizer.algorithm != "char":
        logger.warning(
            "the tokenizer names no end of text: nothing will stand between documents, and generated text will not end "
            "by itself (eos_token in its tokenizer_config.json names one)"
        )
    if tokenizer is not None and not tokenizer.has_gguf_form:
        logger.warning(
            f"a {tokenizer.algorithm} tokenizer has no exact form in GGUF: this model will not export to llama.cpp "
            "(byte-level BPE and character tokenizers do)"
        )
    return tokenizer


def _existing_tokenizer(model: LanguageModel, config: Config, paths: RunPaths, *, replaces: bool) -> Tokenizer | None:
    if model.tokenizer is not None:
        return model.tokenizer
    if config.tokenizer.path is not None:
        return Tokenizer.from_pretrained(config.tokenizer.path)
    was_learned = replaces and paths.has_record and paths.read_record().get("learned_tokenizer", False)
    if (paths.tokenizer / "tokenizer.json").is_file() and not was_learned:
        found = Tokenizer.from_pretrained(paths.tokenizer)
        if len(found) <= model.config.vocab_size and not unlike_settings(config.tokenizer, found, _made(paths)):
            logger.warning(f"using the tokenizer in {paths.tokenizer} ({len(found):,} tokens)")
            return found
    return None


def _made(paths: RunPaths) -> dict[str, Any] | None:
    """Return the settings of the tokenizer that an earlier start learned here, if they are known."""
    return json.loads(paths.config.read_text("utf-8")).get("tokenizer") if paths.config.is_file() else None


def require_known_tokens(model: LanguageModel, dataset: TextDataset) -> None:
    """Raise TokenizerError if the dataset's tokenizer is too large for the model, DataError if its files are."""
    for windows in (dataset.train, dataset.validation):
        # A file that says which tokenizer made it was written here; another one can hold anything.
        if windows is None or windows.info.tokenizer is not None:
            continue
        found = int(windows.tokens.max())
        if found >= model.config.vocab_size:
            file = getattr(windows.tokens, "filename", windows.path)  # nanoGPT's files have other names than ours
            raise DataError(
                f"{file} holds the token id {found:,}, and model.vocab_size is {model.config.vocab_size:,}: "
                f"set model.vocab_size to {found + 1:,} or more, or tokenize the text again"
            )
    largest = dataset.largest_token_id()
    if largest >= model.config.vocab_size:
        raise TokenizerError(
            f"the tokenizer has {largest + 1:,} tokens but model.vocab_size is {model.config.vocab_size:,}: "
            "set config.model.vocab_size = len(tokenizer) before building the model"
        )


def keep_other_tokenizer(tokenizer: Tokenizer, paths: RunPaths) -> None:
    """Give a numbered name to what lies in the tokenizer's place, unless it is this one."""
    is_empty = paths.tokenizer.is_dir() and not any(paths.tokenizer.iterdir())
    if not is_empty and not _is_at(tokenizer, paths.tokenizer):
        set_aside(paths.tokenizer)


def store_tokenizer(tokenizer: Tokenizer, paths: RunPaths) -> None:
    """Write the tokenizer to its place in the run, unless it is there and ends texts with the same tokens."""
    is_there = _is_at(tokenizer, paths.tokenizer)
    if not is_there or Tokenizer.from_pretrained(paths.tokenizer).ending_ids != tokenizer.ending_ids:
        tokenizer.save_pretrained(paths.tokenizer)


def _is_at(tokenizer: Tokenizer, folder: Path) -> bool:
    try:
        return (folder / "tokenizer.json").is_file() and Tokenizer.from_pretrained(folder) == tokenizer
    except TokenizerError:
        return False
