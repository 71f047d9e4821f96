"""A project's own model as the proof of its conversion: certified if it computes the same, refused if it does not."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmbuilder.errors import CheckpointError, MigrationError
from llmbuilder.formats.nanogpt.checkpoint import convert_checkpoint
from llmbuilder.formats.nanogpt.source import ArchitectureFacts, read_architecture
from llmbuilder.migration import legacy_process
from llmbuilder.migration.account import describe_proof
from llmbuilder.migration.proof import Proof, prove_with_legacy_code

GPT = """
import math
from dataclasses import dataclass
import torch
import torch.nn as nn
import torch.nn.functional as F
from layers import LayerNorm


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.n_head = config.n_head

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = (y.view(B, T, self.n_head, -1).transpose(1, 2) for y in self.c_attn(x).split(C, dim=2))
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(torch.ones(T, T).tril() == 0, float("-inf"))
        return self.c_proj((F.softmax(att, dim=-1) @ v).transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1, self.ln_2 = LayerNorm(config.n_embd), LayerNorm(config.n_embd)
        self.attn, self.mlp = Attention(config), MLP(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


@dataclass
class GPTConfig:
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    block_size: int = 1024
    vocab_size: int = 50304


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.transformer = nn.ModuleDict(dict(
            wte=nn.Embedding(config.vocab_size, config.n_embd),
            wpe=nn.Embedding(config.block_size, config.n_embd),
            h=nn.ModuleList([Block(config) for _ in range(config.n_layer)]),
            ln_f=LayerNorm(config.n_embd),
        ))
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight

    def forward(self, idx, targets=None):
        x = self.transformer.wte(idx) + self.transformer.wpe(torch.arange(idx.size(1)))
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        if targets is None:
            return self.lm_head(x[:, [-1]]), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))
"""
LAYERS = """
import torch
from torch import nn
import torch.nn.functional as F


class LayerNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)
"""
ARGUMENTS = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 24, "vocab_size": 40}
DATA = np.random.default_rng(0).integers(0, 40, 200).astype(np.uint16)
# What a fork changes that no tensor shows: (what stands in its source, what it puts there instead).
CHANGES = {
    "epsilon of the norms": ("1e-5)", "1e-4)"),
    "activation": ("F.gelu(self.c_fc(x))", "F.gelu(self.c_fc(x), approximate='tanh')"),
    "another activation": ("F.gelu(", "F.silu("),
    "attention scale": ("math.sqrt(k.size(-1))", "math.sqrt(k.size(-1) + 1)"),
    "norm after the sum": ("x = x + self.attn(self.ln_1(x))", "x = self.ln_1(x + self.attn(x))"),
    "another term": ("return x + self.mlp(", "return x + 0.01 * torch.tanh(x) + self.mlp("),
    "window": (".tril()", ".tril().triu(-8)"),
    "scaled embeddings": ("self.transformer.wte(idx) +", "1.01 * self.transformer.wte(idx) +"),
}


def write_project(folder: Path, change: tuple[str, str] = ("", ""), model: str = GPT) -> dict[str, Any]:
    """Write a project of two files and return a checkpoint of random weights for it."""
    folder.mkdir(exist_ok=True)
    for name, source in (("model.py", model), ("layers.py", LAYERS)):
        (folder / name).write_text(source.replace(*change) if change[0] else source)
    torch.manual_seed(0)
    shapes = {"transformer.wte": (40, 32), "transformer.wpe": (24, 32)}
    for layer in range(2):
        block = f"transformer.h.{layer}"
        shapes |= {f"{block}.attn.c_attn": (96, 32), f"{block}.attn.c_proj": (32, 32), f"{block}.mlp.c_fc": (128, 32),
                   f"{block}.mlp.c_proj": (32, 128), f"{block}.ln_1": (32,), f"{block}.ln_2": (32,)}  # fmt: skip
    weights = {
        f"{name}.weight": 0.2 * torch.randn(shape) for name, shape in [*shapes.items(), ("transformer.ln_f", (32,))]
    }
    weights |= {f"{name.removesuffix('weight')}bias": 0.1 * torch.randn(len(weights[name])) for name in list(weights)
                if "wte" not in name and "wpe" not in name}  # fmt: skip
    for name in weights:
        weights[name] += 1.0 * (".ln_" in name and name.endswith("weight"))
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    return {"model": weights, "model_args": dict(ARGUMENTS), "iter_num": 1}


def prove(folder: Path, content: dict[str, Any], **options: Any) -> Proof:
    model = convert_checkpoint(content, activation=options.pop("activation", None)).build()
    return prove_with_legacy_code(folder, "model.py", content, model, data=DATA, **options)


def test_an_honest_conversion_is_certified_and_the_project_stays_untouched(tmp_path: Path) -> None:
    content = write_project(tmp_path / "old")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "old").rglob("*")}
    proof = prove(tmp_path / "old", content)
    assert proof.is_certified, proof.verdict()
    assert proof.largest_logit_difference < 1e-5 * proof.largest_logit
    assert proof.legacy_loss == pytest.approx(proof.loss, abs=1e-5)
    assert proof.program == "GPT of model.py"
    assert re.match("certified against GPT of model.py: largest difference of logits .*, loss .* greedy text the same",
                    proof.verdict())  # fmt: skip
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "old").rglob("*")} == before


def test_a_shape_that_the_checkpoint_does_not_say_is_a_condition_and_no_certificate(tmp_path: Path) -> None:
    content = write_project(tmp_path / "old")
    assumed = convert_checkpoint({**content, "model_args": {**ARGUMENTS, "n_head": 4}}).build()
    proof = prove_with_legacy_code(tmp_path / "old", "model.py", {"model": content["model"]}, assumed)
    assert proof.is_same and not proof.is_certified
    assert proof.only_if == ["with 4 heads, which the checkpoint does not say"]
    assert "certified" not in proof.verdict() and proof.only_if[0] in proof.verdict()
    told = {"against": "code", "largest_logit_difference": 1e-7, "program": "GPT", "legacy_loss": None}
    assert "certified" in describe_proof(told)
    assert "certified" not in describe_proof({**told, "only_if": proof.only_if})
    assert proof.only_if[0] in describe_proof({**told, "only_if": proof.only_if})


def test_the_projects_model_is_made_from_the_checkpoints_word_and_not_from_the_converted_model(tmp_path: Path) -> None:
    content = write_project(tmp_path / "old")
    wrong = convert_checkpoint({**content, "model_args": {**ARGUMENTS, "n_head": 4}}).build()
    for name in ("model_args", "cfg"):
        proof = prove_with_legacy_code(
            tmp_path / "old", "model.py", {"model": content["model"], name: ARGUMENTS}, wrong
        )
        assert not proof.is_same and proof.verdict().startswith("NOT certified")


@pytest.mark.parametrize(("old", "new"), [
    ("    def __init__(self, config):\n        super().__init__()\n        self.transformer",
     "    def __init__(self, config: GPTConfig | None = None):\n        super().__init__()\n        config = config or GPTConfig()\n        self.transformer"),
    ("    def __init__(self, config):\n        super().__init__()\n        self.transformer",
     "    def __init__(self, config: dict):\n        super().__init__()\n        assert set(config) == set('n_layer n_head n_embd block_size vocab_size'.split())\n        config = GPTConfig(**config)\n        self.transformer"),
])  # fmt: skip
def test_a_configuration_that_may_be_left_out_or_is_a_mapping_is_the_checkpoints(
    tmp_path: Path, old: str, new: str
) -> None:
    content = write_project(tmp_path / "old", (old, new))
    defaults = ("n_layer: int = 12", "n_layer: int = 2"), ("768", "32"), ("1024", "24"), ("50304", "40")
    model = (tmp_path / "old" / "model.py").read_text()
    for before, after in defaults:  # the defaults take the weights as well, with other heads
        model = model.replace(before, after)
    (tmp_path / "old" / "model.py").write_text(model.replace("n_head: int = 12", "n_head: int = 4"))
    proof = prove(tmp_path / "old", content)
    assert proof.is_certified, proof.verdict()


@pytest.mark.slow
@pytest.mark.parametrize("what", CHANGES)
def test_a_model_that_computes_something_else_is_never_certified(tmp_path: Path, what: str) -> None:
    content = write_project(tmp_path / "old", CHANGES[what])
    proof = prove(tmp_path / "old", content)
    assert not proof.is_certified
    assert proof.verdict().startswith("NOT certified against GPT of model.py: largest difference of logits")
    try:
        facts = read_architecture([tmp_path / "old" / "model.py", tmp_path / "old" / "layers.py"])
        model = convert_checkpoint(content, source=facts).build()
    except CheckpointError:
        return  # the reader saw it, and refuses the model
    read = prove_with_legacy_code(tmp_path / "old", "model.py", content, model, data=DATA)
    is_expressible = what in ("epsilon of the norms", "activation")  # which the reader carries over as it is
    assert read.is_certified == is_expressible, read.verdict()


ROTARY = '''
import torch, torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x, theta=10000.0):
    angles = torch.outer(torch.arange(x.size(1)).float(), theta ** (-torch.arange(0, 8, 2) / 8))[None, :, None]
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), -1).flatten(-2)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.attention = nn.ModuleDict(dict(wq=linear(32, 32), wk=linear(32, 32), wv=linear(32, 32), wo=linear(32, 32)))
        self.feed_forward = nn.ModuleDict(dict(w1=linear(32, 48), w2=linear(48, 32), w3=linear(32, 48)))
        self.attention_norm, self.ffn_norm = RMSNorm(32), RMSNorm(32)

    def forward(self, x):
        y, part = self.attention_norm(x), self.attention
        q, k, v = (part[n](y).unflatten(-1, (4, 8)) for n in ("wq", "wk", "wv"))
        y = F.scaled_dot_product_attention(*(z.transpose(1, 2) for z in (rotate(q), rotate(k), v)), is_causal=True)
        x = x + part["wo"](y.transpose(1, 2).flatten(2))
        y, part = self.ffn_norm(x), self.feed_forward
        return x + part["w2"](F.silu(part["w1"](y)) * part["w3"](y))


class Transformer(nn.Module):
    """Takes whatever it is given, and returns an object."""

    def __init__(self, vocab_size, **options):
        super().__init__()
        self.tok_embeddings, self.output = nn.Embedding(vocab_size, 32), nn.Linear(32, vocab_size, bias=False)
        self.layers, self.norm = nn.ModuleList([Layer() for _ in range(options["n_layers"])]), RMSNorm(32)

    def forward(self, tokens):
        x = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return {"logits": self.output(self.norm(x))}["logits"]
'''


@pytest.mark.slow
def test_a_rotary_model_is_certified_and_one_with_another_base_is_not(tmp_path: Path) -> None:
    write_project(tmp_path / "old", model=ROTARY)
    torch.manual_seed(0)
    namespace: dict[str, Any] = {}
    exec(ROTARY, namespace)
    weights = {
        n: t + 0.2 * torch.randn(t.shape) for n, t in namespace["Transformer"](40, n_layers=2).state_dict().items()
    }
    arguments = {"n_layers": 2, "n_heads": 4, "dim": 32, "vocab_size": 40, "max_seq_len": 24, "hidden_dim": 48}
    content = {"model": weights, "model_args": arguments}
    proof = prove(tmp_path / "old", content)
    assert proof.is_certified, proof.verdict()
    for change in (("theta=10000.0", "theta=10050.0"), ("x[..., ::2], x[..., 1::2]", "x.chunk(2, -1)")):
        write_project(tmp_path / "old", change, ROTARY)
        assert not prove(tmp_path / "old", content).is_certified


TRAINER = (
    GPT.replace("from layers import", "from loader import")
    + """
