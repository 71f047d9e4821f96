"""Text from a trained model."""

from llmbuilder.config.schema import GenerationConfig
from llmbuilder.inference.chat import Chat
from llmbuilder.inference.generation import Generator, generate_text, stream_text

__all__ = ["Chat", "GenerationConfig", "Generator", "generate_text", "stream_text"]
