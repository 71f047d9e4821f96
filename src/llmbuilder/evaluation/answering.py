"""How a model answers questions: by which of several continuations of a text it finds the likeliest.

Nothing is generated. A prompt is read once, and its continuations, which are equally long, go on from there.

B prompts, O continuations of each, T positions, D model width
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from llmbuilder.model import KeyValueCache, LanguageModel
from llmbuilder.model.loss import IGNORE_INDEX, cross_entropies
from llmbuilder.threads import FairThreads
from llmbuilder.tokenizer import Tokenizer

_TOGETHER = 8  # prompts
_CACHE_BYTES = 256e6  # of what prompts leave behind, once for each continuation


def choose_options(
    model: LanguageModel, tokenizer: Tokenizer, asked: Sequence[tuple[str, Sequence[str]]]
) -> list[bool]:
    """Return for each prompt with its continuations whether the first of them is likelier than every other one.

    The continuations of a prompt are equally many tokens. Of a prompt that is too long for the model its end is seen.
    """
    return [scores[0] > max(scores[1:]) for scores in score_options(model, tokenizer, asked)]


@torch.inference_mode()
def score_options(
    model: LanguageModel, tokenizer: Tokenizer, asked: Sequence[tuple[str, Sequence[str]]]
) -> list[list[float]]:
    """Return the log-probability, in nats, of each continuation of each prompt: a sum over its tokens."""
    model.eval()
    rows = [_encode(tokenizer, prompt, options, model.config.max_seq_length) for prompt, options in asked]
    found: list[list[float]] = [[] for _ in rows]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]))  # little padding
    with FairThreads.on(model.device) as threads:
        for begin in range(0, len(rows), _TOGETHER):
            started = time.perf_counter()
            part = order[begin : begin + _TOGETHER]
            for row, scores in zip(part, _score(model, [rows[row] for row in part]), strict=True):
                found[row] = scores
            threads.note(time.perf_counter() - started)
    return found


Row = tuple[list[int], list[list[int]]]  # the tokens of a prompt, and those of each of its continuations


def _encode(tokenizer: Tokenizer, prompt: str, options: Sequence[str], window: int) -> Row:
    context = tokenizer.encode(prompt)
    endings = [tokenizer.encode(prompt + option)[len(context) :] for option in options]
    whole = [*tokenizer.beginning_ids, *context]
    return whole[-max(1, window - max(map(len, endings))) :], endings


def _score(model: LanguageModel, rows: Sequence[Row]) -> list[list[float]]:
    longest = max(len(prompt) for prompt, _ in rows)
    length = max(max(map(len, endings)) for _, endings in rows)
    cache = KeyValueCache(model.config, len(rows), longest + length, model.device, model.lm_head.weight.dtype)
    prompts_BT = _right_padded([prompt for prompt, _ in rows], longest, 0, model.device)
    hidden_BTD = model.hidden_states(prompts_BT, cache)
    last_BD = torch.stack([hidden_BTD[row, len(prompt) - 1] for row, (prompt, _) in enumerate(rows)])
    found: list[list[float]] = []
    together = max(1, int(_CACHE_BYTES // (cache.row_bytes * len(rows[0][1]))))
    for begin in range(0, len(rows), together):
        part = slice(begin, begin + together)
        found += _score_endings(model, rows[part], last_BD[part], cache.rows(part), length)
    return found


def _score_endings(
    model: LanguageModel, rows: Sequence[Row], last_BD: Tensor, cache: KeyValueCache, length: int
) -> list[list[float]]:
    """Score what goes on from prompts that the cache holds; of all tokens but the first the model is asked again."""
    options = len(rows[0][1])
    endings_BOT = _right_padded(
        [ending for _, endings in rows for ending in endings], length, IGNORE_INDEX, model.device
    )
    first = cross_entropies(last_BD.repeat_interleave(options, 0), model.lm_head.weight, endings_BOT[:, 0])
    nats = first.cpu().double()
    if length > 1:
        begins = torch.tensor([len(prompt) for prompt, _ in rows], device=model.device).repeat_interleave(options)
        positions = begins[:, None] + torch.arange(length - 1, device=model.device)
        given = endings_BOT[:, :-1].clamp(min=0)
        hidden = model.hidden_states(given, cache.repeated(options), positions)
        later = cross_entropies(hidden.flatten(0, 1), model.lm_head.weight, endings_BOT[:, 1:].flatten())
        nats = nats + later.view(len(given), -1).cpu().double().sum(1)
    return (-nats).view(len(rows), options).tolist()


def _right_padded(rows: Sequence[Sequence[int]], length: int, padding: int, device: torch.device) -> Tensor:
    return torch.tensor([[*row, *[padding] * (length - len(row))] for row in rows], device=device)
