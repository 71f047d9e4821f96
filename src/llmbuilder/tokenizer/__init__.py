"""Tokenizers: load, train, compare, encode, decode, save."""

from llmbuilder.tokenizer.comparison import TokenizerFit, compare_tokenizers
from llmbuilder.tokenizer.special import END_OF_TEXT, SpecialTokens
from llmbuilder.tokenizer.tokenizer import Tokenizer
from llmbuilder.tokenizer.training import choose_vocab_size, train_tokenizer

__all__ = [
    "END_OF_TEXT",
    "SpecialTokens",
    "Tokenizer",
    "TokenizerFit",
    "choose_vocab_size",
    "compare_tokenizers",
    "train_tokenizer",
]
