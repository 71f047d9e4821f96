"""Rules that span fields or depend on the machine, and the smallest change that satisfies them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from llmbuilder.config.in_force import idle_settings
from llmbuilder.config.languages import LANGUAGES, language_remedy, meant_language
from llmbuilder.config.model_schema import RopeScaling
from llmbuilder.config.ranges import range_of
from llmbuilder.config.schema import Config, DataConfig, ModelConfig, SystemConfig, TrainingConfig, is_auto
from llmbuilder.config.section import place_of
from llmbuilder.config.sizes import estimate_run_memory, head_dim
from llmbuilder.errors import ConfigError

logger = logging.getLogger("llmbuilder")
_MOST_SEQUENCES = 2**20  # in a step: where each begins is held in memory


@dataclass(frozen=True)
class ConfigProblem:
    """One broken rule: where, what value, which rule, what to do, and the changes that would do it."""

    path: str
    value: Any
    rule: str
    remedy: str
    changes: dict[str, Any] = field(default_factory=dict)
    place: str | None = None  # where the value comes from, if it is no default

    def __str__(self) -> str:
        said = f"{self.path} ({self.value}) {self.rule}; {self.remedy}"
        return f"{self.place}: {said}" if self.place else said


def validate_config(config: Config) -> tuple[bool, list[ConfigProblem]]:
    """Check every rule and return (is_valid, errors); all errors at once, each with path, value, rule and remedy."""
    problems = find_problems(config)
    if not problems:  # estimates mean nothing for a shape that is wrong
        problems += _placed(config, [*_device(config.system), *_memory(config)])
    return not problems, problems


def find_problems(config: Config) -> list[ConfigProblem]:
    """Return the broken rules that do not depend on the machine at hand."""
    wrong = [
        *_ranges(config),
        *_languages(config.data),
        *_shape(config.model),
        *_schedule(config.training),
        *_vocabulary(config),
        *_distribution(config),
        *_adapters(config),
    ]
    said = {problem.path for problem in wrong}
    return _placed(config, [*wrong, *(problem for problem in _idle(config) if problem.path not in said)])


def _placed(config: Config, problems: Iterable[ConfigProblem]) -> list[ConfigProblem]:
    return [replace(problem, place=place_of(config, problem.path)) for problem in problems]


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


def require_in_range(config: Config) -> None:
    """Raise ConfigError with every number that is outside its range; how settings go together is not looked at."""
    wrong = _placed(config, _ranges(config))
    if wrong:
        raise ConfigError("; ".join(map(str, wrong)))


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


def _ranges(config: Config) -> Iterator[ConfigProblem]:
    for name, section in config.sections().items():
        for key, info in type(section).model_fields.items():
            limits, value = range_of(info), getattr(section, key)
            if limits is not None and not all(map(limits.holds, _numbers(value))):
                default = info.get_default(call_default_factory=True)
                words = "the default is null" if default is None else f"{default} is usual"
                optional = ", or null" if type(None) in get_args(info.annotation) else ""
                path = f"{name}.{key}"
                yield ConfigProblem(path, value, f"must be {limits}{optional}", words, {path: default})


def _languages(data: DataConfig) -> Iterator[ConfigProblem]:
    meant = {code: code if code in LANGUAGES else meant_language(code) for code in data.languages}
    for code in data.languages:
        if code not in LANGUAGES:
            changes = {"data.languages": [known or other for other, known in meant.items()]} if meant[code] else {}
            yield ConfigProblem("data.languages", code, "is no code of a language that can be recognised",
                                language_remedy(code), changes)  # fmt: skip


def _idle(config: Config) -> Iterator[ConfigProblem]:
    for path, value, reason in idle_settings(config):
        section, key = path.split(".")
        default = type(getattr(config, section)).model_fields[key].get_default(call_default_factory=True)
        yield ConfigProblem(path, value, f"would not act: {reason}", "remove it", {path: default})


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers in a setting; words such as "auto" and null are none."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def _shape(model: ModelConfig) -> Iterator[ConfigProblem]:
    if model.num_heads < 1 or model.embedding_dim < 1:
        return
    if model.model_type == "gpt":
        yield from _foreign_to_gpt(model)
    else:
        yield from _foreign_to_gemma3(model) if model.model_type == "gemma3" else _foreign_to_llama(model)
        yield from _layer_numbers(model)
        yield from _rope_scaling(model.rope_scaling)
    if model.head_dim is None:
        yield from _heads_divide_width(model)
    elif model.model_type != "gpt" and model.head_dim > 0 and model.head_dim % 2:
        yield ConfigProblem("model.head_dim", model.head_dim, "must be even for rotary positions",
                            f"{model.head_dim + 1} is nearest", {"model.head_dim": model.head_dim + 1})  # fmt: skip
    groups = model.num_key_value_heads
    if model.model_type != "gpt" and groups is not None and groups > 0 and model.num_heads % groups:
        works = _nearest_divisor(model.num_heads, groups)
        yield ConfigProblem("model.num_key_value_heads", groups, f"does not divide model.num_heads ({model.num_heads})",
                            f"nearest that works: {works}", {"model.num_key_value_heads": works})  # fmt: skip


def _foreign_to_gpt(model: ModelConfig) -> Iterator[ConfigProblem]:
    """What the 'gpt' family does not have; rope_theta alone is passed over, because files name its default."""
    yield from _foreign(
        model, "the 'llama' family", "num_key_value_heads", "head_dim", "qk_norm", "attention_bias", "output_bias",
        "mlp_bias", "rope_scaling", "layers_without_positions", "sliding_window", "sliding_window_layers",
    )  # fmt: skip
    yield from _foreign_to_llama(model)


def _foreign_to_llama(model: ModelConfig) -> Iterator[ConfigProblem]:
    return _foreign(model, "the 'gemma3' family", "windowed_rope_theta")


def _foreign_to_gemma3(model: ModelConfig) -> Iterator[ConfigProblem]:
    yield from _foreign(
        model, "the 'llama' family", "attention_bias", "output_bias", "mlp_bias", "layers_without_positions"
    )
    if not model.qk_norm:
        yield ConfigProblem("model.qk_norm", False, "is part of the 'gemma3' family", "set it to true",
                            {"model.qk_norm": True})  # fmt: skip


def _foreign(model: ModelConfig, where: str, *keys: str) -> Iterator[ConfigProblem]:
    """The settings that are another family's and not left at what they are without."""
    remedies: dict[Any, str] = {None: "remove it", False: "set it to false"}
    for key in keys:
        value = getattr(model, key)
        without = ModelConfig.model_fields[key].get_default(call_default_factory=True)
        if value != without:
            remedy = "remove it" if isinstance(without, list) else remedies[without]
            yield ConfigProblem(f"model.{key}", value, f"only exists in {where}", remedy,
                                {f"model.{key}": without})  # fmt: skip


