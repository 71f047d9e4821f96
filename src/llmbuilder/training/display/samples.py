"""A short text from the model in training, so that a person sees it learn."""

from __future__ import annotations

import numpy as np
import torch

from llmbuilder.inference import GenerationConfig, Generator
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.shards import TokenShards

_PROMPT_TOKENS, _NEW_TOKENS = 6, 48


def sample_text(model: LanguageModel, tokenizer: Tokenizer, tokens: np.ndarray | TokenShards, seed: int) -> str:
    """Continue the beginning of the training text; random states and the model's mode are as before.

    The tokens go to the model as they are: decoded and encoded again, a special token among them would be spelled out,
    in letters that a vocabulary need not have.
    """
    prompt = tokens[:_PROMPT_TOKENS].tolist()
    config = GenerationConfig(max_new_tokens=_NEW_TOKENS, seed=seed)
    was_training = model.training
    with torch.random.fork_rng():
        new = [token for _, token in Generator(model, tokenizer).stream_tokens([prompt], config)]
    model.train(was_training)
    return tokenizer.decode([*prompt, *new])
