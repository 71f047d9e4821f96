"""How well a model predicts text."""

from llmbuilder.evaluation.perplexity import Evaluation, evaluate_model, score_tokens

__all__ = ["Evaluation", "evaluate_model", "score_tokens"]
