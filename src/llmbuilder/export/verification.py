"""Opening an exported GGUF file in llama.cpp and comparing it with the model it came from."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmbuilder.config.schema import GenerationConfig
from llmbuilder.errors import DataError, ExportError, MissingDependencyError
from llmbuilder.export.vocabulary_check import requests_for_ids, require_same_ids, require_same_rows
from llmbuilder.formats.model_file import load_model
from llmbuilder.inference import Generator
from llmbuilder.machine import cpu_count, is_crowded
from llmbuilder.model import LanguageModel
from llmbuilder.tokenizer import Tokenizer

GREEDY_TOKENS, _LEAST_TOKENS = 64, 8
_WORTH_THREADS = 20_000_000  # parameters
_LONGEST = 1024  # tokens of a text that are predicted
_PREDICTED_VALUES = 200_000  # log-probabilities asked for in all: they travel as JSON


@dataclass(frozen=True)
class GGUFVerification:
    """How llama.cpp's reading of a file compares with ours, over some texts.

    `equal_tokenizations` of `texts` are the same; `equal_tokens` of `greedy_tokens` greedy continuations agree
    before the first difference; `mean_kl_divergence` (nats), `max_difference` (of log-probabilities of the
    likelier half) and `top_token_agreement` compare the predictions at `positions` places in the texts.
    """

    texts: int
    equal_tokenizations: int
    greedy_tokens: int
    equal_tokens: int
    positions: int
    mean_kl_divergence: float
    max_difference: float
    top_token_agreement: float

    def summary(self) -> str:
        """Return one line for people."""
        return (
            f"{self.equal_tokenizations} of {self.texts} texts tokenized alike, "
            f"{self.equal_tokens} of {self.greedy_tokens} greedy tokens alike, "
            f"mean KL divergence {self.mean_kl_divergence:.1e} nats"
        )


def llamacpp_is_installed() -> bool:
    """Whether the optional llama.cpp bindings are there."""
    return importlib.util.find_spec("xllamacpp") is not None


def verify_gguf(
    path: str | Path,
    model: str | Path | LanguageModel,
    texts: Sequence[str],
    *,
    tokenizer: Tokenizer | None = None,
    greedy_tokens: int | None = None,
    adapter: str | Path | None = None,
) -> GGUFVerification:
    """Compare a GGUF file in llama.cpp, with an `adapter` file beside it, with the model it was exported from.

    `texts` are tokenized by both, predicted by both at places spread over them, and their beginnings continued
    greedily by both, by `greedy_tokens` (default: 64, fewer for a large model); every id of the vocabulary must be the
    same token and have the same rows.
    Raises ExportError if llama.cpp cannot open the file or an id differs, DataError if the texts are empty,
    MissingDependencyError without the extra 'verify'.
    """
    loaded = model if isinstance(model, LanguageModel) else load_model(model, "cpu")
    generator = Generator(loaded.cpu().float(), tokenizer)
    context = loaded.config.max_seq_length
    tokens = [generator.tokenizer.encode(text) for text in texts]
    if not any(tokens):
        raise DataError("there is no text to compare predictions on")
    longest = min(context - 1, _LONGEST)
    wanted = _affordable_tokens(loaded) if greedy_tokens is None else greedy_tokens
    count = max(1, min(wanted, context // 2))
    prompts = [ids[: min(32, context - count)] for ids in tokens if ids]
    anchor = next(t for ids in tokens for t in ids if "\ufffd" not in generator.tokenizer.decode([t]))
    rows = [ids[:longest] for ids in tokens if ids]
    places = _spread_places(rows, len(generator.tokenizer))
    answer, theirs = ask_llamacpp(
        {
            "model": str(path),
            "adapter": None if adapter is None else str(adapter),
            # No more than is needed: a model's whole context can take more memory than the machine has.
            "context": max(*(len(prompt) + count for prompt in prompts), *(len(row) + 1 for row in rows)),
            # Its threads spin while they wait, which costs a small model more than a second one gives.
            "threads": cpu_count() if loaded.num_parameters() > _WORTH_THREADS and not is_crowded() else 1,
            "tokenize": list(texts),
            "greedy": [{"tokens": prompt, "count": count} for prompt in prompts],
            "predict": [rows[row][:end] for row, end in places],
            "anchor": anchor,
            "detokenize": requests_for_ids(generator.tokenizer, anchor),
        }
    )
    require_same_ids(Path(path), generator.tokenizer, anchor, answer["texts"])
    require_same_rows(Path(path), loaded, len(generator.tokenizer))
    ours = _continued(generator, prompts, count)
    compared = sum(map(len, ours))
    equal_tokens = sum(_alike(one, other) for one, other in zip(ours, answer["greedy"], strict=True))
    divergence, difference, agreement = _compare(loaded, rows, places, theirs, len(generator.tokenizer))
    return GGUFVerification(
        texts=len(texts),
        equal_tokenizations=sum(a == b for a, b in zip(tokens, answer["tokens"], strict=True)),
        greedy_tokens=compared,
        equal_tokens=equal_tokens,
        positions=len(places),
        mean_kl_divergence=divergence,
        max_difference=difference,
        top_token_agreement=agreement,
    )


def _affordable_tokens(model: LanguageModel) -> int:
    """Return how many tokens continue each text: all weights pass through the processor for each, in both engines."""
    return max(_LEAST_TOKENS, min(GREEDY_TOKENS, GREEDY_TOKENS * _WORTH_THREADS // model.num_parameters()))


def _spread_places(rows: list[list[int]], vocab_size: int) -> list[tuple[int, int]]:
    """Return (row, tokens before it) of places in the rows, evenly spread, as many as the answer's size allows."""
    wanted = max(8, min(256, _PREDICTED_VALUES // vocab_size))
    every = max(1, -(-sum(map(len, rows)) // wanted))
    return [(number, end) for number, row in enumerate(rows) for end in range(len(row), 0, -every)]


def _continued(generator: Generator, prompts: list[list[int]], count: int) -> list[list[int]]:
    """Return the likeliest tokens behind each prompt, for all at once: a large model's weights take long to pass."""
    found: list[list[int]] = [[] for _ in prompts]
    greedy = GenerationConfig(do_sample=False, max_new_tokens=count)
    for row, token in generator.stream_tokens(prompts, greedy):
        found[row].append(token)
    return found


def _alike(ours: list[int], theirs: list[int]) -> int:
    """Return how many tokens are the same before the first difference."""
    pairs = list(zip(ours, theirs, strict=False))
    return next((number for number, (one, other) in enumerate(pairs) if one != other), len(pairs))


@torch.inference_mode()
def _compare(
    model: LanguageModel, rows: list[list[int]], places: list[tuple[int, int]], theirs: np.ndarray, vocab_size: int
) -> tuple[float, float, float]:
    divergence = difference = 0.0
    agreeing = 0
    for number, row in enumerate(rows):
        found = [(end, other) for (one, end), other in zip(places, theirs, strict=True) if one == number]
        if not found:
            continue
        hidden = model.hidden_states(torch.tensor([row]))[0, [end - 1 for end, _ in found]]
        logits = model.lm_head(hidden)[:, :vocab_size]  # of these places only: all would take gigabytes
        for ours, (_, other) in zip(logits.double().log_softmax(-1), found, strict=True):
            their = torch.from_numpy(other).clamp(min=-1e3)
            divergence += float((ours.exp() * (ours - their)).sum())
            likely = ours >= ours.median()
            difference = max(difference, float((ours - their)[likely].abs().max()))
            agreeing += int(ours.argmax() == their.argmax())
    return max(0.0, divergence / len(places)), difference, agreeing / len(places)


def ask_llamacpp(request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """Run one request (see `llamacpp_worker`) in its own process and return its answer and log-probabilities.

    Raises ExportError with the engine's last words if it cannot use the file.
    """
    if not llamacpp_is_installed():
        raise MissingDependencyError("xllamacpp", "verify", "checking a GGUF file in llama.cpp")
    with tempfile.TemporaryDirectory(prefix="llmbuilder-verify-") as name:
        folder = Path(name)
        asked = {**request, "model": _nameable(Path(request["model"]), folder)}
        (folder / "request.json").write_text(json.dumps(asked), "utf-8")
        files = [str(folder / "request.json"), str(folder / "answer.json"), str(folder / "predictions.npy")]
        result = subprocess.run(
            [sys.executable, "-m", "llmbuilder.export.llamacpp_worker", *files],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if result.returncode != 0:
            raise ExportError(f"llama.cpp cannot use {request['model']}: {_last_words(result.stdout + result.stderr)}")
        return json.loads(Path(files[1]).read_text("utf-8")), np.load(files[2])


def _nameable(path: Path, folder: Path) -> str:
    """Return a name for a file that llama.cpp takes, which wants UTF-8: a link in `folder` where the own is none."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        link = folder / "model.gguf"
        link.symlink_to(path.resolve())
        return str(link)
    return str(path)


def _last_words(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower()]
    return (told or lines or ["it ended without a word"])[-1]
