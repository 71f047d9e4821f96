"""The Gemma 3 family (Gemma Team 2025), by what it does otherwise than Llama's.

Embeddings are multiplied by the root of the width, attention and MLP are normalised before and behind, the gate of the
MLP is GELU's, and layers with a window turn positions by a base of their own. The weights of norms are what these
multiply by, as in the other families; Hugging Face's files have what that is above 1 (`formats.huggingface.gemma`).

B batch, T positions, D model width
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import layers_with_window
from llmbuilder.model.cache import KeyValueCache
from llmbuilder.model.functions import RMSNorm, as_multiplied
from llmbuilder.model.llama import MLP, DecoderLayer, LlamaModel
from llmbuilder.model.rotary import rotary_angles


class GatedMLP(MLP):
    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = as_multiplied(x_BTD)
        return self.down_proj(F.gelu(self.gate_proj(x_BTD), approximate="tanh") * self.up_proj(x_BTD))


class GemmaLayer(DecoderLayer):
    mlp_class = GatedMLP

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.pre_feedforward_layernorm = RMSNorm(config.embedding_dim, eps=config.norm_eps)
        self.post_feedforward_layernorm = RMSNorm(config.embedding_dim, eps=config.norm_eps)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KeyValueCache | None,
        positions_BT: Tensor,
    ) -> Tensor:
        attended = self.self_attn(self.input_layernorm(x_BTD), rotary, mask, cache, positions_BT)
        x_BTD = x_BTD + self.dropout(self.post_attention_layernorm(attended))
        inner = self.mlp(self.pre_feedforward_layernorm(x_BTD))
        return x_BTD + self.dropout(self.post_feedforward_layernorm(inner))


class GemmaModel(LlamaModel):
    """A model of the Gemma 3 family.

    Matrices and the embedding begin with a standard deviation of 0.02; what is added to the residual stream is
    normalised to 1 / sqrt(2 * layers) at first, so that the sum of all layers is about as long as one embedding.
    """

    layer_class = GemmaLayer

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        # How a layer turns positions does not depend on whether its window is the whole context.
        self.with_window = layers_with_window(config)
        theta = config.windowed_rope_theta or config.rope_theta
        self.in_windows = config.model_copy(update={"rope_theta": theta, "rope_scaling": None})

    def initialize(self) -> None:
        """Draw fresh weights; on the meta device there is nothing to draw."""
        if self.device.type == "meta":
            return
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            elif name.endswith(("post_attention_layernorm", "post_feedforward_layernorm")):
                nn.init.constant_(module.weight, (2 * self.config.num_layers) ** -0.5)  # type: ignore[arg-type]

    def embedded(self, tokens_BT: Tensor) -> Tensor:
        return self.model.embed_tokens(tokens_BT) * self.config.embedding_dim**0.5

    def angles(self, positions_BT: Tensor) -> list[tuple[Tensor, Tensor] | None]:
        kinds = [rotary_angles(positions_BT, config) for config in (self.config, self.in_windows)]
        return [kinds[number in self.with_window] for number in range(self.config.num_layers)]
