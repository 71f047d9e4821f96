"""A model as `lm-eval`, EleutherAI's evaluation harness, asks one: what it gives to answers, and what it writes.

Texts become tokens, and windows are cut, as the harness does it for models of transformers, so that the same weights
get the same scores. Imports the harness: imported where tasks are run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from llmbuilder.config.schema import GenerationConfig
from llmbuilder.errors import ConfigError, TokenizerError
from llmbuilder.inference.generation import Generator

_NEW_TOKENS = 256  # the harness's own limit, where a task names none
_SAMPLED_BY = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")

Answer = tuple[float, bool]  # the log-probability, in nats, and whether every token of it is the likeliest


class HarnessModel(TemplateLM):  # type: ignore[misc]  # the harness has no types
    """What the harness calls; `batch_size` texts are computed at a time."""

    def __init__(self, generator: Generator, batch_size: int) -> None:
        super().__init__()
        self._generator = generator
        self._model = generator.model
        self._tokenizer = generator.tokenizer
        self._window = self._model.config.max_seq_length
        self._batch_size = batch_size

    @property
    def eot_token_id(self) -> int:
        number = self._tokenizer.end_of_text_id
        if number is None:
            raise TokenizerError("this tokenizer has no end-of-text token, which tasks need before a text")
        return number

    @property
    def prefix_token_id(self) -> int:
        begin = self._tokenizer.id_of(self._tokenizer.special.begin)
        return self.eot_token_id if begin is None else begin

    @property
    def tokenizer_name(self) -> str:
        return self._tokenizer.fingerprint

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        tokens = self._tokenizer.encode(string)
        begin = self._tokenizer.beginning_ids
        has_begin = tokens[: len(begin)] == begin
        return tokens if add_special_tokens is False or has_begin else [*begin, *tokens]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        windows = [
            [
                (None, *make_disjoint_window(pair))
                for pair in get_rolling_token_windows(
                    self.tok_encode(request.args[0]), self.prefix_token_id, self._window, context_len=1
                )
            ]
            for request in requests
        ]
        answers = iter(self._loglikelihood_tokens(list(itertools.chain(*windows)), disable_tqdm))
        return [sum(next(answers)[0] for _ in those) for those in windows]

    @torch.inference_mode()
    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **_: Any
    ) -> list[Answer]:
        answers: dict[int, Answer] = {}
        by_length = sorted(range(len(requests)), key=lambda number: -len(requests[number][1] + requests[number][2]))
        with _progress(len(requests), "answers", disable_tqdm) as bar:
            for numbers in _batches(by_length, self._batch_size):
                pairs = [requests[number][1:] for number in numbers]
                answers.update(zip(numbers, self._answers(pairs), strict=True))
                bar.update(len(numbers))
        return [answers[number] for number in range(len(requests))]

    def _answers(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[Answer]:
        rows = [(context + answer)[-(self._window + 1) :][:-1] for context, answer in pairs]
        longest = max(map(len, rows))
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self._model.device)
        hidden_BTD = self._model.hidden_states(tokens)  # what follows a text on its right does not reach it
        for hidden_TD, row, (_, answer) in zip(hidden_BTD, rows, pairs, strict=True):
            logits = self._model.lm_head(hidden_TD[len(row) - len(answer) : len(row)]).float()
            wanted = torch.tensor(answer, device=logits.device)
            chosen = logits.log_softmax(-1).gather(1, wanted[:, None])
            yield float(chosen.sum()), bool((logits.argmax(-1) == wanted).all())

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        written: list[str] = []
        with _progress(len(requests), "texts", disable_tqdm) as bar:
            for settings, group in itertools.groupby(requests, key=lambda request: request.args[1]):
                config = _sampling(settings)
                room = self._window - config.max_new_tokens
                if room < 1:
                    raise ConfigError(
                        f"a task asks for {config.max_new_tokens} new tokens; the model's context has {self._window}"
                    )
                for some in _batches(list(group), self._batch_size):
                    prompts = [self.tok_encode(request.args[0])[-room:] for request in some]
                    written += [texts[0] for texts in self._generator.generate_from(prompts, config)]
                    bar.update(len(some))
        return written


def _sampling(asked: dict[str, Any]) -> GenerationConfig:
    """Return the settings of this package for those that a task asks for: greedy, unless it samples."""
    settings = normalize_gen_kwargs(asked, _NEW_TOKENS)
    stop = settings.pop("until", None) or []
    limit, samples = settings.pop("max_gen_toks"), bool(settings.pop("do_sample", False))
    unknown = sorted(settings.keys() - set(_SAMPLED_BY))
    if unknown:
        raise ConfigError(f"a task asks for the generation setting {unknown[0]!r}, which is not known here")
    values = settings if samples else {}
    stops = [stop] if isinstance(stop, str) else [text for text in stop if text]
    return GenerationConfig(
        max_new_tokens=limit, do_sample=samples, **{"top_k": None, "temperature": 1.0, "seed": 0, **values}, stop=stops
    )


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def _progress(total: int, unit: str, disabled: bool) -> Any:
    return tqdm(total=total, unit=f" {unit}", disable=True if disabled else None, leave=False)
