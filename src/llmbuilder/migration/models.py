"""Checkpoints of a legacy project: converted, compared with the old computation, and made into runs to go on with."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from llmbuilder.config.loading import merge
from llmbuilder.config.schema import Config
from llmbuilder.errors import CheckpointError, LLMBuilderError, MigrationError
from llmbuilder.files import link_file, set_aside
from llmbuilder.formats.model_file import save_model
from llmbuilder.formats.nanogpt.checkpoint import (
    LegacyCheckpoint,
    convert_checkpoint,
    is_legacy_checkpoint,
    training_settings,
)
from llmbuilder.formats.nanogpt.files import read_checkpoint_file
from llmbuilder.formats.nanogpt.formula import prove_with_formula
from llmbuilder.formats.nanogpt.names import find_weights
from llmbuilder.formats.nanogpt.sections import declared_heads
from llmbuilder.formats.nanogpt.source import imported_files, read_architecture
from llmbuilder.migration.account import MigrationReport, describe_proof
from llmbuilder.migration.configurations import imported
from llmbuilder.migration.experiments import FoundCheckpoint
from llmbuilder.migration.legacy_process import clean
from llmbuilder.migration.programs import Program
from llmbuilder.migration.proof import prove_with_legacy_code, unsaid
from llmbuilder.migration.shapes import find_heads
from llmbuilder.migration.understanding import LegacyProject, model_source
from llmbuilder.migration.writing import new_configuration, place_tokenizer
from llmbuilder.model import LanguageModel
from llmbuilder.training.loop.optimizers import Optimizers
from llmbuilder.training.storage.checkpoints import TrainingState, write_checkpoint
from llmbuilder.training.storage.paths import RunPaths

LARGEST_ACCEPTED_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Proving:
    """How a conversion is proven: by nanoGPT's formula, or by the project's own code where its owner allows that."""

    activation: str | None = None  # for checkpoints that do not tell which GELU they were trained with
    run_legacy_code: bool = False


def migrate_checkpoint(
    project: LegacyProject, checkpoint: FoundCheckpoint, new: Path | None, proving: Proving, report: MigrationReport
) -> None:
    """Convert one checkpoint and say in the report what became of it; write it unless `new` is None."""
    file = checkpoint.file.as_posix()
    try:
        if checkpoint.problem:
            raise CheckpointError(checkpoint.problem)
        content = _content(project, checkpoint)
        source = model_source(project, checkpoint, content.own)
        facts = read_architecture(imported_files(source, project.root)) if source is not None else None
        legacy = convert_checkpoint(content.whole, source=facts, activation=proving.activation)
        model = legacy.build()
        proof = _prove(content, legacy, model)
        if proving.run_legacy_code:
            proof = _prove_with_code(project, checkpoint, content, model, source, proof)
    except (LLMBuilderError, MemoryError, RuntimeError) as error:
        # PyTorch says with a RuntimeError that a tensor does not fit in memory: the other checkpoints go on.
        told = str(error) if isinstance(error, LLMBuilderError) else _named(error)
        checkpoint.problem = told
        report.refused[file] = told
        report.add_file(file, "left", told)
        return
    if proof is not None and proof["against"] == "code":
        report.add_note(f"The project's own code was run in {proof['isolation']}.")
    _give_tokenizer(checkpoint, model, report)
    resume, notes = _write(project, checkpoint, legacy, model, new)
    for note in [*notes, *(f"{checkpoint.file}: {sentence}" for sentence in legacy.left)]:
        report.add_note(note)
    report.checkpoints.append(
        {"file": file, "new": checkpoint.new_model, "origin": legacy.origin, "step": legacy.step,
         "best_validation_loss": legacy.best_validation_loss, "resume": resume, "proof": proof,
         "assumed": [*content.assumed, *legacy.assumed]}
    )  # fmt: skip
    report.add_file(file, checkpoint.new_model, describe_proof(proof))


def _named(error: Exception) -> str:
    return f"it cannot be computed with: {clean(f'{type(error).__name__} {error}')}"


@dataclass(frozen=True)
class _Content:
    """What a checkpoint holds, and what the project says of its model where the checkpoint does not."""

    own: dict[str, Any]
    added: dict[str, Any] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)

    @property
    def whole(self) -> dict[str, Any]:
        if not self.added:
            return self.own
        own = self.own.get("config")
        return {**self.own, "config": {**self.added, **(own if isinstance(own, Mapping) else {})}}


def _content(project: LegacyProject, checkpoint: FoundCheckpoint) -> _Content:
    """Return a checkpoint's content, with the shape that it does not say itself, and what was assumed of that."""
    content = read_checkpoint_file(project.root / checkpoint.file)
    if not isinstance(content, Mapping) or not is_legacy_checkpoint(content):
        raise CheckpointError("it holds no GPT weights of a known form")
    if find_weights(content) is content:
        content = {"model": content}
    own = _Content(dict(content))
    if declared_heads(content) is not None:
        return own
    configuration = checkpoint.configuration
    if configuration is not None and configuration.values.get("n_embd") in (checkpoint.width, None):
        added = _Content(dict(content), dict(configuration.values))
        heads = declared_heads(added.whole)
        if heads is not None:
            said = f"its {heads} heads are those of {configuration.source}; the checkpoint does not say how many it has"
            return _Content(dict(content), added.added, [said])
    programs = _programs_of(project, checkpoint, content)
    found = find_heads(project.root, project.files, programs, checkpoint.width or 0, checkpoint.num_layers)
    if found is None:
        return own
    said = (
        f"its {found[0]} heads are those of the only shape of this width and depth in the project's configurations and "
        f"the programs that train it, in {found[1]}; the checkpoint does not say how many it has"
    )
    return _Content(dict(content), {"n_head": found[0]}, [said])


