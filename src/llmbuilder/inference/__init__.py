"""Text from a trained model."""

from llmbuilder.config.schema import GenerationConfig
from llmbuilder.inference.generation import Generator, generate_text, stream_text

__all__ = ["GenerationConfig", "Generator", "generate_text", "stream_text"]
