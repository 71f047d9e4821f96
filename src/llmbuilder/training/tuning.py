"""`finetune_model`: the one training engine, from a model that knows something already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmbuilder.config.loading import apply_settings
from llmbuilder.config.recipe import RECOMMENDED, settle_tuning
from llmbuilder.config.schema import Config
from llmbuilder.data.dataset import TextDataset
from llmbuilder.errors import TokenizerError
from llmbuilder.formats.model_file import load_model
from llmbuilder.model import LanguageModel
from llmbuilder.training.display.callbacks import Callback
from llmbuilder.training.results import TrainingResults
from llmbuilder.training.running import train

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
    """Train a model on text that it has not seen, beginning from what it knows, and return the results.

    `base` is anything `load_model` opens; its tokenizer cuts the text, its shape stays. `config` says what learns
    (`config.finetuning`, adapters of LoRA by default) and how; without one the recommended recipe does. `window` is the
    length of the sequences to train on, in tokens (default: the model's context, at most 512). The run directory
    gets the whole tuned model as `model.pt`, and adapters as `adapter/` in the files of the `peft` library; an
    interrupted run goes on with `resume_training`. Everything else is as in `train_model`.

    Raises CheckpointError if `base` cannot be opened, TokenizerError if it comes without a tokenizer, ConfigError for
    settings that do not fit it.
    """
    model = base if isinstance(base, LanguageModel) else load_model(base, "cpu")
    if model.tokenizer is None:
        raise TokenizerError(
            "this model comes without a tokenizer, and its tokens would mean nothing: name one with it"
        )
    whole = tuning_config() if config is None else config.copy_of()
    length = min(model.config.max_seq_length, window or _LONGEST_WINDOW)
    whole.model = model.config.model_copy(update={"max_seq_length": length})
    settle_tuning(whole)
    whole.training.init_from = "scratch" if isinstance(base, LanguageModel) else str(base)
    dataset = TextDataset.from_config(data, whole, model.tokenizer)
    return train(
        model, dataset, whole, output_dir, callbacks,
        overwrite=overwrite, continue_run=continue_run, has_weights=True,
    )  # fmt: skip


def tuning_config(settings: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
    """Return the recommended settings of tuning: adapters on all matrices of the layers, rates by the model's width.

    `settings`, by section and key, win.
    """
    config = Config()
    config.training = config.training.model_copy(update=TUNING)
    config.finetuning.method = "lora"
    apply_settings(config, settings or {})
    return config
