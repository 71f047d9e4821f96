"""`migrate_project`: a legacy project's folder in, a working new project and a full account out.

The legacy folder is only read. Nothing in it is executed.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from llmbuilder.config.loading import build_config, merge
from llmbuilder.config.parsing import read_mapping
from llmbuilder.config.schema import Config
from llmbuilder.errors import CheckpointError, ConfigError, LLMBuilderError, MigrationError, TokenizerError
from llmbuilder.files import require_absent, write_json, write_text
from llmbuilder.formats.model_file import load_model, read_torch_file, save_model
from llmbuilder.formats.nanogpt.checkpoint import (
    LegacyCheckpoint,
    convert_checkpoint,
    is_legacy_checkpoint,
    training_settings,
)
from llmbuilder.formats.nanogpt.configuration import MigratedConfig, is_legacy, migrate_dictionary, migrate_python_file
from llmbuilder.formats.nanogpt.formula import compare_with_legacy
from llmbuilder.migration.account import MigrationReport
from llmbuilder.migration.commands import find_calls, translate
from llmbuilder.migration.commands.by_name import NamedPlaces
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training.loop.optimizers import Optimizers
from llmbuilder.training.storage.checkpoints import TrainingState, write_checkpoint
from llmbuilder.training.storage.paths import RunPaths

logger = logging.getLogger("llmbuilder")
LARGEST_ACCEPTED_DIFFERENCE = 1e-3
_SCRIPT_SUFFIXES = {
    ".sh",
    ".bash",
    ".zsh",
    ".bat",
    ".cmd",
    ".ps1",
    ".py",
    ".md",
    ".yml",
    ".yaml",
    ".toml",
    ".ipynb",
    "",
}
_NOT_DATA = ("requirements", "readme", "license", "changelog")
_TRAIN_SCRIPT = '''#!/usr/bin/env python3
"""Trains this project's model. Written by `llmbuilder migrate`."""

import llmbuilder as lb
from llmbuilder.data import TextDataset


def main() -> None:
    config = lb.load_config("config.json")
    model = lb.build_model(config.model)
    dataset = TextDataset({data!r}, block_size=config.model.max_seq_length, train_split={split})
    results = lb.train_model(model, dataset, config.training, output_dir="run")
    print(f"Training completed: {{results.final_loss:.4f}} final loss; model in {{results.model_path}}")


if __name__ == "__main__":
    main()
