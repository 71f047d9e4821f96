"""A project in nanoGPT's form, with several experiments: its programs really run, and were written for the tests.

What they share with nanoGPT is how they are used: `python train.py config/x.py --key=value`, constants that command
lines change, `data/NAME/prepare.py`, `out_dir/ckpt.pt` and what is in it.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

MODEL = """
import math
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional as F


class LayerNorm(nn.Module):
    def __init__(self, width, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.n_head = config.n_head

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = (part.view(B, T, self.n_head, -1).transpose(1, 2) for part in self.c_attn(x).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x):
        return self.c_proj(self.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


@dataclass
class GPTConfig:
    block_size: int = 64
    vocab_size: int = 50304
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 32
    dropout: float = 0.0
    bias: bool = True


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(dict(
            wte=nn.Embedding(config.vocab_size, config.n_embd),
            wpe=nn.Embedding(config.block_size, config.n_embd),
            h=nn.ModuleList([Block(config) for _ in range(config.n_layer)]),
            ln_f=LayerNorm(config.n_embd, bias=config.bias),
        ))
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        for parameter in self.parameters():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter, std=0.05)

    def forward(self, idx, targets=None):
        pos = torch.arange(idx.size(1))
        x = self.transformer.wte(idx) + self.transformer.wpe(pos)
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        if targets is None:
            return self.lm_head(x[:, [-1], :]), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))

    @torch.no_grad()
    def generate(self, idx, max_new_tokens, temperature=1.0, top_k=None):
        for _ in range(max_new_tokens):
            logits, _ = self(idx[:, -self.config.block_size:])
            logits = logits[:, -1, :] / temperature
            if top_k is not None:
                least = torch.topk(logits, min(top_k, logits.size(-1))).values[:, [-1]]
                logits[logits < least] = -float("Inf")
            idx = torch.cat((idx, torch.multinomial(F.softmax(logits, dim=-1), num_samples=1)), dim=1)
        return idx
"""
CONFIGURATOR = """
import sys
from ast import literal_eval

for arg in sys.argv[1:]:
    if "=" not in arg:
        exec(open(arg).read())
    else:
        key, val = arg[2:].split("=")
        try:
            globals()[key] = literal_eval(val)
        except (SyntaxError, ValueError):
            globals()[key] = val
"""
TRAIN = '''
"""
To train one of the models:
$ python train.py config/train_alpha.py --max_iters=10
"""
import math, os, pickle
import numpy as np
import torch
from model import GPT, GPTConfig

out_dir = 'out'
eval_interval = 10
eval_iters = 4
always_save_checkpoint = True
init_from = 'scratch'
dataset = 'alpha'
gradient_accumulation_steps = 1
batch_size = 8
block_size = 32
n_layer = 2
n_head = 2
n_embd = 32
dropout = 0.0
bias = False
learning_rate = 3e-3
max_iters = 30
weight_decay = 1e-1
beta1 = 0.9
beta2 = 0.99
grad_clip = 1.0
decay_lr = True
warmup_iters = 3
lr_decay_iters = 30
min_lr = 3e-4
device = 'cpu'
compile = False
dtype = 'float32'
config_keys = [k for k, v in globals().items() if not k.startswith('_') and isinstance(v, (int, float, bool, str))]
exec(open('configurator.py').read())
config = {k: globals()[k] for k in config_keys}

torch.manual_seed(1337)
os.makedirs(out_dir, exist_ok=True)
data_dir = os.path.join('data', dataset)


def get_batch(split):
    data = np.memmap(os.path.join(data_dir, split + '.bin'), dtype=np.uint16, mode='r')
    ix = torch.randint(len(data) - block_size, (batch_size,))
    x = torch.stack([torch.from_numpy(data[i:i + block_size].astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy(data[i + 1:i + 1 + block_size].astype(np.int64)) for i in ix])
    return x, y


iter_num, best_val_loss = 0, 1e9
with open(os.path.join(data_dir, 'meta.pkl'), 'rb') as f:
    vocab_size = pickle.load(f)['vocab_size']
model_args = dict(n_layer=n_layer, n_head=n_head, n_embd=n_embd, block_size=block_size, bias=bias,
                  vocab_size=vocab_size, dropout=dropout)
if init_from == 'resume':
    checkpoint = torch.load(os.path.join(out_dir, 'ckpt.pt'))
    model_args = checkpoint['model_args']
model = GPT(GPTConfig(**model_args))
if init_from == 'resume':
    model.load_state_dict(checkpoint['model'])
    iter_num, best_val_loss = checkpoint['iter_num'], checkpoint['best_val_loss']
params = [p for p in model.parameters() if p.requires_grad]
groups = [{'params': [p for p in params if p.dim() >= 2], 'weight_decay': weight_decay},
          {'params': [p for p in params if p.dim() < 2], 'weight_decay': 0.0}]
optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(beta1, beta2))
if init_from == 'resume':
    optimizer.load_state_dict(checkpoint['optimizer'])


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    if it > lr_decay_iters:
        return min_lr
    ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


@torch.no_grad()
def estimate_loss():
    losses = [model(*get_batch('val'))[1].item() for _ in range(eval_iters)]
    return sum(losses) / len(losses)


while True:
    for group in optimizer.param_groups:
        group['lr'] = get_lr(iter_num) if decay_lr else learning_rate
    if iter_num % eval_interval == 0:
        val = estimate_loss()
        print(f'step {iter_num}: val loss {val:.4f}')
        if iter_num > 0:
            best_val_loss = min(best_val_loss, val)
            torch.save({'model': model.state_dict(), 'optimizer': optimizer.state_dict(), 'model_args': model_args,
                        'iter_num': iter_num, 'best_val_loss': best_val_loss, 'config': config},
                       os.path.join(out_dir, 'ckpt.pt'))
    _, loss = model(*get_batch('train'))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    iter_num += 1
    if iter_num > max_iters:
        break
'''
SAMPLE = """
import os, pickle
import torch
from model import GPT, GPTConfig

