"""A proof that can fail: a legacy project's own model, run on the same tokens as the converted one.

The project's code is foreign. It runs only when its owner asked for it, in a process of its own that gets a copy of the
project's sources and the weights as plain tensors (`legacy_process`): without network, without sight of the owner's
files and without writing elsewhere where the system can refuse that, under limits of time and memory.
"""

from __future__ import annotations

import ast
import copy
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmbuilder.config.sizes import head_dim, intermediate_size, num_key_value_heads
from llmbuilder.errors import MigrationError
from llmbuilder.formats.model_file import read_torch_file
from llmbuilder.formats.nanogpt.declared import declared_values
from llmbuilder.formats.nanogpt.known_arguments import SPELLINGS
from llmbuilder.formats.nanogpt.model_source import find_model_source
from llmbuilder.formats.nanogpt.names import find_weights, name_weights, strip_wrappers
from llmbuilder.formats.nanogpt.sections import NAMES, declared_heads
from llmbuilder.migration.legacy_process import run_legacy_program
from llmbuilder.migration.legacy_source import definitions, does_more_than_define
from llmbuilder.model import LanguageModel

TOLERANCE = 1e-5  # of float32 logits, as a share of the largest; rounding alone makes a tenth of it
_POSITIONS = 512
_VALIDATION_WINDOWS = 8
_GREEDY_TOKENS = 32
_SOURCES = {".py", ".json", ".yaml", ".yml", ".toml", ".cfg", ".txt"}
_LARGEST_SOURCE = 2**18
_NO_SOURCES = {"__pycache__", "node_modules", "site-packages", "venv", "env", "wandb"}
_MULTIPLES = ("mlp_expansion_factor", "ffn_hidden_mult", "feed_forward_scaling", "mlp_ratio")


@dataclass
class Proof:
    """What a legacy project's own model computed, beside what the converted one does."""

    largest_logit_difference: float
    largest_logit: float
    legacy_loss: float | None  # nats a token on the validation tokens, None without any
    loss: float | None
    same_greedy_text: bool
    isolation: str
    program: str
    only_if: list[str] = field(default_factory=list)  # "with 4 heads, which the checkpoint does not say"

    @property
    def allowed_difference(self) -> float:
        return TOLERANCE * self.largest_logit

    @property
    def is_certified(self) -> bool:
        """Whether both compute the same, and the project's model was made from what the checkpoint declares."""
        return self.is_same and not self.only_if

    @property
    def is_same(self) -> bool:
        """Whether both models compute the same, within the rounding of float32."""
        if not self.largest_logit_difference <= self.allowed_difference or not self.same_greedy_text:
            return False
        if self.loss is None or self.legacy_loss is None:
            return True
        return abs(self.loss - self.legacy_loss) <= max(self.allowed_difference, TOLERANCE)

    def verdict(self) -> str:
        """Say in a sentence whether the conversion is certified, by which numbers, and on what condition."""
        numbers = (
            f"largest difference of logits {self.largest_logit_difference:.1e} "
            f"(allowed: {self.allowed_difference:.1e}, {TOLERANCE:.0e} of the largest)"
        )
        if self.loss is not None and self.legacy_loss is not None:
            numbers += f", loss {self.legacy_loss:.4f} there and {self.loss:.4f} here"
        numbers += f", greedy text {'the same' if self.same_greedy_text else 'different'}"
        if self.is_same and self.only_if:
            return f"the same as {self.program} only if it was trained {' and '.join(self.only_if)}: {numbers}"
        return f"{'certified' if self.is_certified else 'NOT certified'} against {self.program}: {numbers}"