'''


@dataclass
class _Project:
    legacy: Path
    new: Path
    report: MigrationReport
    configs: dict[str, MigratedConfig] = field(default_factory=dict)  # new file name -> configuration
    primary: str | None = None
    data: str | None = None
    token_folder: str | None = None
    tokenizer: Tokenizer | None = None

    def relative(self, path: Path) -> str:
        return path.relative_to(self.legacy).as_posix()


def migrate_project(
    legacy_dir: str | Path, new_dir: str | Path, *, dry_run: bool = False, overwrite: bool = False
) -> MigrationReport:
    """Move a legacy project to a new folder and report on every file and key.

    Configurations (JSON, YAML, nanoGPT Python) become config.json and configs/; `*.txt` and token files go to
    data/; meta.pkl becomes tokenizer/; checkpoints become model/ with the difference of their logits measured;
    a train.py is written; calls of legacy scripts are listed with their new form. With `dry_run` nothing is
    written. Raises MigrationError if there is no such folder, or the new one lies inside it or holds something.
    """
    legacy, new = Path(legacy_dir), Path(new_dir)
    if not legacy.is_dir():
        raise MigrationError(f"no such folder: {legacy}")
    if new.resolve() == legacy.resolve() or legacy.resolve() in new.resolve().parents:
        raise MigrationError(f"{new} lies inside {legacy}, which is never written to: choose a folder outside it")
    if not dry_run:
        require_absent(new, overwrite=overwrite, error=MigrationError)
    project = _Project(legacy, new, MigrationReport(str(legacy), str(new), dry_run))
    files = sorted(path for path in legacy.rglob("*") if path.is_file() and not _hidden(path.relative_to(legacy)))
    if not files:
        raise MigrationError(f"{legacy} is empty")
    waiting = [path for path in files if not _take_config(project, path)]
    waiting = [path for path in waiting if not _take_data(project, path, dry_run)]
    _store_tokenizer(project, dry_run)
    checkpoints = [path for path in waiting if path.suffix in (".pt", ".pth", ".ckpt")]
    _write_configs(project, dry_run)
    for path in checkpoints:
        _take_checkpoint(project, path, dry_run)
    for path in waiting:
        if path not in checkpoints:
            _take_other(project, path)
    project.report.files.sort(key=lambda row: row["file"])
    if not dry_run:
        _write_script(project)
        write_text(new / "MIGRATION.md", project.report.to_markdown())
        write_json(new / "migration.json", project.report.to_dict())
    return project.report


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _take_config(project: _Project, path: Path) -> bool:
    migrated = _read_config(path)
    if migrated is None:
        return False
    name = project.relative(path)
    is_main = path.name in ("config.json", "config.yaml", "config.yml") and path.parent == project.legacy
    target = "config.json" if is_main else f"configs/{path.stem}.json"
    if target in project.configs:
        target = f"configs/{name.replace('/', '-').rsplit('.', 1)[0]}.json"
    project.configs[target] = migrated
    if is_main or project.primary is None:
        project.primary = target
    skipped = ", ".join(f"{key} = {value}" for key, value in migrated.skipped.items())
    project.report.add_file(name, target, f"not plain values, left out: {skipped}" if skipped else "")
    for key, new_key in migrated.mapping.items():
        section, _, field_name = new_key.partition(".")
        value = migrated.values.get(section, {}).get(field_name)
        project.report.keys.append({"file": name, "key": key, "value": value, "new": new_key})
    for key, value in migrated.unmapped.items():
        project.report.keys.append({"file": name, "key": key, "value": value, "new": None})
    return True


def _read_config(path: Path) -> MigratedConfig | None:
    try:
        if path.suffix in (".json", ".yaml", ".yml"):
            values = read_mapping(path)
            return migrate_dictionary(values) if is_legacy(values) else None
        if path.suffix == ".py":
            found = migrate_python_file(path)
            # A configuration is made of settings; a program merely has some assignments.
            settings = len(found.mapping)
            return found if settings >= 2 and settings >= len(found.skipped) else None
    except ConfigError:
        return None
    return None


def _take_data(project: _Project, path: Path, dry_run: bool) -> bool:
    name = project.relative(path)
    if path.name == "meta.pkl":
        try:
            project.tokenizer = Tokenizer.from_pretrained(path)
            project.report.add_file(name, "tokenizer/", f"{len(project.tokenizer)} characters")
        except TokenizerError as error:
            project.report.add_file(name, "left", str(error))
        return True
    if path.name in ("train.bin", "val.bin"):
        folder = f"data/{path.parent.name if path.parent != project.legacy else 'tokens'}"
        project.token_folder = folder
        target = f"{folder}/{path.name}"
    elif path.suffix == ".txt" and not path.name.lower().startswith(_NOT_DATA):
        target = f"data/{path.name}"
        if any(row["result"] == target for row in project.report.files):
            target = f"data/{name.replace('/', '-')}"
        if project.data is None or "train" in path.name.lower():
            project.data = target
    else:
        return False
    _copy(path, project.new / target, dry_run)
    project.report.add_file(name, target)
    return True


def _copy(source: Path, target: Path, dry_run: bool) -> None:
    if not dry_run:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _store_tokenizer(project: _Project, dry_run: bool) -> None:
    if project.tokenizer is None or dry_run:
        return
    project.tokenizer.save_pretrained(project.new / "tokenizer")
    if project.token_folder is not None:
        project.tokenizer.save_pretrained(project.new / project.token_folder)


def _config_of(project: _Project, name: str) -> Config:
    migrated = project.configs[name]
    values = merge({}, migrated.values)
    data = project.token_folder or project.data
    if data is not None:
        values = merge(values, {"data": {"path": data}})
    if project.tokenizer is not None:
        values = merge(values, {"tokenizer": {"path": "tokenizer"}, "model": {"vocab_size": len(project.tokenizer)}})
        given = migrated.values.get("model", {}).get("vocab_size")
        if "vocab_size" in migrated.mapping and given and given >= len(project.tokenizer):
            values["model"]["vocab_size"] = given
    return build_config(values, name)


def _write_configs(project: _Project, dry_run: bool) -> None:
    if project.primary is None:
        project.report.notes.append("No legacy configuration was found; config.json holds the defaults.")
        if not dry_run:
            (Config() if project.data is None else build_config({"data": {"path": project.data}}, "data")).save(
                project.new / "config.json"
            )
        return
    for name in project.configs:
        if not dry_run:
            _config_of(project, name).save(project.new / name)
    if "config.json" not in project.configs:
        project.report.notes.append(f"config.json is a copy of {project.primary}, the first configuration found.")
        if not dry_run:
            _config_of(project, project.primary).save(project.new / "config.json")


def _take_checkpoint(project: _Project, path: Path, dry_run: bool) -> None:
    name = project.relative(path)
    try:
        content = read_torch_file(path)
        if not is_legacy_checkpoint(content):
            raise CheckpointError("it holds no GPT weights of a known form")
        if not any(isinstance(content.get(key), Mapping) for key in ("model", "model_state_dict", "state_dict")):
            content = {"model": content}
        legacy = convert_checkpoint(_with_config(project, content))
        difference = _convert(project, path, content, legacy, dry_run)
    except LLMBuilderError as error:
        project.report.add_file(name, "left", str(error))
        return
    target = f"model/{path.stem}.pt"
    project.report.checkpoints.append(
        {"file": name, "new": target, "origin": legacy.origin, "step": legacy.step,
         "best_validation_loss": legacy.best_validation_loss, "largest_logit_difference": difference}
    )  # fmt: skip
    project.report.add_file(name, target, f"largest difference of logits {difference:.1e}")


def _with_config(project: _Project, content: Mapping[str, Any]) -> dict[str, Any]:
    """Give a checkpoint that does not say its shape the project's configuration."""
    if any(isinstance(content.get(key), Mapping) for key in ("model_args", "config")) or project.primary is None:
        return dict(content)
    return {**content, "config": dict(project.configs[project.primary].values.get("model", {}))}


def _convert(
    project: _Project, path: Path, content: Mapping[str, Any], legacy: LegacyCheckpoint, dry_run: bool
) -> float:
    model = load_model(path, "cpu", config=legacy.config)
    difference = compare_with_legacy(content, model)
    if difference > LARGEST_ACCEPTED_DIFFERENCE:
        raise CheckpointError(f"its logits would change by {difference:.1e}, which must not be: please report this")
    if project.tokenizer is not None and len(project.tokenizer) <= model.config.vocab_size:
        model.tokenizer = project.tokenizer
    elif project.tokenizer is None:
        project.report.notes.append(
            f"{project.relative(path)} says nothing of its tokenizer and no meta.pkl was found. If it was trained on "
            "GPT-2's encoding, give --tokenizer gpt2 (or a folder with GPT-2's files) when generating or exporting."
        )
    if not dry_run:
        save_model(model, project.new / "model" / f"{path.stem}.pt", {"migrated_from": path.name}, overwrite=True)
        if legacy.optimizer is not None:
            _prepare_resume(project, path, legacy)
    return difference


def _prepare_resume(project: _Project, path: Path, legacy: LegacyCheckpoint) -> None:
    """Write a run that `llmbuilder train resume` continues with the legacy optimizer state."""
    if project.token_folder is None:
        project.report.notes.append(
            f"The optimizer state of {path.name} can only be continued on token files (train.bin), which the project "
            f"lacks: train on with --set training.init_from=model/{path.stem}.pt, which starts a fresh optimizer."
        )
        return
    own = training_settings(legacy)  # what the checkpoint itself says it was trained with comes first
    config = (
        build_config(own, path.name) if own else _config_of(project, project.primary) if project.primary else Config()
    )
    config.model = legacy.config
    optimizer = dict(legacy.optimizer or {})
    model = load_model(path, "cpu", config=legacy.config)
    try:
        Optimizers(model, config.training).load_state_dict([optimizer])
    except (ValueError, KeyError) as error:
        project.report.notes.append(f"The optimizer state of {path.name} does not fit and is left: {error}")
        return
    paths = RunPaths.choose(project.new / "run" / path.stem)
    write_checkpoint(
        paths.checkpoints,
        TrainingState(legacy.step, model.weights(), [optimizer], best_validation_loss=legacy.best_validation_loss),
        keep=1,
    )
    config.training.output_dir = None
    config.training.init_from = "scratch"
    config.save(paths.config)
    if project.tokenizer is not None:
        project.tokenizer.save_pretrained(paths.tokenizer)
    save_model(model, paths.model, tokenizer=project.tokenizer, overwrite=True)
    dataset = {"source": project.token_folder, "tokens": f"../../{project.token_folder}",
               "block_size": legacy.config.max_seq_length, "stride": None, "train_split": None,
               "seed": config.system.seed}  # fmt: skip
    paths.write_record({"dataset": dataset, "migrated_from": project.relative(path)})
    project.report.notes.append(
        f"Training goes on from step {legacy.step} of {path.name} with: llmbuilder train resume run/{path.stem}"
    )


def _take_other(project: _Project, path: Path) -> None:
    name = project.relative(path)
    commands = []
    if path.suffix.lower() in _SCRIPT_SUFFIXES or path.name == "Makefile":
        try:
            calls = find_calls(PurePosixPath(name), path.read_text("utf-8"))
            commands = [(call, new) for call in calls if (new := translate(call, NamedPlaces())).command]
        except (UnicodeDecodeError, OSError) as error:
            logger.debug(f"{name}: no text ({error})")
    for call, new in commands:
        project.report.commands.append(
            {"file": name, "line": call.line, "old": call.old, "new": new.command, "left": new.left}
        )
    if commands:
        project.report.add_file(name, "left", f"{len(commands)} command(s) in it have a new form, listed below")
    elif path.suffix == ".py":
        replaced = {"train": "train.py", "model": "lb.build_model", "sample": "llmbuilder generate text",
                    "prepare_data": "llmbuilder data load", "eval": "llmbuilder model evaluate"}  # fmt: skip
        instead = replaced.get(path.stem)
        project.report.add_file(name, "left", f"replaced by {instead}" if instead else "a program of the project's own")
    else:
        project.report.add_file(name, "left", "not a configuration, data or checkpoint this package knows")


def _write_script(project: _Project) -> None:
    data = project.token_folder or project.data
    split = "None" if project.token_folder else "config.data.train_split"
    if data is None:
        project.report.notes.append("No training text was found: put it at data/data.txt before running train.py.")
    script = _TRAIN_SCRIPT.format(data=data or "data/data.txt", split=split)
    write_text(project.new / "train.py", script)
    project.report.notes.append("train.py is new; it trains on " + (data or "data/data.txt") + " and writes run/.")
