"""The Llama family (Touvron et al. 2023): RMSNorm, rotary positions, SwiGLU, grouped queries.

What its relatives do otherwise are switches of the configuration: `qk_norm` is Qwen3's, `attention_bias` Qwen2's,
`sliding_window` Mistral's, `layers_without_positions` SmolLM3's, `rope_scaling` Llama 3.1's. Parameters carry Hugging
Face's names and layouts (rotary positions pair the first half of a head with the second), so the state dict is a
Hugging Face checkpoint.

B batch, T positions, D model width, H query heads, K key/value heads, E head width
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import head_dim, intermediate_size, num_key_value_heads, windowed_layers
from llmbuilder.model.base import LanguageModel, attend, within_window
from llmbuilder.model.cache import KeyValueCache
from llmbuilder.model.functions import RMSNorm, as_multiplied, rotate
from llmbuilder.model.rotary import rotary_angles


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = head_dim(config)
        self.dropout = config.dropout
        queries, keys = config.num_heads * self.head_dim, num_key_value_heads(config) * self.head_dim
        self.q_proj = nn.Linear(config.embedding_dim, queries, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.embedding_dim, keys, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.embedding_dim, keys, bias=config.attention_bias)
        self.o_proj = nn.Linear(queries, config.embedding_dim, bias=config.output_bias)
        self.q_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KeyValueCache | None,
        positions_BT: Tensor,
    ) -> Tensor:
        x_BTD = as_multiplied(x_BTD)
        q_BTHE = self.q_norm(self.q_proj(x_BTD).unflatten(-1, (-1, self.head_dim)))
        k_BTKE = self.k_norm(self.k_proj(x_BTD).unflatten(-1, (-1, self.head_dim)))
        v_BTKE = self.v_proj(x_BTD).unflatten(-1, (-1, self.head_dim))
        if rotary is not None:
            q_BTHE, k_BTKE = rotate(q_BTHE, *rotary), rotate(k_BTKE, *rotary)
        q_BHTE, k_BKTE, v_BKTE = (part.transpose(1, 2) for part in (q_BTHE, k_BTKE, v_BTKE))
        if cache is not None:
            k_BKTE, v_BKTE = cache.update(self.layer, k_BKTE, v_BKTE, positions_BT)
        dropout = self.dropout if self.training else 0.0
        return self.o_proj(attend(q_BHTE, k_BKTE, v_BKTE, mask, dropout, has_cache=cache is not None))


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner = intermediate_size(config)
        self.gate_proj = nn.Linear(config.embedding_dim, inner, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.embedding_dim, inner, bias=config.mlp_bias)
        self.down_proj = nn.Linear(inner, config.embedding_dim, bias=config.mlp_bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = as_multiplied(x_BTD)
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class DecoderLayer(nn.Module):
    mlp_class: ClassVar[type[MLP]] = MLP

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = self.mlp_class(config)
        self.input_layernorm = RMSNorm(config.embedding_dim, eps=config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.embedding_dim, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KeyValueCache | None,
        positions_BT: Tensor,
    ) -> Tensor:
        attended = self.self_attn(self.input_layernorm(x_BTD), rotary, mask, cache, positions_BT)
        x_BTD = x_BTD + self.dropout(attended)
        return x_BTD + self.dropout(self.mlp(self.post_attention_layernorm(x_BTD)))


class Decoder(nn.Module):
    """The layers under the name `model`, as in a Hugging Face checkpoint."""

    def __init__(self, config: ModelConfig, layer_class: type[nn.Module]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.layers = nn.ModuleList([layer_class(config, layer) for layer in range(config.num_layers)])
        self.norm = RMSNorm(config.embedding_dim, eps=config.norm_eps)


class LlamaModel(LanguageModel):
    """A model of the Llama family.

    Matrices begin uniform with a variance of 1 / inputs, an untied embedding with a standard deviation of 0.5 (its
    rows are normalised at once); projections that write into the residual stream, and an untied head, begin at
    zero, so that every layer starts as the identity (Zhang et al. 2019, "Fixup"). Normalised queries begin 1.5
    times as long, which makes attention sharper from the start. A tied embedding begins as GPT-2's.
    """

    layer_class: ClassVar[type[nn.Module]] = DecoderLayer

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.windowed = windowed_layers(config)
        self.without_positions = frozenset(config.layers_without_positions)
        self.model = Decoder(config, self.layer_class)
        self.lm_head = nn.Linear(config.embedding_dim, config.vocab_size, bias=False)
        self.tie_embeddings()
        self.initialize()

    def initialize(self) -> None:
        """Draw fresh weights; on the meta device there is nothing to draw."""
        if self.device.type == "meta":
            return
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.endswith(("o_proj", "down_proj")) or (name == "lm_head" and not self.config.tie_embeddings):
                nn.init.zeros_(module.weight)  # type: ignore[arg-type]
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02 if self.config.tie_embeddings else 0.5)
            elif isinstance(module, nn.Linear) and name != "lm_head":
                bound = math.sqrt(3 / module.in_features)
                nn.init.uniform_(module.weight, -bound, bound)
            elif name.endswith("q_norm") and self.config.qk_norm:
                nn.init.constant_(module.weight, 1.5)  # type: ignore[arg-type]

    @property
    def embedding(self) -> nn.Embedding:
        return self.model.embed_tokens

    @property
    def layers(self) -> nn.ModuleList:
        return self.model.layers

    def apply_layers(
        self, tokens_BT: Tensor, mask: Tensor | None, cache: KeyValueCache | None, positions_BT: Tensor
    ) -> Tensor:
        # Without a mask all rows are alike; without a cache a token's place is its column, whatever its position.
        angles = self.angles(positions_BT if mask is not None else positions_BT[:1])
        columns_1T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)[None]
        places = positions_BT if cache is not None else columns_1T
        window_mask = within_window(mask, places, self.config.sliding_window) if self.windowed else mask
        x_BTD = self.embedded(tokens_BT)
        for number, layer in enumerate(self.layers):
            layer_mask = window_mask if number in self.windowed else mask
            x_BTD = self.through(layer, x_BTD, angles[number], layer_mask, cache, positions_BT)
        return self.model.norm(x_BTD)

    def embedded(self, tokens_BT: Tensor) -> Tensor:
        """Return what the first layer gets."""
        return self.model.embed_tokens(tokens_BT)

    def angles(self, positions_BT: Tensor) -> list[tuple[Tensor, Tensor] | None]:
        """Return the cosine and sine that each layer turns positions by, None for layers without positions."""
        rotary = rotary_angles(positions_BT, self.config)
        return [None if number in self.without_positions else rotary for number in range(self.config.num_layers)]
