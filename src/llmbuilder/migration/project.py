"""`migrate_project`: a legacy project's folder in, a working new project and a full account out.

The legacy folder is only read. Nothing in it is executed, unless its owner asks for a proof by its own code.
"""

from __future__ import annotations

import collections
import re
from pathlib import Path

from llmbuilder.config.schema import Config
from llmbuilder.errors import CheckpointError, MigrationError
from llmbuilder.files import require_absent, write_json, write_text
from llmbuilder.formats.nanogpt.configuration import place_of
from llmbuilder.formats.nanogpt.declared import read_declared
from llmbuilder.migration.account import NOT_KNOWN, MigrationReport
from llmbuilder.migration.commands import translate_all, translate_script
from llmbuilder.migration.configurations import Configuration
from llmbuilder.migration.datasets import TABLE, Dataset
from llmbuilder.migration.models import Proving, migrate_checkpoint
from llmbuilder.migration.project_places import ProjectPlaces
from llmbuilder.migration.understanding import LARGEST_SCRIPT, LegacyProject, main_configuration, understand
from llmbuilder.migration.writing import copy_data, missing_data, new_configuration, run_of, write_train_script
from llmbuilder.notices import counted

_REPLACED = {
    "train": "`llmbuilder train model`, and the new train.py", "sample": "`llmbuilder generate text`",
    "prepare": "`llmbuilder data load`", "evaluate": "`llmbuilder model evaluate`",
}  # fmt: skip


def migrate_project(
    legacy_dir: str | Path,
    new_dir: str | Path,
    *,
    dry_run: bool = False,
    overwrite: bool = False,
    activation: str | None = None,
    run_legacy_code: bool = False,
) -> MigrationReport:
    """Move a legacy project to a new folder and report on every experiment, file, key, checkpoint and command.

    Configurations (JSON, YAML, nanoGPT Python) and the own settings of training programs become config.json and
    configs/; datasets go to data/, their character tables to tokenizer/ or tokenizers/; checkpoints become model/ and
    run/ with the difference of their logits measured; a train.py is written; calls of legacy programs are listed with
    their new form. `activation` ("gelu" or "gelu_tanh") is that of checkpoints which do not tell it. With
    `run_legacy_code` the project's own model code is executed, in a process of its own, to compare with.
    With `dry_run` nothing is written. Raises MigrationError if there is no such folder, or the new one lies inside it
    or holds something.
    """
    legacy, new = Path(legacy_dir), Path(new_dir)
    if activation not in (None, "gelu", "gelu_tanh"):
        raise MigrationError(f"activation is 'gelu' (the exact form) or 'gelu_tanh', not {activation!r}")
    if not legacy.is_dir():
        raise MigrationError(f"no such folder: {legacy}")
    if new.resolve() == legacy.resolve() or legacy.resolve() in new.resolve().parents:
        raise MigrationError(f"{new} lies inside {legacy}, which is never written to: choose a folder outside it")
    if not dry_run:
        require_absent(new, overwrite=overwrite, error=MigrationError)
    project = understand(legacy)
    report = MigrationReport(str(legacy), str(new), dry_run, notes=list(project.notes))
    target = None if dry_run else new
    _carry_data(project, target, report)
    for checkpoint in project.checkpoints:
        migrate_checkpoint(project, checkpoint, target, Proving(activation, run_legacy_code), report)
    _carry_configurations(project, target, report)  # the main one is that of a model which is here
    report.experiments = [experiment.to_row() for experiment in project.experiments]
    _carry_commands(project, target, report)
    _account_for_the_rest(project, report)
    report.files.sort(key=lambda row: row["file"])
    if target is not None:
        write_text(target / "MIGRATION.md", report.to_markdown())
        write_json(target / "migration.json", report.to_dict())
    return report


def _carry_data(project: LegacyProject, new: Path | None, report: MigrationReport) -> None:
    for dataset in project.datasets:
        if new is not None:
            copy_data(project, dataset, new)
        for file in dataset.files:
            if file.name != TABLE:
                report.add_file(str(file), dataset.new_file(file))
            elif dataset.tokenizer is not None:
                report.add_file(str(file), f"{dataset.tokenizer_new}/", f"{len(dataset.tokenizer)} characters")
            else:
                report.add_file(str(file), "left", project.refused.get(file, ""))


