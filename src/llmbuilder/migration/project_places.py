"""Where things of a legacy project are in the new one, as the translation of commands asks for it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, cast

from llmbuilder.migration.commands.places import PreparedDataset, Role, ScriptFacts, Style
from llmbuilder.migration.commands.runs import RunNames
from llmbuilder.migration.configurations import imported
from llmbuilder.migration.datasets import NOT_DATA_FOLDERS, find_dataset
from llmbuilder.migration.experiments import normal_path
from llmbuilder.migration.programs import Program
from llmbuilder.migration.understanding import LegacyProject, main_configuration, run_folder
from llmbuilder.migration.writing import run_of

# Folders that many programs write to.
_SAYING_NOTHING = {"checkpoints", "checkpoint", "ckpt", "ckpts", "models", "model", "weights", "out", "output",
                   "outputs", "log", "logs", "runs", "results", "saved", "."}  # fmt: skip
# A table with one of these says how text is generated.
_OF_SAMPLING = {"max_new_tokens", "max_tokens", "num_samples", "temperature", "top_k", "top_p", "n_samples"}


class ProjectPlaces:
    """Answers from the project's graph; see `commands.places.Places` for the questions."""

    def __init__(self, project: LegacyProject) -> None:
        self._project = project
        self._folders = {checkpoint.file.parent: checkpoint for checkpoint in reversed(project.checkpoints)}
        self._written = {normal_path(one.out_dir) for one in project.experiments if one.out_dir}
        self._named: dict[str, str] = {}
        self._runs = RunNames()

    def script(self, path: str) -> ScriptFacts | None:
        program = self._project.programs.get(normal_path(path))
        if program is None:
            return None
        style = "plain" if program.style == "none" else program.style
        defaults = sampling_defaults(program, self._project.programs) if program.role == "sample" else program.defaults
        return ScriptFacts(cast(Role, program.role), cast(Style, style), defaults, program.options)

    def scripts_called(self, name: str) -> list[str]:
        found: dict[Path, str] = {}
        for path in self._project.programs:
            if path.name == name and not NOT_DATA_FOLDERS & {part.lower() for part in path.parts[:-1]}:
                found.setdefault((self._project.root / path).resolve(), str(path))
        return list(found.values())

    def config(self, legacy_path: str) -> str | None:
        found = self._project.configuration_at(legacy_path)
        return found.new if found is not None else None

    def default_config(self, script: str) -> str:
        own = self._project.configuration_of(normal_path(script))
        return own.new if own is not None else "config.json"

    def config_values(self, legacy_path: str | None, script: str) -> Mapping[str, Any]:
        found = self._project.configuration_at(legacy_path) if legacy_path is not None else None
        found = found or self._project.configuration_of(normal_path(script))
        return found.values if found is not None else {}

    def own_values(self, legacy_path: str) -> Mapping[str, Any]:
        found = self._project.configuration_at(legacy_path)
        if found is None:
            return {}
        return {key: value for key, value in found.values.items() if key not in found.migrated.defaults}

    def data(self, name_or_path: str) -> str | None:
        path = normal_path(name_or_path)
        texts = [d for d in self._project.datasets if not d.is_folder and path in d.place.parents]
        if texts:  # a folder of documents
            return str(path) if path.parts[:1] == ("data",) else f"data/{path}"
        dataset = find_dataset(self._project.datasets, name_or_path)
        if dataset is None:
            return None
        return dataset.new_file(path) if path in dataset.files else dataset.path

    def run(self, out_dir: str) -> str:
        if not out_dir:
            return "run"
        folder = normal_path(out_dir)
        checkpoint = self._folders.get(folder)
        if checkpoint is None and folder not in self._written and folder.name in self._named:
            return self._named[folder.name]
        name = self._project.naming.of_out_dir(out_dir)
        return checkpoint.new_run if checkpoint is not None and checkpoint.name == name else f"run/{name}"

    def default_run(self, config: str) -> str:
        configuration = next((c for c in self._project.configurations if c.new == config), None)
        return run_folder(self._project, configuration, None)

    def named_run(self, name: str) -> str:
        plain = name.removesuffix(".pt").removesuffix(".pth")
        run = f"run/{self._project.naming.of_out_dir(plain)}"
        self._named[normal_path(plain).name] = run
        return run

    def own_run(self, run: str, training: Hashable) -> str:
        return self._runs.name(run, training)

    def replaces(self, out_dir: str) -> bool:
        wanted = self.run(out_dir)
        return any(c.new_run == wanted and not c.problem for c in self._project.checkpoints)

    def model(self, path: str) -> str | None:
        checkpoint = self._project.checkpoint_at(path)
        return checkpoint.new_model if checkpoint is not None and not checkpoint.problem else None

    def sampled_model(self, out_dir: str) -> str:
        if out_dir:
            folder = normal_path(out_dir)
            above = [one for one in folder.parents if one in self._written or one.name in self._named]
            is_known = folder in self._written or folder in self._folders or folder.name in self._named
            if not is_known and not above:
                return self._written_by_program(folder.name) or self.run(out_dir)
            return self.run(out_dir if is_known else str(above[0]))
        loose = [c for c in self._project.checkpoints if len(c.file.parts) == 1 and not c.problem]
        if len(loose) == 1:
            return loose[0].new_model
        main, _ = main_configuration(self._project)
        return run_of(self._project, main) if main is not None else "run"

    def _written_by_program(self, name: str) -> str | None:
        """Return the run of the one training program that names a folder somewhere in its text, and says no out_dir."""
        naming = [p.path for p in self._project.programs.values() if p.role == "train" and name in p.strings]
        own = [c for c in self._project.configurations if c.kind == "program" and c.source in naming and not c.out_dir]
        if name.lower() in _SAYING_NOTHING:
            return None
        return self.default_run(own[0].new) if len(own) == 1 == len(naming) else None

    def vocabulary(self, dataset: str) -> int | None:
        found = find_dataset(self._project.datasets, dataset)
        return len(found.tokenizer) if found is not None and found.tokenizer is not None else None

    def tokenizer(self, out_dir_or_dataset: str) -> str | None:
        dataset = find_dataset(self._project.datasets, out_dir_or_dataset)
        if dataset is None:
            folder = normal_path(out_dir_or_dataset)
            runs = [one for one in self._project.experiments if normal_path(one.out_dir) == folder]
            checkpoint = self._project.checkpoint_at(out_dir_or_dataset)
            dataset = checkpoint.dataset if checkpoint else next((one.dataset for one in runs if one.dataset), None)
        return dataset.tokenizer_new if dataset is not None else None

    def prepared(self, script: str) -> PreparedDataset | None:
        path = normal_path(script)
        for dataset in self._project.datasets:
            if dataset.program is not None and dataset.program.path == path:
                raw = dataset.new_file(dataset.texts[0]) if dataset.texts else None
                return PreparedDataset(
                    dataset.name, dataset.path if dataset.has_data else None, raw, dataset.has_tokens
                )
        return None


def sampling_defaults(program: Program, programs: Mapping[PurePosixPath, Program]) -> dict[str, Any]:
    """Return what a program that generates text does by itself.

    They are its constants or its options' defaults, over its tables (a dictionary, a dataclass), over those of the
    programs that it imports.
    """
    found: dict[str, Any] = {}
    for one in (*reversed(imported(program, programs)), program):
        tables = [*one.dataclasses.values(), *(t for t in one.constants.values() if isinstance(t, dict))]
        for table in tables:
            if _OF_SAMPLING & table.keys():
                found.update(table)
    return {**found, **program.defaults}
