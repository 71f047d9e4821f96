"""The model that a run's adapters lie beside: the run keeps a copy of its own, so that it can go on wherever it is."""

from __future__ import annotations

from llmbuilder.config.schema import Config
from llmbuilder.errors import TrainingError
from llmbuilder.finetuning.adapting import adapt_model
from llmbuilder.formats.model_file import load_model, save_model
from llmbuilder.model import LanguageModel
from llmbuilder.training.processes.distributed import Processes
from llmbuilder.training.storage.paths import RunPaths


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
