"""Low-rank adapters: a model's matrices stay as they are, and a small product is learned beside each.

LoRA (Hu et al. 2021) adds `scale * B A` to a matrix, A and B of rank r; DoRA (Liu et al. 2024) gives the rows of the
sum lengths of their own. Names and formulas are those of the `peft` library, so that adapters pass from one to the
other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmbuilder.errors import ConfigError
from llmbuilder.model.base import LanguageModel
from llmbuilder.model.functions import adapted_product, as_multiplied
from llmbuilder.model.packed import PackedWeight


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
        self.packed: PackedWeight | None = None
        self._read_whole: Callable[[], Tensor] | None = None

    def start(self, generator: torch.Generator) -> None:
        """Draw A as `peft` does, with B at zero: the layer computes what it did without the adapter."""
        drawn = torch.empty(self.lora_A.weight.shape)  # on the processor, so that every device begins alike
        nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
        with torch.no_grad():
            self.lora_A.weight.copy_(drawn)
        nn.init.zeros_(self.lora_B.weight)

    def hold(self, dtype: torch.dtype | None, read_whole: Callable[[], Tensor]) -> None:
        """Hold the frozen weight in a shorter type, or with None packed in four bits; `read_whole` gives it back."""
        own = self.weight.dtype
        self._read_whole = lambda: read_whole().to(own)
        self.packed = PackedWeight(self.weight) if dtype is None else None
        held = self.weight.detach().to(dtype) if dtype is not None else self.weight.new_empty(0)
        self.weight = nn.Parameter(held, requires_grad=False)

    def release(self) -> None:
        """Hold the frozen weight as it was again."""
        self.weight = nn.Parameter(self.whole_weight(), requires_grad=False)
        self.packed = self._read_whole = None

    def whole_weight(self) -> Tensor:
        """Return the frozen weight as it was before it was held in another form, if it is."""
        return self.weight.detach() if self._read_whole is None else self._read_whole().to(self.weight.device)

    def frozen_weight(self, dtype: torch.dtype) -> Tensor:
        """Return the frozen weight as it is multiplied, in `dtype`."""
        return self.weight.to(dtype) if self.packed is None else self.packed.unpacked(dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = as_multiplied(x)
        lengths = self.lora_magnitude_vector
        if lengths is None and not (self.training and self.lora_dropout.p):
            product = adapted_product(
                x, self.frozen_weight, self.lora_A.weight, self.lora_B.weight, self.shape.scale,
                is_made_anew=self.packed is not None,
            )  # fmt: skip
            return product if self.bias is None else product + self.bias.to(x.dtype)
        summed = (
            F.linear(x, self.frozen_weight(x.dtype)) + self.lora_B(self.lora_A(self.lora_dropout(x))) * self.shape.scale
        )
        if lengths is not None:
            # The norm is no path of gradients, as in the paper (section 4.3).
            norms = torch.linalg.vector_norm((self.weight + self._product()).detach().float(), dim=1)
            summed = (lengths / norms) * summed
        return summed if self.bias is None else summed + self.bias

    def _product(self) -> Tensor:
        return self.shape.scale * (self.lora_B.weight @ self.lora_A.weight)

    @torch.no_grad()
    def merged(self) -> Tensor:
        """Return the one matrix that does what weight and adapter do, in the weight's own type."""
        own = self.whole_weight()
        merged = own.float() + self._product().float()
        if self.lora_magnitude_vector is not None:
            merged *= (self.lora_magnitude_vector / torch.linalg.vector_norm(merged, dim=1))[:, None]
        return merged.to(own.dtype)


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


def hold_frozen(model: nn.Module, dtype: torch.dtype | None, read_whole: Callable[[str], Tensor]) -> None:
    """Hold the matrices that adapters lie beside in `dtype`, the type in which they are multiplied; None: in four bits.

    A cast at each use would take time, and keep as much memory again for the backward pass. `read_whole` returns a
    layer's weight, by its name, as it is now: for merging. DoRA's stay, whose lengths are compared with theirs.
    """
    for name, module in adapted_layers(model):
        if module.lora_magnitude_vector is None:
            module.hold(dtype, functools.partial(read_whole, name))
    for parameter in model.parameters():
        # Read from a file that is mapped into memory, one tensor alone would keep the whole of it there.
        parameter.data = parameter.detach().clone()


def release_frozen(model: nn.Module) -> None:
    """Hold the matrices that adapters lie beside as they were again."""
    for _, module in adapted_layers(model):
        module.release()


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
        _put_plain(model, name, module, nn.Parameter(module.whole_weight()))
    return cast(LanguageModel, model.requires_grad_(True))


def _put_plain(model: LanguageModel, name: str, module: AdaptedLinear, weight: nn.Parameter) -> None:
    plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None, device="meta")
    plain.weight, plain.bias = weight, module.bias
    model.set_submodule(name, plain.train(model.training))
