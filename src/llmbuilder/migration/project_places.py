"""Where things of a legacy project are in the new one, as the translation of commands asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from llmbuilder.migration.commands.places import PreparedDataset, Role, ScriptFacts
from llmbuilder.migration.datasets import find_dataset
from llmbuilder.migration.experiments import normal_path
from llmbuilder.migration.understanding import LegacyProject


class ProjectPlaces:
    """Answers from the project's graph; see `commands.places.Places` for the questions."""

    def __init__(self, project: LegacyProject) -> None:
        self._project = project
        self._folders = {checkpoint.file.parent: checkpoint for checkpoint in reversed(project.checkpoints)}

    def script(self, path: str) -> ScriptFacts | None:
        program = self._project.programs.get(normal_path(path))
        if program is None:
            return None
        style = "argparse" if program.style == "argparse" else "configurator"
        return ScriptFacts(cast(Role, program.role), style, program.defaults, program.options)  # type: ignore[arg-type]

    def config(self, legacy_path: str) -> str | None:
        found = self._project.configuration_at(legacy_path)
        return found.new if found is not None else None

    def default_config(self, script: str) -> str:
        wanted = normal_path(script)
        for configuration in self._project.configurations:
            if configuration.kind == "program" and configuration.source == wanted:
                return configuration.new
        return "config.json"

    def config_values(self, legacy_path: str | None, script: str) -> Mapping[str, Any]:
        found = self._project.configuration_at(legacy_path) if legacy_path is not None else None
        if found is None:
            wanted = normal_path(script)
            own = [c for c in self._project.configurations if c.kind == "program" and c.source == wanted]
            found = own[0] if own else None
        return found.values if found is not None else {}

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
        checkpoint = self._folders.get(normal_path(out_dir))
        name = self._project.naming.of_out_dir(out_dir)
        return checkpoint.new_run if checkpoint is not None and checkpoint.name == name else f"run/{name}"

    def replaces(self, out_dir: str) -> bool:
        wanted = self.run(out_dir)
        return any(c.new_run == wanted and not c.problem for c in self._project.checkpoints)

    def model(self, path: str) -> str | None:
        checkpoint = self._project.checkpoint_at(path)
        return checkpoint.new_model if checkpoint is not None and not checkpoint.problem else None

    def sampled_model(self, out_dir: str) -> str:
        if out_dir:
            return self.run(out_dir)
        loose = [c for c in self._project.checkpoints if len(c.file.parts) == 1 and not c.problem]
        return loose[0].new_model if len(loose) == 1 else "run"

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
