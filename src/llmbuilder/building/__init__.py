"""The whole way from documents to a model: `build`.

Names are looked up when first asked for, so that what is wrong with a command is found before PyTorch is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmbuilder.building.building import build, plan_build, resume_build
    from llmbuilder.building.durations import parse_duration
    from llmbuilder.building.journal import is_build
    from llmbuilder.building.plan import Plan, choose_plan
    from llmbuilder.building.result import BuildResult, Expectation, Sample

__all__ = ["BuildResult", "Expectation", "Plan", "Sample", "build", "choose_plan", "is_build", "parse_duration",
           "plan_build", "resume_build"]  # fmt: skip
_PLACES = {"BuildResult": "result", "Expectation": "result", "Plan": "plan", "Sample": "result", "build": "building",
           "choose_plan": "plan", "is_build": "journal", "parse_duration": "durations", "plan_build": "building",
           "resume_build": "building"}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"llmbuilder.building.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'llmbuilder.building' has no attribute {name!r}")
