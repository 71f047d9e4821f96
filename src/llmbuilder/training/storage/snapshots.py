"""From a trainer to its saved state and back, whole or cut over processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmbuilder.model import LanguageModel, build_model
from llmbuilder.training.storage.checkpoints import (
    CheckpointStore,
    TrainingState,
    read_newest_checkpoint,
    remove_old_checkpoints,
)

if TYPE_CHECKING:
    from llmbuilder.training.loop.trainer import Trainer


class Snapshots:
    """Saves and restores what a trainer needs to go on; used as a context that ends with nothing half-written."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._store = CheckpointStore(trainer.paths.checkpoints, trainer.settings.keep_checkpoints)

    def __enter__(self) -> Snapshots:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def save(self) -> None:
        """Begin to write a checkpoint of this moment; a sharded one is written before this returns."""
        trainer = self._trainer
        begin = time.perf_counter()
        random = trainer.processes.gather(self._random_state())
        if trainer.parallel.is_sharded:
            self._save_sharded(random)
            trainer.meter.add_stall(time.perf_counter() - begin)
        elif trainer.processes.is_main:
            weights, optimizers = trainer.model.weights(), trainer.optimizers.state_dict()
            trainer.meter.add_stall(self._store.write(TrainingState(**self._values(random), weights=weights,
                                                                    optimizers=optimizers)))  # fmt: skip

    def _values(self, random: list[dict[str, Tensor]]) -> dict[str, Any]:
        trainer = self._trainer
        return {
            "step": trainer.step,
            "random": random,
            "best_validation_loss": trainer.best_validation_loss,
            "scaler": trainer.scaler.state_dict(),
            "tokenizer": trainer.tokenizer.fingerprint if trainer.tokenizer is not None else None,
            "data_shift": trainer.data_shift,
            "recent_losses": list(trainer.watch.losses),
            "config": trainer.config.to_dict(),
        }

    def _random_state(self) -> dict[str, Tensor]:
        device = self._trainer.device
        state = {"cpu": torch.get_rng_state()}
        return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state

    def _save_sharded(self, random: list[dict[str, Tensor]]) -> None:
        from llmbuilder.training.storage.sharded_checkpoints import write_sharded

        trainer = self._trainer
        folder = trainer.paths.checkpoints
        values = self._values(random)
        path = write_sharded(
            folder, values.pop("step"), trainer.model, trainer.optimizers.adamw, values, trainer.processes
        )
        if trainer.processes.is_main:
            remove_old_checkpoints(folder, trainer.settings.keep_checkpoints)
            self._announce(path)

    def note_finished(self) -> None:
        """Tell of a checkpoint that has reached the disk. Raises LLMBuilderError if writing it failed."""
        if (path := self._store.finished()) is not None:
            self._announce(path)

    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        if (path := self._store.finish()) is not None:
            self._announce(path)

    def _announce(self, path: Path) -> None:
        for callback in self._trainer.callbacks:
            callback.on_checkpoint(path)

    def go_back(self) -> int:
        """Restore the newest whole checkpoint and return its step. Raises CheckpointError if there is none."""
        self.finish()
        state = read_newest_checkpoint(self._trainer.paths.checkpoints)
        self.restore(state)
        return state.step

    def restore(self, state: TrainingState) -> None:
        """Put the trainer where `state` was saved."""
        trainer = self._trainer
        if state.sharded is not None:
            from llmbuilder.training.storage.sharded_checkpoints import load_sharded

            load_sharded(Path(state.sharded), trainer.model, trainer.optimizers.adamw)
        elif trainer.parallel.is_sharded:
            self._cut(state)
        else:
            own = dict(trainer.model.named_parameters())
            with torch.no_grad():
                for name, tensor in state.weights.items():
                    own[name].copy_(tensor)
            if state.optimizers:
                trainer.optimizers.load_state_dict(state.optimizers)
        if state.scaler:
            trainer.scaler.load_state_dict(state.scaler)
        if len(state.random) == trainer.processes.count:  # another number of processes draws anew
            random = state.random[trainer.processes.rank]
            torch.set_rng_state(random["cpu"])
            if "cuda" in random and trainer.device.type == "cuda":
                torch.cuda.set_rng_state(random["cuda"], trainer.device)
        trainer.step = state.step
        trainer.data_shift = state.data_shift
        trainer.best_validation_loss = state.best_validation_loss
        trainer.watch.losses.clear()
        trainer.watch.losses.extend(state.recent_losses)

    def _cut(self, state: TrainingState) -> None:
        """Give each process its part of a state that was saved whole."""
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            set_model_state_dict,
            set_optimizer_state_dict,
        )

        trainer = self._trainer
        options = StateDictOptions(full_state_dict=True, strict=not trainer.model.config.tie_embeddings)
        set_model_state_dict(trainer.model, dict(state.weights), options=options)
        if state.optimizers:
            named = _by_name(trainer.model, trainer.optimizers.adamw, state.optimizers[0])
            set_optimizer_state_dict(trainer.model, trainer.optimizers.adamw, named, options=options)

    def whole_model(self) -> LanguageModel:
        """Return the model with all its weights; of a sharded one a copy, with weights in the main process only."""
        trainer = self._trainer
        if not trainer.parallel.is_sharded:
            return trainer.model
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights: dict[str, Any] = get_model_state_dict(trainer.model, options=options)
        whole = build_model(trainer.model.config, device="meta")
        if trainer.processes.is_main:
            whole.load_weights({name: weights[name] for name in whole.weights()})
        whole.tokenizer_json, whole.metadata = trainer.model.tokenizer_json, trainer.model.metadata
        return whole


def _by_name(model: LanguageModel, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's state dict with parameters named instead of counted."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ordered = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    groups = [{**group, "params": [ordered[index] for index in group["params"]]} for group in state["param_groups"]]
    return {"state": {ordered[index]: values for index, values in state["state"].items()}, "param_groups": groups}
