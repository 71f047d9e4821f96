"""GGUF, the file format of llama.cpp and Ollama.

Three of llama.cpp's architectures are used: `gpt2`, `llama` (whose rotary positions pair neighbours, so rows of
the query and key projections are permuted, here and nowhere else) and `qwen3`. Tensors are converted and
written one at a time.
Source: the GGUF specification in ggml's docs/gguf.md, and llama.cpp's tensor names by the `gguf` package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmbuilder import __version__
from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import head_dim, intermediate_size, num_key_value_heads
from llmbuilder.formats.gguf_tokenizer import tokenizer_fields
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer

_GPT_NAMES = {
    "transformer.wte.weight": "token_embd.weight",
    "transformer.wpe.weight": "position_embd.weight",
    "transformer.ln_f": "output_norm",
    "lm_head.weight": "output.weight",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_LLAMA_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm": "output_norm",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER = re.compile(r"^(?:transformer\.h|model\.layers)\.(\d+)\.(.+)\.(weight|bias)$")


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
    """Return llama.cpp's name for a model's architecture."""
    if config.model_type == "gpt":
        return "gpt2"
    return "qwen3" if config.qk_norm else "llama"


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
    writer.add_context_length(config.max_seq_length)
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
    for add, arguments in tokenizer_fields(tokenizer):
        getattr(writer, add)(*arguments)

    tensors = list(_tensors(model, len(tokenizer)))
    kinds = [_tensor_type(tensor_name, tensor, result) for tensor_name, tensor in tensors]
    for (tensor_name, tensor), kind in zip(tensors, kinds, strict=True):
        shape = gguf.quant_shape_to_byte_shape(tuple(tensor.shape), kind) if _is_block(kind) else tuple(tensor.shape)
        dtype = np.dtype(np.uint8) if _is_block(kind) else np.dtype(np.float16 if kind.name == "F16" else np.float32)
        size = int(np.prod(shape)) * dtype.itemsize
        writer.add_tensor_info(tensor_name, shape, dtype, size, raw_dtype=kind)
        result.tensors[kind.name.lower()] = result.tensors.get(kind.name.lower(), 0) + 1
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for (_, tensor), kind in zip(tensors, kinds, strict=True):
        writer.write_tensor_data(gguf.quants.quantize(tensor.float().cpu().numpy(), kind))
    writer.close()


def _file_type_name(quantization: str) -> str:
    return "ALL_F32" if quantization == "f32" else f"MOSTLY_{quantization.upper()}"


def _is_block(kind: Any) -> bool:
    """Whether a type is stored as bytes: bfloat16 is, since NumPy has no such type."""
    return kind.name not in ("F32", "F16")


def _tensor_type(name: str, tensor: Tensor, result: GGUFExport) -> Any:
    import gguf

    types = gguf.GGMLQuantizationType
    wanted = types[result.quantization.upper()]
    if tensor.dim() == 1 or name == "position_embd.weight":
        return types.F32
    if wanted in (types.F32, types.F16, types.BF16):
        return wanted
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    if tensor.shape[-1] % block:
        result.fallbacks[name] = f"f16: its rows of {tensor.shape[-1]} are no multiple of {block}"
        return types.F16
    if name in ("token_embd.weight", "output.weight") and wanted != types.Q8_0:
        return types.Q8_0  # the tables that every token passes through lose most from coarse types
    return wanted


def _tensors(model: LanguageModel, vocab_size: int) -> Iterator[tuple[str, Tensor]]:
    """Yield llama.cpp's name and the tensor for every weight, padding of the vocabulary cut off."""
    config = model.config
    names = _GPT_NAMES if config.model_type == "gpt" else _LLAMA_NAMES
    for name, tensor in model.weights().items():
        translated = _translate(name, names)
        if translated in ("token_embd.weight", "output.weight"):
            tensor = tensor[:vocab_size]
        if (
            config.model_type == "llama"
            and not config.qk_norm
            and translated.endswith(("attn_q.weight", "attn_k.weight"))
        ):
            tensor = _pair_neighbours(tensor, head_dim(config))
        yield translated, tensor
        if config.model_type == "gpt" and not config.bias and _needs_bias(translated):
            yield translated.removesuffix("weight") + "bias", torch.zeros(tensor.shape[0])


def _translate(name: str, names: dict[str, str]) -> str:
    if name in names:
        return names[name]
    match = _LAYER.match(name)
    if match:
        layer, part, kind = match.groups()
        return f"blk.{layer}.{names[part]}.{kind}"
    part, _, kind = name.rpartition(".")
    return f"{names[part]}.{kind}"


def _needs_bias(name: str) -> bool:
    """llama.cpp's gpt2 requires every bias; zeros say the same as none."""
    return name.endswith(".weight") and "embd" not in name and name != "output.weight"


def _pair_neighbours(weight: Tensor, width: int) -> Tensor:
    """Reorder rows from halves (i, i + width/2) to neighbours (2i, 2i + 1), head by head."""
    rows, columns = weight.shape
    return weight.reshape(rows // width, 2, width // 2, columns).transpose(1, 2).reshape(rows, columns)
