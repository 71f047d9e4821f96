"""The configurations of the older LLMBuilder (qubasehq/LLMBuilder): its templates and what its `Config` saves.

What a key is worth there follows from its code, not from its name. It hands the sections `model` and `training` to its
own functions: what those never read had no effect, and mapping it would change a result. The other sections are values
for the caller's own scripts: they map where they mean the same here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmbuilder.formats.nanogpt.configuration.keys import CONVERTED_KEYS, FLAT_KEYS
from llmbuilder.formats.nanogpt.configuration.migrated import (
    Default,
    MigratedConfig,
    flatten,
    new_format_keys,
    put,
    translate,
)
from llmbuilder.formats.nanogpt.configuration.nested import NESTED_MARKS

ORIGIN = "the older LLMBuilder"
Values = Mapping[str, Any]

# Same meaning, same unit.
_SAME = {
    **{f"model.{key}": f"model.{key}"
       for key in ("vocab_size", "embedding_dim", "num_layers", "num_heads", "max_seq_length", "dropout")},
    **{f"training.{key}": f"training.{key}"
       for key in ("batch_size", "learning_rate", "num_epochs", "weight_decay", "beta1", "beta2", "max_grad_norm",
                   "log_every")},
    **{f"inference.{key}": f"generation.{key}"
       for key in ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "do_sample")},
    "training.random_seed": "system.seed",
    "data.stride": "data.stride",
    "data.clean_text": "data.clean_text",
    "data.remove_duplicates": "data.remove_duplicates",
    "system.device": "system.device",
    "system.compile_model": "system.compile",
    "system.num_workers": "training.dataloader_num_workers",
}  # fmt: skip

# Never read by its code, or without a counterpart here; the reason is told.
_READING = "documents are read by this package's own readers"
_TRAINED = "tokenizers are trained another way here"
_MEANING = "documents alike in meaning are sought with other embeddings here (data.semantic_duplicates)"
_FOLDERS = "its code never reads it: commands name their folders"
_EXPORT = "exports are made by `llmbuilder export gguf`"
_LEFT = {
    "training.gradient_clip_norm": "its trainer never reads it: training.max_grad_norm is what clips",
    "training.warmup_steps": "its trainer never reads it: the learning rate is constant from the first step",
    "training.eval_every": "its trainer never reads it: it validates after every epoch",
    "training.save_every": "it counts epochs, here steps are counted",
    "data.shuffle": "its code never reads it: the training windows are always shuffled, as here",
    **{f"data.ingestion.{key}": _READING for key in (
        "supported_formats", "batch_size", "num_workers", "output_format", "preserve_structure", "extract_metadata",
        "html_parser", "remove_scripts", "remove_styles", "ocr_quality_threshold", "pdf_extraction_method",
        "extract_toc", "chapter_separator")},
    **{f"data.deduplication.{key}": _MEANING for key in (
        "similarity_threshold", "embedding_model", "batch_size", "chunk_size", "min_text_length",
        "use_gpu_for_embeddings", "embedding_cache_size", "similarity_metric")},
    "data.deduplication.normalize_text": "texts are always normalised before they are compared",
    **{f"{section}.{key}": _TRAINED for section in ("tokenizer", "tokenizer_training") for key in (
        "character_coverage", "max_sentence_length", "shuffle_input_sentence", "normalization_rule_name",
        "remove_extra_whitespaces", "add_dummy_prefix")},
    **{f"tokenizer_training.{key}": _TRAINED for key in (
        "continuing_subword_prefix", "end_of_word_suffix", "num_threads", "max_training_time", "validation_split")},
    "inference.early_stopping": "its code never reads it: generation ends at the end-of-text token, as here",
    "inference.pad_token_id": "the tokenizer says it",
    "inference.eos_token_id": "the tokenizer says it",
    "system.pin_memory": "its code never reads it; memory is pinned where it helps",
    "system.persistent_workers": "its code never reads it",
    **{f"paths.{key}": _FOLDERS for key in (
        "data_dir", "model_dir", "checkpoint_dir", "tokenizer_dir", "output_dir", "log_dir", "cache_dir")},
    **{f"gguf_conversion.{key}": _EXPORT for key in (
        "validate_output", "conversion_timeout", "preferred_script", "script_paths", "output_naming", "custom_suffix",
        "preserve_metadata")},
    "project.name": "it names the project",
    "project.version": "it names the project",
}  # fmt: skip

# What its code uses where a configuration leaves a key out.
DEFAULTS = {
    "model.vocab_size": 16000, "model.embedding_dim": 512, "model.num_layers": 8, "model.num_heads": 8,
    "model.max_seq_length": 1024, "model.dropout": 0.1,
    "training.batch_size": 32, "training.learning_rate": 3e-4, "training.num_epochs": 10,
    "training.weight_decay": 0.01, "training.max_grad_norm": 1.0, "training.beta1": 0.9, "training.beta2": 0.999,
    "training.log_every": 100,
    "inference.max_new_tokens": 100, "inference.temperature": 0.8, "inference.top_k": 50, "inference.top_p": 0.9,
    "inference.repetition_penalty": 1.0,
    "system.mixed_precision": False,
}  # fmt: skip


class _Left(str):
    """Why a key has no counterpart."""


def _eps(value: Any, _all: Values) -> Any:
    if value == 1e-5:
        return "model.norm_eps", value
    return _Left("its code never reads it: the epsilon of its LayerNorm is 1e-5")


def _bias(value: Any, _all: Values) -> Any:
    if value is True:
        return "model.bias", True
    return _Left("its code never reads it: its layers have biases, but for the attention's input")


def _activation(value: Any, _all: Values) -> Any:
    if value == "gelu":
        return "model.activation", "gelu"
    return _Left("its code never reads it: its activation is the exact GELU")


def _family(value: Any, _all: Values) -> Any:
    return ("model.model_type", "gpt") if value == "gpt" else _Left("it builds GPT models only")


def _adam_eps(value: Any, _all: Values) -> Any:
    return _Left("it is 1e-8 here, too" if value == 1e-8 else "it is always 1e-8 here")


def _train_split(validation: Any, test: Any, *said: str) -> Any:
    if not isinstance(validation, int | float) or not isinstance(test, int | float):
        return _Left("it is no number")
    return "data.train_split", round(1 - validation - test, 10), *said


def _validation_split(value: Any, everything: Values) -> Any:
    if "training.val_ratio" in everything:
        return _Left("training.val_ratio is what its pipeline reads")
    return _train_split(value, everything.get("data.test_split", 0))


def _test_split(value: Any, everything: Values) -> Any:
    if "training.val_ratio" in everything:
        return _Left("its pipeline has no part for tests, and neither has this package")
    said = "there is no part for tests here: its documents validate, and none of them is trained on"
    return _train_split(everything.get("data.validation_split", 0.1), value, said)


def _validation_ratio(value: Any, _all: Values) -> Any:
    return _train_split(value, 0)


def _max_length(value: Any, everything: Values) -> Any:
    if value == everything.get("model.max_seq_length", everything.get("block_size")):
        return "model.max_seq_length", value
    return _Left("its code never reads it: windows are as long as model.max_seq_length")


def _min_length(value: Any, _all: Values) -> Any:
    return "data.filter_limits", {"characters": [value, None]}


def _ocr(value: Any, everything: Values) -> Any:
    return "data.ocr", everything.get("data.ingestion.ocr_language", "eng") if value else None


def _ocr_language(value: Any, everything: Values) -> Any:
    if everything.get("data.ingestion.enable_ocr", True):
        return "data.ocr", value
    return _Left("data.ingestion.enable_ocr is off")


def _exact(value: Any, everything: Values) -> Any:
    if everything.get("data.remove_duplicates", value) != value:
        return _Left("data.remove_duplicates says otherwise")
    return "data.remove_duplicates", value


def _semantic(value: Any, _all: Values) -> Any:
    return _Left(_MEANING) if value else ("data.semantic_duplicates", None)


def _tokenizer_size(value: Any, everything: Values) -> Any:
    size = everything.get("vocab_size", everything.get("model.vocab_size", DEFAULTS["model.vocab_size"]))
    if value == size:
        return "tokenizer.vocab_size", value
    return _Left(f"its code sets it to model.vocab_size ({size})")


def _algorithm(everything: Values) -> str | None:
    """Return the kind of tokenizer; SentencePiece is a library that trains several, Unigram unless told otherwise."""
    wanted = everything.get("tokenizer_training.algorithm")
    kind = everything.get("tokenizer.model_type")
    if wanted in (None, "sentencepiece"):
        wanted = kind or ("unigram" if wanted else None)
    return wanted if wanted in ("bpe", "unigram", "wordpiece", "char") else None


def _trained_algorithm(value: Any, everything: Values) -> Any:
    kind = _algorithm(everything)
    if kind is None:
        return _Left("there is no such kind of tokenizer here")
    if value == "sentencepiece":
        return "tokenizer.algorithm", kind, "SentencePiece is a library; this is the kind that it trains"
    return "tokenizer.algorithm", kind


def _tokenizer_kind(value: Any, everything: Values) -> Any:
    if value not in ("bpe", "unigram", "char"):
        return _Left("there is no such kind of tokenizer here")
    if value != _algorithm(everything):
        return _Left("tokenizer_training.algorithm says otherwise")
    return "tokenizer.algorithm", value


def _min_frequency(value: Any, everything: Values) -> Any:
    if _algorithm(everything) in ("unigram", "char"):
        return _Left(f"{_algorithm(everything)} tokenizers count no pairs")
    return "tokenizer.min_frequency", value


def _special_tokens(value: Any, _all: Values) -> Any:
    parts = {"<pad>", "<unk>", "<s>", "</s>"}
    said = "<|endoftext|> plays the parts of <pad>, <s> and </s> here"
    rest = [token for token in value if token not in parts] if isinstance(value, list) else []
    return ("tokenizer.special_tokens", rest, said) if rest else _Left(said)


def _beams(value: Any, _all: Values) -> Any:
    return _Left("there is no beam search" if value != 1 else "there is no beam search here, either")


def _precision(value: Any, _all: Values) -> Any:
    return "training.mixed_precision", "auto" if value else "no"


def _quantization(value: Any, _all: Values) -> Any:
    return _Left(f"{_EXPORT}: give it --quantization {str(value).lower()}")


_CONVERTED: dict[str, Callable[[Any, Values], Any]] = {
    "model.layer_norm_eps": _eps,
    "model.use_bias": _bias,
    "model.activation": _activation,
    "model.model_type": _family,
    "training.eps": _adam_eps,
    "training.val_ratio": _validation_ratio,
    "data.validation_split": _validation_split,
    "data.test_split": _test_split,
    "data.max_length": _max_length,
    "data.min_length": _min_length,
    "data.ingestion.enable_ocr": _ocr,
    "data.ingestion.ocr_language": _ocr_language,
    "data.deduplication.enable_exact_deduplication": _exact,
    "data.deduplication.enable_semantic_deduplication": _semantic,
    "tokenizer.vocab_size": _tokenizer_size,
    "tokenizer_training.vocab_size": _tokenizer_size,
    "tokenizer.model_type": _tokenizer_kind,
    "tokenizer_training.algorithm": _trained_algorithm,
    "tokenizer_training.min_frequency": _min_frequency,
    "tokenizer_training.special_tokens": _special_tokens,
    "inference.num_beams": _beams,
    "system.mixed_precision": _precision,
    "gguf_conversion.quantization_level": _quantization,
}
_KNOWN = frozenset({*_SAME, *_LEFT, *_CONVERTED})
_FLAT = frozenset({"n_layer", "n_head", "n_embd", "block_size", "dropout", "bias", "device", "vocab_size"})


def is_older_llmbuilder(values: Mapping[str, Any]) -> bool:
    """Tell such a configuration: it has keys that only the older LLMBuilder knows, and none that only this one knows.

    Flat keys beside sections are its own, too.
    """
    flat = flatten(values).keys()
    new = new_format_keys()
    mixed = bool(flat & _FLAT) and any(isinstance(values.get(name), Mapping) for name in ("model", "training", "data"))
    own = bool(flat & (_KNOWN - new)) or mixed
    return own and not (flat & (new - _KNOWN)) and not (flat & (NESTED_MARKS - _KNOWN))


def migrate_older_llmbuilder(values: Mapping[str, Any]) -> MigratedConfig:
    """Translate such a configuration; what it leaves out is the older LLMBuilder's own default."""
    flat = flatten(values)
    result = MigratedConfig({}, legacy_values=flat)
    # Flat keys beside the sections win, as they do in its `Config.from_dict`.
    for key, value in sorted(flat.items(), key=lambda item: "." not in item[0]):
        if "." not in key:
            translate({key: value}, FLAT_KEYS, CONVERTED_KEYS, result)
        else:
            _place(key, value, flat, result)
    for key, value in DEFAULTS.items():
        target, converted, *_ = _target(key, value, flat)
        section, _, name = target.partition(".")
        if key not in flat and name not in result.values.get(section, {}):
            result.defaults[key] = Default(value, ORIGIN)
            put(result.values, target, converted)
    # Its trainer has no schedule, and biases in all layers.
    put(result.values, "training.lr_schedule", "constant")
    put(result.values, "training.warmup_steps", 0)
    put(result.values, "model.bias", True)
    return result


