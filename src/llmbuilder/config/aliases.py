"""What people call the settings elsewhere, and which one they mean.

nanoGPT's names are those that its configurations are migrated by; the rest are the usual ones of Hugging Face's
TrainingArguments and model configurations, of LitGPT, of llama.cpp's options, and short forms.
"""

from __future__ import annotations

import difflib
import re

from llmbuilder.config.schema import Config
from llmbuilder.formats.nanogpt.configuration import CONVERTED_KEYS, FLAT_KEYS

_CONVERTED = {"decay_lr": "training.lr_schedule", "always_save_checkpoint": "training.save_best_only",
              "dtype": "training.mixed_precision", "backend": "system.distributed_backend"}  # fmt: skip
_TABLE = """
training.learning_rate: lr rate max_lr peak_lr base_lr step_size
training.min_learning_rate: lr_min min_learning_rate final_lr lr_end
training.lr_schedule: scheduler lr_scheduler lr_scheduler_type schedule decay
training.warmup_steps: warmup warmup_iters num_warmup_steps lr_warmup_steps warmup_steps_count
training.num_epochs: epochs epoch n_epochs num_train_epochs max_epochs n_epoch
training.max_steps: steps iters iterations n_steps num_steps max_iter num_iterations train_steps total_steps n_iters
training.batch_size: bs batch n_batch micro_batch_size global_batch_size per_device_train_batch_size
    train_batch_size batchsize device_batch_size
training.gradient_accumulation_steps: grad_accum accumulate gradient_accumulation grad_accumulation_steps
    gradient_accumulation_iters accumulate_grad_batches accumulation_steps ga
training.weight_decay: wd decay_rate l2
training.beta1: adam_beta1
training.beta2: adam_beta2
training.max_grad_norm: clip clip_grad gradient_clip gradient_clipping clip_norm gradient_clip_val max_norm
training.mixed_precision: precision amp fp16 bf16 torch_dtype
training.optimizer: optim optimiser
training.eval_every: eval_steps eval_freq val_interval val_every evaluation_interval validate_every
training.eval_batches: eval_iters max_eval_iters val_steps
training.save_every: save_steps save_interval save_freq checkpoint_interval checkpoint_every
training.keep_checkpoints: save_total_limit keep_last max_checkpoints
training.log_every: logging_steps log_freq log_steps
training.time_budget_seconds: time_budget max_time budget time max_seconds
training.gradient_checkpointing: activation_checkpointing checkpointing use_checkpoint
training.dataloader_num_workers: num_workers workers
training.output_dir: output out run_dir save_dir out_dir output_directory
training.init_from: resume_from resume_from_checkpoint initial_checkpoint_dir pretrained checkpoint
model.num_layers: layers n_layers num_hidden_layers depth block_count nlayers num_blocks
model.num_heads: heads n_heads nhead num_attention_heads head_count nheads
model.embedding_dim: d_model hidden_size hidden_dim width emb_dim embed_dim n_embed embedding_size embedding_length
    dim dmodel embedding
model.max_seq_length: context context_length ctx n_ctx context_size ctx_size seq_len seqlen sequence_length
    max_length max_len max_position_embeddings n_positions window context_window max_seq_len model_max_length
model.intermediate_size: d_ff ffn_dim mlp_dim feed_forward_length n_inner ff_dim
model.num_key_value_heads: kv_heads n_kv_heads num_kv_heads n_query_groups head_count_kv
model.dropout: p_drop resid_pdrop attn_pdrop embd_pdrop dropout_rate drop
model.bias: use_bias
model.activation: act hidden_act activation_function
model.norm_eps: rms_norm_eps layer_norm_eps layer_norm_epsilon eps
model.rope_theta: rope_base rope_freq_base theta
model.rope_scaling: rope_parameters rope_type
model.layers_without_positions: no_rope_layers nope_layers
model.sliding_window: window_size attention_window local_window_size
model.attention_bias: qkv_bias add_qkv_bias
model.tie_embeddings: tie_word_embeddings tie_weights tied weight_tying
model.qk_norm: norm_qk use_qk_norm
model.model_type: arch architecture family
model.vocab_size: vocab vocabulary_size n_vocab padded_vocab_size
tokenizer.algorithm: tokenizer_type
tokenizer.min_frequency: min_freq
tokenizer.path: tokenizer_path tokenizer_name tokenizer_dir tokenizer_name_or_path
system.device: accelerator cuda gpu use_cuda
system.seed: random_seed rng_seed manual_seed random_state
system.compile: torch_compile use_compile compile_model
system.num_threads: threads n_threads cpu_threads
system.distributed_strategy: strategy fsdp ddp
data.path: data dataset_path train_data data_dir train_file train_data_dir corpus documents dataset_name
data.train_split: split val_split test_size validation_split val_split_fraction train_ratio
data.clean_text: clean
data.remove_duplicates: dedup deduplicate
data.languages: language lang
generation.max_new_tokens: n_predict num_predict max_tokens predict new_tokens
generation.temperature: temp
generation.top_k: topk
generation.top_p: topp nucleus
generation.min_p: minp
generation.repetition_penalty: repeat_penalty
generation.num_samples: num_return_sequences samples n_samples
generation.stop: stop_sequences stop_strings
generation.do_sample: sample sampling greedy
tracking.wandb: wandb_enabled report_to logger
tracking.wandb_run_name: run_name
tracking.wandb_project: project
"""
_PLACES = {
    name: place
    for place, names in (line.split(":") for line in re.sub(r"\n +", " ", _TABLE).strip().splitlines())
    for name in names.split()
}
ALIASES: dict[str, str] = {**FLAT_KEYS, **_CONVERTED, **_PLACES}
assert _CONVERTED.keys() == CONVERTED_KEYS.keys(), "keys that nanoGPT's are converted by"


def meant_settings(name: str) -> list[str]:
    """Return the settings ("section.key") that a wrong name most likely means, the likeliest first; [] if none is near.

    `name` may have a section, right or wrong, and dashes for underscores.
    """
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_").strip("_. ")
    section, _, key = plain.rpartition(".")
    keys = {place: place.split(".")[1] for place in _settings()}
    same = [place for place, own in keys.items() if own == key]
    if same:
        return same
    if key in ALIASES:
        return [ALIASES[key]]
    own_section = [place for place in keys if place.split(".")[0] == section]
    for places in (own_section, list(keys)):
        near = difflib.get_close_matches(key, [keys[place] for place in places], n=1, cutoff=0.7)
        if near:
            return [place for place in places if keys[place] == near[0]]
    near = difflib.get_close_matches(key, ALIASES, n=1, cutoff=0.85)
    return [ALIASES[near[0]]] if near else []


def did_you_mean(name: str, value: str = "") -> str:
    """Return "; did you mean training.learning_rate?" for a wrong name, or nothing if none is near."""
    meant = meant_settings(name)[:3]
    return f"; did you mean {' or '.join(place + value for place in meant)}?" if meant else ""


def _settings() -> list[str]:
    return [f"{name}.{key}" for name, section in Config().sections().items() for key in type(section).model_fields]
