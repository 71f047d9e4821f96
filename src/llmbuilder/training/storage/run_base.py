"""What a run keeps of the model that it begins from: a copy for adapters to lie beside, and what came with it.

So the run can go on wherever it is, and its models have the chat template, the licence and the defaults of generation
that the first one had.
"""

from __future__ import annotations

from typing import Any

from llmbuilder.config.schema import Config
from llmbuilder.errors import TrainingError
from llmbuilder.finetuning.adapting import adapt_model, hold_base
from llmbuilder.formats.model_file import load_model, read_weight, save_model
from llmbuilder.machine import resolve_precision
from llmbuilder.model import LanguageModel
from llmbuilder.training.processes.distributed import Processes, process_device
from llmbuilder.training.storage.paths import RunPaths

# What every run says of itself in the models that it writes: nothing that is handed on to the next.
_OF_A_RUN = {"training_config", "step", "tokens", "loss", "best_validation_loss", "machine", "written", "run"}


def belongings(model: LanguageModel) -> dict[str, Any]:
    """Return what came with a model: all its metadata but what the run that made it says of itself."""
    return {name: value for name, value in model.metadata.items() if name not in _OF_A_RUN}


def begin_adapting(
    model: LanguageModel, config: Config, paths: RunPaths, processes: Processes, *, is_sharded: bool, goes_on: bool
) -> None:
    """Let adapters learn beside `model`, which becomes the run's base, or, when a run `goes_on`, its base again."""
    if is_sharded:
        raise TrainingError(
            f"finetuning.method {config.finetuning.method!r} trains a model that every process holds whole: set "
            "system.distributed_strategy=ddp"
        )
    if goes_on:
        model.load_weights(load_model(paths.base, "cpu").weights())
    else:
        processes.on_main(lambda: save_model(model, paths.base, overwrite=True))
    adapt_model(model, config)
    precision = resolve_precision(config.training.mixed_precision, process_device(config.system))
    hold_base(model, config, precision, lambda layer: read_weight(paths.base, f"{layer}.weight"))
    if config.finetuning.embeddings:
        model.embedding.requires_grad_(True)
        model.lm_head.requires_grad_(True)
