"""The GPT-2 family (Radford et al. 2019): learned positions, LayerNorm before each part, GELU.

Modules and parameters are named as in nanoGPT, so its checkpoints load without translation; Hugging Face uses
the same names with transposed matrices.

B batch, T positions, D model width, H heads, E head width
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import intermediate_size
from llmbuilder.model.base import LanguageModel, attend
from llmbuilder.model.cache import KeyValueCache


class CausalSelfAttention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.embedding_dim, 3 * config.embedding_dim, bias=config.bias)
        self.c_proj = nn.Linear(config.embedding_dim, config.embedding_dim, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, cache: KeyValueCache | None, positions_BT: Tensor) -> Tensor:
        q_BHTE, k_BHTE, v_BHTE = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.c_attn(x_BTD).chunk(3, dim=-1)
        )
        if cache is not None:
            k_BHTE, v_BHTE = cache.update(self.layer, k_BHTE, v_BHTE, positions_BT)
        dropout = self.dropout if self.training else 0.0
        y_BTD = attend(q_BHTE, k_BHTE, v_BHTE, mask, dropout, has_cache=cache is not None)
        return self.resid_dropout(self.c_proj(y_BTD))


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner = intermediate_size(config)
        self.c_fc = nn.Linear(config.embedding_dim, inner, bias=config.bias)
        self.c_proj = nn.Linear(inner, config.embedding_dim, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)
        self.approximate = "tanh" if config.activation == "gelu_tanh" else "none"

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x_BTD), approximate=self.approximate)))


class Block(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.embedding_dim, eps=config.norm_eps, bias=config.bias)
        self.attn = CausalSelfAttention(config, layer)
        self.ln_2 = nn.LayerNorm(config.embedding_dim, eps=config.norm_eps, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, cache: KeyValueCache | None, positions_BT: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attn(self.ln_1(x_BTD), mask, cache, positions_BT)
        return x_BTD + self.mlp(self.ln_2(x_BTD))


class GPTModel(LanguageModel):
    """A model of the GPT-2 family, initialised as GPT-2: normal(0, 0.02), residual projections by 1/sqrt(2 layers)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.embedding_dim),
                "wpe": nn.Embedding(config.max_seq_length, config.embedding_dim),
                "drop": nn.Dropout(config.dropout),
                "h": nn.ModuleList([Block(config, layer) for layer in range(config.num_layers)]),
                "ln_f": nn.LayerNorm(config.embedding_dim, eps=config.norm_eps, bias=config.bias),
            }
        )
        self.lm_head = nn.Linear(config.embedding_dim, config.vocab_size, bias=False)
        self.tie_embeddings()
        self.initialize()

    def initialize(self) -> None:
        """Draw fresh weights; on the meta device there is nothing to draw."""
        if self.device.type == "meta":
            return
        residual_std = 0.02 / math.sqrt(2 * self.config.num_layers)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=residual_std if name.endswith("c_proj") else 0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    @property
    def embedding(self) -> nn.Embedding:
        return self.transformer["wte"]  # type: ignore[return-value]

    @property
    def layers(self) -> nn.ModuleList:
        return self.transformer["h"]  # type: ignore[return-value]

    def apply_layers(
        self, tokens_BT: Tensor, mask: Tensor | None, cache: KeyValueCache | None, positions_BT: Tensor
    ) -> Tensor:
        places = positions_BT if mask is not None else positions_BT[:1]  # without a mask all rows are alike
        x_BTD = self.transformer["drop"](self.embedding(tokens_BT) + self.transformer["wpe"](places))
        for block in self.layers:
            x_BTD = self.through(block, x_BTD, mask, cache, positions_BT)
        return self.transformer["ln_f"](x_BTD)
