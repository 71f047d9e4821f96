"""Which settings act where; one that was asked for and would not act is refused.

A command takes the settings of `TAKEN`. A file and the environment are shared by all commands, so what belongs to
others is passed over there; given with the command itself it can only be a mistake. `IDLE` lists the settings that
others switch off. What a source of documents leaves without effect is `data.in_force`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmbuilder.config.loading import build_config, explicit_places, merge, parse_overrides
from llmbuilder.config.schema import Config, Section, is_auto
from llmbuilder.errors import ConfigError

_FEW = 3  # settings of a section that are named one by one
_PREFERENCES = ("finetuning.objective", "finetuning.dpo_beta")
LEARNED = tuple(f"tokenizer.{key}" for key in ("algorithm", "vocab_size", "min_frequency", "pretokenizer",
                                               "special_tokens"))  # fmt: skip


def all_settings() -> list[str]:
    """Return "section.key" of every setting, in the order of the schema."""
    return [f"{name}.{key}" for name, section in Config().sections().items() for key in type(section).model_fields]


def _settings(*sections: str, but: Collection[str] = ()) -> frozenset[str]:
    return frozenset(name for name in all_settings() if name.split(".")[0] in sections and name not in but)


TAKEN: dict[str, frozenset[str]] = {
    "train model": _settings(
        "model", "training", "finetuning", "system", "data", "tokenizer", "tracking", but=_PREFERENCES
    ),
    "finetune model": _settings(
        "training", "finetuning", "system", "data", "tracking",
        but=["training.init_from", "training.output_dir", "data.path", "training.head_learning_rate"],
    ),
    # The model, the data and what decided over both are the run's own by then.
    "train resume": _settings(
        "training", "system", "tracking",
        but=[f"training.{key}" for key in ("optimizer", "init_from", "output_dir")]
        + [f"training.time_{key}_seconds" for key in ("budget", "reserve")]
        + [f"training.{key}_learning_rate" for key in ("embedding", "head", "vector")] + ["system.seed"],
    ) | {"model.dropout"},
    "build": _settings(*(name for name in Config.model_fields if name != "finetuning"), but=["training.eval_only"]),
    # The shape and the tokenizer are the base's, and how it is adapted has an option.
    "build --base": _settings(
        "training", "finetuning", "system", "data", "generation", "tracking",
        but=["training.eval_only", "training.init_from", "training.head_learning_rate", "finetuning.method",
             *_PREFERENCES],
    ),
    "data prepare": _settings("data", "tokenizer", but=["data.path", "data.stride", "data.documents_apart"])
    | {"system.seed"},
    "generate text": _settings("generation") | {"system.device"},
}  # fmt: skip


@dataclass(frozen=True)
class Idle:
    """Settings that do nothing `when` others are as they are, and the reason in words.

    `everywhere`: also in files. Otherwise only where it is given with the command, because presets, nanoGPT's files or
    files shared by several runs name such a setting in good order.
    """

    names: tuple[str, ...]
    when: Callable[[Config], bool]
    reason: str
    everywhere: bool = True


_GREEDY = "generation.do_sample is off: the likeliest token is taken"
IDLE = (
    Idle(("model.rope_theta",), lambda c: c.model.model_type == "gpt", "only the 'llama' family has it"),
    Idle(("model.activation",), lambda c: c.model.model_type != "gpt", "only the 'gpt' family has it"),
    Idle(("model.bias",), lambda c: c.model.model_type != "gpt", "only the 'gpt' family has it", False),
    Idle(("model.sliding_window_layers",), lambda c: c.model.model_type != "gpt" and c.model.sliding_window is None,
         "there is no model.sliding_window that could limit them"),
    Idle(("model.windowed_rope_theta",), lambda c: c.model.model_type == "gemma3" and c.model.sliding_window is None,
         "there is no model.sliding_window, whose layers it is for"),
    Idle(("model.sliding_window", "model.windowed_rope_theta"), lambda c: c.model.sliding_window_layers == [],
         "model.sliding_window_layers names no layer"),
    Idle(("model.rope_theta", "model.rope_scaling"),
         lambda c: len(set(c.model.layers_without_positions)) >= c.model.num_layers,
         "model.layers_without_positions names every layer"),
    Idle(("training.head_learning_rate",), lambda c: c.model.tie_embeddings,
         "model.tie_embeddings makes the embedding the output projection: set training.embedding_learning_rate"),
    Idle(("training.muon_learning_rate",), lambda c: c.training.optimizer == "adamw", "training.optimizer is adamw"),
    Idle(("training.gradient_accumulation_steps",), lambda c: is_auto(c.training.batch_size),
         "training.batch_size 'auto' chooses it, too"),
    Idle(("training.muon_learning_rate", "training.vector_learning_rate"), lambda c: c.finetuning.method != "full",
         "finetuning.method lets adapters learn, which have training.learning_rate"),
    Idle(("training.embedding_learning_rate", "training.head_learning_rate"),
         lambda c: c.finetuning.method != "full" and not c.finetuning.embeddings,
         "finetuning.method lets adapters learn, which have training.learning_rate"),
    Idle(("finetuning.rank", "finetuning.alpha", "finetuning.dropout", "finetuning.layers", "finetuning.embeddings"),
         lambda c: c.finetuning.method == "full", "finetuning.method is full: all weights learn"),
    Idle(("finetuning.dpo_beta",), lambda c: c.finetuning.objective != "dpo", "finetuning.objective is not dpo",
         False),
    Idle(("training.time_reserve_seconds",), lambda c: c.training.time_budget_seconds is None,
         "there is no training.time_budget_seconds of which it could be a part"),
    Idle(("training.num_epochs",), lambda c: c.training.max_steps is not None,
         "training.max_steps says how long the run is: set it to null", False),
    Idle(("training.min_learning_rate", "training.lr_decay_steps"), lambda c: c.training.lr_schedule == "constant",
         "training.lr_schedule is constant", False),
    Idle(("training.save_every",), lambda c: c.training.save_best_only, "training.save_best_only is set", False),
    Idle(("training.save_best_only", "training.eval_batches"),
         lambda c: c.training.eval_every == 0 and not c.training.eval_only, "training.eval_every is 0", False),
    Idle(("tracking.trackio_project",), lambda c: not c.tracking.trackio, "tracking.trackio is not set", False),
    Idle(("tracking.wandb_project", "tracking.wandb_run_name"), lambda c: not c.tracking.wandb,
         "tracking.wandb is not set", False),
    Idle(("data.cleaning_rules",), lambda c: not c.data.clean_text, "data.clean_text is off"),
    Idle(("data.filter_without",), lambda c: not (
        c.data.filter != "none" or c.data.filter_limits or c.data.languages or c.data.classifier),
         "there is no data.filter whose rules could be left out"),
    Idle(("data.min_language_score",), lambda c: not c.data.languages, "data.languages names none to keep"),
    Idle(("data.classifier_label", "data.min_score"), lambda c: c.data.classifier is None,
         "there is no data.classifier"),
    Idle(("data.near_duplicate_ngram", "data.near_duplicate_permutations"), lambda c: c.data.near_duplicates is None,
         "data.near_duplicates is off"),
    Idle(("data.semantic_model",), lambda c: c.data.semantic_duplicates is None, "data.semantic_duplicates is off"),
    Idle(("data.mixture",), lambda c: not c.data.tokenize, "data.tokenize is off"),
    Idle(("data.train_split", *LEARNED, "tokenizer.path"), lambda c: not c.data.tokenize,
         "data.tokenize is off", False),
    Idle(("tokenizer.min_frequency",), lambda c: c.tokenizer.algorithm in ("char", "unigram"),
         "only the algorithms bpe and wordpiece count pairs"),
    Idle(LEARNED, lambda c: c.tokenizer.path is not None, "the tokenizer is there already (tokenizer.path)", False),
    Idle(("generation.temperature",), lambda c: not c.generation.do_sample and c.generation.temperature > 0, _GREEDY,
         False),  # a temperature of 0 says the same
    Idle(("generation.top_k", "generation.top_p", "generation.min_p"), lambda c: not c.generation.do_sample, _GREEDY,
         False),
)  # fmt: skip


def idle_settings(config: Config) -> Iterator[tuple[str, Any, str]]:
    """Yield (setting, value, reason) of what differs from its default and does nothing beside the other settings."""
    for idle in IDLE:
        if idle.everywhere and idle.when(config):
            yield from ((name, _value(config, name), idle.reason) for name in idle.names if _is_asked(config, name))


def require_taken(
    command: str,
    overrides: Iterable[str] | Mapping[str, Any],
    config: Config,
    *,
    replaced: Mapping[str, str | None] | None = None,
) -> None:
    """Raise ConfigError for one of `overrides` that `command` does not use, or that does nothing in `config`.

    `replaced` maps settings to what stands in their place in this call, such as an option of the same meaning.
    """
    asked = [f"{section}.{key}" for section, values in parse_overrides(overrides).items() for key in values]
    refuse([name for name in asked if name not in TAKEN[command]], lambda name: _where_taken(command, name))
    instead = {name: reason for name, reason in (replaced or {}).items() if reason is not None}
    refuse([name for name in asked if name in instead], lambda name: f"{instead[name]} stands in its place")
    for idle in IDLE:
        if idle.when(config):
            names = [name for name in idle.names if name in asked and not _is_empty(_value(config, name))]
            refuse(names, idle.reason)


def changed_config(
    config: Config,
    overrides: Iterable[str] | Mapping[str, Any],
    source: str,
    beneath: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Return the configuration with which a run goes on: `config`, then the settings `beneath`, then `overrides`.

    Raises ConfigError, naming `source`, for a value that is none, and for an override of what a run has settled.
    """
    given = overrides if isinstance(overrides, Mapping) else list(overrides)
    values = merge(merge(config.to_dict(), beneath or {}), parse_overrides(given))
    changed = build_config(values, source, explicit_places(given))
    require_taken("train resume", given, changed)
    return changed


