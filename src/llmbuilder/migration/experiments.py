"""Which configuration, data, command and checkpoint of a legacy project belong together."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from llmbuilder.errors import CheckpointError
from llmbuilder.formats.nanogpt.checkpoint import step_of
from llmbuilder.formats.nanogpt.configuration import is_legacy, migrate_dictionary
from llmbuilder.formats.nanogpt.files import read_checkpoint_file
from llmbuilder.formats.nanogpt.names import find_weights, shape_of, vocabulary_of
from llmbuilder.formats.nanogpt.sections import find_sections
from llmbuilder.migration.commands import Call
from llmbuilder.migration.configurations import Configuration, values_in_force
from llmbuilder.migration.datasets import TOKEN_FILES, Dataset, find_dataset
from llmbuilder.migration.names import Names, naming_path
from llmbuilder.migration.programs import Program

_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".pth.tar", ".pt.tar")


@dataclass
class FoundCheckpoint:
    """A checkpoint file of the legacy project: what it says of itself, and what belongs to it."""

    file: PurePosixPath
    modified: float = 0.0
    step: int = 0
    vocab_size: int | None = None  # rows of the token embedding
    width: int | None = None  # and its columns
    num_layers: int = 0
    settings: dict[str, Any] = field(default_factory=dict)  # of the training that wrote it, in its own words
    problem: str = ""  # why it cannot be read
    name: str = ""
    configuration: Configuration | None = None
    dataset: Dataset | None = None
    program: Program | None = None  # the training program that wrote it

    @property
    def new_model(self) -> str:
        return f"model/{self.name}.pt"

    @property
    def new_run(self) -> str:
        return f"run/{self.name}"


@dataclass
class Experiment:
    """One training of the legacy project: what it is set to, reads and writes."""

    out_dir: str
    run: str
    configuration: Configuration | None = None
    dataset: Dataset | None = None
    checkpoints: list[FoundCheckpoint] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def to_row(self) -> dict[str, Any]:
        """Return what the report shows of it."""
        return {
            "wrote": self.out_dir or None,
            "configuration": self.configuration.source.as_posix() if self.configuration else None,
            "new_configuration": self.configuration.new if self.configuration else None,
            "dataset": self.dataset.name if self.dataset else None,
            "data": self.dataset.path if self.dataset else None,
            "tokenizer": self.dataset.tokenizer_new if self.dataset else None,
            "checkpoints": [checkpoint.file.as_posix() for checkpoint in self.checkpoints],
            "models": [checkpoint.new_model for checkpoint in self.checkpoints if not checkpoint.problem],
            "run": self.run,
            "train": self._train_again(),
            "commands": sorted({f"{call.file}:{call.line}" for call in self.calls}),
        }

    def _train_again(self) -> str | None:
        """Return the line that trains it with the new train.py, in place of a run that was carried over."""
        if self.configuration is None:
            return None
        replaces = any(not checkpoint.problem for checkpoint in self.checkpoints)
        return f"python train.py {shlex.quote(self.configuration.new)}" + (" --overwrite" if replaces else "")


def read_checkpoints(root: Path, files: Sequence[PurePosixPath]) -> list[FoundCheckpoint]:
    """Read what files of weights say of themselves; those that cannot be read say why. Weights stay on the disk."""
    found = []
    for file in files:
        checkpoint = FoundCheckpoint(file, (root / file).stat().st_mtime)
        try:
            content = read_checkpoint_file(root / file, in_place=True)
            if isinstance(content, Mapping):
                checkpoint.settings = settings_of(content)
                weights = find_weights(content) or {}
                checkpoint.vocab_size = vocabulary_of(weights)
                checkpoint.width, layers = shape_of(weights)
                checkpoint.num_layers = layers or 0
                checkpoint.step = step_of(content)
        except CheckpointError as error:
            checkpoint.problem = str(error)
        found.append(checkpoint)
    return found


def is_checkpoint(root: Path, file: PurePosixPath) -> bool:
    """Whether a file holds weights, by its name and first bytes."""
    if file.name.lower().endswith(_SUFFIXES):
        return True
    if file.suffix != ".bin" or file.name in TOKEN_FILES:
        return False
    with open(root / file, "rb") as handle:  # pytorch_model.bin is a zip file, token files are none
        return handle.read(4) == b"PK\x03\x04"


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain settings that a checkpoint says it was trained with.

    Raises CheckpointError where it contradicts itself.
    """
    named = ("model_args", "config")
    settings = {k: v for section in find_sections(content) if section.place not in named
                for k, v in section.values.items()}  # fmt: skip
    for key in named:
        value = content.get(key)
        if isinstance(value, Mapping):
            settings.update({k: v for k, v in value.items() if isinstance(k, str)})
    return settings


