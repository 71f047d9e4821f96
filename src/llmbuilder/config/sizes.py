"""How large a model of a given shape is: parameters, FLOPs and memory, computed without building it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmbuilder.config.schema import Config, FinetuningConfig, ModelConfig, TrainingConfig, is_auto

# Logits that exist at a time on a CPU: 16 MB in float32 stay in a processor's cache. With fewer rows, reading the
# output projection for each piece costs more than the memory is worth.
LOGITS_OF_A_PIECE, ROWS_OF_A_PIECE = 1 << 22, 256
_PACKED_BYTES = 0.5 + 4 / 64  # of a number in four bits, with its share of a length for 64


def head_dim(model: ModelConfig) -> int:
    """Return the width of one attention head."""
    return model.head_dim or model.embedding_dim // model.num_heads


def num_key_value_heads(model: ModelConfig) -> int:
    """Return the number of key/value heads."""
    return model.num_key_value_heads or model.num_heads


def layers_with_window(model: ModelConfig) -> frozenset[int]:
    """Return the numbers of the layers that `sliding_window` is for, as long as it may be."""
    if model.sliding_window is None:
        return frozenset()
    return frozenset(range(model.num_layers) if model.sliding_window_layers is None else model.sliding_window_layers)


def windowed_layers(model: ModelConfig) -> frozenset[int]:
    """Return the numbers of the layers that `sliding_window` limits: none if the window is the whole context."""
    is_whole = model.sliding_window is not None and model.sliding_window >= model.max_seq_length
    return frozenset() if is_whole else layers_with_window(model)


def intermediate_size(model: ModelConfig) -> int:
    """Return the width inside the MLP: as configured, else 4x ('gpt') or 8/3x rounded up to 32 (others)."""
    if model.intermediate_size is not None:
        return model.intermediate_size
    if model.model_type == "gpt":
        return 4 * model.embedding_dim
    return -(-8 * model.embedding_dim // 3 // 32) * 32


def count_parameters(model: ModelConfig) -> int:
    """Return the number of parameters, counting a tied output projection once."""
    width, inner = model.embedding_dim, intermediate_size(model)
    embeddings = model.vocab_size * width * (1 if model.tie_embeddings else 2)
    layer = sum(inputs * outputs for inputs, outputs in layer_matrices(model).values()) + 2 * width  # and two norms
    if model.model_type == "gpt":
        layer += 3 * width + width + inner + width + 2 * width if model.bias else 0
        final_norm = width * (2 if model.bias else 1)
        return embeddings + model.max_seq_length * width + model.num_layers * layer + final_norm
    layer += 2 * width if model.model_type == "gemma3" else 0
    layer += 2 * head_dim(model) if model.qk_norm else 0
    layer += (model.num_heads + 2 * num_key_value_heads(model)) * head_dim(model) if model.attention_bias else 0
    layer += width if model.output_bias else 0
    layer += 2 * inner + width if model.mlp_bias else 0
    return embeddings + model.num_layers * layer + width


def count_flops_per_token(model: ModelConfig, context: int | None = None) -> int:
    """Return the floating-point operations of one training token, forward and backward.

    Six per weight that takes part in a matrix product, plus attention over `context` tokens (default: the
    model's maximum), or over the window where a layer has one. Source: Kaplan et al. 2020, appendix B; Chowdhery et al.
    2022 (PaLM), appendix B.
    """
    lookups = model.vocab_size * model.embedding_dim * (0 if model.tie_embeddings else 1)
    lookups += model.max_seq_length * model.embedding_dim if model.model_type == "gpt" else 0
    seen, windowed = context or model.max_seq_length, len(windowed_layers(model))
    attended = (model.num_layers - windowed) * seen + windowed * min(seen, model.sliding_window or seen)
    attention = 12 * model.num_heads * head_dim(model) * attended
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


def estimate_training_memory(
    model: ModelConfig,
    training: TrainingConfig,
    processes: int = 1,
    learned: int | None = None,
    texts_a_sequence: int = 1,
) -> MemoryEstimate:
    """Estimate the memory of one process in float32 with AdamW; several `processes` share the sequences of a step.

    A batch size still to be chosen counts as one sequence. `learned` are the parameters that learn (default: all). Of
    preference pairs one has two texts.
    """
    weights = 4 * count_parameters(model)
    gradients = weights if learned is None else 4 * learned
    sequences = 1 if is_auto(training.batch_size) else training.batch_size
    shared = -(-sequences * training.gradient_accumulation_steps // processes)
    tokens = min(sequences, shared) * texts_a_sequence * model.max_seq_length
    per_token = checkpointed_bytes_per_token if training.gradient_checkpointing else activation_bytes_per_token
    activations = tokens * per_token(model) + _logit_bytes(model, tokens)
    return MemoryEstimate(weights, gradients, 2 * gradients, activations)


def estimate_run_memory(config: Config, processes: int = 1, window: int | None = None) -> MemoryEstimate:
    """Estimate the memory of one process of a run (see `estimate_training_memory`), adapters considered.

    Its sequences have `window` tokens (default: the model's context).
    """
    asked, shape = config.finetuning, with_window(config.model, window)
    learned = None if asked.method == "full" else count_adapter_parameters(config.model, asked)
    found = estimate_training_memory(shape, config.training, processes, learned, texts_a_sequence(asked))
    return replace(found, weights=found.weights - _bytes_saved(config))


def _bytes_saved(config: Config) -> int:
    """Return the bytes that frozen matrices take less than in float32: held in four bits, or as they are multiplied."""
    asked = config.finetuning
    is_short = asked.method == "lora" and config.training.mixed_precision in ("fp16", "bf16")
    of_a_number = _PACKED_BYTES if asked.method == "qlora" else 2 if is_short else 4
    a_layer = sum(
        inputs * outputs for name, (inputs, outputs) in layer_matrices(config.model).items() if is_adapted(name, asked)
    )
    return int((4 - of_a_number) * config.model.num_layers * a_layer)


def texts_a_sequence(finetuning: FinetuningConfig) -> int:
    """Return how many texts of the window's length one of the batch's sequences has: two in a preference pair."""
    return 2 if finetuning.objective == "dpo" else 1


def least_run_memory(config: Config, processes: int = 1, window: int | None = None) -> MemoryEstimate:
    """Estimate the same with one sequence at a time: what no batch goes below."""
    one = config.copy_of()
    one.training = one.training.model_copy(update={"batch_size": 1, "gradient_accumulation_steps": 1})
    return estimate_run_memory(one, processes, window)


def with_window(model: ModelConfig, window: int | None) -> ModelConfig:
    """Return the shape of a model that is trained on sequences of `window` tokens; None is its whole context."""
    return model if window is None else model.model_copy(update={"max_seq_length": window})


def count_adapter_parameters(model: ModelConfig, finetuning: FinetuningConfig) -> int:
    """Return the parameters that learn where `finetuning` puts adapters beside a model's matrices."""
    chosen = [shape for name, shape in layer_matrices(model).items() if is_adapted(name, finetuning)]
    lengths = sum(outputs for _, outputs in chosen) if finetuning.method == "dora" else 0
    outer = model.vocab_size * model.embedding_dim * (1 if model.tie_embeddings else 2)
    adapters = model.num_layers * (finetuning.rank * sum(map(sum, chosen)) + lengths)
    return adapters + (outer if finetuning.embeddings else 0)


def is_adapted(name: str, finetuning: FinetuningConfig) -> bool:
    """Whether the matrix of this name gets an adapter: all do, unless `layers` names the ends of some."""
    return not finetuning.layers or any(name == end or name.endswith(f".{end}") for end in finetuning.layers)


def layer_matrices(model: ModelConfig) -> dict[str, tuple[int, int]]:
    """Return (inputs, outputs) of the matrices of one layer, by their names in it."""
    width, inner = model.embedding_dim, intermediate_size(model)
    if model.model_type == "gpt":
        return {"attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width),
                "mlp.c_fc": (width, inner), "mlp.c_proj": (inner, width)}  # fmt: skip
    queries, keys = model.num_heads * head_dim(model), num_key_value_heads(model) * head_dim(model)
    return {"self_attn.q_proj": (width, queries), "self_attn.k_proj": (width, keys), "self_attn.v_proj": (width, keys),
            "self_attn.o_proj": (queries, width), "mlp.gate_proj": (width, inner), "mlp.up_proj": (width, inner),
            "mlp.down_proj": (inner, width)}  # fmt: skip


def activation_bytes_per_token(model: ModelConfig) -> int:
    """Return the float32 bytes that training keeps of each token for the backward pass."""
    return 4 * model.num_layers * _layer_values(model)


def checkpointed_bytes_per_token(model: ModelConfig) -> int:
    """Return the same with gradient checkpointing: one layer's values, and the stream at each layer's entry."""
    return 4 * (_layer_values(model) + model.num_layers * model.embedding_dim)


def _layer_values(model: ModelConfig) -> int:
    """Residual stream, normalised inputs, queries, keys, values, attention output, and the MLP's inner values."""
    inner_values = 3 if model.model_type == "gpt" else 4  # a gated MLP has one projection more
    return 8 * model.embedding_dim + inner_values * intermediate_size(model)


def _logit_bytes(model: ModelConfig, tokens: int) -> int:
    """Logits, their log-softmax, and the gradient, of which no more than a piece exists at a time (see model.loss)."""
    return 3 * 4 * min(tokens * model.vocab_size, max(LOGITS_OF_A_PIECE, ROWS_OF_A_PIECE * model.vocab_size))


def estimate_inference_memory(model: ModelConfig, batch_size: int = 1) -> int:
    """Estimate the bytes of float32 weights and a full key/value cache."""
    cache = 2 * model.num_layers * num_key_value_heads(model) * head_dim(model) * model.max_seq_length * batch_size
    return 4 * (count_parameters(model) + cache)
