"""Legacy programs written anew for the tests: what nanoGPT and the older scripts compute and save.

Nothing here uses the package, so that it can serve as the other side of a comparison.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NanoBlock(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width, bias=bias)
        self.ln_2 = nn.LayerNorm(width, bias=bias)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(width, 3 * width, bias=bias), "c_proj": nn.Linear(width, width, bias=bias)}
        )
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width, bias=bias), "c_proj": nn.Linear(4 * width, width, bias=bias)}
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.attn["c_attn"](self.ln_1(x)).split(width, dim=2)
        q, k, v = (p.view(batch, length, self.heads, -1).transpose(1, 2) for p in parts)
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))
        scores = scores.masked_fill(torch.tril(torch.ones(length, length)) == 0, float("-inf"))
        y = (F.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(batch, length, width)
        x = x + self.attn["c_proj"](y)
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class NanoGPT(nn.Module):
    """nanoGPT's model: its parameter names, its exact GELU, its tied head."""

    def __init__(self, vocab: int = 65, layers: int = 2, heads: int = 2, width: int = 32, block: int = 32,
                 bias: bool = False) -> None:  # fmt: skip
        super().__init__()
        self.args = {"n_layer": layers, "n_head": heads, "n_embd": width, "block_size": block, "bias": bias,
                     "vocab_size": vocab, "dropout": 0.0}  # fmt: skip
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab, width),
                "wpe": nn.Embedding(block, width),
                "h": nn.ModuleList([NanoBlock(width, heads, bias) for _ in range(layers)]),
                "ln_f": nn.LayerNorm(width, bias=bias),
            }
        )
        self.lm_head = nn.Linear(width, vocab, bias=False)
        self.transformer["wte"].weight = self.lm_head.weight
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.transformer["wte"](tokens) + self.transformer["wpe"](torch.arange(tokens.shape[1]))
        for block in self.transformer["h"]:
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))

    def train_steps(self, tokens: Tensor, steps: int) -> torch.optim.Optimizer:
        """Take optimizer steps the way nanoGPT groups them, so that there is real optimizer state."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
        for _ in range(steps):
            loss = F.cross_entropy(self(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return optimizer

    def checkpoint(self, optimizer: torch.optim.Optimizer, *, prefix: str = "") -> dict[str, Any]:
        """Return what nanoGPT's train.py saves; `prefix` is torch.compile's "_orig_mod."."""
        return {
            "model": {prefix + name: tensor for name, tensor in self.state_dict().items()},
            "optimizer": optimizer.state_dict(),
            "model_args": self.args,
            "iter_num": 20,
            "best_val_loss": torch.tensor(3.25),
            "config": {**self.args, "batch_size": 4, "learning_rate": 1e-3, "max_iters": 40, "dataset": "chars",
                       "warmup_iters": 2, "eval_interval": 10, "out_dir": "out"},
        }  # fmt: skip


class OldBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict(
            {"qkv_proj": nn.Linear(width, 3 * width, bias=False), "out_proj": nn.Linear(width, width)}
        )
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.attn.register_buffer("causal_mask", torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            p.view(batch, length, self.heads, -1).transpose(1, 2)
            for p in self.attn["qkv_proj"](self.ln1(x)).chunk(3, dim=-1)
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)
        scores = scores.masked_fill(self.attn.causal_mask[:, :, :length, :length] == 0, float("-inf"))
        x = x + self.attn["out_proj"]((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.ln2(x))))


class OldScriptsGPT(nn.Module):
    """The GPT of the older LLMBuilder scripts: other names, biases everywhere but on the attention input."""

    def __init__(self, vocab: int = 70, layers: int = 2, heads: int = 2, width: int = 32) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab, width)
        self.position_embedding = nn.Embedding(64, width)
        self.blocks = nn.ModuleList([OldBlock(width, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocab, bias=False)
        self.lm_head.weight = self.token_embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.position_embedding(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))
