"""How well a model predicts text."""

from llmbuilder.evaluation.perplexity import Evaluation, bits_per_byte, evaluate_model, score_tokens

__all__ = ["Evaluation", "bits_per_byte", "evaluate_model", "score_tokens"]