def _carry_configurations(project: LegacyProject, new: Path | None, report: MigrationReport) -> None:
    main, why = main_configuration(project)
    _note_missing_data(project, report)
    _note_other_models(project, report)
    for configuration in project.configurations:
        dataset = configuration.dataset
        if dataset is None and configuration.dataset_name is None:
            dataset = _default_data(project)
        config, refused = new_configuration(
            configuration.migrated.values, dataset, str(configuration.source), run_of(project, configuration)
        )
        if config.training.init_from == "resume" and not _has_run(project, config.training.output_dir):
            config.training.init_from = "scratch"
            report.add_note(
                f"{configuration.new} went on with a run that is not here (init_from = 'resume'): it begins anew."
            )
        _account_for_keys(configuration, config, refused, report)
        if new is not None:
            config.save(new / configuration.new)
        if configuration.kind == "file":
            skipped = ", ".join(f"{key} = {value}" for key, value in configuration.migrated.skipped.items())
            report.add_file(
                str(configuration.source),
                configuration.new,
                f"not plain values, left out: {skipped}" if skipped else "",
            )
        if configuration is main and configuration.new != "config.json":
            report.add_note(f"config.json is a copy of {configuration.new}: {why}.")
            if new is not None:
                config.save(new / "config.json")
    says_data = main is not None and (main.dataset is not None or main.dataset_name is not None)
    data = main.dataset if main is not None and says_data else _default_data(project)
    if main is None:
        report.add_note("No legacy configuration was found; config.json holds the defaults.")
        if new is not None:
            new_configuration({}, data, "the defaults")[0].save(new / "config.json")
    if data is None and not says_data:
        report.add_note("No training data was found: put a text at data/data.txt before running train.py.")
    if new is not None:
        write_train_script(new / "train.py", data.path if data else "data/data.txt")
    report.add_note(
        "train.py is new: `python train.py` trains config.json, `python train.py configs/NAME.json` another."
    )


def _has_run(project: LegacyProject, run: str | None) -> bool:
    return any(checkpoint.new_run == run and not checkpoint.problem for checkpoint in project.checkpoints)


def _note_missing_data(project: LegacyProject, report: MigrationReport) -> None:
    missing: dict[str, list[str]] = {}
    for configuration in project.configurations:
        dataset, name = configuration.dataset, configuration.dataset_name
        if name is not None and (dataset is None or not dataset.has_data):
            place = dataset.new if dataset is not None else missing_data(name)
            missing.setdefault(place, []).append(str(configuration.source))
    for place, sources in missing.items():
        verb = "reads" if len(sources) == 1 else "read"
        report.add_note(
            f"No data for {place}, which {', '.join(sources)} {verb}: put its text or its token files (train.bin, "
            "val.bin) there."
        )


def _note_other_models(project: LegacyProject, report: MigrationReport) -> None:
    """Say which configurations ask for a model that is not in this package: what is trained by them is another one."""
    found: list[str] = []
    for configuration in project.configurations:
        if configuration.migrated.values.get("model", {}).get("model_type") != "gpt" or configuration.is_evaluation:
            continue
        asked = {key: value for key, value in configuration.migrated.unmapped.items() if key.isidentifier()}
        try:
            declared = read_declared({"config": {"batch_size": 1, **asked}}, {}).values
        except CheckpointError as error:
            found.append(f"{configuration.source} ({str(error).partition(', which')[0].removeprefix('it declares ')})")
            continue
        other = [f"{key} = {value!r}" for key, value in asked.items() if value in list(declared.values()) and value]
        if other:
            found.append(f"{configuration.source} ({', '.join(other)})")
    if found:
        shown = ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
        report.add_note(
            f"What is trained here by these is another model, because they ask for what is not here: {shown}."
        )


_SHOWN = 6  # configurations that a note names