def _layer_numbers(model: ModelConfig) -> Iterator[ConfigProblem]:
    for key in ("layers_without_positions", "sliding_window_layers"):
        numbers: list[int] = getattr(model, key) or []
        kept = sorted({number for number in numbers if 0 <= number < model.num_layers})
        if any(number >= model.num_layers for number in numbers):
            yield ConfigProblem(f"model.{key}", numbers, "names layers that the model does not have",
                                f"its layers are 0 to {model.num_layers - 1}", {f"model.{key}": kept})  # fmt: skip
        elif len(set(numbers)) < len(numbers):
            yield ConfigProblem(f"model.{key}", numbers, "names a layer twice", "name each once",
                                {f"model.{key}": kept})  # fmt: skip


_OF_KINDS = {
    "original_max_seq_length": ("llama3", "yarn"), "low_freq_factor": ("llama3",), "high_freq_factor": ("llama3",),
    "beta_fast": ("yarn",), "beta_slow": ("yarn",), "attention_factor": ("yarn",), "truncate": ("yarn",),
}  # fmt: skip


def _rope_scaling(scaling: RopeScaling | None) -> Iterator[ConfigProblem]:
    """Numbers out of range, frequencies in the wrong order, and what the kind does not use."""
    if scaling is None:
        return
    wrong, values = {}, dict(scaling)
    for key, info in RopeScaling.model_fields.items():
        limits, kinds = range_of(info), _OF_KINDS.get(key)
        if limits is not None and not all(map(limits.holds, _numbers(values[key]))):
            wrong[key] = f"must be {limits}"
        elif kinds is not None and scaling.kind not in kinds and values[key] != info.default:
            wrong[key] = f"would not act with the kind {scaling.kind}"
    if scaling.kind == "llama3" and scaling.low_freq_factor >= scaling.high_freq_factor:
        wrong.setdefault("high_freq_factor", f"must be more than low_freq_factor ({scaling.low_freq_factor})")
    if scaling.kind == "yarn" and scaling.beta_slow >= scaling.beta_fast:
        wrong.setdefault("beta_fast", f"must be more than beta_slow ({scaling.beta_slow})")
    if wrong:
        rule = "; ".join(f"its {key} ({values[key]}) {said}" for key, said in wrong.items())
        yield ConfigProblem("model.rope_scaling", scaling, rule, "null leaves rotary positions as they are",
                            {"model.rope_scaling": None})  # fmt: skip


