"""The whole way from documents to a model: `build`."""

from llmbuilder.building.building import build, is_build, plan_build, resume_build
from llmbuilder.building.plan import Plan, choose_plan, parse_duration
from llmbuilder.building.result import BuildResult, Expectation, Sample

__all__ = [
    "BuildResult",
    "Expectation",
    "Plan",
    "Sample",
    "build",
    "choose_plan",
    "is_build",
    "parse_duration",
    "plan_build",
    "resume_build",
]