def _programs_of(
    project: LegacyProject, checkpoint: FoundCheckpoint, content: Mapping[str, Any]
) -> dict[PurePosixPath, Program]:
    """Return the programs that can have made a checkpoint's model: its training's, its model's, configurations."""
    made = {c.source for c in project.configurations if c.kind == "file"}
    if checkpoint.program is not None:
        made |= {one.path for one in (checkpoint.program, *imported(checkpoint.program, project.programs))}
    source = model_source(project, checkpoint, content)
    if source is not None:
        used = imported_files(source, project.root)
        made |= {PurePosixPath(file.relative_to(project.root).as_posix()) for file in used}
    return {path: program for path, program in project.programs.items() if path in made}


def _prove(content: _Content, legacy: LegacyCheckpoint, model: LanguageModel) -> dict[str, Any] | None:
    """Compare with nanoGPT's formula, where it is all there is to the model."""
    difference = prove_with_formula(content.whole, legacy, model)
    if difference is None:
        return None
    if difference > LARGEST_ACCEPTED_DIFFERENCE:
        raise CheckpointError(f"its logits would change by {difference:.1e}, which must not be: please report this")
    return {"against": "formula", "largest_logit_difference": difference, "only_if": unsaid(content.own, model)}


def _prove_with_code(
    project: LegacyProject,
    checkpoint: FoundCheckpoint,
    content: _Content,
    model: LanguageModel,
    source: Path | None,
    by_formula: dict[str, Any] | None,
) -> dict[str, Any]:
    """Compare with the project's own code; where that cannot be run, what is known otherwise, and why it could not."""
    try:
        if source is None:
            raise MigrationError("no program in the project defines a model with its weights")
        proof = prove_with_legacy_code(
            project.root,
            source.resolve(),
            content.own,
            model,
            data=_held_out(project, checkpoint),
            unsaid_settings=content.added,
        )
    except MigrationError as error:
        return {**(by_formula or {"against": None}), "not_run": str(error)}
    if not proof.is_same:
        raise CheckpointError(f"it would not compute the same here, and is not carried over: {proof.verdict()}")
    return {
        "against": "code", "largest_logit_difference": proof.largest_logit_difference, "program": proof.program,
        "legacy_loss": proof.legacy_loss, "new_loss": proof.loss, "isolation": proof.isolation,
        "only_if": proof.only_if,
    }  # fmt: skip


def _held_out(project: LegacyProject, checkpoint: FoundCheckpoint) -> np.ndarray | None:
    """Return the project's own validation tokens, if they are of the size that nanoGPT writes and fit the model."""
    dataset = checkpoint.dataset
    if dataset is None or dataset.place / "val.bin" not in dataset.files:
        return None
    tokens = np.fromfile(project.root / dataset.place / "val.bin", dtype=np.uint16, count=_PROOF_TOKENS)
    fits = checkpoint.vocab_size is None or not len(tokens) or int(tokens.max()) < checkpoint.vocab_size
    return tokens if fits else None


_PROOF_TOKENS = 8 * 512 + 1


_PADDED_TO = 128  # a vocabulary is made a multiple of this at most; a larger one has tokens of other data


