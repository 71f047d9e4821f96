"""What all families share: the call convention, the loss, and what a model can tell about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llmbuilder.config.in_force import idle_settings
from llmbuilder.config.schema import Config, ModelConfig
from llmbuilder.config.sizes import count_flops_per_token, estimate_inference_memory
from llmbuilder.config.validation import require_valid
from llmbuilder.errors import ConfigError
from llmbuilder.model.cache import KeyValueCache
from llmbuilder.model.functions import causal_attention
from llmbuilder.model.loss import IGNORE_INDEX, cross_entropies, summed_cross_entropy
from llmbuilder.model.packed import PackedWeight

if TYPE_CHECKING:
    from llmbuilder.tokenizer import Tokenizer


class LanguageModel(nn.Module, ABC):
    """A decoder-only transformer: token ids of shape (batch, positions) in, logits out."""

    lm_head: nn.Linear

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        require_buildable(config)
        self.config = config.model_copy()
        self.tokenizer: Tokenizer | None = None  # the one the weights were trained with; it travels with the model
        self.metadata: dict[str, Any] = {}
        self.stored_dtype: torch.dtype | None = None  # of the file that the weights come from, if it is a shorter one
        self.gradient_checkpointing = False  # recompute each layer in the backward pass

    @property
    @abstractmethod
    def embedding(self) -> nn.Embedding:
        """The token embedding."""

    @property
    @abstractmethod
    def layers(self) -> nn.ModuleList:
        """The transformer layers, in order."""

    def hidden_states(
        self, tokens_BT: Tensor, cache: KeyValueCache | None = None, positions_BT: Tensor | None = None
    ) -> Tensor:
        """Return the normalised output of the last layer, shape (batch, positions, width).

        With a cache, `tokens_BT` continue what it holds at `positions_BT`, and are added to it. Without one, a sequence
        is made of several where `positions_BT` begin again at 0: they do not see each other.
        Raises ConfigError for a sequence longer than the model's context.
        """
        if cache is None:
            self._check_length(tokens_BT.shape[1])
        positions_BT, mask = positions_and_mask(tokens_BT, cache, positions_BT)
        return self.apply_layers(tokens_BT, mask, cache, positions_BT)

    def through(self, layer: nn.Module, x_BTD: Tensor, *arguments: Any) -> Tensor:
        """Return a layer's output, to be recomputed in the backward pass if the model is set to that."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, x_BTD, *arguments, use_reentrant=False)
        return layer(x_BTD, *arguments)

    @abstractmethod
    def apply_layers(
        self, tokens_BT: Tensor, mask: Tensor | None, cache: KeyValueCache | None, positions_BT: Tensor
    ) -> Tensor:
        """Embed tokens and pass them through all layers and the last norm; no mask means plain causality."""

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return (logits of shape (batch, positions, vocabulary), mean cross-entropy in nats or None)."""
        logits_BTV = self.lm_head(self.hidden_states(tokens_BT))
        if targets_BT is None:
            return logits_BTV, None
        loss = F.cross_entropy(logits_BTV.float().flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORE_INDEX)
        return logits_BTV, loss

    def summed_loss(self, tokens_BT: Tensor, targets_BT: Tensor, positions_BT: Tensor | None = None) -> Tensor:
        """Return the sum of the cross-entropies in nats; no more than a part of the logits exists at a time.

        Targets of -100 do not count. `positions_BT` are those of `hidden_states`.
        """
        hidden_ND = self.hidden_states(tokens_BT, positions_BT=positions_BT).flatten(0, 1)
        return summed_cross_entropy(hidden_ND, self.lm_head.weight, targets_BT.flatten())

    def losses(self, tokens_BT: Tensor, targets_BT: Tensor, positions_BT: Tensor | None = None) -> Tensor:
        """Return the cross-entropy of each target in nats, shape (batch, positions); 0 for targets of -100."""
        hidden_ND = self.hidden_states(tokens_BT, positions_BT=positions_BT).flatten(0, 1)
        return cross_entropies(hidden_ND, self.lm_head.weight, targets_BT.flatten()).view(targets_BT.shape)

    def log_likelihoods(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the sum of the log-probabilities of each row's targets in nats, shape (batch); -100 does not count."""
        return -self.losses(tokens_BT, targets_BT).sum(-1)

    def tie_embeddings(self) -> None:
        """Make the output projection the embedding's own tensor, if the configuration says so."""
        if self.config.tie_embeddings:
            self.lm_head.weight = self.embedding.weight

    def weights(self) -> dict[str, Tensor]:
        """Return the state dict without the output projection when that is the embedding.

        Adapters are worked into the matrices that they lie beside, so that the weights stand for themselves.
        """
        tied = "lm_head.weight" if self.config.tie_embeddings else ""
        merged = {
            f"{name}.weight": module.merged() for name, module in self.named_modules() if hasattr(module, "merged")
        }
        return {
            name: merged.get(name, tensor)
            for name, tensor in self.state_dict().items()
            if name != tied and ".lora_" not in name
        }

    def learned_weights(self) -> dict[str, Tensor]:
        """Return the weights that training changes: all, or where some are frozen the others, adapters included."""
        if all(parameter.requires_grad for parameter in self.parameters()):
            return self.weights()
        return {name: parameter.detach() for name, parameter in self.named_parameters() if parameter.requires_grad}

    def require_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Raise ConfigError if the names or shapes of weights are not this model's; their values are not looked at."""
        expected = {name: tensor.shape for name, tensor in self.weights().items()}
        missing, extra = expected.keys() - weights.keys(), weights.keys() - expected.keys()
        if missing or extra:
            raise ConfigError(
                f"weights do not fit the model: missing {sorted(missing)[:4]}, unexpected {sorted(extra)[:4]}"
            )
        wrong = [name for name, shape in expected.items() if weights[name].shape != shape]
        if wrong:
            name = wrong[0]
            raise ConfigError(
                f"weights do not fit the model: {name} is {tuple(weights[name].shape)}, not {tuple(expected[name])}"
            )

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take over weights as they are (no copy). Raises ConfigError if names or shapes do not match."""
        self.require_weights(weights)
        self.load_state_dict(weights, strict=False, assign=True)
        self.tie_embeddings()

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    def num_parameters(self) -> int:
        """Return the number of parameters, counting shared ones once."""
        packed = sum(module.shape.numel() for module in self.modules() if isinstance(module, PackedWeight))
        return packed + sum(parameter.numel() for parameter in self.parameters())

    def flops_per_token(self, context: int | None = None) -> int:
        """Return the floating-point operations of one training token (see `config.sizes`)."""
        return count_flops_per_token(self.config, context)

    def memory_bytes(self, batch_size: int = 1) -> int:
        """Return the bytes inference needs: float32 weights and a full key/value cache."""
        return estimate_inference_memory(self.config, batch_size)

    def _check_length(self, length: int) -> None:
        if length > self.config.max_seq_length:
            raise ConfigError(
                f"{length} tokens do not fit model.max_seq_length ({self.config.max_seq_length}); cut the sequence"
            )


def require_buildable(config: ModelConfig) -> None:
    """Raise ConfigError for a shape that cannot be; what does nothing in it is no reason to refuse a finished model."""
    whole = Config(model=config.model_copy())
    idle = [name for name, _, _ in idle_settings(whole)]
    require_valid(whole, ["model"], "build this model", unchecked=idle)


def attend(
    query_BHTE: Tensor,
    key_BKSE: Tensor,
    value_BKSE: Tensor,
    mask_B1TS: Tensor | None,
    dropout: float,
    *,
    has_cache: bool = False,
) -> Tensor:
    """Attend causally (or as `mask_B1TS` says) and return (batch, positions, heads * head width).

    Query heads share key/value heads in groups when there are fewer of those. Without a cache of what was before, a
    mask shows nothing that lies behind a query.
    """
    if mask_B1TS is None or not has_cache:
        return causal_attention(query_BHTE, key_BKSE, value_BKSE, dropout, mask_B1TS).transpose(1, 2).flatten(2)
    output_BHTE = F.scaled_dot_product_attention(
        query_BHTE,
        key_BKSE,
        value_BKSE,
        attn_mask=mask_B1TS,
        dropout_p=dropout,
        enable_gqa=query_BHTE.shape[1] != key_BKSE.shape[1],
    )
    return output_BHTE.transpose(1, 2).flatten(2)


def positions_and_mask(
    tokens_BT: Tensor, cache: KeyValueCache | None, positions_BT: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the positions of the tokens, and the attention mask when a cache, or samples side by side, need one."""
    batch, length = tokens_BT.shape
    if cache is None and positions_BT is not None:
        return positions_BT, within_samples(positions_BT)
    if cache is None:
        return torch.arange(length, device=tokens_BT.device).expand(batch, length), None
    if positions_BT is None:
        positions_BT = torch.arange(length, device=tokens_BT.device).expand(batch, length)
    cache.reserve(int(positions_BT.max()) + 1)
    seen_S = torch.arange(cache.used, device=tokens_BT.device)
    return positions_BT, (seen_S <= positions_BT[:, None, :, None])


def within_samples(positions_BT: Tensor) -> Tensor:
    """Return a mask that hides what is later, and what belongs to another sample: one begins at each position 0."""
    samples_BT = (positions_BT == 0).cumsum(-1)
    same_BTS = samples_BT[:, :, None] == samples_BT[:, None, :]
    return same_BTS.tril()[:, None]


def within_window(mask_B1TS: Tensor | None, positions_BT: Tensor, window: int | None) -> Tensor | None:
    """Return a mask that hides what lies `window` positions back and more, too.

    None means plain causality, also when it is returned: then no position lies so far back.
    """
    seen = positions_BT.shape[1] if mask_B1TS is None else mask_B1TS.shape[-1]
    if window is None or seen <= window:
        return mask_B1TS
    places_S = torch.arange(seen, device=positions_BT.device)
    places_B1T1 = positions_BT[:, None, :, None]
    visible_B1TS = places_S <= places_B1T1 if mask_B1TS is None else mask_B1TS
    return visible_B1TS & (places_S > places_B1T1 - window)
