"""Legacy configurations: nanoGPT's flat keys and Python files, and the nested form of older LLMBuilder scripts.

Everything here is pure (values in, values out) and nothing is executed: Python files are parsed, and only
constants and arithmetic on them are understood. No key is dropped: what has no counterpart is kept in `legacy`.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmbuilder.errors import ConfigError

# nanoGPT's flat keys and where they live now. A key mapped to a function needs more than a new name.
FLAT_KEYS: dict[str, str] = {
    "n_layer": "model.num_layers",
    "n_head": "model.num_heads",
    "n_embd": "model.embedding_dim",
    "block_size": "model.max_seq_length",
    "dropout": "model.dropout",
    "bias": "model.bias",
    "vocab_size": "model.vocab_size",
    "device": "system.device",
    "compile": "system.compile",
    "seed": "system.seed",
    "batch_size": "training.batch_size",
    "gradient_accumulation_steps": "training.gradient_accumulation_steps",
    "learning_rate": "training.learning_rate",
    "max_iters": "training.max_steps",
    "eval_interval": "training.eval_every",
    "eval_iters": "training.eval_batches",
    "eval_only": "training.eval_only",
    "log_interval": "training.log_every",
    "weight_decay": "training.weight_decay",
    "beta1": "training.beta1",
    "beta2": "training.beta2",
    "grad_clip": "training.max_grad_norm",
    "warmup_iters": "training.warmup_steps",
    "lr_decay_iters": "training.lr_decay_steps",
    "min_lr": "training.min_learning_rate",
    "init_from": "training.init_from",
    "out_dir": "training.output_dir",
    "dataset": "data.path",
    "wandb_log": "tracking.wandb",
    "wandb_project": "tracking.wandb_project",
    "wandb_run_name": "tracking.wandb_run_name",
    "num_samples": "generation.num_samples",
    "max_new_tokens": "generation.max_new_tokens",
    "temperature": "generation.temperature",
    "top_k": "generation.top_k",
}

_PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
_BACKENDS = {"nccl": "nccl", "gloo": "gloo"}

CONVERTED_KEYS: dict[str, Callable[[Any], tuple[str, Any] | None]] = {
    "decay_lr": lambda value: ("training.lr_schedule", "cosine" if value else "constant"),
    "always_save_checkpoint": lambda value: ("training.save_best_only", not value),
    "dtype": lambda value: ("training.mixed_precision", _PRECISIONS[value]) if value in _PRECISIONS else None,
    "backend": lambda value: ("system.distributed_backend", _BACKENDS[value]) if value in _BACKENDS else None,
}

# What nanoGPT's train.py uses for keys its Python configuration files leave out (model.py, train.py at 3adf61e).
NANOGPT_DEFAULTS: dict[str, Any] = {
    "eval_interval": 2000,
    "log_interval": 1,
    "eval_iters": 200,
    "always_save_checkpoint": True,
    "init_from": "scratch",
    "out_dir": "out",
    "dataset": "openwebtext",
    "gradient_accumulation_steps": 40,
    "batch_size": 12,
    "block_size": 1024,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "dropout": 0.0,
    "bias": False,
    "vocab_size": 50304,
    "learning_rate": 6e-4,
    "max_iters": 600000,
    "weight_decay": 1e-1,
    "beta1": 0.9,
    "beta2": 0.95,
    "grad_clip": 1.0,
    "decay_lr": True,
    "warmup_iters": 2000,
    "lr_decay_iters": 600000,
    "min_lr": 6e-5,
    "device": "cuda",
    "compile": True,
    "seed": 1337,
}

# The nested form of older LLMBuilder scripts: "section.key" and where it lives now.
NESTED_KEYS: dict[str, str] = {
    **{f"{section}.{key}": new for section in ("model", "train", "training") for key, new in FLAT_KEYS.items()},
    "model.num_layers": "model.num_layers",
    "model.num_heads": "model.num_heads",
    "model.embedding_dim": "model.embedding_dim",
    "model.hidden_dim": "model.intermediate_size",
    "model.max_seq_length": "model.max_seq_length",
    "model.use_bias": "model.bias",
    "model.tie_weights": "model.tie_embeddings",
    "training.num_epochs": "training.num_epochs",
    "training.max_epochs": "training.num_epochs",
    "train.max_epochs": "training.num_epochs",
    "training.max_steps": "training.max_steps",
    "training.warmup_steps": "training.warmup_steps",
    "training.gradient_clip_norm": "training.max_grad_norm",
    "training.save_every": "training.save_every",
    "training.log_every": "training.log_every",
    "training.eval_every": "training.eval_every",
    "training.num_workers": "training.dataloader_num_workers",
    "tokenizer.vocab_size": "tokenizer.vocab_size",
    "tokenizer.model_type": "tokenizer.algorithm",
    "optimization.optimizer": "training.optimizer",
    "optimization.beta1": "training.beta1",
    "optimization.beta2": "training.beta2",
    "optimization.scheduler": "training.lr_schedule",
    "optimization.min_lr": "training.min_learning_rate",
    "optimization.compile_model": "system.compile",
    "device.cpu_threads": "system.num_threads",
    "preprocessing.remove_duplicates": "data.remove_duplicates",
    "preprocessing.normalize_whitespace": "data.clean_text",
    "evaluation.max_new_tokens": "generation.max_new_tokens",
    "evaluation.temperature": "generation.temperature",
    "evaluation.top_k": "generation.top_k",
    "evaluation.top_p": "generation.top_p",
    "evaluation.do_sample": "generation.do_sample",
    "evaluation.num_return_sequences": "generation.num_samples",
    "paths.checkpoint_dir": "training.output_dir",
    "paths.cleaned_data_dir": "data.path",
    "paths.tokenizer_dir": "tokenizer.path",
}
NESTED_CONVERTED: dict[str, Callable[[Any], tuple[str, Any] | None]] = {
    **{f"{section}.{key}": new for section in ("train", "training") for key, new in CONVERTED_KEYS.items()},
    "training.use_mixed_precision": lambda value: ("training.mixed_precision", "auto" if value else "no"),
    "device.mixed_precision": lambda value: ("training.mixed_precision", "auto" if value else "no"),
}
_NESTED_MARKS = {
    "model.hidden_dim", "model.use_bias", "model.tie_weights", "model.n_layer", "model.n_embd", "model.block_size",
    "training.gradient_clip_norm", "training.use_mixed_precision", "training.num_workers", "train.batch_size",
    "train.max_iters", "device.use_cuda", "device.cpu_threads", "optimization.scheduler",
}  # fmt: skip


@dataclass
class MigratedConfig:
    """The values of a legacy configuration in the new format, and an account of every key."""

    values: dict[str, Any]
    mapping: dict[str, str] = field(default_factory=dict)  # legacy key -> new key
    unmapped: dict[str, Any] = field(default_factory=dict)
    defaults: list[str] = field(default_factory=list)  # keys filled with the legacy program's own defaults
    skipped: dict[str, str] = field(default_factory=dict)  # statements of a Python file that are not plain settings

    def notice(self) -> str:
        """Return the one line that tells a user what happened."""
        text = f"legacy configuration migrated: {len(self.mapping)} keys carried over"
        if self.defaults:
            text += f", {len(self.defaults)} left to nanoGPT's own defaults ({', '.join(self.defaults)})"
        if self.unmapped:
            text += f"; without a counterpart, kept under 'legacy': {', '.join(self.unmapped)}"
        if self.skipped:
            text += f"; not understood: {', '.join(self.skipped)}"
        return text


def is_legacy(values: Mapping[str, Any]) -> bool:
    """Tell a legacy mapping from one in the new format."""
    flat = {"n_layer", "n_head", "n_embd", "block_size", "max_iters", "learning_rate", "batch_size"}
    if flat & values.keys():
        return True
    return bool(_NESTED_MARKS & _flatten(values).keys())


def migrate_dictionary(values: Mapping[str, Any]) -> MigratedConfig:
    """Translate a legacy mapping, flat or nested. Raises ConfigError if it has no legacy key at all."""
    if not is_legacy(values):
        raise ConfigError("this is no legacy configuration: none of its keys is nanoGPT's or an older LLMBuilder's")
    if any(isinstance(value, Mapping) for value in values.values()):
        return _migrate_nested(values)
    result = MigratedConfig({})
    _translate(values, FLAT_KEYS, CONVERTED_KEYS, result)
    return _finish(result)


def migrate_python_file(path: Path) -> MigratedConfig:
    """Translate a nanoGPT Python configuration by parsing its assignments; keys it leaves out get nanoGPT's defaults.

    Raises ConfigError if the file cannot be read or is not Python.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8-sig"), str(path))
    except FileNotFoundError:
        raise ConfigError(f"no such configuration file: {path}") from None
    except SyntaxError as error:
        raise ConfigError(f"{path} is not valid Python: {error.msg} at line {error.lineno}") from None
    settings: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for statement in tree.body:
        _read_statement(statement, settings, skipped)
    missing = {key: value for key, value in NANOGPT_DEFAULTS.items() if key not in settings}
    result = MigratedConfig({}, defaults=list(missing), skipped=skipped)
    _translate(missing, FLAT_KEYS, CONVERTED_KEYS, result)
    result.mapping.clear()
    _translate(settings, FLAT_KEYS, CONVERTED_KEYS, result)
    return _finish(result)


