"""Adapters alone as a GGUF file, which llama.cpp lays beside the model that they belong to."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from llmbuilder.errors import ExportError
from llmbuilder.export.to_gguf import export_gguf
from llmbuilder.export.verification import GGUFVerification, verify_gguf
from llmbuilder.files import atomic_path, require_absent
from llmbuilder.finetuning.peft_files import load_adapter
from llmbuilder.formats.gguf.adapter_writing import write_adapter_gguf
from llmbuilder.formats.model_file import load_model


def export_gguf_adapter(
    base: str | Path,
    adapter: str | Path,
    output: str | Path,
    *,
    texts: Sequence[str] = (),
    overwrite: bool = False,
) -> GGUFVerification | None:
    """Write the adapters in a folder (ours or those of `peft`) as one GGUF file for llama.cpp's `--lora`.

    `base` is the model that they belong to, anything `load_model` opens. With `texts`, llama.cpp opens both files and
    what it predicts is compared with this package: the result is returned, and nothing is left if it cannot use them.
    Raises ExportError if the output exists or llama.cpp has no form for the adapters, CheckpointError for an adapter of
    another model.
    """
    output = Path(output)
    require_absent(output, overwrite=overwrite, error=ExportError)
    model, whole = load_model(base, "cpu"), Path(base)
    with tempfile.TemporaryDirectory(prefix="llmbuilder-verify-") as folder, atomic_path(output) as temporary:
        if texts and whole.suffix != ".gguf":
            whole = Path(folder) / "base.gguf"
            export_gguf(model, whole, "f32")
        write_adapter_gguf(load_adapter(model, adapter), temporary, Path(adapter).resolve().name)
        return verify_gguf(whole, model, texts, adapter=temporary) if texts else None