def _heads_divide_width(model: ModelConfig) -> Iterator[ConfigProblem]:
    """Heads of all families but 'gpt' must have even width too: rotary positions turn pairs."""
    unit = model.num_heads * (1 if model.model_type == "gpt" else 2)
    if model.embedding_dim % unit == 0:
        return
    width = max(unit, round(model.embedding_dim / unit) * unit)
    limit = model.embedding_dim if model.model_type == "gpt" else model.embedding_dim // 2
    even = limit if model.embedding_dim % 2 == 0 or model.model_type == "gpt" else 0
    heads = _nearest_divisor(even, model.num_heads) if even else None
    width_change = abs(width - model.embedding_dim) / model.embedding_dim
    heads_change = abs(heads - model.num_heads) / model.num_heads if heads else float("inf")
    change = {"model.embedding_dim": width} if width_change <= heads_change else {"model.num_heads": heads}
    alternatives = f"embedding_dim {width}" + (f", or num_heads {heads}" if heads else "")
    rule = f"is not divisible by model.num_heads ({model.num_heads})"
    if model.model_type != "gpt":
        rule += " into heads of even width"
    yield ConfigProblem("model.embedding_dim", model.embedding_dim, rule, f"nearest that works: {alternatives}", change)


def _nearest_divisor(number: int, wanted: int) -> int:
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return min((n for one in small for n in (one, number // one)), key=lambda n: (abs(n - wanted), n))


def _schedule(training: TrainingConfig) -> Iterator[ConfigProblem]:
    if not is_auto(training.batch_size):
        passes = training.gradient_accumulation_steps
        name = "batch_size" if training.batch_size > passes else "gradient_accumulation_steps"
        if training.batch_size * passes > _MOST_SEQUENCES:
            yield ConfigProblem(f"training.{name}", getattr(training, name),
                                f"makes a step of more than {_MOST_SEQUENCES:,} sequences", "a thousand is many",
                                {f"training.{name}": 16 if name == "batch_size" else 1})  # fmt: skip
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


def _adapters(config: Config) -> Iterator[ConfigProblem]:
    if config.finetuning.method != "full" and config.training.optimizer == "muon":
        yield ConfigProblem("training.optimizer", "muon", "is for whole matrices, and adapters are products of two",
                            "use adamw", {"training.optimizer": "adamw"})  # fmt: skip


def _memory(config: Config) -> Iterator[ConfigProblem]:
    from llmbuilder.machine import memory_bytes, resolve_device

    device = resolve_device(config.system.device) if config.system.device not in ("auto", "cpu") else None
    available = memory_bytes(device)
    model, training = config.model, config.training
    if head_dim(model) < 1 or training.eval_only:
        return
    needed = estimate_run_memory(config).total
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
