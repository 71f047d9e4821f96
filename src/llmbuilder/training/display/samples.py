"""A short text from the model in training, so that a person sees it learn."""

from __future__ import annotations

import numpy as np
import torch

from llmbuilder.inference import generate_text
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.shards import TokenShards

_PROMPT_TOKENS, _NEW_TOKENS = 6, 48


def sample_text(model: LanguageModel, tokenizer: Tokenizer, tokens: np.ndarray | TokenShards, seed: int) -> str:
    """Continue the beginning of the training text; random states and the model's mode are as before."""
    prompt = tokenizer.decode(tokens[:_PROMPT_TOKENS].tolist())
    was_training = model.training
    with torch.random.fork_rng():
        text = generate_text(model.eval(), tokenizer, prompt, _NEW_TOKENS, seed=seed)
    model.train(was_training)
    return text
