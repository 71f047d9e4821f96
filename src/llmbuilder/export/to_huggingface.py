"""A folder that `transformers` opens without custom code."""

from __future__ import annotations

from pathlib import Path

from llmbuilder.errors import ExportError
from llmbuilder.files import require_absent
from llmbuilder.formats.model_file import load_model, save_model
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer


def export_huggingface(
    model: str | Path | LanguageModel,
    output: str | Path,
    *,
    tokenizer: str | Path | Tokenizer | None = None,
    overwrite: bool = False,
) -> Path:
    """Write config.json, model.safetensors and the tokenizer to a folder; return the folder.

    The architecture is GPT2LMHeadModel, LlamaForCausalLM or Qwen3ForCausalLM, with the same logits.
    Raises ExportError if `output` holds something already or names a file.
    """
    output = Path(output)
    if output.suffix in (".pt", ".safetensors", ".gguf"):
        raise ExportError(f"{output} names a file: a Hugging Face export is a folder")
    require_absent(output, overwrite=overwrite, error=ExportError)
    loaded = model if isinstance(model, LanguageModel) else load_model(model, "cpu")
    if tokenizer is not None and not isinstance(tokenizer, Tokenizer):
        tokenizer = Tokenizer.from_pretrained(tokenizer)
    return save_model(loaded, output, tokenizer=tokenizer, overwrite=True)
