"""Tokenizers: load, train, encode, decode, save."""

from llmbuilder.tokenizer.tokenizer import END_OF_TEXT, Tokenizer
from llmbuilder.tokenizer.training import choose_vocab_size, train_tokenizer

__all__ = ["END_OF_TEXT", "Tokenizer", "choose_vocab_size", "train_tokenizer"]
