"""A model as one GGUF file, for llama.cpp and Ollama."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from llmbuilder.errors import ExportError
from llmbuilder.files import atomic_path, require_absent
from llmbuilder.formats.gguf import GGUFExport, architecture_name, write_gguf
from llmbuilder.formats.model_file import load_model
from llmbuilder.formats.quantizations import require_quantization
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer

_ASSUMED_END = 11  # what llama.cpp takes for end-of-text in byte-level BPE if a file names none
logger = logging.getLogger("llmbuilder")


def export_gguf(
    model: str | Path | LanguageModel,
    output: str | Path,
    quantization: str = "f16",
    *,
    tokenizer: str | Path | Tokenizer | None = None,
    name: str | None = None,
    overwrite: bool = False,
    check: Callable[[Path], object] | None = None,
) -> GGUFExport:
    """Write a model and its tokenizer as one GGUF file.

    `model` is anything `load_model` opens; `quantization` one of f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0;
    `tokenizer` defaults to the one inside the model file. Vectors and positions stay in float32; matrices whose
    rows are no multiple of 32 cannot be quantized and stay in float16, which the result lists. `name` defaults to the
    one that the model came with, or the file's. `check` is called with the finished file before it gets its own name:
    if it raises, nothing is left behind.

    Raises ExportError if the output exists, the tokenizer has no form in GGUF, or the type is unknown.
    """
    output = Path(output)
    require_quantization(quantization)
    require_absent(output, overwrite=overwrite, error=ExportError)
    loaded = model if isinstance(model, LanguageModel) else load_model(model, "cpu")
    chosen = _tokenizer_for(loaded, tokenizer)
    result = GGUFExport(str(output), quantization, architecture_name(loaded.config), 0)
    if loaded.config.model_type == "gpt" and loaded.config.activation == "gelu":
        result.notes.append(_activation_note(loaded))
    if chosen.algorithm == "bpe" and chosen.end_of_text_id is None:
        taken = chosen.tokens()[_ASSUMED_END]
        result.notes.append(
            f"this vocabulary has no end-of-text token: llama.cpp takes id {_ASSUMED_END}, {taken!r}, and ends texts "
            "there unless it is told to go on (--ignore-eos)"
        )
    if chosen.gguf_form is not None and chosen.gguf_form.normalizer is not None:
        result.notes.append(
            f"this tokenizer brings texts into the form {chosen.gguf_form.normalizer} of Unicode, llama.cpp takes them "
            "as they are: texts in another form are tokenized otherwise there"
        )
    own_name = loaded.metadata.get("name")
    with atomic_path(output) as temporary:
        write_gguf(loaded, chosen, temporary, name or (own_name if isinstance(own_name, str) else output.stem), result)
        if check is not None:
            _check(check, temporary, output)
    result.bytes = output.stat().st_size
    for note in result.notes:
        logger.warning(note)
    return result


def _check(check: Callable[[Path], object], temporary: Path, output: Path) -> None:
    try:
        check(temporary)
    except ExportError as error:
        raise ExportError(f"{str(error).replace(str(temporary), str(output))} (no file was left behind)") from error


def _tokenizer_for(model: LanguageModel, given: str | Path | Tokenizer | None) -> Tokenizer:
    if given is None:
        if model.tokenizer is None:
            raise ExportError("the model file holds no tokenizer, and GGUF needs one: pass tokenizer= (--tokenizer)")
        tokenizer = model.tokenizer
    else:
        tokenizer = given if isinstance(given, Tokenizer) else Tokenizer.from_pretrained(given)
    if not tokenizer.has_gguf_form:
        raise ExportError(
            f"a {tokenizer.algorithm} tokenizer has no form in GGUF that llama.cpp would tokenize alike; "
            "byte-level BPE that cuts words in a way llama.cpp knows, and character tokenizers have one"
        )
    if len(tokenizer) > model.config.vocab_size:
        raise ExportError(f"the tokenizer has {len(tokenizer):,} tokens, the model knows {model.config.vocab_size:,}")
    return tokenizer


@torch.no_grad()
def _activation_note(model: LanguageModel) -> str:
    """Measure what llama.cpp's tanh form of GELU changes, on random tokens."""
    other = copy.deepcopy(model).eval()
    for module in other.modules():
        if hasattr(module, "approximate"):
            setattr(module, "approximate", "tanh")  # noqa: B010 - a plain attribute, not a submodule
    generator = torch.Generator().manual_seed(0)
    shape = (4, min(128, model.config.max_seq_length))
    tokens = torch.randint(model.config.vocab_size, shape, generator=generator).to(model.device)
    exact, approximate = model.eval()(tokens)[0].float(), other(tokens)[0].float()
    difference = (exact - approximate).abs().max().item()
    divergence = F.kl_div(
        approximate.log_softmax(-1).flatten(0, 1), exact.log_softmax(-1).flatten(0, 1), log_target=True,
        reduction="batchmean",
    ).item()  # fmt: skip
    return (
        "this model uses the exact GELU, llama.cpp its tanh approximation: logits change by at most "
        f"{difference:.1e}, mean KL divergence {max(divergence, 0.0):.1e} nats (measured on random tokens)"
    )
