"""Writing GGUF: tensors are converted and written one at a time.

Source: the GGUF specification in ggml's docs/gguf.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmbuilder import __version__
from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import head_dim, intermediate_size, num_key_value_heads, windowed_layers
from llmbuilder.errors import ExportError
from llmbuilder.formats.gguf.gemma import gemma3_fields, require_gemma3
from llmbuilder.formats.gguf.metadata import written_metadata
from llmbuilder.formats.gguf.names import TABLES, is_permuted, needs_bias, pair_neighbours, stored_name
from llmbuilder.formats.gguf.positions import (
    FREQUENCY_DIVISORS,
    frequency_divisors,
    layers_without_positions,
    scaling_fields,
)
from llmbuilder.formats.gguf.tokenizer_writing import tokenizer_fields
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer


@dataclass
class GGUFExport:
    """What was written: the file, its size, and where it differs from what was asked for."""

    path: str
    quantization: str
    architecture: str
    bytes: int
    tensors: dict[str, int] = field(default_factory=dict)  # number of tensors by type
    fallbacks: dict[str, str] = field(default_factory=dict)  # tensor -> the type it got instead, and why
    notes: list[str] = field(default_factory=list)


def architecture_name(config: ModelConfig) -> str:
    """Return llama.cpp's name for a model's architecture. Raises ExportError if it has none that computes the same."""
    if config.model_type == "gpt":
        return "gpt2"
    if config.model_type == "gemma3":
        require_gemma3(config)
        return "gemma3"
    biased = config.attention_bias or config.output_bias or config.mlp_bias
    without = sorted(config.layers_without_positions)
    if without and without != layers_without_positions(config.num_layers):
        raise ExportError(
            f"llama.cpp leaves positions out of every fourth layer or of none, not of the layers {without}: this model "
            "cannot be exported to it"
        )
    if config.qk_norm and (biased or without):
        raise ExportError(
            "llama.cpp has no architecture with normalised queries and keys beside biases or layers without positions: "
            "this model cannot be exported to it"
        )
    if config.qk_norm:
        return "qwen3"
    if without:
        return "smollm3"
    return "qwen2" if config.attention_bias and not (config.output_bias or config.mlp_bias) else "llama"


def write_gguf(model: LanguageModel, tokenizer: Tokenizer, path: Path, name: str, result: GGUFExport) -> None:
    """Write a model and its tokenizer to `path` and note in `result` which types its tensors got."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, result.architecture)
    writer.add_name(name.encode("utf-8", "replace").decode("utf-8"))  # a file name may be none in UTF-8
    writer.add_description(f"trained with LLMBuilder {__version__}")
    writer.add_file_type(getattr(gguf.LlamaFileType, _file_type_name(result.quantization)).value)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(len(tokenizer))
    writer.add_context_length(_context(config, result))
    writer.add_embedding_length(config.embedding_dim)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(intermediate_size(config))
    writer.add_head_count(config.num_heads)
    if config.model_type == "gpt":
        writer.add_layer_norm_eps(config.norm_eps)
    else:
        writer.add_head_count_kv(num_key_value_heads(config))
        writer.add_layer_norm_rms_eps(config.norm_eps)
        writer.add_rope_freq_base(config.rope_theta)
        writer.add_rope_dimension_count(head_dim(config))
        writer.add_key_length(head_dim(config))
        writer.add_value_length(head_dim(config))
        if config.rope_scaling is not None:
            for key, value in scaling_fields(config.rope_scaling, config.max_seq_length):
                _add(writer, f"{result.architecture}.{key}", value)
    for key, value in gemma3_fields(config) if config.model_type == "gemma3" else ():
        _add(writer, f"{result.architecture}.{key}", value)
    for add, arguments in tokenizer_fields(tokenizer):
        getattr(writer, add)(*arguments)

    for key, value in written_metadata(model.metadata, tokenizer).items():
        _add(writer, key, value)
    tensors = list(_tensors(model, len(tokenizer), result.architecture))
    kinds = [_tensor_type(one, result) for one in tensors]
    for one, kind in zip(tensors, kinds, strict=True):
        shape = gguf.quant_shape_to_byte_shape(one.shape, kind) if _is_block(kind) else one.shape
        dtype = np.dtype(np.uint8) if _is_block(kind) else np.dtype(np.float16 if kind.name == "F16" else np.float32)
        size = math.prod(shape) * dtype.itemsize
        writer.add_tensor_info(one.name, shape, dtype, size, raw_dtype=kind)
        result.tensors[kind.name.lower()] = result.tensors.get(kind.name.lower(), 0) + 1
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for one, kind in zip(tensors, kinds, strict=True):
        writer.write_tensor_data(gguf.quants.quantize(one.values().float().cpu().numpy(), kind))
    writer.close()


