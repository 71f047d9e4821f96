"""Tokenizers: load, train, encode, decode, save."""

from llmbuilder.tokenizer.tokenizer import END_OF_TEXT, Tokenizer
from llmbuilder.tokenizer.training import train_tokenizer

__all__ = ["END_OF_TEXT", "Tokenizer", "train_tokenizer"]
