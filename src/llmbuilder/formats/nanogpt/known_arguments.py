"""The arguments that GPT models of nanoGPT's kin are made with: what each is called, and which change nothing.

A fork's argument that is in none of these tables, and not off, is a reason to refuse its checkpoints.
"""

from __future__ import annotations

import re
from typing import Any

# Common name -> the names that projects give it.
SPELLINGS = {
    "num_layers": "n_layer n_layers num_layers num_hidden_layers depth layers n_block n_blocks num_blocks num_layer",
    "num_heads": "n_head n_heads num_heads num_head num_attention_heads nhead heads n_q_head n_q_heads num_q_heads "
    "n_query_heads num_query_heads n_attention_heads attention_heads",
    "kv_heads": "n_kv_head n_kv_heads num_kv_heads num_key_value_heads n_kv_group n_head_kv n_query_groups",
    "embedding_dim": "n_embd n_emb n_embed embedding_dim embeddings_size embed_dim emb_dim emb dim d_model hidden_size "
    "model_dim",
    "head_dim": "head_dim head_size",
    "max_seq_length": "block_size max_seq_len max_seq_length context_size context_length context_len ctx_len n_ctx "
    "n_positions "
    "max_position_embeddings sequence_len seq_len",
    "vocab_size": "vocab_size",
    "intermediate_size": "intermediate_size n_inner d_ff ffn_dim mlp_size",
    "dropout": "dropout resid_pdrop resid_dropout dropout_rate",
    "bias": "bias use_bias",
    "tied": "tie_embeddings tie_weights weight_tying tie_word_embeddings wte_weight_tying",
    "rope_theta": "rope_theta rope_base rotary_base rope_freq_base",
    "norm_eps": "norm_eps layer_norm_eps layer_norm_epsilon rms_norm_eps rmsnorm_eps ln_eps rms_eps",
    "activation": "activation activation_function hidden_act ffn_activation activation_variant act_fn mlp_activation",
    "norm": "norm_type norm_variant_attn normalization",
    "output_norm": "norm_variant_output",
    "rmsnorm": "use_rmsnorm use_rms_norm rmsnorm rms_norm",
    "positions": "pos_emb_type pos_encoding_type pos_encoding position_embedding position_embedding_type "
    "positional_embedding positional_encoding pos_embedding_type",
    "rotary": "use_rope use_rotary rope rotary use_rotary_embeddings use_rotary_emb",
    "learned_positions": "use_abs_pos_embeddings",
    "rotary_width": "rope_length",
    "qk_norm": "qk_norm use_qk_norm",
    "mlp": "mlp_variant mlp_type ffn_type",
    "gated": "use_swiglu swiglu",
    "model_type": "model_type",
}
# Argument -> the values with which it changes nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attn_type": ("mha", "gqa", "mqa", "causal"),
    "attention_backend": ("sdpa", "manual", "flash", "math"),
    "attention_variant": ("causal",),
    "norm_position": ("pre", "pre_norm"),
    "use_pre_ln": (True,),
    "use_pre_ln_attn": (True,),
    "use_pre_ln_mlp": (True,),
    "num_experts": (1,),
    "n_experts": (1,),
    "attn_temperature": (1.0,),
    "attention_scale_factor": (1.0,),
    "attn_cproj_scale": (1.0,),
    "mlp_cproj_scale": (1.0,),
    "mlp_down_projs": (1,),
    "embedding_scale": (1.0,),
    "logit_scale": (1.0,),
    "residual_scale": (1.0,),
    "shared_mlp_size": (1,),
    "shared_mlp_seq": (1,),
    "shared_attn_size": (1,),
    "shared_attn_seq": (1,),
    "softmax_variant_attn": ("softmax",),
    "softmax_variant_output": ("softmax",),
    "linear_variant_attn": ("linear",),
    "linear_variant_mlp": ("linear",),
    "linear_variant_q": ("linear",),
    "linear_variant_k": ("linear",),
    "linear_variant_v": ("linear",),
    "linear_variant_attn_proj": ("linear",),
    "linear_variant_mlp_up": ("linear",),
    "linear_variant_mlp_down": ("linear",),
    "attn_residual_combination": ("add",),
    "mlp_residual_combination": ("add",),
    "attention_residual_variant": ("standard",),
    "absolute_pos_embedding_variant": ("learned",),
    "rope_variant": ("rope",),
    "mod_fn": ("causal",),
}
_NORMS = ("layernorm", "rmsnorm")
_ACTIVATIONS = ("gelu", "silu", "relu", "squared_relu")
# (arguments, the argument that switches them on, its values with which they mean nothing)
PARAMETERS_OF: list[tuple[re.Pattern[str], str, tuple[Any, ...]]] = [
    (re.compile(arguments), switch, harmless)
    for arguments, switch, harmless in [
        (r"n_experts|num_experts|moe_\w+", "use_moe", (False, 0)),
        (r"moe_\w+", "num_experts", (0, 1)),
        (r"fire_\w+|shared_fire_\w+", "use_fire_embeddings", (False,)),
        (r"alibi_\w+", "pos_encoding_type", ("rope", "learned", "absolute", "alibi")),
        (r"kan_\w+", "mlp_variant", ("mlp", "swiglu")),
        (r"mla_\w+|ssm_\w+|use_mla_\w+|mod_fn|n_qk_head_dim|n_v_head_dim|n_cproj|n_latent|triadic_loops",
         "attention_variant", ("causal",)),
        (r"quantize_asic_\w+", "use_edgellm_asic", (False,)),
        (r"flash_lobo_\w+", "use_flash_lobo", (False,)),
        (r"numerical_\w+", "numerical_multicontext", (False,)),
        (r"activation_start|activation_end|activation_transition_\w+", "use_gradual_activation", (False,)),
        (r"relu_power|shifted_gelu_\w+|softshrink_lambda|pla_\w+|pfla_(?!softmax)\w+|lsa_\w+", "activation_variant",
         _ACTIVATIONS),
        (r"(consmax|softermax|polymax|sigsoftmax|strongermax|exppolymax|softplus|relumax|relu2max|sigmoidmax|"
         r"softshrink_attn|squareplus|pfla_softmax)_\w+|div_by_seq_len", "softmax_variant_attn", ("softmax",)),
        (r"prmsnorm_\w+|krmsnorm_\w+|hsnorm_\w+|dact_\w+", "norm_variant_attn", _NORMS),
        (r"adaptive_linear_\w+|quantize_linear_\w+|quantization_\w+", "linear_variant_attn", ("linear",)),
        (r"activations_quant_method|quantize_attn_act_bits", "quantize_attn_act", (False,)),
        (r"quantize_mlp_act_bits", "quantize_mlp_act", (False,)),
        (r"quantize_w[tp]e_\w+", "quantize_wte", (False,)),
        (r"attention_residual_eps", "attention_residual_variant", ("standard",)),
        (r"attn_residual_alpha\w*", "attn_residual_combination", ("add",)),
        (r"mlp_residual_alpha\w*", "mlp_residual_combination", ("add",)),
        (r"attn_confidence_\w+", "use_attn_resid_scaling", (False,)),
        (r"mlp_confidence_\w+", "use_mlp_resid_scaling", (False,)),
        (r"ln_f_(input_)?mixer_\w+", "use_ln_f_input_mixer", (False,)),
        (r"resid_gaussian_\w+", "use_attn_resid_scaling", (False,)),
        (r"sym_rot_\w+", "rope_variant", ("rope",)),
        (r"lsv_\w+", "use_lsv", (False,)),
        (r"apply_vector_scaling_factor", "apply_vector_file", ()),
        (r"cyclic_\w+", "absolute_pos_embedding_variant", ("learned",)),
        (r"rope_(variant|base|theta|\w*cache\w*)", "use_rotary_embeddings", (False,)),
        (r"mtp_\w+", "n_future", (0,)),
        (r"n_embd_wte_\w+", "n_embd_wte", ()),
        (r"ring_\w+", "use_ring_attention", (False,)),
        (r"softmaxn?_params?|softmax_?n", "softmax1", (False,)),
        (r"softmaxn?_params?|softmax_?n", "use_softmax1", (False,)),
        (r"softmaxn?_params?|softmax_?n", "use_softmaxn", (False,)),
    ]
]  # fmt: skip
# A part of a layer -> the arguments that mean nothing in a model whose layers have no such part.
PARAMETERS_OF_PARTS = {
    "gate": re.compile(r"(swi|ge|re)?glu_\w+"),
    "q_norm": re.compile(r"qk_?norm_\w+"),
}
# Arguments that say how a model is begun, trained, stored or run, but not what it computes; and what the tensors tell
# better than any argument does.
NO_ARCHITECTURE = re.compile(
    r"(\w+_)?init(_\w+)?|init_\w+|\w+_(mean|std)_init|gaussian_(min|max)_norm|"
    r"embd_pdrop|attn_pdrop|attn_dropout|embd_dropout|attention_dropout|embedding_dropout|"
    r"qkv_bias|mlp_bias|mlp_up_bias|mlp_down_bias|attn_bias|attention_bias|bias_\w+|"
    r"(swi|ge|re)?glu_(mult|multiple_of|multiplier|ratio|factor|hidden\w*|dim|inner|width|matched)|mlp_expansion_factor|ffn_hidden_mult|feed_forward_scaling|mlp_ratio|multiple_of|hidden_dim|n_rep|ffn_mult|"
    r"flash|use_flash|use_flash_attn|flash_attn|disable_flash_attention|use_flash_attention|use_flex_attn|"
    r"use_ring_attention|use_kv_cache|use_cache|use_paged_kv_cache|kv_cache_\w+|rope_cache_size|gqa_broadcast|"
    r"gradient_checkpointing|use_gradient_checkpointing|recompute_backward_pass|"
    r"device|dtype|seed|compile|num_parameters|version|eval_interval|name|torch_dtype|"
    r"import_\w+|export_\w+|\w+_logging|plot_statistics|softmax_io_\w+|consmax_beta_gamma_logging|store_activations|"
    r"(run_|experiment_|project_|model_)?name|run_id|author|date|time(stamp)?|created(_at)?|description|notes|comment|git_\w+|commit|"
    r"iter(_num|ation)?s?|steps?|global_step|epoch|(best_)?(val_|train_)?loss|training|"
    r"bos_token_id|eos_token_id|pad_token_id|padded_vocab_size|embedding_gaussian_noise_\w+"
)
# Words that make a key of a training configuration sound like a piece of a model.
IS_ARCHITECTURE = re.compile(
    r"rope|rotary|alibi|expert|(^|_)moe|softcap|sliding|window_size|swiglu|(^|_)glu($|_)|qk_norm|rms_?norm|norm_(type|pos)|"
    r"post_?ln|post_?norm|kv_head|n_kv|(^|_)softmax(1|n|_one)|(^|_)mla|mamba|ssm|parallel_(block|residual)|residual_scale|(embedding|emb|logit)_scale"
)
