"""A model written as a Hugging Face folder, in place of what an earlier model left there."""

from __future__ import annotations

import re
from pathlib import Path

from llmbuilder.files import atomic_path, write_json
from llmbuilder.formats.huggingface.belongings import STALE, tokenizer_settings, write_belongings
from llmbuilder.formats.huggingface.translating import to_huggingface
from llmbuilder.formats.number_types import as_stored, usual_dtype
from llmbuilder.model.base import LanguageModel
from llmbuilder.tokenizer import Tokenizer

_WEIGHTS = "model.safetensors"
# Files of weights that others would read instead of ours, or along with them.
_OTHER_WEIGHTS = re.compile(
    r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)|(model\.safetensors|pytorch_model\.bin)\.index\.json"
    r"|pytorch_model\.bin|tf_model\.h5|flax_model\.msgpack|adapter_model\.safetensors|adapter_config\.json"
)


def write_folder(model: LanguageModel, folder: Path, tokenizer: Tokenizer | None) -> None:
    """Write config.json, model.safetensors, the tokenizer and what belongs to the model.

    Weights, tokenizers and templates that an earlier model left in other files are removed; anything else stays.

    Raises ExportError, before anything is written, for a model that no family of transformers computes.
    """
    from safetensors.torch import save_file

    values, exact = to_huggingface(model, tokenizer)
    weights = as_stored({name: tensor.detach().cpu() for name, tensor in exact.items()}, model.stored_dtype)
    stored = usual_dtype((tensor.dtype, tensor.numel()) for tensor in weights.values())
    with atomic_path(folder / _WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    write_json(folder / "config.json", {**values, "torch_dtype": str(stored).removeprefix("torch.")})
    for path in list(folder.iterdir()):
        if path.is_file() and (_OTHER_WEIGHTS.fullmatch(path.name) or path.name in STALE):
            path.unlink()
    if tokenizer is not None:
        tokenizer.save_pretrained(folder, tokenizer_settings(model.metadata, model.config.max_seq_length))
    write_belongings(model.metadata, folder, None if tokenizer is None else tokenizer.generation_ids())
