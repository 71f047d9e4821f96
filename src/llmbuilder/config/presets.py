"""Named starting points, from a toy to a GPU.

All are the `llama` family in Qwen3's shape (RMSNorm, rotary positions, normalised queries and keys, SwiGLU,
no biases), because that trains fastest per step of what transformers and llama.cpp open without custom code, and
all train by the recommended recipe, whose rates follow from the model.
"""

from __future__ import annotations

from typing import Any

from llmbuilder.config.recipe import RECOMMENDED

_QWEN3_SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "bias": False,
    "dropout": 0.0,
    "qk_norm": True,
    "norm_eps": 1e-6,
}


def _model(vocab: int, layers: int, heads: int, width: int, context: int, **more: Any) -> dict[str, Any]:
    shape = {
        "vocab_size": vocab,
        "num_layers": layers,
        "num_heads": heads,
        "embedding_dim": width,
        "max_seq_length": context,
    }
    return {**_QWEN3_SHAPE, **shape, **more}


_CPU_MODEL = _model(8000, 6, 6, 384, 256)

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "model": _model(2048, 4, 4, 128, 128),
        "training": {
            **RECOMMENDED,
            "batch_size": 16,
            "max_steps": 1000,
            "warmup_steps": 20,
            "eval_every": 250,
            "save_every": 500,
            "log_every": 25,
        },
    },
    "cpu_small": {
        "model": _CPU_MODEL,
        "training": {
            **RECOMMENDED,
            "batch_size": 8,
            "num_epochs": 3,
            "warmup_steps": 100,
            "eval_every": 250,
            "save_every": 500,
            "log_every": 25,
        },
    },
    "gpu_medium": {
        "model": _model(32000, 12, 12, 768, 1024),
        "training": {
            **RECOMMENDED,
            "batch_size": 16,
            "gradient_accumulation_steps": 4,
            "num_epochs": 3,
            "warmup_steps": 500,
        },
    },
    "gpu_large": {
        "model": _model(50304, 24, 16, 1536, 2048, num_key_value_heads=8),
        "training": {
            **RECOMMENDED,
            "batch_size": 16,
            "gradient_accumulation_steps": 8,
            "num_epochs": 2,
            "warmup_steps": 1000,
        },
    },
    "inference": {
        "model": _CPU_MODEL,
        "training": {"eval_only": True},
        "generation": {"do_sample": True, "temperature": 0.7, "top_k": 40, "top_p": 0.95, "max_new_tokens": 200},
    },
}

DESCRIPTIONS = {
    "tiny": "a first try, any CPU",
    "cpu_small": "megabytes of text, a CPU",
    "gpu_medium": "GPT-2 small's size, a GPU",
    "gpu_large": "one large GPU, or several",
    "inference": "using a trained model",
}