device = "cpu"
learning_rate = 6e-4 if device == "cpu" else undefined_elsewhere
model = GPT(GPTConfig(n_layer=1))
for step in range(10**9):
    raise SystemExit("it trains when it is imported")
"""
)


def test_a_training_script_that_defines_the_model_is_cut_down_to_it(tmp_path: Path) -> None:
    content = write_project(tmp_path / "old", model=TRAINER)
    (tmp_path / "old" / "loader.py").write_text("from not_installed_here import thing\nfrom layers import LayerNorm\n")
    proof = prove(tmp_path / "old", content)
    assert proof.is_certified, proof.verdict()
    assert "without not_installed_here" in proof.program


FAILURES = {
    "no class of its takes the weights": (
        "self.c_fc =",
        "self.fc =",
        "no class of model.py takes the checkpoint's weights",
    ),
    "a crash": ("x = self.transformer.ln_f(x)", "import os; os._exit(3)", r"ended without an answer \(status 3\)"),
    "an exception": ("x = self.transformer.ln_f(x)", "x = undefined", "does not return logits|NameError"),
    "a hang": ("x = self.transformer.ln_f(x)", "import time; time.sleep(600)", "not done after 6 s"),
    "another shape of logits": ("self.lm_head(x", "(lambda y: self.lm_head(y)[..., :7])(x", "does not return logits"),
    "no Python": ("import math", "import math ][", "no Python source"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", FAILURES)
def test_code_that_cannot_be_run_is_an_error_in_words_and_never_a_pass(tmp_path: Path, what: str) -> None:
    old, new, message = FAILURES[what]
    content = write_project(tmp_path / "old", (old, new))
    seconds = 6.0 if what == "a hang" else 120.0
    with pytest.raises(MigrationError, match=message):
        prove(tmp_path / "old", content, timeout_seconds=seconds, activation="gelu")


def test_a_source_outside_the_project_is_refused(tmp_path: Path) -> None:
    content = write_project(tmp_path / "old")
    model = convert_checkpoint(content).build()
    for source in ("../else.py", "absent.py"):
        (tmp_path / "else.py").write_text(GPT)
        with pytest.raises(MigrationError, match="no such model source"):
            prove_with_legacy_code(tmp_path / "old", source, content, model)


SPY = """
import ctypes, os, socket, json
found = {"secret": os.environ.get("SECRET_TOKEN"), "home": os.environ["HOME"]}
def connect(family, place):
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(place)
for name, act in {
    "network": lambda: connect(socket.AF_INET, ("127.0.0.1", PORT)),
    "abstract": lambda: connect(socket.AF_UNIX, ABSTRACT),
    "file socket": lambda: connect(socket.AF_UNIX, PLACE + "/socket"),
    "create": lambda: open(PLACE + "/written", "w").close(),
    "truncate": lambda: os.truncate(PLACE + "/ckpt.pt", 0),
    "chmod": lambda: os.chmod(PLACE + "/ckpt.pt", 0),
    "chown": lambda: os.chown(PLACE + "/ckpt.pt", 1, 1),
    "utime": lambda: os.utime(PLACE + "/ckpt.pt", (0, 0)),
    "rename": lambda: os.rename(PLACE + "/ckpt.pt", PLACE + "/moved"),
    "library": lambda: os.utime(os.__file__, (0, 0)),
    "kill": lambda: os.kill(PID, 0),
}.items():
    try:
        act()
        found[name] = "possible"
    except OSError as error:
        found[name] = error.errno
