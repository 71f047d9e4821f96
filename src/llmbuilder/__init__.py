"""Turn a folder of documents into a language model you can run anywhere.

Public names are resolved on first use (PEP 562), so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "build": "llmbuilder.building",
    "build_model": "llmbuilder.model",
    "evaluate_model": "llmbuilder.evaluation",
    "export_gguf": "llmbuilder.export",
    "finetune_model": "llmbuilder.training",
    "generate_text": "llmbuilder.inference",
    "load_config": "llmbuilder.config",
    "load_model": "llmbuilder.formats.model_file",
    "migrate_project": "llmbuilder.migration",
    "prepare_corpus": "llmbuilder.corpus",
    "save_model": "llmbuilder.formats.model_file",
    "train_model": "llmbuilder.training",
}
_MODULES = (
    "config",
    "corpus",
    "data",
    "errors",
    "evaluation",
    "export",
    "inference",
    "migration",
    "model",
    "tokenizer",
)

# Written out, because type checkers take names of a package to be private that they cannot read here.
__all__ = [
    "__version__",
    "build",
    "build_model",
    "evaluate_model",
    "export_gguf",
    "finetune_model",
    "generate_text",
    "load_config",
    "load_model",
    "migrate_project",
    "prepare_corpus",
    "save_model",
    "train_model",
]

if TYPE_CHECKING:
    from llmbuilder.building import build
    from llmbuilder.config import load_config
    from llmbuilder.corpus import prepare_corpus
    from llmbuilder.evaluation import evaluate_model
    from llmbuilder.export import export_gguf
    from llmbuilder.formats.model_file import load_model, save_model
    from llmbuilder.inference import generate_text
    from llmbuilder.migration import migrate_project
    from llmbuilder.model import build_model
    from llmbuilder.training import finetune_model, train_model


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"llmbuilder.{name}")
    raise AttributeError(f"module 'llmbuilder' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