init_from = 'resume'
out_dir = 'out'
start = "\\n"
num_samples = 3
max_new_tokens = 25
temperature = 0.7
top_k = 200
seed = 1337
device = 'cpu'
exec(open('configurator.py').read())

torch.manual_seed(seed)
checkpoint = torch.load(os.path.join(out_dir, 'ckpt.pt'))
model = GPT(GPTConfig(**checkpoint['model_args']))
model.load_state_dict(checkpoint['model'])
with open(os.path.join('data', checkpoint['config']['dataset'], 'meta.pkl'), 'rb') as f:
    meta = pickle.load(f)
if start.startswith('FILE:'):
    start = open(start[5:], encoding='utf-8').read()
x = torch.tensor([[meta['stoi'][c] for c in start]])
for _ in range(num_samples):
    print(''.join(meta['itos'][i] for i in model.generate(x, max_new_tokens, temperature, top_k)[0].tolist()))
    print('---------------')
"""
PREPARE = """
import os, pickle
import numpy as np

here = os.path.dirname(__file__)
with open(os.path.join(here, 'input.txt'), 'r') as f:
    data = f.read()
chars = sorted(list(set(data)))
stoi = {ch: i for i, ch in enumerate(chars)}
itos = {i: ch for i, ch in enumerate(chars)}
n = len(data)
for name, part in (('train', data[:int(n * 0.9)]), ('val', data[int(n * 0.9):])):
    np.array([stoi[c] for c in part], dtype=np.uint16).tofile(os.path.join(here, name + '.bin'))
with open(os.path.join(here, 'meta.pkl'), 'wb') as f:
    pickle.dump({'vocab_size': len(chars), 'itos': itos, 'stoi': stoi}, f)
"""


@dataclass
class Trained:
    """One experiment of the project: what its configuration sets besides the program's own."""

    name: str
    dataset: str
    settings: str = ""


def write_nano_project(
    folder: Path, texts: dict[str, str], experiments: list[Trained], commands: str, *, readme: str = ""
) -> None:
    """Write the project's files: programs, a dataset for each text, a configuration for each experiment, `run.sh`."""
    for name, content in (("model.py", MODEL), ("configurator.py", CONFIGURATOR), ("train.py", TRAIN),
                          ("sample.py", SAMPLE), ("run.sh", commands), ("README.md", readme)):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content.lstrip("\n"))
    for name, text in texts.items():
        data = folder / "data" / name
        data.mkdir(parents=True)
        (data / "input.txt").write_text(text)
        (data / "prepare.py").write_text(PREPARE.lstrip("\n"))
    (folder / "config").mkdir()
    for one in experiments:
        lines = f"out_dir = 'out-{one.name}'\ndataset = '{one.dataset}'\n{textwrap.dedent(one.settings)}"
        (folder / "config" / f"train_{one.name}.py").write_text(lines)


def run_legacy(folder: Path, *arguments: str) -> str:
    """Run one of the project's programs as its owner would and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=300
    )
    return done.stdout
