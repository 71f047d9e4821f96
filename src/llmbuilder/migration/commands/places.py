"""What a translation asks about the project: where its files went, and what its programs do on their own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Role = Literal["train", "sample", "prepare", "evaluate", "other"]
Style = Literal["configurator", "argparse", "plain"]


@dataclass(frozen=True)
class ScriptFacts:
    """What a legacy program is for, and how it takes its arguments.

    `style` "configurator" is nanoGPT's: `config/file.py --key=value`; "plain" is a way of the program's own.
    `defaults` are its own constants, or argparse's, by name. `options` maps each flag of argparse ("--max-iters",
    "-n") to the name its value is kept under.
    """

    role: Role
    style: Style = "configurator"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedDataset:
    """What a legacy program that prepares a dataset makes.

    `raw_text` is its text in the new project, if it has one; `data` is what the configurations read;
    `has_tokens`: its token files were carried over.
    """

    name: str
    data: str | None = None
    raw_text: str | None = None
    has_tokens: bool = False


class Places(Protocol):
    """The new project, asked by the names of the old one. Paths are relative to the project's root."""

    def script(self, path: str) -> ScriptFacts | None:
        """Return what a program of the old project is, or None if there is no such file."""

    def scripts_called(self, name: str) -> Sequence[str]:
        """Return the paths of all programs with a file's name, those of tests left out, each of them once."""

    def config(self, legacy_path: str) -> str | None:
        """Return the new configuration file of a legacy one (configs/train_x.json), or None if there is none."""

    def default_config(self, script: str) -> str:
        """Return the new configuration that stands for a program's own defaults (a bare `python train.py`)."""

    def config_values(self, legacy_path: str | None, script: str) -> Mapping[str, Any]:
        """Return the legacy values in force: the program's defaults with the configuration file laid over them."""

    def own_values(self, legacy_path: str) -> Mapping[str, Any]:
        """Return what a configuration file itself says, without the program's defaults."""

    def data(self, name_or_path: str) -> str | None:
        """Return where a dataset, by name, or a file of data is now; None if it was not carried over."""

    def run(self, out_dir: str) -> str:
        """Return the run folder that stands for an out_dir; "" is that of a program which names none."""

    def default_run(self, config: str) -> str:
        """Return the run folder of a training by a new configuration where no out_dir is said."""

    def named_run(self, name: str) -> str:
        """Return the run folder of an experiment that is known by its name; paths that end in it mean it from then."""

    def own_run(self, run: str, training: Hashable) -> str:
        """Return the run folder of one training of several that would have the same: that one, or with a number."""

    def replaces(self, out_dir: str) -> bool:
        """Whether a migrated run lies in that run folder already."""

    def model(self, path: str) -> str | None:
        """Return the model file of a legacy checkpoint, or None if it was not carried over."""

    def sampled_model(self, out_dir: str) -> str:
        """Return what sampling from an out_dir ("" if none is named) reads: the run folder that a training writes."""

    def tokenizer(self, out_dir_or_dataset: str) -> str | None:
        """Return the tokenizer folder that goes with a run or a dataset, or None if its model has its own."""

    def vocabulary(self, dataset: str) -> int | None:
        """Return the vocab_size that the old programs give a model of a dataset, or None if that is not known."""

    def prepared(self, script: str) -> PreparedDataset | None:
        """Return what a program such as data/NAME/prepare.py makes, or None if that is not known."""