class Found(Exception):
    pass
def tell():
    open("told.txt", "w").close() if os.getcwd().startswith(os.environ["HOME"]) else None
    raise Found(json.dumps(found))
"""


def without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process find a system that allows it none, as many containers do."""
    refuse = f"import {legacy_process._PACKAGE}.legacy_isolation as i; i.new_namespaces = lambda: 0\ndel sys.path"
    monkeypatch.setattr(legacy_process, "_PROGRAM", legacy_process._PROGRAM.replace("del sys.path", refuse))


def spy_on(folder: Path, spy: str) -> dict[str, Any]:
    """Write a project whose model calls `spy.tell` when it is run."""
    content = write_project(folder, ("x = self.transformer.ln_f(x)", "import spy; spy.tell()"))
    (folder / "spy.py").write_text(spy)
    return content


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cut nothing off, and the proof says so")
@pytest.mark.parametrize("has_namespaces", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_code_is_kept_from_what_the_proof_says_it_is_kept_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_namespaces: bool
) -> None:
    import socket

    if not has_namespaces:
        without_namespaces(monkeypatch)
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    isolation = prove(tmp_path / "old", write_project(tmp_path / "old")).isolation
    (tmp_path / "ckpt.pt").write_bytes(b"weights")
    before = (tmp_path / "ckpt.pt").stat()
    abstract = f"\0llmbuilder-test-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as hidden,
    ):
        monkeypatch.chdir(tmp_path)
        named.bind("socket")
        hidden.bind(abstract)
        named.listen()
        hidden.listen()
        values = {"PORT": server.getsockname()[1], "ABSTRACT": abstract, "PLACE": str(tmp_path), "PID": os.getpid()}
        with pytest.raises(MigrationError) as refusal:
            prove(tmp_path / "old", spy_on(tmp_path / "old", re.sub("PORT|ABSTRACT|PLACE|PID", lambda m: repr(
                values[m[0]]), SPY)))  # fmt: skip
    told = str(refusal.value)
    assert "Found" in told
    assert '"secret": null' in told
    assert os.environ["HOME"] not in told.partition('"home"')[2]
    after = (tmp_path / "ckpt.pt").stat()
    if "no writing or changing outside" in isolation:
        assert not (tmp_path / "written").exists()
        assert (before.st_mode, before.st_uid, before.st_mtime_ns) == (after.st_mode, after.st_uid, after.st_mtime_ns)
        assert (tmp_path / "ckpt.pt").read_bytes() == b"weights"
    assert has_namespaces or "it could read whatever you can read" in isolation
    if "it could" not in isolation.replace("it could read", ""):
        assert "possible" not in told
    assert not list(Path(tempfile.gettempdir()).glob("llmbuilder-proof-*/work/told.txt"))


