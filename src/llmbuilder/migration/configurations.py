"""The configurations of a legacy project: files, and the settings that its training programs have on their own."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from llmbuilder.config.parsing import read_mapping
from llmbuilder.errors import ConfigError
from llmbuilder.formats.nanogpt.configuration import (
    CONVERTED_KEYS,
    FLAT_KEYS,
    MigratedConfig,
    is_legacy,
    migrate_dictionary,
    migrate_python_file,
)
from llmbuilder.formats.nanogpt.source import ArchitectureFacts, read_architecture
from llmbuilder.migration.datasets import NOT_DATA_FOLDERS, Dataset
from llmbuilder.migration.names import Names
from llmbuilder.migration.programs import Program

_ROOT_FILES = ("config.json", "config.yaml", "config.yml")
_NANOGPT = "nanoGPT"
_FEWEST_SETTINGS = 3  # known ones: a program with fewer has no settings of a training

# Other names of nanoGPT's settings in programs without configuration files.
_SPELLINGS = {
    "B": "batch_size", "T": "block_size", "max_lr": "learning_rate", "max_steps": "max_iters",
    "warmup_steps": "warmup_iters", "log_dir": "out_dir", "work_dir": "out_dir", "grad_norm_clip": "grad_clip",
    "context_length": "block_size", "lr": "learning_rate", "use_compile": "compile", "compile_model": "compile",
    "d_model": "n_embd", "n_embed": "n_embd", "emb_dim": "n_embd", "embed_dim": "n_embd", "embedding_dim": "n_embd",
    "num_layers": "n_layer", "num_heads": "n_head", "context_size": "block_size", "context_len": "block_size",
    "seq_len": "block_size", "sequence_length": "block_size", "max_len": "block_size", "grad_clip_norm": "grad_clip",
    "warmup": "warmup_iters", "max_iterations": "max_iters", "num_steps": "max_iters", "decay_steps": "lr_decay_iters",
    "grad_accum_steps": "gradient_accumulation_steps", "output_dir": "out_dir", "checkpoint_dir": "out_dir",
}  # fmt: skip


@dataclass
class Configuration:
    """One configuration: what it says, and where it is in the new project."""

    source: PurePosixPath  # the file, the program or the checkpoint that says it
    migrated: MigratedConfig
    new: str
    kind: str = "file"  # file, program or checkpoint
    values: dict[str, Any] = field(default_factory=dict)  # legacy values in force: defaults, then its own
    written: dict[str, str] = field(default_factory=dict)  # nanoGPT's name of a setting -> the program's own
    dataset: Dataset | None = None

    @property
    def is_evaluation(self) -> bool:
        """Whether it measures a model instead of training one."""
        return bool(self.values.get("eval_only")) or self.source.stem.lower().startswith("eval")

    @property
    def out_dir(self) -> str | None:
        return _text(self.values.get("out_dir"))

    @property
    def dataset_name(self) -> str | None:
        lowered = {key.rsplit(".", 1)[-1].lower(): value for key, value in self.values.items()}
        return next((name for key in _DATA_KEYS if (name := _text(lowered.get(key))) is not None), None)


_DATA_KEYS = ("dataset", "data_dir", "dataset_dir", "data_path", "dataset_name", "data_root", "train_data", "data_file")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def program_settings(
    program: Program, programs: Mapping[PurePosixPath, Program]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a training program's own settings in nanoGPT's terms, and how those it calls otherwise are written.

    They are its constants or the defaults of its options, over what it gives to the model's configuration class, over
    the defaults of that class, in this program or in one that it imports.
    """
    settings: dict[str, Any] = {}
    written: dict[str, str] = {}
    others = imported(program, programs, directly=True)
    for other in reversed([program, *imported(program, programs)]):
        for values in other.dataclasses.values():
            settings.update(_known(values))
    for one in (*reversed(others), program):
        settings.update(_settings_in_tables(one))
        for name in program.called & one.returned.keys():
            settings.update(_known(one.returned[name]))
        if one is not program:  # constants of another file that are written as such
            settings.update(_known({key: value for key, value in one.constants.items() if key.isupper()}))
    own: dict[str, Any] = {}
    for other in reversed(others):
        own.update(other.configured)
    own.update({**program.given, **program.configured, **program.defaults})
    for key, value in own.items():
        known = _known_name(key)
        if not _is_setting(value) or (known != key and known in own):
            continue
        settings[known] = value
        if known != key:
            written[known] = key
    for one in (program, *others):
        settings.update(one.presets.get(str(settings.get("model_type")), {}))
    _split_together(own, settings, written)
    total, batch, length = (settings.get(key) for key in ("total_batch_size", "batch_size", "block_size"))
    if isinstance(total, int) and isinstance(batch, int) and isinstance(length, int) and batch * length > 0:
        settings.setdefault("gradient_accumulation_steps", max(1, total // (batch * length)))
        written["gradient_accumulation_steps"] = "total_batch_size"
        del settings["total_batch_size"]
    return settings, written


def _known_name(key: str) -> str:
    """Return nanoGPT's name of a setting: BATCH_SIZE is batch_size, and LR learning_rate."""
    if key in _SPELLINGS:
        return _SPELLINGS[key]
    lowered = key.lower()
    if key != lowered and (lowered in FLAT_KEYS or lowered in CONVERTED_KEYS or lowered in _SPELLINGS):
        return _SPELLINGS.get(lowered, lowered)
    return key


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some values that nanoGPT has, by its names."""
    named = {_known_name(key): value for key, value in values.items() if isinstance(key, str) and _is_setting(value)}
    return {key: value for key, value in named.items() if key in FLAT_KEYS or key in CONVERTED_KEYS}


def _settings_in_tables(program: Program) -> dict[str, Any]:
    """Return the settings that a program keeps in a dictionary: `DEFAULTS = {"training": {"n_layer": 6, ...}}`."""
    found: dict[str, Any] = {}
    for table in program.constants.values():
        if not isinstance(table, dict):
            continue
        parts = [table, *(table[name] for name in ("data", "model", "train", "training") if name in table)]
        for part in parts:
            if isinstance(part, dict) and len(FLAT_KEYS.keys() & part.keys()) >= _FEWEST_SETTINGS:
                found.update({key: value for key, value in part.items() if isinstance(key, str) and _is_setting(value)})
    return found


def _split_together(own: Mapping[str, Any], settings: dict[str, Any], written: dict[str, str]) -> None:
    """Take what a program sets together, or in parts, where nanoGPT has the other: betas, kinds of dropout."""
    betas = own.get("betas")
    if isinstance(betas, list | tuple) and len(betas) == 2:
        settings.update(beta1=betas[0], beta2=betas[1])
        written.update(beta1="betas", beta2="betas")
    parts = ("embd_pdrop", "resid_pdrop", "attn_pdrop")
    if len({own.get(part) for part in parts}) == 1 and own.get(parts[0]) is not None:
        settings["dropout"] = own[parts[0]]
        written["dropout"] = ", ".join(parts)
        for part in parts:
            settings.pop(part, None)


def _is_setting(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def imported(program: Program, programs: Mapping[PurePosixPath, Program], *, directly: bool = False) -> list[Program]:
    """Return the project's own programs that a program imports, and unless only `directly`, those that they import.

    The nearest come first.
    """
    found: list[Program] = []
    waiting = collections.deque([program])
    while waiting:
        one = waiting.popleft()
        if directly and one is not program:
            break
        for module in one.imports:
            for candidate in _module_files(module, one.path):
                other = programs.get(candidate)
                if other is not None and other is not program and other not in found:
                    found.append(other)
                    waiting.append(other)
                    break
    return found


def _module_files(module: str, importer: PurePosixPath) -> list[PurePosixPath]:
    level = len(module) - len(module.lstrip("."))
    parts = module.lstrip(".").split(".") if module.lstrip(".") else ["__init__"]
    bases = [PurePosixPath(*importer.parts[: max(0, len(importer.parts) - level)])] if level else [
        *importer.parents, PurePosixPath("src")]  # fmt: skip
    return [base.joinpath(*parts).with_suffix(".py") for base in bases] + [
        base.joinpath(*parts, "__init__.py") for base in bases
    ]


def find_configurations(
    root: Path, files: list[PurePosixPath], programs: Mapping[PurePosixPath, Program]
) -> tuple[list[Configuration], dict[PurePosixPath, str]]:
    """Return the configuration files and the training programs' own settings; and files that look like one and fail."""
    names = Names(["configs/train.json"] if PurePosixPath("train.py") in programs else [])
    found: list[Configuration] = []
    refused: dict[PurePosixPath, str] = {}
    parts = {other.path for program in programs.values() for other in imported(program, programs, directly=True)}
    for file in files:
        if file in parts or file.name == "__init__.py":
            continue  # it is a part of the programs that import it
        try:
            migrated = _read(root, file, programs)
        except ConfigError as error:
            refused[file] = str(error)
            continue
        if migrated is not None:
            is_main = len(file.parts) == 1 and file.name in _ROOT_FILES
            below = PurePosixPath(*(file.parts[1:] if file.parts[0] in ("config", "configs") and len(file.parts) > 1
                                    else file.parts)).with_suffix(".json")  # fmt: skip
            new = "config.json" if is_main and not any(c.new == "config.json" for c in found) else names.whole(
                PurePosixPath("configs", below), owner=file)  # fmt: skip
            found.append(Configuration(file, migrated, new, values=values_in_force(migrated)))
    training = {path: program for path, program in programs.items()
                if program.role == "train" and not NOT_DATA_FOLDERS & set(path.parts[:-1])}  # fmt: skip
    own = [_of_program(program, programs, names) for program in training.values() if not program.is_library]
    if not any(own):  # a training that something else starts, such as a page
        own = [_of_program(program, programs, names) for program in training.values()]
    found += [configuration for configuration in own if configuration is not None]
    return found, refused


def _of_program(program: Program, programs: Mapping[PurePosixPath, Program], names: Names) -> Configuration | None:
    """Return the configuration that a training program has on its own; None if it has next to none."""
    path = program.path
    settings, written = program_settings(program, programs)
    if len(settings.keys() & FLAT_KEYS.keys()) < _FEWEST_SETTINGS or not is_legacy(settings):
        return None
    reserved = path == PurePosixPath("train.py")
    new = "configs/train.json" if reserved else names.whole(
        PurePosixPath("configs", path.with_suffix(".json")), owner=path)  # fmt: skip
    migrated = migrate_dictionary(settings)
    for key, name in written.items():
        migrated.legacy_values[key] = program.defaults.get(name, migrated.legacy_values[key])
    return Configuration(path, migrated, new, "program", values_in_force(migrated), written)


_FLAT_NAMES = {new: key for key, new in reversed(FLAT_KEYS.items())}


def values_in_force(migrated: MigratedConfig) -> dict[str, Any]:
    """Return the legacy values that act, by nanoGPT's names where it has one for a setting.

    They are a program's defaults, with what the configuration says over them.
    """
    values = {key: default.value for key, default in migrated.defaults.items()}
    for key, new in migrated.mapping.items():
        section, _, name = new.partition(".")
        if new in _FLAT_NAMES and key not in CONVERTED_KEYS:
            values[key if key in FLAT_KEYS else _FLAT_NAMES[new]] = migrated.values.get(section, {}).get(name)
        else:
            values[key] = migrated.legacy_values[key]
    return {**values, **migrated.unmapped}


def _read(root: Path, file: PurePosixPath, programs: Mapping[PurePosixPath, Program]) -> MigratedConfig | None:
    if file.suffix in (".json", ".yaml", ".yml"):
        try:
            values = read_mapping(root / file)
        except ConfigError as error:
            if any("conf" in part.lower() for part in file.parts):
                raise ConfigError(f"it looks like a configuration, but {error}") from error
            return None
        if not _may_be_settings(values):
            return None
        if is_legacy(values):
            return migrate_dictionary(values)
        leaves = _leaves(values)
        return migrate_dictionary(leaves) if len(leaves.keys() & FLAT_KEYS.keys()) >= _FEWEST_SETTINGS else None
    program = programs.get(file)
    if program is None or not program.is_plain:
        return None
    trained_by = training_program(file, programs)
    if trained_by is None:
        found = migrate_python_file(root / file)
    else:
        own, _ = program_settings(trained_by, programs)
        found = migrate_python_file(root / file, own, str(trained_by.path))
    # A configuration is made of settings; a program merely has some assignments.
    if found.is_program:
        return None
    for key, new in (("dataset", "data.path"), ("out_dir", "training.output_dir")):
        if key in found.defaults and found.defaults[key].origin == _NANOGPT:  # it says nothing of another project
            del found.defaults[key]
            section, _, name = new.partition(".")
            found.values[section].pop(name, None)
    return found if len(found.mapping) >= 2 and len(found.mapping) >= len(found.skipped) else None


_MOST_SETTINGS = 2000


def _may_be_settings(values: Mapping[str, Any]) -> bool:
    """Whether a file is no vocabulary, and no plan of many trainings, with a list in the place of each value."""
    known = [value for key, value in values.items() if key in FLAT_KEYS]
    lists = sum(isinstance(value, list) for value in known)
    return len(values) <= _MOST_SETTINGS and (not known or lists * 2 <= len(known))


def _leaves(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a project's own form of configuration, in whatever sections, by nanoGPT's names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(_leaves({str(name): inner for name, inner in value.items()}))
        elif re.fullmatch(r"\w+", str(key)):
            found.setdefault(_known_name(str(key)), value)
    return found if not _looks_new(values) else {}


def _looks_new(values: Mapping[str, Any]) -> bool:
    """Whether it has this package's own sections and keys."""
    model = values.get("model")
    return isinstance(model, Mapping) and "model_type" in model and "training" in values and "num_layers" in model


def set_from_sources(
    root: Path, configurations: Iterable[Configuration], programs: Mapping[PurePosixPath, Program]
) -> None:
    """Let configurations of GPTs have the GELU and the epsilon of the project's own model, where its source tells."""
    read: dict[PurePosixPath, ArchitectureFacts] = {}  # by training program: many configurations share one
    for configuration in configurations:
        model = configuration.migrated.values.get("model", {})
        if configuration.kind == "program":
            program = programs.get(configuration.source)
        else:
            program = training_program(configuration.source, programs)
        if program is None or model.get("model_type") != "gpt":
            continue
        if program.path not in read:
            models = [one for one in (program, *imported(program, programs)) if one.is_model]
            read[program.path] = read_architecture(root / one.path for one in models)
        facts = read[program.path]
        if facts.activation in ("gelu", "gelu_tanh"):
            model["activation"] = facts.activation
        epsilons = facts.norm_epsilons.get("layernorm", set())
        if len(epsilons) == 1 and "norm_eps" not in model:
            model["norm_eps"] = next(iter(epsilons))


def training_program(file: PurePosixPath, programs: Mapping[PurePosixPath, Program]) -> Program | None:
    """Return the program that a configuration file is for: the nearest `train.py` above it that takes such files."""
    training = [p for p in programs.values() if p.role == "train" and p.style == "configurator"]
    for folder in file.parents:
        here = sorted((p for p in training if p.path.parent == folder), key=lambda p: (p.path.stem != "train", p.path))
        if here:
            return here[0]
    return None
