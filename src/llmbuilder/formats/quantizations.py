"""The types of numbers that an exported GGUF file can hold."""

from __future__ import annotations

from llmbuilder.errors import ExportError, suggestion

QUANTIZATIONS = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")


def require_quantization(name: str) -> None:
    """Raise ExportError for a type that cannot be written, with the way to those that llama.cpp's own tool makes."""
    if name in QUANTIZATIONS:
        return
    lower = name.lower()
    if lower in QUANTIZATIONS:
        meant = f"; did you mean {lower!r}?"
    elif "_k" in lower or lower.startswith(("iq", "tq")):
        meant = f": export f16, and make {name} of it with llama.cpp's llama-quantize"
    else:
        meant = suggestion(lower, QUANTIZATIONS)
    raise ExportError(f"unknown quantization {name!r}; there are {', '.join(QUANTIZATIONS)}{meant}")
