"""Low-rank adapters: a model's matrices stay as they are, and a small product is learned beside each.

LoRA (Hu et al. 2021) adds `scale * B A` to a matrix, A and B of rank r; DoRA (Liu et al. 2024) gives the rows of the
sum lengths of their own. Names and formulas are those of the `peft` library, so that adapters pass from one to the
other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmbuilder.errors import ConfigError
from llmbuilder.model.base import LanguageModel


@dataclass(frozen=True)
class AdapterShape:
    """One matrix's adapter: `rank`, what B A is multiplied by, and whether rows have lengths of their own (DoRA)."""

    rank: int
    scale: float
    has_magnitudes: bool = False


class AdaptedLinear(nn.Linear):
    """A linear layer whose own weight is frozen, with an adapter beside it."""

    def __init__(self, base: nn.Linear, shape: AdapterShape, dropout: float = 0.0) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.shape = shape
        device = base.weight.device
        self.lora_A = nn.Linear(base.in_features, shape.rank, bias=False, device=device)
        self.lora_B = nn.Linear(shape.rank, base.out_features, bias=False, device=device)
        self.lora_dropout = nn.Dropout(dropout)
        magnitudes = torch.linalg.vector_norm(base.weight.detach().float(), dim=1) if shape.has_magnitudes else None
        self.lora_magnitude_vector = None if magnitudes is None else nn.Parameter(magnitudes)

    def start(self, generator: torch.Generator) -> None:
        """Draw A as `peft` does, with B at zero: the layer computes what it did without the adapter."""
        drawn = torch.empty(self.lora_A.weight.shape)  # on the processor, so that every device begins alike
        nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
        with torch.no_grad():
            self.lora_A.weight.copy_(drawn)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        own = self._own(x)
        learned = self.lora_B(self.lora_A(self.lora_dropout(x))) * self.shape.scale
        if self.lora_magnitude_vector is None:
            return own + learned if self.bias is None else own + learned + self.bias
        # The norm is no path of gradients, as in the paper (section 4.3).
        norms = torch.linalg.vector_norm((self.weight + self._product()).detach().float(), dim=1)
        sum_of_both = (self.lora_magnitude_vector / norms) * (own + learned)
        return sum_of_both if self.bias is None else sum_of_both + self.bias

    def _own(self, x: Tensor) -> Tensor:
        """Multiply with the frozen weight, which may be stored in a shorter type than is computed in."""
        is_cast_later = torch.is_autocast_enabled(x.device.type)
        return F.linear(x, self.weight if is_cast_later else self.weight.to(x.dtype))

    def _product(self) -> Tensor:
        return self.shape.scale * (self.lora_B.weight @ self.lora_A.weight)

    @torch.no_grad()
    def merged(self) -> Tensor:
        """Return the one matrix that does what weight and adapter do, in the weight's own type."""
        whole = self.weight.float() + self._product().float()
        if self.lora_magnitude_vector is not None:
            whole *= (self.lora_magnitude_vector / torch.linalg.vector_norm(whole, dim=1))[:, None]
        return whole.to(self.weight.dtype)


def linear_layers(model: LanguageModel) -> list[str]:
    """Return the names of all linear layers in the model's layers, which is what adapters are for."""
    layers = model.layers
    prefix = next(name for name, module in model.named_modules() if module is layers)
    return [f"{prefix}.{name}" for name, module in layers.named_modules() if isinstance(module, nn.Linear)
            and not name.endswith(("lora_A", "lora_B"))]  # fmt: skip


def add_adapters(
    model: LanguageModel, shapes: Mapping[str, AdapterShape], *, dropout: float = 0.0, seed: int = 0
) -> LanguageModel:
    """Put an adapter beside each layer named in `shapes`, freeze everything else, and return the model.

    The model computes what it did before. Raises ConfigError for a name that is no linear layer of this model, and
    for a model that has adapters already.
    """
    if has_adapters(model):
        raise ConfigError("this model has adapters already: merge them first")
    known = set(linear_layers(model))
    unknown = sorted(set(shapes) - known)
    if unknown or not shapes:
        raise ConfigError(f"no linear layer of this model is called {unknown[0] if unknown else ''!r}")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name in sorted(shapes):
        base = cast(nn.Linear, model.get_submodule(name))
        adapted = AdaptedLinear(base, shapes[name], dropout).train(model.training)
        if base.weight.device.type != "meta":
            adapted.start(generator)
        model.set_submodule(name, adapted)
    return model


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """Yield the layers that have an adapter, by their names."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, AdaptedLinear))


def has_adapters(model: nn.Module) -> bool:
    """Whether some layer of the model has an adapter."""
    return next(adapted_layers(model), None) is not None


def adapter_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the adapters' own weights: layer's name and `lora_A.weight`, `lora_B.weight`, `lora_magnitude_vector`."""
    return {
        f"{layer}.{name}": tensor
        for layer, module in adapted_layers(model)
        for name, tensor in module.state_dict().items()
        if name.startswith("lora_")
    }


def merge_adapters(model: LanguageModel) -> LanguageModel:
    """Work the adapters into the matrices beside them, in place, and return the model, all of which can learn again."""
    for name, module in list(adapted_layers(model)):
        _put_plain(model, name, module, nn.Parameter(module.merged()))
    return cast(LanguageModel, model.requires_grad_(True))


def remove_adapters(model: LanguageModel) -> LanguageModel:
    """Take the adapters away, in place, and return the model as it was without them, all of which can learn again."""
    for name, module in list(adapted_layers(model)):
        _put_plain(model, name, module, cast(nn.Parameter, module.weight))
    return cast(LanguageModel, model.requires_grad_(True))


def _put_plain(model: LanguageModel, name: str, module: AdaptedLinear, weight: nn.Parameter) -> None:
    plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None, device="meta")
    plain.weight, plain.bias = weight, module.bias
    model.set_submodule(name, plain.train(model.training))