def _context(config: ModelConfig, result: GGUFExport) -> int:
    """Return how many tokens a file says its model sees: where llama.cpp computes the same.

    It has windows in Gemma 3's architecture only, and within one window there is nothing to leave out.
    """
    if config.model_type == "gemma3" or not windowed_layers(config) or config.sliding_window is None:
        return config.max_seq_length
    result.notes.append(
        f"attention reaches back {config.sliding_window:,} tokens in this model, in llama.cpp over the whole context: "
        f"the file's context is {config.sliding_window:,} tokens, in which they are the same"
    )
    return config.sliding_window


def _add(writer: Any, key: str, value: Any) -> None:
    """Write one field of metadata in the type that its value has in Python."""
    kinds = {bool: writer.add_bool, str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, int) and value < 0:
        writer.add_int32(key, value)
    else:
        kinds[type(value)](key, value)


def _file_type_name(quantization: str) -> str:
    return "ALL_F32" if quantization == "f32" else f"MOSTLY_{quantization.upper()}"


def _is_block(kind: Any) -> bool:
    """Whether a type is stored as bytes: bfloat16 is, since NumPy has no such type."""
    return kind.name not in ("F32", "F16")


@dataclass(frozen=True)
class _Tensor:
    """A tensor under its name in the file; `values` makes it."""

    name: str
    shape: tuple[int, ...]
    values: Callable[[], Tensor]


def _tensor_type(tensor: _Tensor, result: GGUFExport) -> Any:
    import gguf

    types = gguf.GGMLQuantizationType
    wanted = types[result.quantization.upper()]
    if len(tensor.shape) == 1 or tensor.name == "position_embd.weight":
        return types.F32
    if wanted in (types.F32, types.F16, types.BF16):
        return wanted
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    if tensor.shape[-1] % block:
        result.fallbacks[tensor.name] = f"f16: its rows of {tensor.shape[-1]} are no multiple of {block}"
        return types.F16
    if tensor.name in TABLES and wanted != types.Q8_0:
        return types.Q8_0  # the tables that every token passes through lose most from coarse types
    return wanted


def _tensors(model: LanguageModel, vocab_size: int, architecture: str) -> Iterator[_Tensor]:
    """Yield what the file holds for every weight, padding of the vocabulary cut off."""
    config = model.config
    divisors = frequency_divisors(config)
    if divisors is not None:
        yield _Tensor(FREQUENCY_DIVISORS, tuple(divisors.shape), partial(_itself, divisors))
    for name, tensor in model.weights().items():
        stored = stored_name(name, config)
        rows = tensor[:vocab_size] if stored in TABLES else tensor
        shape = tuple(rows.shape)
        if is_permuted(stored, architecture):
            yield _Tensor(stored, shape, partial(pair_neighbours, rows, head_dim(config)))
        else:
            yield _Tensor(stored, shape, partial(_itself, rows))
        if config.model_type == "gpt" and not config.bias and needs_bias(stored):
            yield _Tensor(stored.removesuffix("weight") + "bias", shape[:1], partial(torch.zeros, shape[0]))


def _itself(tensor: Tensor) -> Tensor:
    return tensor