class Naming:
    """The names of runs and models: an `out_dir` and the checkpoint that stands for it have one name."""

    def __init__(self, checkpoints: Sequence[PurePosixPath]) -> None:
        self._checkpoints = checkpoints
        self._names = Names()

    def of_out_dir(self, out_dir: str) -> str:
        """Return the name of the run that stands for an `out_dir`."""
        folder = normal_path(out_dir)
        return self._names.short(folder, owner=folder)

    def of_configuration(self, new: str) -> str:
        """Return the name of the run of a configuration that names no `out_dir`."""
        path = PurePosixPath(new).with_suffix("")
        return self._names.short(path.relative_to("configs") if path.parts[0] == "configs" else path, owner=path)

    def of_checkpoint(self, file: PurePosixPath) -> str:
        """Return the name of a checkpoint."""
        path = naming_path(file, self._checkpoints)
        return self._names.short(path, owner=path if path == file.parent else file)


def normal_path(path: str) -> PurePosixPath:
    """Return a path as it is written most simply."""
    return PurePosixPath(posixpath.normpath(path.replace("\\", "/") or "."))


def connect(
    checkpoints: Sequence[FoundCheckpoint],
    configurations: Sequence[Configuration],
    datasets: Sequence[Dataset],
    programs: Mapping[PurePosixPath, Program],
) -> None:
    """Find each configuration's dataset, and each checkpoint's configuration, dataset and program.

    A checkpoint's own word comes first, then the configuration that writes to its folder, then what there is only one
    of. What cannot be told stays open: nothing is guessed between two.
    """
    for one in configurations:
        one.dataset = find_dataset(datasets, one.dataset_name)
        if one.dataset is None and one.dataset_name is None:
            beside = _beside(programs.get(one.source), datasets)
            one.dataset = beside or only(datasets) or _called_alike(one.source, datasets)
    for checkpoint in checkpoints:
        checkpoint.configuration = _configuration_of(checkpoint, configurations)
        checkpoint.program = _program_of(checkpoint, programs)
        configuration = checkpoint.configuration
        if configuration is not None and configuration.dataset is None and configuration.dataset_name is None:
            configuration.dataset = _beside(checkpoint.program, datasets)
        named = checkpoint.settings.get("dataset")
        checkpoint.dataset = find_dataset(datasets, named if isinstance(named, str) else None)
        if checkpoint.dataset is None and configuration is not None:
            checkpoint.dataset = configuration.dataset
            named = named or configuration.dataset_name
        if checkpoint.dataset is None and not named:  # data that is named and not here is no other data
            found = _beside(checkpoint.program, datasets) or _nearest(checkpoint, datasets) or only(datasets)
            checkpoint.dataset = found or _called_alike(checkpoint.file, datasets)


def _beside(program: Program | None, datasets: Sequence[Dataset]) -> Dataset | None:
    """Return the text that lies beside a program and that it names: `open('input.txt')`."""
    if program is None:
        return None
    texts = [d for d in datasets if not d.is_folder and not d.is_prompt and d.place.parent == program.path.parent]
    named = [dataset for dataset in texts if dataset.place.name in program.strings]
    return named[0] if len(named) == 1 else None


def _called_alike(path: PurePosixPath, datasets: Sequence[Dataset]) -> Dataset | None:
    """Return the one dataset that is called like a folder of a path: `checkpoints/code/ckpt.pt` and `data/code`."""
    alike = [dataset for dataset in datasets if dataset.is_folder and dataset.place.name in path.parts[:-1]]
    return alike[0] if len(alike) == 1 else None


def only(datasets: Sequence[Dataset]) -> Dataset | None:
    """Return the one dataset that a training could have read: the only one with tokens, else the only one."""
    with_tokens = [dataset for dataset in datasets if dataset.has_tokens]
    candidates = with_tokens or [dataset for dataset in datasets if dataset.has_data and not dataset.is_prompt]
    return candidates[0] if len(candidates) == 1 else None


