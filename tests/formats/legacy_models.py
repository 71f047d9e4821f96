"""Small models in the forms that forks of nanoGPT have, computed plainly, to hold conversions against."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LLAMA_ARGUMENTS = {"dim": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 50, "multiple_of": 16,
                   "max_seq_len": 24, "dropout": 0.0}  # fmt: skip


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width) + 0.1 * torch.randn(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class RotaryBlock(nn.Module):
    """A layer under llama2.c's names; rotary positions pair neighbours, or elements half a head apart."""

    def __init__(self, interleaved: bool, theta: float, qk_norm: bool) -> None:
        super().__init__()
        self.interleaved, self.theta = interleaved, theta
        self.attention = nn.ModuleDict({"wq": nn.Linear(32, 32, bias=False), "wk": nn.Linear(32, 16, bias=False),
                                        "wv": nn.Linear(32, 16, bias=False), "wo": nn.Linear(32, 32, bias=False)})  # fmt: skip
        if qk_norm:
            self.attention.update({"q_norm": RMSNorm(8), "k_norm": RMSNorm(8)})
        self.feed_forward = nn.ModuleDict({name: nn.Linear(*shape, bias=False)
                                           for name, shape in (("w1", (32, 48)), ("w2", (48, 32)), ("w3", (32, 48)))})  # fmt: skip
        self.attention_norm, self.ffn_norm = RMSNorm(32), RMSNorm(32)

    def turn(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[1])[:, None] / self.theta ** (torch.arange(0, 8, 2) / 8)
        cos, sin = angles.cos()[None, :, None], angles.sin()[None, :, None]
        first, second = (x[..., ::2], x[..., 1::2]) if self.interleaved else x.chunk(2, dim=-1)
        turned = (first * cos - second * sin, first * sin + second * cos)
        return torch.stack(turned, dim=-1).flatten(-2) if self.interleaved else torch.cat(turned, dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        normed, part = self.attention_norm(x), self.attention
        query, key, value = (part[name](normed).unflatten(-1, (-1, 8)) for name in ("wq", "wk", "wv"))
        if "q_norm" in part:
            query, key = part["q_norm"](query), part["k_norm"](key)
        query, key, value = self.turn(query), *(y.repeat_interleave(2, dim=2) for y in (self.turn(key), value))
        scores = torch.einsum("bthe,bshe->bhts", query, key) / math.sqrt(8)
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        attended = torch.einsum("bhts,bshe->bthe", scores.masked_fill(future, -math.inf).softmax(-1), value)
        x = x + part["wo"](attended.flatten(2))
        inner = self.ffn_norm(x)
        return x + self.feed_forward["w2"](F.silu(self.feed_forward["w1"](inner)) * self.feed_forward["w3"](inner))


class Rotary(nn.Module):
    """llama2.c's model."""

    def __init__(self, interleaved: bool = True, theta: float = 10000.0, qk_norm: bool = False) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(50, 32)
        self.layers = nn.ModuleList([RotaryBlock(interleaved, theta, qk_norm) for _ in range(2)])
        self.norm, self.output = RMSNorm(32), nn.Linear(32, 50, bias=False)
        self.tok_embeddings.weight = self.output.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))

    def checkpoint(self, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
        content: dict[str, Any] = {"model": self.state_dict(), "model_args": dict(LLAMA_ARGUMENTS), "iter_num": 5,
                                   "best_val_loss": torch.tensor(2.5)}  # fmt: skip
        return content | ({"optimizer": optimizer.state_dict()} if optimizer is not None else {})


def optimizer_of(model: nn.Module) -> torch.optim.AdamW:
    """Return AdamW with the groups that nanoGPT and llama2.c make."""
    parameters = list(model.parameters())
    groups = [[p for p in parameters if p.dim() >= 2], [p for p in parameters if p.dim() < 2]]
    return torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": 0.1}, {"params": groups[1], "weight_decay": 0.0}],
        lr=1e-2, betas=(0.9, 0.95),
    )  # fmt: skip


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Take steps on tokens that depend on nothing but their number."""
    for step in range(steps):
        tokens = torch.randint(50, (2, 13), generator=torch.Generator().manual_seed(step))
        answer = model(tokens[:, :-1])
        logits = answer[0] if isinstance(answer, tuple) else answer
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
