"""What is written into a new project besides its models: configurations, data, tokenizers, the training script."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from llmbuilder.config.loading import build_config, merge
from llmbuilder.config.schema import Config
from llmbuilder.errors import ConfigError
from llmbuilder.files import atomic_path, write_text
from llmbuilder.migration.configurations import Configuration
from llmbuilder.migration.datasets import TABLE, Dataset
from llmbuilder.migration.understanding import LegacyProject, run_folder
from llmbuilder.tokenizer import Tokenizer

_TRAIN_SCRIPT = '''#!/usr/bin/env python3
"""Trains a model of this project: python train.py [CONFIGURATION] [--overwrite]. Written by `llmbuilder migrate`."""

import argparse
import sys

import llmbuilder as lb
from llmbuilder.data import TextDataset
from llmbuilder.errors import LLMBuilderError, for_command_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="config.json")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is there")
    arguments = parser.parse_args()
    config = lb.load_config(arguments.config)
    dataset = TextDataset.from_config(config.data.path or {data!r}, config)
    model = lb.build_model(config.model)
    results = lb.train_model(
        model, dataset, config.training, output_dir=config.training.output_dir or "run", overwrite=arguments.overwrite
    )
    print(f"Training completed: {{results.final_loss:.4f}} final loss; model in {{results.model_path}}")


if __name__ == "__main__":
    try:
        main()
    except LLMBuilderError as error:
        sys.exit(f"error: {{for_command_line(str(error))}}")
'''


def new_configuration(
    values: Mapping[str, Any], dataset: Dataset | None, name: str, run: str | None = None
) -> tuple[Config, dict[str, str]]:
    """Return a configuration in the new format, with the places of the new project in it, and what it could not take.

    The second part maps new keys to why their values cannot be.
    """
    values, refused = _without_refused(merge({}, values), name)
    if dataset is not None:
        # nanoGPT's programs take the text as it is, and so does a training that follows them.
        data: dict[str, Any] = {"path": dataset.path}
        if not dataset.has_tokens:
            data = {
                **data,
                "clean_text": False,
                "remove_duplicates": False,
                **values.get("data", {}),
                "path": dataset.path,
            }
        values = merge(values, {"data": data})
    elif isinstance(named := values.get("data", {}).get("path"), str):
        values = merge(values, {"data": {"path": missing_data(named)}})
    if run is not None:
        values = merge(values, {"training": {"output_dir": run}})
    if dataset is not None and dataset.tokenizer is not None:
        characters = len(dataset.tokenizer)
        given = values.get("model", {}).get("vocab_size")
        size = given if isinstance(given, int) and given >= characters and not _is_gpt2s(given) else characters
        values = merge(values, {"tokenizer": {"path": dataset.tokenizer_new}, "model": {"vocab_size": size}})
    return build_config(values, name), refused


def missing_data(name: str) -> str:
    """Return where data belongs that the legacy project names but does not hold."""
    path = PurePosixPath(name.replace("\\", "/"))
    return str(PurePosixPath("data", *(part for part in path.parts if part not in ("/", "..", "data"))))


def _without_refused(values: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Move values that are of another type than their setting's to `legacy`: a list where there is one number."""
    refused: dict[str, str] = {}
    for section, settings in list(values.items()):
        if section == "legacy" or not isinstance(settings, dict):
            continue
        for key, value in list(settings.items()):
            try:
                build_config({section: {key: value}}, name)
            except ConfigError as error:
                refused[f"{section}.{key}"] = str(error).splitlines()[-1].strip()
                values["legacy"] = {**(values.get("legacy") or {}), f"{section}.{key}": value}
                del settings[key]
    return values, refused


def _is_gpt2s(vocab_size: int) -> bool:
    """Whether it is the size that nanoGPT takes where no character table says another."""
    return vocab_size in (50257, 50304)


def place_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)


def copy_data(project: LegacyProject, dataset: Dataset, new: Path) -> None:
    """Copy a dataset's files, each whole or not at all, and write its tokenizer beside token files and by itself."""
    for file in dataset.files:
        if file.name != TABLE:
            target = new / dataset.new_file(file)
            with atomic_path(target) as temporary:
                shutil.copyfile(project.root / file, temporary)
    if dataset.tokenizer is not None and dataset.tokenizer_new is not None:
        place_tokenizer(dataset.tokenizer, new / dataset.tokenizer_new)
        if dataset.has_tokens:
            place_tokenizer(dataset.tokenizer, new / dataset.new)


def run_of(project: LegacyProject, configuration: Configuration) -> str:
    """Return the run folder that a configuration writes to."""
    for experiment in project.experiments:
        if experiment.configuration is configuration and experiment.out_dir == (configuration.out_dir or ""):
            return experiment.run
    return run_folder(project, configuration, configuration.out_dir)


def write_train_script(path: Path, data: str) -> None:
    """Write the program that trains any of the project's configurations."""
    write_text(path, _TRAIN_SCRIPT.format(data=data))
