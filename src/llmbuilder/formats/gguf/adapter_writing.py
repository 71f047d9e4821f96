"""Writing adapters as GGUF, to be laid beside a model's own file (llama.cpp's `--lora`).

Source: llama.cpp's convert_lora_to_gguf.py and llama-adapter.cpp: two tensors a matrix, `NAME.lora_a` and
`NAME.lora_b`, whose product is multiplied by alpha divided by the rank that the tensors have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmbuilder import __version__
from llmbuilder.config.sizes import head_dim
from llmbuilder.errors import ExportError
from llmbuilder.formats.gguf.names import is_permuted, pair_neighbours, stored_name
from llmbuilder.formats.gguf.writing import architecture_name
from llmbuilder.model import LanguageModel
from llmbuilder.model.adapters import adapted_layers


def write_adapter_gguf(model: LanguageModel, path: Path, name: str) -> int:
    """Write the adapters of a model to `path` in float32 and return how many there are.

    Raises ExportError for a model without adapters, and for DoRA's, which change lengths, too: llama.cpp adds products.
    """
    import gguf

    layers = dict(adapted_layers(model))
    if not layers:
        raise ExportError("this model has no adapters to write")
    if any(layer.shape.has_magnitudes for layer in layers.values()):
        raise ExportError("llama.cpp has no form for DoRA's lengths of rows: `llmbuilder model merge` works them in")
    architecture, width = architecture_name(model.config), head_dim(model.config)
    first = next(iter(layers.values())).shape
    alpha = first.scale * first.rank
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_name(name)
    writer.add_description(f"tuned with LLMBuilder {__version__}")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for layer, module in layers.items():
        stored = stored_name(f"{layer}.weight", model.config)
        down, up = (part.weight.detach().cpu().float() for part in (module.lora_A, module.lora_B))
        up = up * (module.shape.scale * module.shape.rank / alpha)  # one alpha stands for all layers
        if is_permuted(stored, architecture):
            up = pair_neighbours(up, width)
        for kind, values in (("lora_a", down), ("lora_b", up)):
            writer.add_tensor(f"{stored}.{kind}", np.ascontiguousarray(values.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return len(layers)