def _read_statement(statement: ast.stmt, settings: dict[str, Any], skipped: dict[str, str]) -> None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return  # a docstring
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    value = getattr(statement, "value", None)
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or value is None:
        skipped[f"line {statement.lineno}"] = ast.unparse(statement)
        return
    for target in targets:
        name = ast.unparse(target) if target is not None else ""
        try:
            settings[name] = _evaluate(value, settings)
        except ValueError:
            skipped[name] = ast.unparse(value)


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}


def _evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Compute constants, earlier names and arithmetic; powers too, within bounds. ValueError for anything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_evaluate(node.operand, names))
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left, names), _evaluate(node.right, names)
        if not all(isinstance(side, int | float) for side in (left, right)):
            raise ValueError("only numbers take part in arithmetic")
        if isinstance(node.op, ast.Pow) and abs(left) <= 1e6 and abs(right) <= 64:
            return left**right
        if type(node.op) in _OPERATORS:
            try:
                return _OPERATORS[type(node.op)](left, right)
            except ZeroDivisionError as error:
                raise ValueError(str(error)) from error
    if isinstance(node, ast.List | ast.Tuple):
        return [_evaluate(item, names) for item in node.elts]
    raise ValueError(f"not a plain value: {ast.unparse(node)}")


def _migrate_nested(values: Mapping[str, Any]) -> MigratedConfig:
    flat = _flatten(values)
    result = MigratedConfig({})
    _translate_device(flat, result)
    # A section in the new format may stand beside legacy ones: its known keys keep their names.
    known = {**_new_format_keys(), **NESTED_KEYS}
    _translate(flat, known, NESTED_CONVERTED, result)
    return _finish(result)


