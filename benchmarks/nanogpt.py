"""nanoGPT's formula, written as its users write it: the peer of several benchmarks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).contiguous().view(batch, length, width))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class NanoGPT(nn.Module):
    """GPT-2's shape without biases and dropout, tied head, GPT-2's initialisation."""

    def __init__(self, vocab: int, layers: int, heads: int, width: int, context: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, vocab, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1), ignore_index=-1)

    def optimizer(self, learning_rate: float, betas: tuple[float, float]) -> torch.optim.AdamW:
        """Weight decay on matrices only; the fused kernel on GPUs, as nanoGPT chooses it."""
        parameters = list(self.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        fused = parameters[0].is_cuda
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, **({"fused": True} if fused else {}))


def learning_rate(step: int, peak: float, warmup: int, end: int, minimum: float) -> float:
    """Linear warm-up, cosine decay, then the minimum."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if step > end:
        return minimum
    return minimum + 0.5 * (1 + math.cos(math.pi * (step - warmup) / (end - warmup))) * (peak - minimum)


def random_batch(data: Tensor, batch: int, context: int) -> tuple[Tensor, Tensor]:
    """Windows from anywhere in the data, as get_batch draws them."""
    starts = torch.randint(len(data) - context, (batch,))
    inputs = torch.stack([data[i : i + context] for i in starts])
    return inputs, torch.stack([data[i + 1 : i + 1 + context] for i in starts])
