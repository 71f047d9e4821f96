"""Users' own quality models: a fastText model, or any function from a text to a score."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmbuilder.config.in_force import refuse
from llmbuilder.errors import ConfigError, MissingDependencyError

Classifier = Callable[[str], float]


def load_classifier(name: str, label: str | None = None) -> Classifier:
    """Return the function that `name` means: the file of a fastText model, or "module:function".

    A fastText model's score is the probability of `label`, named without its prefix. Modules are looked for in the
    working directory, too. Raises ConfigError if there is no such thing, or a function is given a label.
    """
    if Path(name).is_file():
        return _fasttext(name, label)
    module, _, function = name.partition(":")
    if not function:
        raise ConfigError(f"data.classifier: no such file: {name}; name a fastText model, or a function (module:name)")
    if label is not None:
        refuse(["data.classifier_label"], f"data.classifier {name} is a function, which has no labels")
    try:
        with _working_directory_first():
            found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"data.classifier: {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"data.classifier: {name!r} is no function but {type(found).__name__}")
    return found


def classifier_file(name: str) -> str:
    """Return the file that decides what a classifier does, its model's or its module's; its name if there is none."""
    if Path(name).is_file():
        return name
    with _working_directory_first():
        found = importlib.util.find_spec(name.partition(":")[0])
    return (found.origin if found else None) or name


@contextmanager
def _working_directory_first() -> Iterator[None]:
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path.remove(os.getcwd())


def _fasttext(path: str, label: str | None) -> Classifier:
    try:
        import fasttext
    except ImportError:
        raise MissingDependencyError("fasttext-predict", "corpus", "judging documents by a fastText model") from None
    try:
        model: Any = fasttext.load_model(path)
    except ValueError as error:
        raise ConfigError(f"data.classifier: {path} is no fastText model: {error}") from error
    labels = [name.removeprefix("__label__") for name in model.predict("a", k=-1)[0]]
    if label not in labels:
        shown = ", ".join(sorted(labels)[:10]) + (", ..." if len(labels) > 10 else "")
        raise ConfigError(f"data.classifier_label is {label!r}; the labels of {path} are {shown}")

    def score(text: str) -> float:
        found = model.predict(" ".join(text.split()), k=-1)
        return float(dict(zip(*found, strict=True)).get(f"__label__{label}", 0.0))

    return score
