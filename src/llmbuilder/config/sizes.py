"""How large a model of a given shape is: parameters, FLOPs and memory, computed without building it."""

from __future__ import annotations

from dataclasses import dataclass

from llmbuilder.config.schema import ModelConfig, TrainingConfig, is_auto


def head_dim(model: ModelConfig) -> int:
    """Return the width of one attention head."""
    return model.head_dim or model.embedding_dim // model.num_heads


def num_key_value_heads(model: ModelConfig) -> int:
    """Return the number of key/value heads."""
    return model.num_key_value_heads or model.num_heads


def intermediate_size(model: ModelConfig) -> int:
    """Return the width inside the MLP: as configured, else 4x ('gpt') or 8/3x rounded up to 32 ('llama')."""
    if model.intermediate_size is not None:
        return model.intermediate_size
    if model.model_type == "gpt":
        return 4 * model.embedding_dim
    return -(-8 * model.embedding_dim // 3 // 32) * 32


def count_parameters(model: ModelConfig) -> int:
    """Return the number of parameters, counting a tied output projection once."""
    width, inner = model.embedding_dim, intermediate_size(model)
    embeddings = model.vocab_size * width * (1 if model.tie_embeddings else 2)
    if model.model_type == "gpt":
        layer = 4 * width * width + 2 * width * inner + 2 * width  # attention, MLP, two LayerNorm weights
        layer += 3 * width + width + inner + width + 2 * width if model.bias else 0
        final_norm = width * (2 if model.bias else 1)
        return embeddings + model.max_seq_length * width + model.num_layers * layer + final_norm
    queries = model.num_heads * head_dim(model)
    keys = num_key_value_heads(model) * head_dim(model)
    layer = width * (2 * queries + 2 * keys) + 3 * width * inner + 2 * width
    layer += 2 * head_dim(model) if model.qk_norm else 0
    return embeddings + model.num_layers * layer + width


def count_flops_per_token(model: ModelConfig, context: int | None = None) -> int:
    """Return the floating-point operations of one training token, forward and backward.

    Six per weight that takes part in a matrix product, plus attention over `context` tokens (default: the
    model's maximum). Source: Kaplan et al. 2020, appendix B; Chowdhery et al. 2022 (PaLM), appendix B.
    """
    lookups = model.vocab_size * model.embedding_dim * (0 if model.tie_embeddings else 1)
    lookups += model.max_seq_length * model.embedding_dim if model.model_type == "gpt" else 0
    attention = 12 * model.num_layers * model.num_heads * head_dim(model) * (context or model.max_seq_length)
    return 6 * (count_parameters(model) - lookups) + attention


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes a training run needs, by purpose."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate_training_memory(model: ModelConfig, training: TrainingConfig, processes: int = 1) -> MemoryEstimate:
    """Estimate the memory of one process in float32 with AdamW; several `processes` share the sequences of a step.

    A batch size still to be chosen counts as one sequence.
    """
    weights = 4 * count_parameters(model)
    sequences = 1 if is_auto(training.batch_size) else training.batch_size
    shared = -(-sequences * training.gradient_accumulation_steps // processes)
    tokens = min(sequences, shared) * model.max_seq_length
    per_token = checkpointed_bytes_per_token if training.gradient_checkpointing else activation_bytes_per_token
    return MemoryEstimate(weights, weights, 2 * weights, tokens * per_token(model))


def activation_bytes_per_token(model: ModelConfig) -> int:
    """Return the float32 bytes that training keeps of each token for the backward pass."""
    return 4 * (model.num_layers * _layer_values(model) + _logit_values(model))


def checkpointed_bytes_per_token(model: ModelConfig) -> int:
    """Return the same with gradient checkpointing: one layer's values, and the stream at each layer's entry."""
    return 4 * (_layer_values(model) + model.num_layers * model.embedding_dim + _logit_values(model))


def _layer_values(model: ModelConfig) -> int:
    """Residual stream, normalised inputs, queries, keys, values, attention output, and the MLP's inner values."""
    inner_values = 4 if model.model_type == "llama" else 3  # a gated MLP has one projection more
    return 8 * model.embedding_dim + inner_values * intermediate_size(model)


def _logit_values(model: ModelConfig) -> int:
    """Logits, their log-softmax, and the gradient."""
    return 3 * model.vocab_size


def estimate_inference_memory(model: ModelConfig, batch_size: int = 1) -> int:
    """Estimate the bytes of float32 weights and a full key/value cache."""
    cache = 2 * model.num_layers * num_key_value_heads(model) * head_dim(model) * model.max_seq_length * batch_size
    return 4 * (count_parameters(model) + cache)
