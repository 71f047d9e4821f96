"""`finetune_model`: the one training engine, from a model that knows something already."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmbuilder.config.loading import apply_settings
from llmbuilder.config.recipe import RECOMMENDED, settle_documents, settle_tuning
from llmbuilder.config.schema import Config
from llmbuilder.conversations.dataset import ConversationDataset
from llmbuilder.conversations.files import conversation_files, pair_files, unknown_fields
from llmbuilder.conversations.inspection import Inspection, inspect
from llmbuilder.conversations.preferences import PreferenceDataset
from llmbuilder.conversations.rows import RowDataset
from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import DataError, TokenizerError
from llmbuilder.finetuning.chat import prepare_for_chat
from llmbuilder.formats.model_file import load_model
from llmbuilder.model import LanguageModel
from llmbuilder.model.adapters import release_frozen
from llmbuilder.training.display.callbacks import Callback
from llmbuilder.training.results import TrainingResults
from llmbuilder.training.running import train

logger = logging.getLogger("llmbuilder")

# What a model that knows something is trained with, where nothing else is said.
TUNING = {**RECOMMENDED, "batch_size": "auto", "num_epochs": 2, "beta1": 0.9}
_LONGEST_WINDOW = 512  # tokens; more of the context costs memory, and most documents fill less


def finetune_model(
    base: str | Path | LanguageModel,
    data: str | Path,
    output_dir: str | Path,
    config: Config | None = None,
    callbacks: Sequence[Callback] | None = None,
    *,
    window: int | None = None,
    overwrite: bool = False,
    continue_run: bool = False,
) -> TrainingResults:
    """Train a model on text or conversations that it has not seen, beginning from what it knows; return the results.

    `base` is anything `load_model` opens; its tokenizer cuts the text, its shape stays. `data` is text as
    `TextDataset` takes it, or conversations (see `conversations.forms`): of those the answers are learned, in the
    form of the model's own chat template, or in ChatML where it has none. Where `config.finetuning.objective` is
    'dpo' they are preference pairs (see `conversations.pairs`). `config` says what learns (`config.finetuning`,
    adapters of LoRA by default) and how; without one the recommended recipe does. `window` is the length of the
    sequences to train on, in tokens (default: the model's context, at most 512). A `base` given as a model is tuned
    itself, and its adapters stay beside its matrices. The run directory gets the whole tuned model as `model.pt`, and
    adapters as `adapter/` in the files of the `peft` library; an interrupted run goes on with `resume_training`.
    Everything else is as in `train_model`.

    Raises CheckpointError if `base` cannot be opened, TokenizerError if it comes without a tokenizer, ConfigError for
    settings that do not fit it, DataError for data that the objective does not learn from.
    """
    model = base if isinstance(base, LanguageModel) else load_model(base, "cpu")
    if model.tokenizer is None:
        raise TokenizerError(
            "this model comes without a tokenizer, and its tokens would mean nothing: name one with it"
        )
    whole = tuning_config() if config is None else config.copy_of()
    rows = _kind_of_rows(data, whole.finetuning.objective)
    template = None
    if rows is not None:
        template, has_new_tokens = prepare_for_chat(model)
        if has_new_tokens and whole.finetuning.method != "full":
            whole.finetuning.embeddings = True
    length = _window(model, window)
    whole.model = model.config.model_copy(update={"max_seq_length": length})
    settle_tuning(whole)
    whole.training.init_from = "scratch" if isinstance(base, LanguageModel) else str(base)
    if rows is None or template is None:
        _warn_about_fields(data)
        settle_documents(whole)
        dataset = TextDataset.from_config(data, whole, model.tokenizer)
    else:
        split, seed = whole.data.train_split, whole.system.seed
        dataset = rows(data, length, template, split, seed=seed, data=whole.data)
    try:
        return train(
            model, dataset, whole, output_dir, callbacks,
            overwrite=overwrite, continue_run=continue_run, has_weights=True,
        )  # fmt: skip
    finally:
        if isinstance(base, LanguageModel):
            release_frozen(model)  # the caller goes on with it


def _kind_of_rows(data: str | Path, objective: str) -> type[RowDataset[Any]] | None:
    """Return the dataset of the conversations or pairs that `data` holds; None for text. Raises as `finetune_model`."""
    if objective == "dpo":
        pair_files(data)
        return PreferenceDataset
    return None if conversation_files(data) is None else ConversationDataset


def _warn_about_fields(data: str | Path) -> None:
    fields = unknown_fields(data)
    if fields:
        logger.warning(
            f"all of {data} is learned as text, questions, too: its rows have the fields {', '.join(fields[:8])}. "
            "Conversations, of which the answers are learned, have messages, conversations, instruction and output, or "
            "prompt and completion"
        )


def inspect_conversations(
    base: str | Path | LanguageModel,
    data: str | Path,
    count: int = 3,
    *,
    window: int | None = None,
    objective: str = "likelihood",
) -> Inspection:
    """Return the first `count` samples that `finetune_model` would train on, with what of each is learned.

    Of preference pairs, which `objective` 'dpo' learns from, both samples of each. Raises DataError if `data` holds no
    conversations, or pairs, or none of them can be used.
    """
    rows = _kind_of_rows(data, objective)
    if rows is None:
        raise DataError(f"{data} holds no conversations but text, of which all tokens are learned")
    model = base if isinstance(base, LanguageModel) else load_model(base, "cpu")
    template, _ = prepare_for_chat(model)
    return inspect(rows(data, _window(model, window), template), 2 * count if objective == "dpo" else count)


def _window(model: LanguageModel, asked: int | None) -> int:
    return min(model.config.max_seq_length, asked or _LONGEST_WINDOW)


def tuning_config(settings: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
    """Return the recommended settings of tuning: adapters on all matrices of the layers, rates by the model's width.

    `settings`, by section and key, win.
    """
    config = Config()
    config.training = config.training.model_copy(update=TUNING)
    config.finetuning.method = "lora"
    apply_settings(config, settings or {})
    return config
