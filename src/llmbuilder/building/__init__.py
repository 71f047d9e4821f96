"""The whole way from documents to a model: `build`."""

from llmbuilder.building.pipeline import BuildResult, build, plan_build
from llmbuilder.building.plan import Plan, choose_plan, parse_duration

__all__ = ["BuildResult", "Plan", "build", "choose_plan", "parse_duration", "plan_build"]
