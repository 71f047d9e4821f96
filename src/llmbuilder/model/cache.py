"""The key/value cache of generation: fixed storage, rows of a batch at positions of their own.

A row's padding may leave values behind its last position; the causal mask hides them until the next real token
of that row overwrites them.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from llmbuilder.config.schema import ModelConfig
from llmbuilder.config.sizes import head_dim, num_key_value_heads


class KeyValueCache:
    """Keys and values of every layer for `batch_size` rows of at most `length` positions."""

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        length: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.length = length or config.max_seq_length
        shape = (config.num_layers, batch_size, num_key_value_heads(config), self.length, head_dim(config))
        self._keys = torch.zeros(shape, device=device, dtype=dtype)
        self._values = torch.zeros(shape, device=device, dtype=dtype)
        self._rows = torch.arange(batch_size, device=device)[:, None]
        self.used = 0

    def reserve(self, used: int) -> None:
        """Note that positions below `used` take part in attention from now on."""
        if used > self.length:
            raise IndexError(f"the cache holds {self.length} positions, not {used}")
        self.used = max(self.used, used)

    def update(self, layer: int, keys_BKTE: Tensor, values_BKTE: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values and return all up to the last used position, (batch, heads, used, width)."""
        self._keys[layer][self._rows, :, positions_BT] = keys_BKTE.transpose(1, 2).to(self._keys.dtype)
        self._values[layer][self._rows, :, positions_BT] = values_BKTE.transpose(1, 2).to(self._values.dtype)
        return self._keys[layer][:, :, : self.used], self._values[layer][:, :, : self.used]

    @property
    def row_bytes(self) -> int:
        """The bytes that a row takes."""
        return (self._keys.nbytes + self._values.nbytes) // len(self._rows)

    def rows(self, part: slice) -> KeyValueCache:
        """Return some of the rows with what they hold, as a cache that shares their storage."""
        return self._with(self._keys[:, part], self._values[:, part])

    def repeated(self, times: int) -> KeyValueCache:
        """Return a cache in which each row stands so many times, with a copy of what it holds."""
        return self._with(self._keys.repeat_interleave(times, 1), self._values.repeat_interleave(times, 1))

    def _with(self, keys: Tensor, values: Tensor) -> KeyValueCache:
        other = copy.copy(self)
        other._keys, other._values = keys, values
        other._rows = torch.arange(keys.shape[1], device=keys.device)[:, None]
        return other
