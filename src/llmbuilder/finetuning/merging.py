"""Adapters worked into the model that they belong to, with a proof that nothing else changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from llmbuilder.errors import CheckpointError
from llmbuilder.files import require_absent
from llmbuilder.finetuning.peft_files import load_adapter
from llmbuilder.formats.model_file import load_model, save_model
from llmbuilder.model import LanguageModel
from llmbuilder.model.adapters import adapted_layers, merge_adapters

_PROBES, _PROBE_TOKENS = 2, 64
_MOST_DIFFERENCE = 1e-3  # of the largest logit: float32 sums in another order stay far below


@dataclass(frozen=True)
class Merge:
    """What was merged: the file, the number of matrices, and by how much logits differ at most."""

    path: str
    layers: int
    max_difference: float


def merge_adapter_files(base: str | Path, adapter: str | Path, output: str | Path, *, overwrite: bool = False) -> Merge:
    """Write the model that `base` is with the adapters of a folder worked in, and return what was done.

    The logits of random tokens before and after are compared. Raises CheckpointError if the output exists, the adapter
    belongs to another model, or the logits differ by more than rounding.
    """
    require_absent(Path(output), overwrite=overwrite, error=CheckpointError)
    model = load_adapter(load_model(base, "cpu"), adapter)
    layers, beside = sum(1 for _ in adapted_layers(model)), _logits(model)
    merged = _logits(merge_adapters(model))
    difference = float((merged - beside).abs().max())
    if not difference <= _MOST_DIFFERENCE * float(beside.abs().max()):
        raise CheckpointError(f"{adapter} cannot be merged into {base}: logits change by {difference:.1e}")
    save_model(model, output, overwrite=overwrite)
    return Merge(str(output), layers, difference)


@torch.no_grad()
def _logits(model: LanguageModel) -> torch.Tensor:
    length = min(_PROBE_TOKENS, model.config.max_seq_length)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (_PROBES, length), generator=generator)
    return model.eval()(tokens)[0].float()