EATER = """
import mmap, os
def tell():
    held = []
    while True:
        held.append(mmap.mmap(-1, 2**28))
        held[-1].write(b"x" * 2**28)
"""
SURVIVOR = """
import os, time
def tell():
    for _ in range(2):
        if os.fork():
            os._exit(7)
        os.setsid()
    time.sleep(600)
"""
WORDS = """
def tell():
    raise ValueError("a\\0b\\n\\x1b[31m" + "m" * 10**7)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limits")
@pytest.mark.parametrize(
    ("spy", "has_namespaces"),
    [
        (EATER, True),
        (SURVIVOR, True),
        pytest.param(SURVIVOR, False, marks=pytest.mark.slow),
        pytest.param(WORDS, True, marks=pytest.mark.slow),
    ],
    ids=["memory", "processes", "processes without namespaces", "words"],
)
def test_what_the_code_takes_starts_and_says_is_bounded(
    tmp_path: Path, spy: str, has_namespaces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_namespaces:
        without_namespaces(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(MigrationError, match="the project's own model") as refusal:
        prove(tmp_path / "old", spy_on(tmp_path / "old", spy))
    assert len(str(refusal.value)) < 500
    assert str(refusal.value).isprintable()
    assert not list(tmp_path.glob("llmbuilder-proof-*"))
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in commands if str(tmp_path).encode() in command]


def test_what_is_not_a_number_is_never_certified() -> None:
    proof = Proof(float("nan"), 1.0, 2.0, 2.0, True, "", "GPT of model.py")
    assert not proof.is_certified and proof.verdict().startswith("NOT")
    assert not Proof(1e-7, 1.0, float("nan"), 2.0, True, "", "").is_certified
    assert not Proof(1e-7, 1.0, 2.0, 2.0, False, "", "").is_certified
    assert Proof(1e-7, 1.0, None, None, True, "", "").is_certified


def test_facts_of_an_empty_source_are_empty(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def (:\n")
    assert read_architecture([tmp_path / "broken.py", tmp_path / "absent.py"]) == ArchitectureFacts()