def _give_tokenizer(checkpoint: FoundCheckpoint, model: LanguageModel, report: MigrationReport) -> None:
    tokenizer = checkpoint.dataset.tokenizer if checkpoint.dataset is not None else None
    if tokenizer is not None and len(tokenizer) <= model.config.vocab_size:
        model.tokenizer = tokenizer
        if model.config.vocab_size - len(tokenizer) >= _PADDED_TO:
            place = checkpoint.dataset.place if checkpoint.dataset else ""
            report.add_note(
                f"{checkpoint.file} has {model.config.vocab_size} tokens, and the table of its data, {place}, "
                f"{len(tokenizer)} characters: if it was trained on other data, give its own tokenizer when generating."
            )
    elif tokenizer is not None:
        report.add_note(
            f"{checkpoint.file} has {model.config.vocab_size} tokens, fewer than the {len(tokenizer)} characters of "
            f"{checkpoint.dataset.place if checkpoint.dataset else 'its data'}: it was trained on other data, and gets "
            "no tokenizer."
        )
    else:
        report.add_note(
            f"{checkpoint.file} says nothing of its tokenizer and no meta.pkl was found for it. If it was trained on "
            "GPT-2's encoding, give --tokenizer gpt2 (or a folder with GPT-2's files) when generating or exporting."
        )


def _write(
    project: LegacyProject,
    checkpoint: FoundCheckpoint,
    legacy: LegacyCheckpoint,
    model: LanguageModel,
    new: Path | None,
) -> tuple[str, list[str]]:
    """Write the model and a run of it; return the command that goes on with the run, if one does, and notes."""
    resumable, notes = _resumable(checkpoint, legacy)
    config = _run_configuration(checkpoint, legacy)
    if resumable:
        try:
            Optimizers(model, config.training).load_state_dict([dict(legacy.optimizer or {})])
        except (ValueError, KeyError, RuntimeError) as error:
            resumable = False
            notes.append(f"The optimizer state of {checkpoint.file} does not fit and is left: {error}")
    command = f"llmbuilder train resume {shlex.quote(checkpoint.new_run)}" if resumable else ""
    if new is None:
        return command, notes
    save_model(model, new / checkpoint.new_model, {"migrated_from": checkpoint.file.as_posix()}, overwrite=True)
    paths = RunPaths.choose(new / checkpoint.new_run)
    set_aside(paths.folder)  # with --overwrite: two runs must not mix, and a run in use is kept
    paths.folder.mkdir(parents=True, exist_ok=True)
    link_file(new / checkpoint.new_model, paths.model)
    config.save(paths.config)
    if model.tokenizer is not None:
        place_tokenizer(model.tokenizer, paths.tokenizer)
    if resumable:
        _write_state(checkpoint, legacy, model, config, paths)
    return command, notes


def _resumable(checkpoint: FoundCheckpoint, legacy: LegacyCheckpoint) -> tuple[bool, list[str]]:
    if legacy.optimizer is None:
        return False, []
    if checkpoint.dataset is None or not checkpoint.dataset.has_tokens:
        return False, [
            f"The optimizer state of {checkpoint.file} can only be continued on token files (train.bin), which "
            f"{'its dataset lacks' if checkpoint.dataset else 'could not be told for it'}: train on with --set "
            f"training.init_from={checkpoint.new_model}, which starts a fresh optimizer."
        ]
    return True, []


def _run_configuration(checkpoint: FoundCheckpoint, legacy: LegacyCheckpoint) -> Config:
    """Return what the run goes on with: the checkpoint's own word over that of its configuration."""
    own = training_settings(legacy)
    if checkpoint.configuration is not None:
        own = merge(checkpoint.configuration.migrated.values, own)
    config, _ = new_configuration(own, checkpoint.dataset, checkpoint.file.as_posix())
    config.model = legacy.config
    config.training.output_dir = None
    config.training.init_from = "scratch"
    return config


def _write_state(
    checkpoint: FoundCheckpoint, legacy: LegacyCheckpoint, model: LanguageModel, config: Config, paths: RunPaths
) -> None:
    assert checkpoint.dataset is not None
    state = TrainingState(
        legacy.step, model.weights(), [dict(legacy.optimizer or {})], best_validation_loss=legacy.best_validation_loss,
        sequences=legacy.step * config.training.batch_size * config.training.gradient_accumulation_steps,
    )  # fmt: skip
    write_checkpoint(paths.checkpoints, state, keep=1)
    depth = len(Path(checkpoint.new_run).parts)
    dataset = {"source": checkpoint.dataset.path, "tokens": "../" * depth + checkpoint.dataset.path,
               "block_size": legacy.config.max_seq_length, "stride": None, "train_split": None,
               "seed": config.system.seed}  # fmt: skip
    paths.write_record({"dataset": dataset, "migrated_from": checkpoint.file.as_posix()})