def is_older_training(values: Mapping[str, Any]) -> bool:
    """Tell the bare training section, as its checkpoints hold it under `config`."""
    return "gradient_clip_norm" in values and all(key in _FLAT or f"training.{key}" in _KNOWN for key in values)


def migrate_older_training(values: Mapping[str, Any]) -> MigratedConfig:
    """Translate a bare training section; the keys keep their names without the section's."""
    training = {key: value for key, value in values.items() if f"training.{key}" in _KNOWN}
    rest = {key: value for key, value in values.items() if key not in training}
    result = migrate_older_llmbuilder({"training": training, **rest})
    return MigratedConfig(
        result.values,
        mapping=_unprefixed(result.mapping),
        unmapped=_unprefixed(result.unmapped),
        defaults=result.defaults,
        legacy_values=_unprefixed(result.legacy_values),
        remarks=_unprefixed(result.remarks),
    )


def _unprefixed(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix("training."): value for key, value in keys.items()}


def _target(key: str, value: Any, flat: Values) -> Any:
    if key in _SAME:
        return _SAME[key], value
    if key in _CONVERTED:
        return _CONVERTED[key](value, flat)
    return _Left(_LEFT.get(key, ""))


def _place(key: str, value: Any, flat: Values, result: MigratedConfig) -> None:
    target = _target(key, value, flat)
    if isinstance(target, _Left):
        result.unmapped[key] = value
        if target:
            result.remarks[key] = str(target)
        return
    place, converted, *said = target
    result.mapping[key] = place
    put(result.values, place, converted)
    if said:
        result.remarks[key] = said[0]
