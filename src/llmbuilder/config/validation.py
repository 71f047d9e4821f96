"""Rules that span fields or depend on the machine, and the smallest change that satisfies them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmbuilder.config.schema import Config, ModelConfig, SystemConfig, TrainingConfig, is_auto
from llmbuilder.config.sizes import estimate_training_memory, head_dim
from llmbuilder.errors import ConfigError

logger = logging.getLogger("llmbuilder")


@dataclass(frozen=True)
class ConfigProblem:
    """One broken rule: where, what value, which rule, what to do, and the changes that would do it."""

    path: str
    value: Any
    rule: str
    remedy: str
    changes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.path} ({self.value}) {self.rule}; {self.remedy}"


def validate_config(config: Config) -> tuple[bool, list[ConfigProblem]]:
    """Check every rule and return (is_valid, errors); all errors at once, each with path, value, rule and remedy."""
    problems = find_problems(config)
    if not problems:  # estimates mean nothing for a shape that is wrong
        problems += [*_device(config.system), *_memory(config)]
    return not problems, problems


def find_problems(config: Config) -> list[ConfigProblem]:
    """Return the broken rules that do not depend on the machine at hand."""
    return [
        *_ranges(config),
        *_shape(config.model),
        *_schedule(config.training),
        *_vocabulary(config),
        *_distribution(config),
    ]


def require_valid(config: Config, sections: Collection[str], purpose: str, *, unchecked: Collection[str] = ()) -> None:
    """Raise ConfigError with every broken rule of `sections`, but for those of the settings in `unchecked`.

    `purpose` is what the settings are for and begins the message: "cannot `purpose`: ...".
    """
    problems = [
        problem
        for problem in find_problems(config)
        if problem.path.split(".")[0] in sections and problem.path not in unchecked
    ]
    if problems:
        raise ConfigError(f"cannot {purpose}: " + "; ".join(map(str, problems)))


def fix_config(config: Config, errors: Iterable[ConfigProblem] | None = None) -> Config:
    """Return a corrected copy of `config`, changing as little as possible, and log each change.

    `errors` come from `validate_config` (default: it is called). Fixing one rule can uncover another, so this
    repeats until the copy validates. Raises ConfigError for a rule with no automatic remedy.
    """
    fixed = config.copy_of()
    pending = list(errors) if errors is not None else validate_config(fixed)[1]
    for _ in range(50):
        for problem in pending:
            if not problem.changes:
                raise ConfigError(f"cannot fix by itself: {problem}")
            for path, value in problem.changes.items():
                section, key = path.split(".")
                before = getattr(getattr(fixed, section), key)
                if before != value:
                    setattr(getattr(fixed, section), key, value)
                    logger.warning(f"{path}: {before} -> {value} ({problem.rule})")
        valid, pending = validate_config(fixed)
        if valid:
            return fixed
    raise ConfigError("could not find a valid configuration; still wrong:\n" + "\n".join(map(str, pending)))


_AT_LEAST_ONE: dict[str, tuple[str, ...]] = {
    "model": ("vocab_size", "num_layers", "num_heads", "embedding_dim", "max_seq_length"),
    "training": ("batch_size", "gradient_accumulation_steps", "num_epochs", "keep_checkpoints", "log_every"),
    "generation": ("max_new_tokens", "num_samples"),
    "tokenizer": ("min_frequency",),
}
_OPTIONAL_AT_LEAST_ONE: dict[str, tuple[str, ...]] = {
    "model": ("intermediate_size", "num_key_value_heads", "head_dim"),
    "training": ("max_steps", "lr_decay_steps", "eval_batches"),
    "system": ("num_threads",),
    "data": ("stride",),
    "tokenizer": ("vocab_size",),
    "generation": ("top_k",),
}
_NOT_NEGATIVE: dict[str, tuple[str, ...]] = {
    "training": (
        "warmup_steps",
        "weight_decay",
        "max_grad_norm",
        "eval_every",
        "save_every",
        "dataloader_num_workers",
        "loss_spike_threshold",
    ),
}
_SHARES: tuple[tuple[str, str, Callable[[float], bool], str], ...] = (
    ("model", "dropout", lambda value: 0 <= value < 1, "must be at least 0 and less than 1"),
    ("training", "beta1", lambda value: 0 <= value < 1, "must be at least 0 and less than 1"),
    ("training", "beta2", lambda value: 0 <= value < 1, "must be at least 0 and less than 1"),
    ("training", "learning_rate", lambda value: 0 < value < 1, "must be more than 0 and less than 1"),
    ("training", "muon_learning_rate", lambda value: 0 < value < 1, "must be more than 0 and less than 1"),
    ("model", "norm_eps", lambda value: 0 < value < 0.1, "must be more than 0 and less than 0.1"),
    ("model", "rope_theta", lambda value: value > 1, "must be more than 1"),
    ("data", "train_split", lambda value: 0 < value <= 1, "must be more than 0 and at most 1"),
    ("generation", "temperature", lambda value: value > 0, "must be more than 0 (do_sample=false is greedy)"),
    ("generation", "repetition_penalty", lambda value: value > 0, "must be more than 0"),
)
_OPTIONAL_SHARES = (("generation", "top_p"), ("generation", "min_p"))


def _ranges(config: Config) -> Iterator[ConfigProblem]:
    sections = config.sections()

    def problem(section: str, key: str, rule: str) -> ConfigProblem:
        default = type(sections[section]).model_fields[key].get_default()
        path = f"{section}.{key}"
        return ConfigProblem(path, getattr(sections[section], key), rule, f"{default} is usual", {path: default})

    for table, least, rule in (
        (_AT_LEAST_ONE, 1, "must be at least 1"),
        (_OPTIONAL_AT_LEAST_ONE, 1, "must be at least 1, or null"),
        (_NOT_NEGATIVE, 0, "must not be negative"),
    ):
        for section, keys in table.items():
            for key in keys:
                value = getattr(sections[section], key)
                if value not in (None, "auto") and not value >= least:  # `not >=` catches NaN as well
                    yield problem(section, key, rule)
    for section, key, holds, rule in _SHARES:
        value = getattr(sections[section], key)
        if value != "auto" and not holds(value):
            yield problem(section, key, rule)
    for section, key in _OPTIONAL_SHARES:
        value = getattr(sections[section], key)
        if value is not None and not 0 < value <= 1:
            yield problem(section, key, "must be more than 0 and at most 1, or null")


def _shape(model: ModelConfig) -> Iterator[ConfigProblem]:
    if model.num_heads < 1 or model.embedding_dim < 1:
        return
    if model.model_type == "gpt":
        for key in ("num_key_value_heads", "head_dim"):
            if getattr(model, key) is not None:
                yield ConfigProblem(f"model.{key}", getattr(model, key), "only exists in the 'llama' family",
                                    "remove it", {f"model.{key}": None})  # fmt: skip
        if model.qk_norm:
            yield ConfigProblem("model.qk_norm", True, "only exists in the 'llama' family", "set it to false",
                                {"model.qk_norm": False})  # fmt: skip
    if model.head_dim is None:
        yield from _heads_divide_width(model)
    elif model.model_type == "llama" and model.head_dim > 0 and model.head_dim % 2:
        yield ConfigProblem("model.head_dim", model.head_dim, "must be even for rotary positions",
                            f"{model.head_dim + 1} is nearest", {"model.head_dim": model.head_dim + 1})  # fmt: skip
    groups = model.num_key_value_heads
    if model.model_type == "llama" and groups is not None and groups > 0 and model.num_heads % groups:
        works = _nearest_divisor(model.num_heads, groups)
        yield ConfigProblem("model.num_key_value_heads", groups, f"does not divide model.num_heads ({model.num_heads})",
                            f"nearest that works: {works}", {"model.num_key_value_heads": works})  # fmt: skip


def _heads_divide_width(model: ModelConfig) -> Iterator[ConfigProblem]:
    """Heads of the 'llama' family must have even width too: rotary positions turn pairs."""
    unit = model.num_heads * (2 if model.model_type == "llama" else 1)
    if model.embedding_dim % unit == 0:
        return
    width = max(unit, round(model.embedding_dim / unit) * unit)
    limit = model.embedding_dim // 2 if model.model_type == "llama" else model.embedding_dim
    even = limit if model.embedding_dim % 2 == 0 or model.model_type == "gpt" else 0
    heads = _nearest_divisor(even, model.num_heads) if even else None
    width_change = abs(width - model.embedding_dim) / model.embedding_dim
    heads_change = abs(heads - model.num_heads) / model.num_heads if heads else float("inf")
    change = {"model.embedding_dim": width} if width_change <= heads_change else {"model.num_heads": heads}
    alternatives = f"embedding_dim {width}" + (f", or num_heads {heads}" if heads else "")
    rule = f"is not divisible by model.num_heads ({model.num_heads})"
    if model.model_type == "llama":
        rule += " into heads of even width"
    yield ConfigProblem("model.embedding_dim", model.embedding_dim, rule, f"nearest that works: {alternatives}", change)


def _nearest_divisor(number: int, wanted: int) -> int:
    return min((n for n in range(1, number + 1) if number % n == 0), key=lambda n: (abs(n - wanted), n))


def _schedule(training: TrainingConfig) -> Iterator[ConfigProblem]:
    end = training.max_steps
    if end is not None and 0 < end < training.warmup_steps:
        works = max(1, end // 10)
        yield ConfigProblem("training.warmup_steps", training.warmup_steps, f"is longer than the run ({end} steps)",
                            f"a tenth of it would be {works}", {"training.warmup_steps": works})  # fmt: skip
    lowest = training.min_learning_rate
    highest = math.inf if is_auto(training.learning_rate) else training.learning_rate
    if lowest is not None and not 0 <= lowest <= highest:
        works_rate = training.learning_rate / 10
        yield ConfigProblem("training.min_learning_rate", lowest,
                            f"is not between 0 and training.learning_rate ({training.learning_rate})",
                            f"a tenth would be {works_rate:g}", {"training.min_learning_rate": works_rate})  # fmt: skip
    decay = training.lr_decay_steps
    if decay is not None and 0 < decay < training.warmup_steps and (end is None or end >= training.warmup_steps):
        yield ConfigProblem("training.lr_decay_steps", decay,
                            f"ends before the warm-up does ({training.warmup_steps} steps)",
                            "let it end with the run", {"training.lr_decay_steps": None})  # fmt: skip


def _distribution(config: Config) -> Iterator[ConfigProblem]:
    if config.system.distributed_strategy == "fsdp" and config.training.optimizer == "muon":
        yield ConfigProblem("training.optimizer", "muon", "needs whole matrices, which no process has under fsdp",
                            "use adamw, or distributed_strategy ddp", {"training.optimizer": "adamw"})  # fmt: skip


def _vocabulary(config: Config) -> Iterator[ConfigProblem]:
    vocab = config.model.vocab_size
    wanted = config.tokenizer.vocab_size
    if wanted is not None and 0 < vocab < wanted:
        yield ConfigProblem("tokenizer.vocab_size", wanted, f"is larger than model.vocab_size ({vocab})",
                            "the model must know every token", {"tokenizer.vocab_size": vocab})  # fmt: skip
    size = stored_vocabulary_size(Path(config.tokenizer.path)) if config.tokenizer.path else None
    if size is not None and 0 < vocab < size:
        yield ConfigProblem("model.vocab_size", vocab, f"is smaller than the tokenizer's vocabulary ({size})",
                            "the model must know every token", {"model.vocab_size": size})  # fmt: skip


def stored_vocabulary_size(folder: Path) -> int | None:
    """Return one more than the largest token id in a folder's tokenizer.json; None if there is no such file."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"tokenizer.path: {path} is no tokenizer file ({error})") from None
    size = len(vocabulary) if isinstance(vocabulary, list) else max(vocabulary.values(), default=-1) + 1
    return max([size, *(token["id"] + 1 for token in content.get("added_tokens", []))])