def refuse(names: list[str], reason: str | Callable[[str], str]) -> None:
    """Raise ConfigError if there are names of settings: they would not act, for a reason or one by name."""
    if names:
        said = reason if isinstance(reason, str) else reason(names[0])
        raise ConfigError(f"{', '.join(names)} would not act here: {said}")


def differing(section: Section, names: Iterable[str]) -> list[str]:
    """Return the keys of a section that differ from their defaults."""
    defaults = type(section)()
    return [name for name in names if getattr(section, name) != getattr(defaults, name)]


def _where_taken(command: str, name: str) -> str:
    takers = [f"`{other}`" for other, names in TAKEN.items() if name in names]
    where = f"it acts in {', '.join(takers)}" if takers else "no command has such a setting"
    used: dict[str, list[str]] = {}
    for section, key in (setting.split(".") for setting in all_settings() if setting in TAKEN[command]):
        used.setdefault(section, []).append(f"{section}.{key}")
    few = [setting for settings in used.values() if len(settings) <= _FEW for setting in settings]
    sections = [section for section, settings in used.items() if len(settings) > _FEW]
    taken = " and ".join([*few, *([f"settings of {', '.join(sections)}"] if sections else [])])
    return f"`{command}` does not use it; {where} (`{command}` uses {taken})"


def _value(config: Config, name: str) -> Any:
    section, key = name.split(".")
    return getattr(getattr(config, section), key)


def _is_asked(config: Config, name: str) -> bool:
    section, key = name.split(".")
    return bool(differing(getattr(config, section), [key]))


def _is_empty(value: Any) -> bool:
    """Whether a value asks for nothing: settings are emptied to undo what a file or a preset says."""
    return value is None or value is False or value == [] or value == {}