def _new_format_keys() -> dict[str, str]:
    from llmbuilder.config.schema import Config

    names: dict[str, str] = {}
    for section, info in Config.model_fields.items():
        for key in getattr(info.annotation, "model_fields", ()):
            names[f"{section}.{key}"] = f"{section}.{key}"
    return names


def _translate_device(flat: dict[str, Any], result: MigratedConfig) -> None:
    """The older scripts spread the device over flags; `use_cuda: false` with no other flag means the CPU."""
    flags = {
        key: flat.pop(f"device.{key}") for key in ("use_cuda", "cuda_device", "use_mps") if f"device.{key}" in flat
    }
    automatic = flat.pop("device.auto_detect_device", None)
    if not flags and automatic is None:
        return
    device = "cpu"
    if flags.get("use_cuda"):
        device = f"cuda:{flags['cuda_device']}" if flags.get("cuda_device") else "cuda"
    elif flags.get("use_mps"):
        device = "mps"
    elif automatic and "use_cuda" not in flags:
        device = "auto"
    _put(result.values, "system.device", device)
    for key in [*flags, *(["auto_detect_device"] if automatic is not None else [])]:
        result.mapping[f"device.{key}"] = "system.device"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _translate(
    values: Mapping[str, Any],
    names: Mapping[str, str],
    converted: Mapping[str, Callable[[Any], tuple[str, Any] | None]],
    result: MigratedConfig,
) -> None:
    for key, value in values.items():
        target = converted[key](value) if key in converted else (names[key], value) if key in names else None
        if target is None:
            result.unmapped[key] = value
        else:
            result.mapping[key] = target[0]
            _put(result.values, target[0], value if key not in converted else target[1])


def _finish(result: MigratedConfig) -> MigratedConfig:
    model = result.values.setdefault("model", {})
    model.setdefault("model_type", "gpt")
    # Legacy models compute the exact GELU; their weights must keep it.
    model.setdefault("activation", "gelu")
    training = result.values.get("training", {})
    if training.get("lr_schedule") == "constant" and "warmup_steps" in training:
        # nanoGPT warms up only when it decays; the number is kept for the record.
        result.unmapped["warmup_iters (unused without decay_lr)"] = training["warmup_steps"]
        training["warmup_steps"] = 0
    if training.get("max_grad_norm") is None:
        training.pop("max_grad_norm", None)
    if result.values.get("tokenizer", {}).get("algorithm") not in (None, "bpe", "unigram", "wordpiece", "char"):
        result.unmapped["tokenizer.model_type"] = result.values["tokenizer"].pop("algorithm")
        result.mapping.pop("tokenizer.model_type", None)
    if result.unmapped:
        result.values["legacy"] = dict(result.unmapped)
    return result


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    section, _, key = dotted.partition(".")
    values.setdefault(section, {})[key] = value