def _nearest(checkpoint: FoundCheckpoint, datasets: Sequence[Dataset]) -> Dataset | None:
    """Return the one dataset that lies nearest above or beside a checkpoint, where others lie farther away."""
    for folder in list(checkpoint.file.parents)[:-1]:
        here = [dataset for dataset in datasets if folder in dataset.place.parents]
        if here:
            return only(here)
    return None


def _configuration_of(checkpoint: FoundCheckpoint, configurations: Sequence[Configuration]) -> Configuration | None:
    """Return the configuration that a checkpoint was trained with, as far as its own settings say or its folder."""
    trained = [c for c in configurations if not c.is_evaluation and TRAINED & c.values.keys()]
    writing = [c for c in trained if c.out_dir is not None and normal_path(c.out_dir) == checkpoint.file.parent]
    if checkpoint.settings.keys() & _SHAPE:
        equal = [c for c in writing or trained if _is_equal(c, checkpoint.settings)]
        return next((c for c in equal if c.kind == "file"), equal[0] if equal else None)
    files = [c for c in writing if c.kind == "file"]
    beside = [c for c in trained if c.kind == "file" and c.source.parent == checkpoint.file.parent]
    for candidates in (
        beside if len(checkpoint.file.parts) > 1 else [],
        files,
        writing,
        [c for c in trained if c.new == "config.json"],
        trained,
    ):
        if len(candidates) == 1:
            return candidates[0]
    return None


_SHAPE = {"n_layer", "n_head", "n_embd", "block_size", "batch_size", "learning_rate", "max_iters"}
_NO_RESULT = {"device", "dtype", "compile", "backend", "init_from", "vocab_size", "eval_only", "seed"}  # of the model's


def _is_equal(configuration: Configuration, settings: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's settings are a configuration's, but for where and how fast it was computed."""
    values = configuration.values
    if not _SHAPE & values.keys() & settings.keys():
        return False
    return all(
        values[key] == value
        for key, value in settings.items()
        if key in values and key not in _NO_RESULT and not key.startswith("wandb")
    )


def own_configurations(
    checkpoints: Sequence[FoundCheckpoint], configurations: Sequence[Configuration], datasets: Sequence[Dataset]
) -> list[Configuration]:
    """Give each checkpoint that says its settings, where no configuration has them, one of its own; return those."""
    names = Names(configuration.new for configuration in configurations)
    found = []
    for checkpoint in checkpoints:
        if checkpoint.configuration is not None or not _SHAPE & checkpoint.settings.keys():
            continue
        settings = checkpoint.settings
        if not TRAINED & settings.keys():  # it says its shape only: the rest is the program's that wrote it
            settings = {**_values_of_writer(checkpoint, configurations), **settings}
        if TRAINED & settings.keys() and is_legacy(settings):
            new = names.whole(PurePosixPath("configs", f"{checkpoint.name}.json"), owner=checkpoint.file)
            migrated = migrate_dictionary(settings)
            own = Configuration(checkpoint.file, migrated, new, "checkpoint", values_in_force(migrated))
            own.dataset = checkpoint.dataset or find_dataset(datasets, own.dataset_name)
            checkpoint.configuration = own
            found.append(own)
    return found


def _values_of_writer(checkpoint: FoundCheckpoint, configurations: Sequence[Configuration]) -> dict[str, Any]:
    program = checkpoint.program
    own = [c for c in configurations if program is not None and c.source == program.path and c.kind == "program"]
    return own[0].values if own else {}


TRAINED = {"batch_size", "learning_rate", "max_iters"}


def _program_of(checkpoint: FoundCheckpoint, programs: Mapping[PurePosixPath, Program]) -> Program | None:
    training = [program for program in programs.values() if program.role == "train"]
    configuration = checkpoint.configuration
    if configuration is not None and configuration.kind == "program":
        return programs.get(configuration.source)
    for folder in checkpoint.file.parents:
        here = sorted((p for p in training if p.path.parent == folder), key=lambda p: (p.path.stem != "train", p.path))
        if here:
            return here[0]
    called_so = [program for program in training if program.path.stem == "train"]
    for candidates in (training, called_so):
        if len(candidates) == 1:
            return candidates[0]
    return None


def newest(checkpoints: Sequence[FoundCheckpoint]) -> FoundCheckpoint | None:
    """Return the checkpoint that was written last; of equally old ones the one with the most steps."""
    readable = [checkpoint for checkpoint in checkpoints if not checkpoint.problem]
    return max(readable, key=lambda c: (c.modified, c.step, c.file), default=None)
