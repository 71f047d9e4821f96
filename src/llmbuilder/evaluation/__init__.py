"""How well a model predicts text, and what it reaches in tasks.

Names are looked up when first asked for, so that what is wrong with a command is found before PyTorch is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmbuilder.evaluation.comparing import ComparedText, compare_models
    from llmbuilder.evaluation.perplexity import Evaluation, bits_per_byte, evaluate_model, score_tokens

__all__ = ["ComparedText", "Evaluation", "bits_per_byte", "compare_models", "evaluate_model", "score_tokens"]
_PLACES = {"ComparedText": "comparing", "Evaluation": "perplexity", "bits_per_byte": "perplexity",
           "compare_models": "comparing", "evaluate_model": "perplexity", "score_tokens": "perplexity"}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"llmbuilder.evaluation.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'llmbuilder.evaluation' has no attribute {name!r}")
