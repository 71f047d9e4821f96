"""The section `model`: the shape of a model.

What tells the families of open models apart are a few switches of the 'llama' family: biases, windows, layers without
positions, stretched rotary positions. `formats.huggingface.families` says which of them make which family. What is
said of 'llama' holds for 'gemma3', too, where nothing else is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llmbuilder.config.ranges import Amount, Count, NotNegative, Part, Positive, Range
from llmbuilder.config.section import Section


class RopeScaling(BaseModel):
    """How rotary positions are stretched, so that a model sees further than it was first trained to."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    kind: Literal["linear", "llama3", "yarn"] = Field(
        description="'linear' slows all frequencies alike, 'llama3' and 'yarn' those of long waves only."
    )
    factor: Annotated[float, Range(least=1)] = Field(description="How many times slower the slowed frequencies are.")
    original_max_seq_length: Count | None = Field(
        default=None, description="'llama3' and 'yarn': the context before. Default: max_seq_length."
    )
    low_freq_factor: Positive = Field(
        default=1.0, description="'llama3' slows fully what turns fewer times than this in the context before."
    )
    high_freq_factor: Positive = Field(
        default=4.0, description="'llama3' leaves alone what turns more often than this in the context before."
    )
    beta_fast: Positive = Field(
        default=32.0, description="'yarn' leaves alone what turns more often than this in the context before."
    )
    beta_slow: Positive = Field(
        default=1.0, description="'yarn' slows fully what turns fewer times than this in the context before."
    )
    attention_factor: NotNegative | None = Field(
        default=None, description="'yarn' multiplies queries and keys by it. Default: 1 + ln(factor)/10."
    )
    truncate: bool = Field(default=True, description="'yarn' rounds the limits between its frequencies.")

    def __str__(self) -> str:
        return str(self.model_dump(exclude_defaults=True))


class ModelConfig(Section):
    """The shape of a model."""

    model_type: Literal["gpt", "llama", "gemma3"] = Field(
        default="gpt",
        description="Family: 'gpt' is GPT-2's architecture, 'llama' is RMSNorm, rotary positions and SwiGLU, 'gemma3' "
        "has GeGLU and more norms.",
    )
    vocab_size: Count = Field(default=16000, description="Number of token ids the model knows.")
    num_layers: Count = Field(default=12, description="Number of transformer layers.")
    num_heads: Count = Field(default=12, description="Number of attention heads.")
    embedding_dim: Count = Field(default=768, description="Width of the model.")
    max_seq_length: Count = Field(default=1024, description="Longest context, in tokens.")
    dropout: Part = Field(default=0.1, description="Dropout probability during training, 0 to 1.")
    bias: bool = Field(default=True, description="Bias terms in linear layers and LayerNorm ('gpt' only).")
    activation: Literal["gelu_tanh", "gelu"] = Field(
        default="gelu_tanh",
        description="'gpt' only. 'gelu_tanh' is GPT-2's and exports exactly; 'gelu' is nanoGPT's exact form.",
    )
    intermediate_size: Count | None = Field(
        default=None,
        description="Width inside the MLP. Default: 4x the width for 'gpt', 8/3x rounded up to 32 for others.",
    )
    num_key_value_heads: Count | None = Field(
        default=None, description="'llama' only: key/value heads shared by groups of query heads. Default: num_heads."
    )
    head_dim: Count | None = Field(
        default=None, description="'llama' only: width of a head. Default: embedding_dim/num_heads."
    )
    qk_norm: bool = Field(
        default=False,
        description="'llama' only: RMSNorm on queries and keys (Qwen3's architecture). 'gemma3' always has it.",
    )
    attention_bias: bool = Field(
        default=False, description="'llama' only: biases on queries, keys and values (Qwen2's architecture)."
    )
    output_bias: bool = Field(default=False, description="'llama' only: a bias on the output of attention.")
    mlp_bias: bool = Field(default=False, description="'llama' only: biases in the MLP.")
    rope_theta: Annotated[float, Range(above=1)] = Field(
        default=10000.0, description="'llama' only: base of the rotary frequencies."
    )
    rope_scaling: RopeScaling | None = Field(
        default=None,
        description="'llama' only: stretched rotary positions: kind (linear, llama3 or yarn), factor, and what the "
        "kind needs: original_max_seq_length, low_freq_factor, high_freq_factor, beta_fast, beta_slow, "
        "attention_factor, truncate.",
    )
    layers_without_positions: list[Amount] = Field(
        default_factory=list,
        description="'llama' only: numbers of the layers, from 0, whose attention knows no positions (as SmolLM3's).",
    )
    sliding_window: Count | None = Field(
        default=None,
        description="'llama' only: tokens that a token attends to, itself included (as in Mistral). Default: all.",
    )
    sliding_window_layers: list[Amount] | None = Field(
        default=None, description="Numbers of the layers, from 0, that sliding_window limits. Default: all layers."
    )
    windowed_rope_theta: Annotated[float, Range(above=1)] | None = Field(
        default=None,
        description="'gemma3' only: base of the rotary frequencies in layers with a window, which are not stretched. "
        "Default: rope_theta.",
    )
    norm_eps: Annotated[float, Range(above=0, below=0.1)] = Field(default=1e-5, description="Epsilon of the norms.")
    tie_embeddings: bool = Field(default=True, description="Use the token embedding as the output projection too.")