def _default_data(project: LegacyProject) -> Dataset | None:
    """Return the data of a training that names none: token files if there are only one dataset's, else a text."""
    with_tokens = [dataset for dataset in project.datasets if dataset.has_tokens]
    if with_tokens:
        return with_tokens[0] if len(with_tokens) == 1 else None
    texts = [d for d in project.datasets if d.texts and not d.is_prompt]
    texts.sort(key=lambda d: ("train" not in d.place.name.lower(), len(d.place.parts), d.place.as_posix()))
    return texts[0] if texts else None


def _account_for_keys(
    configuration: Configuration, config: Config, refused: dict[str, str], report: MigrationReport
) -> None:
    migrated, values = configuration.migrated, config.to_dict()

    def add(key: str, value: object, new: str | None, default_of: str | None) -> None:
        key = configuration.written.get(key, key)
        section, _, name = (new or "").partition(".")
        new_value = refused.get(new, values.get(section, {}).get(name)) if new else None
        report.keys.append(
            {"file": str(configuration.source), "new_file": configuration.new, "key": key, "value": value, "new": new,
             "new_value": new_value, "default_of": default_of}
        )  # fmt: skip

    for key in migrated.unmapped_by_weight():
        add(key, migrated.legacy_values.get(key, migrated.unmapped[key]), None, None)
    for key, new in migrated.mapping.items():
        add(key, migrated.legacy_values.get(key), new, None)
    for key, default in migrated.defaults.items():
        add(key, default.value, place_of(key, default.value), default.origin)


def _carry_commands(project: LegacyProject, new: Path | None, report: MigrationReport) -> None:
    places = ProjectPlaces(project)
    for call, translated in zip(project.calls, translate_all(project.calls, places), strict=True):
        report.commands.append(
            {"file": str(call.file), "line": call.line, "old": call.old, "new": translated.command,
             "left": translated.left, "notes": translated.notes}
        )  # fmt: skip
    for file in dict.fromkeys(call.file for call in project.calls):
        calls = [call for call in project.calls if call.file == file]
        if file.suffix not in _SHELL or not any(row["new"] for row in report.commands if row["file"] == str(file)):
            continue
        if new is not None:
            text = translate_script((project.root / file).read_text("utf-8"), calls, places)
            write_text(new / file, _with_new_paths(project, text))
        report.add_file(str(file), str(file), "its commands in their new form; the rest is as it was")


def _with_new_paths(project: LegacyProject, script: str) -> str:
    """Let what a script does besides its commands, such as `if [ -f out/ckpt.pt ]`, name the models that are here."""
    for checkpoint in project.checkpoints:
        if not checkpoint.problem:
            old = re.escape(str(checkpoint.file))
            script = re.sub(rf"(?<![\w./-])(?:\./)?{old}(?![\w./-])", f"{checkpoint.new_run}/model.pt", script)
    return script


_SHELL = (".sh", ".bash", ".slurm", ".sbatch")


def _account_for_the_rest(project: LegacyProject, report: MigrationReport) -> None:
    for name, why in project.left.items():
        report.add_file(name, "left", why)
    known = {row["file"] for row in report.files}
    calls = collections.Counter(row["file"] for row in report.commands if row["new"])
    for file in project.files:
        if str(file) in known:
            continue
        if (project.root / file).stat().st_size > LARGEST_SCRIPT and file.suffix in (".ipynb", ".sh", ".md", ".py"):
            report.add_file(str(file), "left", "larger than 4 MB: not searched for commands")
            continue
        program = project.programs.get(file)
        own = project.configuration_of(file)
        reasons = []
        if file in project.refused:
            reasons.append(project.refused[file])
        if own is not None:
            reasons.append(f"its own settings are {own.new}")
        if program is not None and program.role in _REPLACED:
            reasons.append(f"replaced by {_REPLACED[program.role]}")
        elif program is not None and program.is_model:
            reasons.append("replaced by lb.build_model")
        if str(file) in calls:
            reasons.append(f"{counted(calls[str(file)], 'command')} in it in a new form, listed below")
        elif program is not None and not reasons:
            reasons.append("a program of the project's own")
        report.add_file(str(file), "left", "; ".join(reasons) or NOT_KNOWN)
