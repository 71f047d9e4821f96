"""A legacy project understood as a whole before anything is made of it. Its folder is only read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from llmbuilder.errors import MigrationError
from llmbuilder.formats.nanogpt.characters import characters_of
from llmbuilder.formats.nanogpt.model_source import defines_model, find_model_source
from llmbuilder.migration.commands import Call, find_calls
from llmbuilder.migration.configurations import Configuration, find_configurations, imported, set_from_sources
from llmbuilder.migration.datasets import Dataset, find_dataset, find_datasets, name_tokenizers, read_tables
from llmbuilder.migration.experiments import (
    TRAINED,
    Experiment,
    FoundCheckpoint,
    Naming,
    connect,
    is_checkpoint,
    newest,
    normal_path,
    own_configurations,
    read_checkpoints,
)
from llmbuilder.migration.listing import list_project
from llmbuilder.migration.programs import Program, adopt_options, read_program
from llmbuilder.tokenizer import Tokenizer

LARGEST_SCRIPT = 4 << 20  # bytes; a notebook with pictures may have megabytes
_SCRIPT_SUFFIXES = {
    ".sh", ".bash", ".zsh", ".slurm", ".sbatch", ".pbs", ".bat", ".cmd", ".ps1", ".py", ".md", ".rst", ".txt", ".yml",
    ".yaml", ".toml", ".ipynb", ".mk", ".dockerfile", "",
}  # fmt: skip


@dataclass
class LegacyProject:
    """What there is in a legacy project, and what belongs together. Paths are relative to its root."""

    root: Path
    files: list[PurePosixPath]
    programs: dict[PurePosixPath, Program] = field(default_factory=dict)
    configurations: list[Configuration] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    checkpoints: list[FoundCheckpoint] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    experiments: list[Experiment] = field(default_factory=list)
    naming: Naming = field(default_factory=lambda: Naming([]))
    left: dict[str, str] = field(default_factory=dict)  # what was not read at all, and why
    refused: dict[PurePosixPath, str] = field(default_factory=dict)  # files that could not be read for what they are
    notes: list[str] = field(default_factory=list)

    def configuration_at(self, path: str) -> Configuration | None:
        """Return the configuration that a file of the legacy project is."""
        wanted = normal_path(path)
        return next((c for c in self.configurations if c.source == wanted), None)

    def configuration_of(self, program: PurePosixPath) -> Configuration | None:
        """Return the configuration that a program has on its own."""
        return next((c for c in self.configurations if c.kind == "program" and c.source == program), None)

    def checkpoint_at(self, path: str) -> FoundCheckpoint | None:
        """Return the checkpoint that a file of the legacy project is."""
        wanted = normal_path(path)
        return next((c for c in self.checkpoints if c.file == wanted), None)


def understand(root: Path) -> LegacyProject:
    """Read a legacy project and find out what belongs together. Raises MigrationError for an empty folder."""
    root = root.resolve()
    listing = list_project(root)
    files = listing.files
    if not files and not listing.left:
        raise MigrationError(f"{root} is empty")
    project = LegacyProject(root, files, left=listing.left)
    unread: dict[PurePosixPath, str] = {}
    for file in files:
        program = read_program(root / file, file) if file.suffix in (".py", ".ipynb") else None
        if program is not None:
            project.programs[file] = program
        elif file.suffix == ".py":
            unread[file] = "no Python that can be parsed"
    for program in project.programs.values():
        if program.role in ("train", "sample", "evaluate"):
            adopt_options(program, imported(program, project.programs))
    project.configurations, project.refused = find_configurations(root, files, project.programs)
    project.refused.update(unread)
    set_from_sources(root, project.configurations, project.programs)
    project.calls = [call for file in files for call in _calls_in(root, file)]
    weights = [file for file in files if is_checkpoint(root, file)]
    written = {file.parent for file in weights}
    texts = [file for file in files if file.suffix != ".txt" or not written & {*file.parents} - {PurePosixPath()}]
    project.datasets = find_datasets(texts, project.programs, _mentioned(project))
    _mark_prompts(project)
    project.checkpoints = read_checkpoints(root, weights)
    project.naming = Naming([checkpoint.file for checkpoint in project.checkpoints])
    for checkpoint in sorted(project.checkpoints, key=lambda c: (len(c.file.parts), c.file)):
        checkpoint.name = project.naming.of_checkpoint(checkpoint.file)
    connect(project.checkpoints, project.configurations, project.datasets, project.programs)
    project.configurations += own_configurations(project.checkpoints, project.configurations, project.datasets)
    project.refused.update(read_tables(root, project.datasets))
    _learn_characters(project)
    name_tokenizers(project.datasets)
    project.experiments = list(_experiments(project))
    return project


def _calls_in(root: Path, file: PurePosixPath) -> list[Call]:
    named = file.name in ("Makefile", "Dockerfile", "makefile", "GNUmakefile", "Justfile")
    if not named and file.suffix.lower() not in _SCRIPT_SUFFIXES:
        return []
    if file.suffix == ".txt" and "readme" not in file.name.lower():
        return []
    if (root / file).stat().st_size > LARGEST_SCRIPT:
        return []
    try:
        text = (root / file).read_text("utf-8")
    except UnicodeDecodeError:
        return []
    return find_calls(file, text)


def _mentioned(project: LegacyProject) -> Iterator[str]:
    """Yield what configurations, commands and programs name: some of it are files of data."""
    for call in project.calls:
        for argument in call.arguments:
            yield str(argument).partition("=")[2] or str(argument)
    for configuration in project.configurations:
        yield from (value for value in configuration.values.values() if isinstance(value, str))
    for program in project.programs.values():
        yield from program.strings


def _mark_prompts(project: LegacyProject) -> None:
    """Tell texts that are sampled from (`--start=FILE:prompt.txt`) from those that are trained on."""
    started = {str(word).partition("FILE:")[2] for call in project.calls for word in call.arguments if "FILE:" in word}
    for dataset in project.datasets:
        dataset.is_prompt = not dataset.is_folder and bool({str(dataset.place), dataset.place.name} & started)


def _learn_characters(project: LegacyProject) -> None:
    """Give character datasets without a table the characters of their text, as their programs would.

    It is one if its program makes characters, or if a model of it has just as many tokens as its text has characters.
    """
    for dataset in project.datasets:
        if dataset.tokenizer is not None or not dataset.texts:
            continue
        sizes = {c.vocab_size for c in project.checkpoints if c.dataset is dataset}
        wanted: set[int | None] = {size for size in sizes if size is not None}
        if not wanted and dataset.encoding == "characters":
            wanted = {None}
        texts = [project.root / file for file in dataset.texts]
        for size in wanted:
            characters = characters_of(texts, size)
            if characters is not None:
                dataset.tokenizer = Tokenizer.from_nanogpt_characters(characters)
                project.notes.append(
                    f"{dataset.place} has no meta.pkl: its tokenizer is the {len(characters)} different characters of "
                    f"{', '.join(file.name for file in dataset.texts)}, sorted, as nanoGPT's prepare.py does it."
                )
                break


def _experiments(project: LegacyProject) -> Iterator[Experiment]:
    """Put together what was trained: by configuration and `out_dir`, in the order of the files that say so."""
    found: dict[tuple[str, str, str], Experiment] = {}

    def experiment(configuration: Configuration | None, out_dir: str, dataset: Dataset | None) -> Experiment:
        dataset = dataset or (configuration.dataset if configuration else None)
        folder = normal_path(out_dir).as_posix() if out_dir else ""
        key = (configuration.new if configuration else "", folder, dataset.new if dataset else "")
        if key not in found:
            run = run_folder(project, configuration, out_dir)
            found[key] = Experiment(out_dir, run, configuration, dataset)
        return found[key]

    def written_by(out_dir: str | None) -> Experiment | None:
        """Return the experiment whose checkpoint a command with settings of its own wrote: it has them, too."""
        own = [one for one in found.values() if one.configuration and one.configuration.kind == "checkpoint"]
        alike = [one for one in own if out_dir and normal_path(one.out_dir) == normal_path(out_dir)]
        return alike[0] if len(alike) == 1 else None

    for checkpoint in project.checkpoints:
        if not checkpoint.problem:
            one = experiment(checkpoint.configuration, checkpoint.file.parent.as_posix(), checkpoint.dataset)
            one.checkpoints.append(checkpoint)
            if len(one.checkpoints) == 1:
                one.run = checkpoint.new_run
    for call in project.calls:
        program = project.programs.get(normal_path(call.script))
        if program is None or program.role != "train" or call.is_example:
            continue
        configuration = _configuration_of_call(project, call, program)
        if configuration is not None and configuration.is_evaluation:
            continue
        given = dict(_given(call))
        out_dir = given.get("out_dir") or (configuration.out_dir if configuration else None)
        if out_dir is None and configuration is None:
            continue  # nothing is known of it
        dataset = find_dataset(project.datasets, given.get("dataset") or given.get("data"))
        one = written_by(out_dir) or experiment(configuration, out_dir or "", dataset)
        one.calls.append(call)
    for configuration in project.configurations:
        trains = (
            configuration.kind == "file" and not configuration.is_evaluation and TRAINED & configuration.values.keys()
        )
        if trains and all(one.configuration is not configuration for one in found.values()):
            experiment(configuration, configuration.out_dir or "", None)
    for configuration in project.configurations:
        if configuration.kind == "program" and not found:
            experiment(configuration, configuration.out_dir or "", None)
    yield from found.values()


def run_folder(project: LegacyProject, configuration: Configuration | None, out_dir: str | None) -> str:
    """Return the run folder that stands for an `out_dir`; where none is said, one called like the configuration."""
    if out_dir:
        return f"run/{project.naming.of_out_dir(out_dir)}"
    if configuration is None or configuration.new == "config.json":
        return "run"
    return f"run/{project.naming.of_configuration(configuration.new)}"


def _given(call: Call) -> Iterator[tuple[str, str]]:
    words = [str(argument) for argument in call.arguments]
    for position, word in enumerate(words):
        if word.startswith("--"):
            name, separator, value = word[2:].partition("=")
            following = words[position + 1] if position + 1 < len(words) else ""
            yield name.replace("-", "_"), value if separator else following


def _configuration_of_call(project: LegacyProject, call: Call, program: Program) -> Configuration | None:
    for word in [dict(_given(call)).get("config", ""), *map(str, call.arguments)]:
        path = PurePosixPath(call.cwd) / word if word else None
        found = project.configuration_at(str(path)) if path is not None else None
        if found is not None:
            return found
    return project.configuration_of(program.path)


def model_source(project: LegacyProject, checkpoint: FoundCheckpoint, content: Mapping[str, Any]) -> Path | None:
    """Return the file that defines a checkpoint's model; None if none does.

    That is the one model that its training program imports or is; else the one in the nearest folder whose classes have
    the parts that the weights name.
    """
    program = checkpoint.program
    if program is not None:
        used = [project.root / one.path for one in (program, *imported(program, project.programs)) if one.is_model]
        defining = [path for path in used if defines_model(path, content, project.root)]
        if len(defining) == 1:
            return defining[0]
    for folder in checkpoint.file.parents:
        found = find_model_source(content, project.root / folder)
        if found is not None:
            return found
    return None


def main_configuration(project: LegacyProject) -> tuple[Configuration | None, str]:
    """Return the project's main configuration, and in words why it is that one.

    That is the `config.json` at its top; else what its newest checkpoint was trained with; else the training that its
    README runs; else the one training configuration or program there is. Never one that only evaluates.
    """
    training = [c for c in project.configurations if not c.is_evaluation]
    declared = next((c for c in training if c.new == "config.json"), None)
    if declared is not None:
        return declared, "the project's own"
    latest = newest(project.checkpoints)
    if latest is not None and latest.configuration is not None:
        return latest.configuration, f"what the newest checkpoint, {latest.file}, was trained with"
    for call in project.calls:
        program = project.programs.get(normal_path(call.script))
        if call.file.name.lower().startswith("readme") and program is not None and program.role == "train":
            found = _configuration_of_call(project, call, program)
            if found is not None and not found.is_evaluation:
                return found, f"what {call.file} trains with, line {call.line}"
    by_depth = sorted(
        training, key=lambda c: (len(c.source.parts), c.kind != "program", c.source.stem != "train", c.source)
    )
    if not by_depth:
        return None, ""
    first = by_depth[0]
    return first, "the program's own settings" if first.kind == "program" else "the first training configuration"
