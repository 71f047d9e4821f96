"""What each field of a Hugging Face `config.json` means for the computation.

A field is honoured, or known to change no prediction, or must have the value that changes nothing. Any other field is
refused by its name unless it is null, false or empty: a model that computes something else must not open as if it did
not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmbuilder.errors import CheckpointError
from llmbuilder.formats.huggingface.layers import read_layers
from llmbuilder.formats.huggingface.rotary import read_rotary

_MOST = {"num_hidden_layers": 10_000, "max_position_embeddings": 1 << 40}
_SCALE = "query_pre_attn_scalar"


@dataclass(frozen=True)
class Family:
    """The fields of one family."""

    honoured: Mapping[str, Any]  # field -> what transformers takes where it is absent
    without_effect: Mapping[str, str]  # field -> why no prediction depends on it
    only: Mapping[str, tuple[Any, ...]]  # field -> the values that change nothing
    renamed: Mapping[str, str]  # other name of a field -> its own


_ABOUT = "it says what the file is, and by whom it was written"
_OTHER_HEADS = "only heads for other tasks use it"
_TRAINING = "only training uses it"
_OUTPUT = "it says what is returned, not how it is computed"
_SAMPLING = "it is a default of text generation"
_TOKENS = "it belongs to the tokenizer"
_SAME_NUMBERS = "it changes how, not what is computed"


def _all(reason: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


_BOOKKEEPING = {
    **_all(_ABOUT, "model_type architectures transformers_version _name_or_path name_or_path _commit_hash torch_dtype "
                   "dtype transformers.js_config unsloth_version unsloth_fixed unsloth_tracked is_llama_config "
                   "model_name license tags language"),
    **_all(_OTHER_HEADS, "id2label label2id num_labels _num_labels problem_type finetuning_task "
                         "task_specific_params classifier_dropout"),
    **_all(_OUTPUT, "output_hidden_states output_attentions return_dict use_return_dict output_scores "
                    "return_dict_in_generate output_router_logits"),
    **_all(_TRAINING, "initializer_range gradient_checkpointing neftune_noise_alpha"),
    **_all(_SAMPLING, "max_length min_length max_new_tokens do_sample early_stopping num_beams num_beam_groups "
                      "diversity_penalty temperature top_k top_p min_p typical_p repetition_penalty length_penalty "
                      "no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences "
                      "forced_bos_token_id forced_eos_token_id remove_invalid_values penalty_alpha "
                      "exponential_decay_length_penalty suppress_tokens begin_suppress_tokens prefix"),
    **_all(_TOKENS, "bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id decoder_start_token_id "
                    "tokenizer_class tokenizer_model_max_length tokenizer_padding_side model_max_length"),
    **_all(_SAME_NUMBERS, "use_cache chunk_size_feed_forward torchscript use_bfloat16 tf_legacy_loss "
                          "_attn_implementation _attn_implementation_autoset attn_implementation "
                          "_attn_implementation_internal _flash_attn_2_enabled is_decoder cross_attention_hidden_size"),
}  # fmt: skip
_ONLY_EVERYWHERE: dict[str, tuple[Any, ...]] = {"is_encoder_decoder": (False,), "add_cross_attention": (False,)}

GPT2 = Family(
    honoured={
        "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.1,
        "tie_word_embeddings": True, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
    },
    without_effect={
        **_all(_OTHER_HEADS, "summary_type summary_use_proj summary_activation summary_proj_to_labels "
                             "summary_first_dropout"),
        **_all(_TRAINING, "embd_pdrop attn_pdrop"),
        "reorder_and_upcast_attn": _SAME_NUMBERS,
        "n_ctx": "n_positions is what counts",
    },
    only={},
    renamed={"hidden_size": "n_embd", "max_position_embeddings": "n_positions", "num_attention_heads": "n_head",
             "num_hidden_layers": "n_layer"},
)  # fmt: skip
_ROTARY = {"rope_theta": 10000.0, "rope_parameters": None, "rope_scaling": None,
           "original_max_position_embeddings": None}  # fmt: skip
_WINDOWS = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}
LLAMA = Family(
    honoured={
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": None, "head_dim": None, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "attention_dropout": 0.0, "attention_bias": False,
        "mlp_bias": False, "layer_types": None, **_ROTARY,
    },
    without_effect={"pretraining_tp": _SAME_NUMBERS, "max_sequence_length": "max_position_embeddings is what counts"},
    only={"hidden_act": ("silu", "swish"), "partial_rotary_factor": (1.0,)},
    renamed={},
)  # fmt: skip
_BESIDE_BIASES = {name: value for name, value in LLAMA.honoured.items() if name not in ("attention_bias", "mlp_bias")}
MISTRAL = Family(
    honoured={
        **_BESIDE_BIASES, "intermediate_size": 14336, "num_key_value_heads": 8, "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    without_effect=LLAMA.without_effect,
    only={**LLAMA.only, "use_sliding_window": (True,)},
    renamed={},
)  # fmt: skip
QWEN2 = Family(
    honoured={
        **_BESIDE_BIASES, **_WINDOWS, "vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
    },
    without_effect={},
    only={**LLAMA.only, "attention_bias": (True,)},  # it always has them
    renamed={},
)  # fmt: skip
QWEN3 = Family(
    honoured={**QWEN2.honoured, "head_dim": 128, "attention_bias": False},
    without_effect={},
    only=LLAMA.only,
    renamed={},
)
SMOLLM3 = Family(
    honoured={
        **LLAMA.honoured, "vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 4, "max_position_embeddings": 32768, "rope_theta": 2000000.0,
        "tie_word_embeddings": True, "use_sliding_window": False, "sliding_window": None, "no_rope_layers": None,
        "no_rope_layer_interval": 4,
    },
    without_effect={**LLAMA.without_effect, "max_window_layers": "layer_types is what counts"},
    only=LLAMA.only,
    renamed={},
)  # fmt: skip
GEMMA3 = Family(
    honoured={
        **_BESIDE_BIASES, "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "max_position_embeddings": 131072, "tie_word_embeddings": True, "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0, "sliding_window": 4096, "sliding_window_pattern": 6,
        "query_pre_attn_scalar": 256,
    },
    without_effect={"cache_implementation": _SAME_NUMBERS, "_sliding_window_pattern": "layer_types is what counts"},
    only={
        "hidden_activation": ("gelu_pytorch_tanh",), "attention_bias": (False,), "attn_logit_softcapping": (),
        "final_logit_softcapping": (), "use_bidirectional_attention": (False,),
    },
    renamed={},
)  # fmt: skip
FIELDS = {
    "gpt2": GPT2, "llama": LLAMA, "mistral": MISTRAL, "smollm3": SMOLLM3, "qwen2": QWEN2, "qwen3": QWEN3,
    "gemma3_text": GEMMA3,
}  # fmt: skip


def understood(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the honoured fields of a `config.json`, those that are absent as transformers has them.

    For all families but GPT-2, `rope_theta`, `rope_scaling`, `windowed_rope_theta`, `sliding_window`,
    `sliding_window_layers` and `layers_without_positions` are as `ModelConfig` has them. Raises CheckpointError for a
    family this package does not have, and one that names every field that would make the model compute something else.
    """
    kind = values.get("model_type")
    family = FIELDS.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise CheckpointError(f"model_type {kind!r} is not supported: only {', '.join(FIELDS)} can be opened")
    named = {family.renamed.get(name, name): value for name, value in values.items()}
    known = {**family.honoured, **{name: value for name, value in named.items() if name in family.honoured}}
    wrong = [*_not_understood(named, family)]
    if kind != "gpt2":
        for name, most in _MOST.items():  # what the fields of layers and positions are read by
            if not isinstance(known[name], int) or not 0 < known[name] <= most:
                raise CheckpointError(f"its config.json is wrong: {name} is {known[name]!r}"[:200])
        if _SCALE in known and (not isinstance(known[_SCALE], int | float) or not 0 < known[_SCALE] < 1e6):
            raise CheckpointError(f"its config.json is wrong: {_SCALE} is {known[_SCALE]!r}"[:200])
        wrong += [*read_rotary(known, named), *read_layers(known)]
    if wrong:
        raise CheckpointError(f"this model uses {', '.join(wrong)}, not supported")
    return known


def _not_understood(named: Mapping[str, Any], family: Family) -> Iterator[str]:
    only = {**_ONLY_EVERYWHERE, **family.only}
    for name, value in named.items():
        if name in family.honoured or name in family.without_effect or name in _BOOKKEEPING:
            continue
        if name == "auto_map":
            if isinstance(value, Mapping) and any(key.startswith("AutoModel") for key in value):
                yield "auto_map (code of its own computes it)"
        elif value not in only.get(name, ()) and value is not None and value is not False and value not in ({}, []):
            yield f"{name} {value!r}"[:100]