def prove_with_legacy_code(
    project_folder: str | Path,
    model_source: str | Path | None,
    checkpoint: str | Path | Mapping[str, Any],
    model: LanguageModel,
    *,
    data: Sequence[int] | np.ndarray | None = None,
    text_prompt_tokens: Sequence[int] | None = None,
    unsaid_settings: Mapping[str, Any] | None = None,
    timeout_seconds: float = 300.0,
) -> Proof:
    """Run the project's own model on its checkpoint, and compare what it computes with the converted model.

    `model_source` is the file in the project that defines the model (default: the one that names the checkpoint's
    parts); `data` are validation tokens. The project's model is made with what the checkpoint declares and its tensors
    show, then with `unsaid_settings`, the project's own; what else it needs is taken from the converted model, and the
    proof then says that it holds only if that is right. The project's code is executed, so its owner has to agree.
    Raises MigrationError if that code cannot be run, crashes or hangs, or has no model that takes the weights.
    """
    folder, content = Path(project_folder).resolve(), checkpoint
    if not isinstance(content, Mapping):
        content = read_torch_file(Path(content))
    weights = find_weights(content) if isinstance(content, Mapping) else None
    if weights is None or not isinstance(content, Mapping):
        raise MigrationError("the checkpoint holds no GPT weights to run the project's own model with")
    found = Path(model_source) if model_source is not None else find_model_source(content, folder)
    if found is None:
        raise MigrationError(f"no file in {folder} defines a model with the checkpoint's weights")
    source = _inside(folder, found)
    ours = copy.deepcopy(model).cpu().float().eval()
    inputs = _inputs(ours, strip_wrappers(weights), data, text_prompt_tokens)
    with tempfile.TemporaryDirectory(prefix="llmbuilder-proof-") as temporary:
        place = Path(temporary, "work")  # all that the project's code can write to
        place.mkdir()
        _copy_sources(folder, place / "project")
        job = _job(place, source, inputs, timeout_seconds)
        declared = {key: value for key, value in declared_values(content).items() if _is_plain(value)}
        job |= {"declared": declared, "arguments": _arguments(content, unsaid_settings or {}, ours)}
        job |= {"vocab_size": ours.config.vocab_size, "context": ours.config.max_seq_length}
        answer = run_legacy_program(place, job, inputs, timeout_seconds)
    proof = _compare(ours, inputs, answer)
    proof.only_if = unsaid(content, ours)
    return proof


def unsaid(content: Mapping[str, Any], model: LanguageModel) -> list[str]:
    """Return what a checkpoint does not say and no tensor shows, with the value that the converted model has."""
    if declared_heads(content) is not None:
        return []
    return [f"with {model.config.num_heads} heads, which the checkpoint does not say"]


def _inside(folder: Path, source: Path) -> Path:
    path = (source if source.is_absolute() else folder / source).resolve()
    if not path.is_file() or folder not in path.parents:
        raise MigrationError(f"no such model source in {folder}: {source}")
    return path.relative_to(folder)


def _inputs(
    model: LanguageModel, weights: dict[str, Tensor], data: Sequence[int] | np.ndarray | None,
    prompt: Sequence[int] | None,
) -> dict[str, Any]:  # fmt: skip
    vocab_size, length = model.config.vocab_size, min(model.config.max_seq_length, _POSITIONS)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocab_size, (2, length + 1), generator=generator)
    needed = data[: _VALIDATION_WINDOWS * length + 1] if data is not None else []
    values = torch.as_tensor(np.array(needed, dtype=np.int64))
    if values.numel() and not bool((values < vocab_size).all()):
        raise MigrationError(f"the validation tokens do not fit a vocabulary of {vocab_size}")
    count = min(_VALIDATION_WINDOWS, (values.numel() - 1) // length) if values.numel() > length else 0
    windows = values[: count * length + 1]
    start = torch.tensor(list(prompt), dtype=torch.int64) if prompt else values[: min(16, length)]
    return {
        "weights": {name: tensor.detach().cpu().float().clone() for name, tensor in weights.items()},
        "tokens": tokens[:, :-1].contiguous(),
        "targets": tokens[:, 1:].contiguous(),
        "validation": windows[:-1].view(count, length) if count else torch.empty(0, length, dtype=torch.int64),
        "validation_targets": windows[1:].view(count, length) if count else torch.empty(0, length, dtype=torch.int64),
        "prompt": start if start.numel() else tokens[0, : min(16, length)].clone(),
    }


def _copy_sources(folder: Path, target: Path) -> None:
    """Copy what a model's code may need; data, checkpoints and links to elsewhere stay where they are."""
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _NO_SOURCES]
        for name in files:
            path = Path(base, name)
            is_source = path.suffix.lower() in _SOURCES and path.is_file() and folder in path.resolve().parents
            if is_source and path.stat().st_size <= _LARGEST_SOURCE:
                copied = target / path.relative_to(folder)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copied)