def _device(system: SystemConfig) -> Iterator[ConfigProblem]:
    if system.device in ("auto", "cpu"):
        return
    from llmbuilder.machine import resolve_device

    try:
        found = resolve_device(system.device)
    except ConfigError:
        yield ConfigProblem("system.device", system.device, "is no device", "use auto", {"system.device": "auto"})
        return
    if found.type != system.device.split(":")[0]:
        yield ConfigProblem("system.device", system.device, "is not present on this machine",
                            f"auto would use {found.type} here", {"system.device": "auto"})  # fmt: skip


def _memory(config: Config) -> Iterator[ConfigProblem]:
    from llmbuilder.machine import memory_bytes, resolve_device

    device = resolve_device(config.system.device) if config.system.device not in ("auto", "cpu") else None
    available = memory_bytes(device)
    model, training = config.model, config.training
    if head_dim(model) < 1 or training.eval_only:
        return
    needed = estimate_training_memory(model, training).total
    if needed <= available:
        return
    rule = f"needs about {needed / 2**30:.1f} GiB in training, this machine has {available / 2**30:.1f} GiB"
    if is_auto(training.batch_size):
        return  # chosen to fit
    if training.batch_size > 1:
        smaller = training.batch_size // 2
        steps = training.gradient_accumulation_steps * -(-training.batch_size // smaller)
        yield ConfigProblem("training.batch_size", training.batch_size, rule,
                            f"{smaller} with gradient_accumulation_steps {steps} trains on as many tokens a step",
                            {"training.batch_size": smaller,
                             "training.gradient_accumulation_steps": steps})  # fmt: skip
    elif model.max_seq_length > 64:
        shorter = model.max_seq_length // 2
        yield ConfigProblem("model.max_seq_length", model.max_seq_length, rule, f"{shorter} is the next to try",
                            {"model.max_seq_length": shorter})  # fmt: skip
    elif model.num_layers > 1:
        fewer = model.num_layers // 2
        yield ConfigProblem("model.num_layers", model.num_layers, rule, f"{fewer} is the next to try",
                            {"model.num_layers": fewer})  # fmt: skip
    else:
        smaller = max(256, model.vocab_size // 2)
        yield ConfigProblem("model.vocab_size", model.vocab_size, rule, "choose a smaller vocabulary",
                            {"model.vocab_size": smaller} if smaller < model.vocab_size else {})  # fmt: skip
