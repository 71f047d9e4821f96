"""How well a model predicts text."""

from llmbuilder.evaluation.comparing import ComparedText, compare_models
from llmbuilder.evaluation.perplexity import Evaluation, bits_per_byte, evaluate_model, score_tokens

__all__ = ["ComparedText", "Evaluation", "bits_per_byte", "compare_models", "evaluate_model", "score_tokens"]