def _arguments(content: Mapping[str, Any], unsaid_settings: Mapping[str, Any], model: LanguageModel) -> dict[str, Any]:
    """Return what the project's model is made with, under every name that it may have there.

    The word of the checkpoint comes before the project's settings. The converted model gives the sizes that tensors
    show, and what nothing else says: were the rest taken from it, both would be made of the same guess.
    """
    config = model.config
    declared = {key: value for key, value in declared_values(content).items() if value is not None}
    named = {NAMES[key] for key in declared if key in NAMES}
    said = {key: value for key, value in unsaid_settings.items() if NAMES.get(key) not in named} | declared
    own = {NAMES[key]: value for key, value in said.items() if key in NAMES}
    heads = own["num_heads"] if type(own.get("num_heads")) is int else config.num_heads
    shown = {
        "num_layers": config.num_layers,
        "embedding_dim": config.embedding_dim,
        "vocab_size": config.vocab_size,
        "bias": config.bias,
        "dropout": 0.0,
        "intermediate_size": intermediate_size(config),
    }
    unseen = {
        "num_heads": config.num_heads,
        "kv_heads": num_key_value_heads(config) if config.model_type == "llama" else heads,
        "head_dim": head_dim(config) if config.model_type == "llama" else config.embedding_dim // max(1, heads),
        "max_seq_length": config.max_seq_length,
    }
    values = {**shown, **unseen, **{name: own[name] for name in unseen if name in own}}
    arguments = {spelling: value for name, value in values.items() for spelling in SPELLINGS[name].split()}
    arguments |= {"embd_pdrop": 0.0, "attn_pdrop": 0.0}
    if intermediate_size(config) % config.embedding_dim == 0:
        arguments |= dict.fromkeys(_MULTIPLES, intermediate_size(config) // config.embedding_dim)
    arguments |= {key: value for key, value in said.items() if _is_plain(value)}
    return {**arguments, "vocab_size": config.vocab_size}


def _job(place: Path, source: Path, inputs: dict[str, Any], seconds: float) -> dict[str, Any]:
    size = sum(tensor.numel() * 4 for tensor in inputs["weights"].values())
    named = name_weights(inputs["weights"])
    try:
        tree = ast.parse((place / "project" / source).read_text("utf-8-sig"))
    except (OSError, SyntaxError, ValueError) as error:
        raise MigrationError(f"{source} is no Python source that could be run: {error}") from error
    return {
        "folder": str(place),
        "project": str(place / "project"),
        "source": source.as_posix(),
        "does_more_than_define": does_more_than_define(tree),
        "definitions": ast.unparse(definitions(tree)),
        "inputs": str(place / "inputs.pt"),
        "result": str(place / "result.pt"),
        "no_weights": [name for name in inputs["weights"] if name not in named.names],
        "greedy_tokens": _GREEDY_TOKENS,
        "threads": torch.get_num_threads(),
        "cpu_seconds": int(seconds * max(1, torch.get_num_threads())),
        "file_bytes": 2**30 + 2 * size,
    }


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


@torch.no_grad()
def _compare(model: LanguageModel, inputs: dict[str, Any], answer: dict[str, Any]) -> Proof:
    logits, legacy = model(inputs["tokens"])[0], answer["logits"]
    if legacy.shape != logits.shape:
        raise MigrationError(f"the project's own model gave logits of {tuple(legacy.shape)}, not {tuple(logits.shape)}")
    difference = float((logits - legacy).abs().max())
    largest = float(legacy.abs().max())
    loss = None
    if len(inputs["validation"]):
        losses = [
            F.cross_entropy(model(tokens[None])[0][0], targets)
            for tokens, targets in zip(inputs["validation"], inputs["validation_targets"], strict=True)
        ]
        loss = float(torch.stack(losses).mean())
    return Proof(
        largest_logit_difference=difference if difference == difference else float("inf"),
        largest_logit=largest,
        legacy_loss=answer["loss"],
        loss=loss,
        same_greedy_text=_follows(model, inputs["prompt"], answer["greedy"], TOLERANCE * largest),
        isolation=f"a process of its own with a copy of the sources: {', '.join(answer['isolation'])}",
        program=answer["program"],
    )


def _follows(model: LanguageModel, prompt: Tensor, greedy: Tensor, allowed: float) -> bool:
    """Whether each token the legacy model chose is ours too; of two that are equal within rounding, either is."""
    tokens = torch.cat((prompt, greedy))
    for end in range(len(prompt), len(tokens)):
        scores = model(tokens[None, max(0, end - model.config.max_seq_length) : end])[0][0, -1]
        if float(scores.max() - scores[tokens[end]]) > 2 * allowed:
            return False
    return True
