"""Generation: a `Generator` that knows token ids and text, and `generate_text` around it.

While everything fits the model's window, a key/value cache is used. Beyond it the model sees the last window of
tokens at every step, as nanoGPT's sampler does, at the cost of a full pass a token.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from llmbuilder.config.in_force import refuse, require_taken
from llmbuilder.config.loading import build_config, load_config
from llmbuilder.config.schema import Config, GenerationConfig, SystemConfig, section_of
from llmbuilder.config.validation import find_problems
from llmbuilder.errors import GenerationError, TokenizerError
from llmbuilder.formats.model_file import load_model
from llmbuilder.inference.continuation import Continuation
from llmbuilder.inference.keywords import GenerationSettings, SamplingSettings
from llmbuilder.inference.sampling import next_tokens
from llmbuilder.machine import resolve_device
from llmbuilder.model import KeyValueCache, LanguageModel
from llmbuilder.notices import warn_once
from llmbuilder.retrieval.passages import Passage, fit_passages, join_passages
from llmbuilder.threads import FairThreads
from llmbuilder.tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Generator:
    """A model with its tokenizer, ready to continue texts.

    Raises TokenizerError if the tokenizer has more tokens than the model, or the model has no tokenizer and
    none is given.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer | None = None, *, use_cache: bool = True) -> None:
        self.model = model.eval()
        self.tokenizer = _matching_tokenizer(model, tokenizer)
        self.use_cache = use_cache
        self._window = model.config.max_seq_length
        self._holes = self.tokenizer.holes()

    def room_for_prompt(self, new_tokens: int) -> int:
        """Return how many tokens a prompt may have beside an answer, half the window at least."""
        return max(self._window // 2, self._window - new_tokens)

    def ground(self, prompt: str, found: Sequence[Passage], config: GenerationConfig) -> tuple[str, list[Passage]]:
        """Return a prompt behind those of the passages found for it that leave room for the answer, and which they are.

        Raises GenerationError if none does.
        """
        most = self.room_for_prompt(config.max_new_tokens) - len(self.tokenizer.beginning_ids)
        used = fit_passages(found, prompt, lambda text: len(self.tokenizer.encode(text)) <= most)
        return join_passages(used, prompt), used

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt, behind the begin-of-text token if the model expects one.

        An empty prompt becomes the token that starts documents, which is end-of-text for most models without that one.
        """
        tokens = [*self.tokenizer.beginning_ids, *self.tokenizer.encode(prompt)]
        if tokens:
            if len(tokens) > self._window:
                warn_once(
                    f"the prompt has {len(tokens)} tokens, more than the model's context of {self._window}: "
                    f"only its last {self._window} are seen"
                )
            return tokens
        start = self.tokenizer.end_of_text_id
        if start is not None:
            return [start]
        try:
            return self.tokenizer.encode("\n")
        except TokenizerError:
            raise GenerationError("the prompt is empty, and this tokenizer has no token to start with") from None

    def generate(self, prompts: Sequence[str], config: GenerationConfig) -> list[list[str]]:
        """Return, for each prompt, `config.num_samples` continuations (without the prompt)."""
        texts = [
            self._continuation(self.tokenizer.encode(p), config) for p in prompts for _ in range(config.num_samples)
        ]
        return self._generate([self.encode_prompt(prompt) for prompt in prompts], config, texts)

    def generate_from(self, prompts: Sequence[list[int]], config: GenerationConfig) -> list[list[str]]:
        """Return what `generate` does for prompts that are tokens already."""
        texts = [self._continuation(tokens, config) for tokens in prompts for _ in range(config.num_samples)]
        return self._generate(prompts, config, texts)

    def _generate(
        self, prompts: Sequence[list[int]], config: GenerationConfig, texts: Sequence[Continuation]
    ) -> list[list[str]]:
        rows = [tokens for tokens in prompts for _ in range(config.num_samples)]
        for row, token in self.stream_tokens(rows, config, texts):
            texts[row].add(token)
        finished = [text.whole() for text in texts]
        return [finished[i : i + config.num_samples] for i in range(0, len(rows), config.num_samples)]

    def stream(self, prompt: str, config: GenerationConfig) -> Iterator[str]:
        """Yield the continuation of one prompt piece by piece, never half a character or part of a stop string."""
        text = self._continuation(self.tokenizer.encode(prompt), config)
        yield from self._stream(self.encode_prompt(prompt), config, text)

    def stream_from(self, prompt: list[int], config: GenerationConfig) -> Iterator[str]:
        """Yield what `stream` does for a prompt that is tokens already."""
        yield from self._stream(prompt, config, self._continuation(prompt, config))

    def _stream(self, prompt: list[int], config: GenerationConfig, text: Continuation) -> Iterator[str]:
        for _, token in self.stream_tokens([prompt], config, [text]):
            text.add(token)
            if piece := text.take():
                yield piece
        if piece := text.finish():
            yield piece

    def _continuation(self, prompt: Sequence[int], config: GenerationConfig) -> Continuation:
        return Continuation(self.tokenizer, prompt, config.stop)

    @torch.inference_mode()
    def stream_tokens(
        self, prompts: Sequence[list[int]], config: GenerationConfig, texts: Sequence[Continuation] = ()
    ) -> Iterator[tuple[int, int]]:
        """Yield (row, token) as they are chosen; a row ends at end-of-text, when its text stops, or at the limit."""
        _require_valid(config)
        seed = secrets.randbits(62) if config.seed is None else config.seed
        generators = [torch.Generator().manual_seed(seed + row) for row in range(len(prompts))]
        histories = [list(prompt) for prompt in prompts]
        active = list(range(len(prompts)))
        endings = set(self.tokenizer.ending_ids)
        cache: KeyValueCache | None = None
        with FairThreads.on(self.model.device) as threads:
            for _ in range(config.max_new_tokens):
                begin = time.perf_counter()
                fits = self.use_cache and max(map(len, histories)) <= self._window
                if fits and cache is None:
                    # Allocated for what can come, not for the whole window.
                    longest = max(map(len, histories)) + config.max_new_tokens
                    cache = KeyValueCache(
                        self.model.config, len(prompts), min(longest, self._window), self.model.device,
                        self.model.lm_head.weight.dtype,
                    )  # fmt: skip
                    logits_BV = self._prefill(histories, cache)
                elif fits and cache is not None:
                    logits_BV = self._continue(histories, cache)
                else:
                    logits_BV = self._recompute(histories)
                logits_BV = logits_BV.float()
                logits_BV[:, len(self.tokenizer) :] = float("-inf")  # padding of the vocabulary has no text
                logits_BV[:, self._holes] = float("-inf")
                chosen = next_tokens(logits_BV, histories, config, generators)
                threads.note(time.perf_counter() - begin)
                for row in list(active):
                    if config.stop_at_eos and chosen[row] in endings:
                        active.remove(row)
                        continue
                    yield row, chosen[row]
                    if texts and texts[row].stopped:
                        active.remove(row)
                if not active:
                    return
                for row, token in enumerate(chosen):  # finished rows go on unseen, to keep the batch's shape
                    histories[row].append(token)

    def _prefill(self, histories: list[list[int]], cache: KeyValueCache) -> Tensor:
        lengths = [len(history) for history in histories]
        tokens_BT = self._right_padded(histories)
        hidden_BTD = self.model.hidden_states(tokens_BT, cache)
        return self._last_logits(hidden_BTD, lengths)

    def _continue(self, histories: list[list[int]], cache: KeyValueCache) -> Tensor:
        device = self.model.device
        tokens_B1 = torch.tensor([[history[-1]] for history in histories], device=device)
        positions_B1 = torch.tensor([[len(history) - 1] for history in histories], device=device)
        return self.model.lm_head(self.model.hidden_states(tokens_B1, cache, positions_B1)[:, -1])

    def _recompute(self, histories: list[list[int]]) -> Tensor:
        windows = [history[-self._window :] for history in histories]
        hidden_BTD = self.model.hidden_states(self._right_padded(windows))
        return self._last_logits(hidden_BTD, [len(window) for window in windows])

    def _right_padded(self, rows: list[list[int]]) -> Tensor:
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self.model.device)

    def _last_logits(self, hidden_BTD: Tensor, lengths: list[int]) -> Tensor:
        rows = torch.arange(len(lengths), device=hidden_BTD.device)
        last = torch.tensor(lengths, device=hidden_BTD.device) - 1
        return self.model.lm_head(hidden_BTD[rows, last])


def _matching_tokenizer(model: LanguageModel, tokenizer: Tokenizer | None) -> Tokenizer:
    own = model.tokenizer
    if tokenizer is None:
        if own is None:
            raise TokenizerError("this model file holds no tokenizer: name one (tokenizer_path=, --tokenizer)")
        return own.for_rows(model.config.vocab_size)[0]
    if len(tokenizer) > model.config.vocab_size:
        raise TokenizerError(
            f"the tokenizer has {len(tokenizer):,} tokens but the model knows {model.config.vocab_size:,}: "
            "they do not belong together"
        )
    if own is not None and own != tokenizer:
        warn_once("this is not the tokenizer the model was trained with; the text may make no sense")
    return tokenizer


def _require_valid(config: GenerationConfig) -> None:
    problems = [p for p in find_problems(Config(generation=config)) if p.path.startswith("generation.")]
    if problems:
        raise GenerationError("; ".join(map(str, problems)))


def generation_settings(config: GenerationConfig | Config | None, overrides: dict[str, Any]) -> GenerationConfig:
    """Return `config` (default: the environment's settings) with overrides applied; None switches a setting off.

    Raises ConfigError for unknown names, and for an override that another setting makes useless.
    """
    base = section_of(load_config() if config is None else config, GenerationConfig).model_dump()
    values = {"generation": {**base, **overrides}}
    whole = build_config(values, "the generation settings")
    require_taken("generate text", {f"generation.{key}": value for key, value in overrides.items()}, whole)
    return whole.generation


def _device(
    config: GenerationConfig | Config | None, device: str | None, model: str | Path | LanguageModel
) -> str | None:
    """Return the device to read a model to, the one named or the configuration's; a given model stays where it is."""
    if device is not None or isinstance(model, LanguageModel):
        return device
    return str(section_of(load_config() if config is None else config, SystemConfig).device)


def _with_limit(max_new_tokens: int | None, overrides: dict[str, Any]) -> dict[str, Any]:
    return overrides if max_new_tokens is None else {"max_new_tokens": max_new_tokens, **overrides}


def load_generator(
    model: str | Path | LanguageModel, tokenizer: str | Path | Tokenizer | None = None, device: str | None = None
) -> Generator:
    """Open a model and its tokenizer (default: the one inside the model file).

    Raises ConfigError if a `device` is named and the model given is on another one.
    """
    loaded = model if isinstance(model, LanguageModel) else load_model(model, device)
    if loaded is model and device is not None and resolve_device(device).type != loaded.device.type:
        refuse(["device"], f"the model given is on {loaded.device.type}: move it with model.to({device!r})")
    if tokenizer is not None and not isinstance(tokenizer, Tokenizer):
        tokenizer = Tokenizer.from_pretrained(tokenizer)
    return Generator(loaded, tokenizer)


@overload
def generate_text(
    model_path: str | Path | LanguageModel,
    tokenizer_path: str | Path | Tokenizer | None = None,
    prompt: str = "",
    max_new_tokens: int | None = None,
    config: None = None,
    *,
    device: str | None = None,
    num_samples: Literal[1] = 1,
    **overrides: Unpack[SamplingSettings],
) -> str: ...


@overload
def generate_text(
    model_path: str | Path | LanguageModel,
    tokenizer_path: str | Path | Tokenizer | None = None,
    prompt: str | Sequence[str] = "",
    max_new_tokens: int | None = None,
    config: GenerationConfig | Config | None = None,
    *,
    device: str | None = None,
    **overrides: Unpack[GenerationSettings],
) -> Any: ...


def generate_text(
    model_path: str | Path | LanguageModel,
    tokenizer_path: str | Path | Tokenizer | None = None,
    prompt: str | Sequence[str] = "",
    max_new_tokens: int | None = None,
    config: GenerationConfig | Config | None = None,
    *,
    device: str | None = None,
    **overrides: Any,
) -> Any:
    """Return the prompt with its continuation.

    `model_path` is anything `load_model` opens, or a model; `tokenizer_path` defaults to the tokenizer inside
    the model file, `device` to the configuration's system.device. `config` and `overrides` are the settings of
    `GenerationConfig` (`max_new_tokens`: 100); without `config` environment variables such as
    LLMBUILDER_GENERATION__TOP_K act. `top_k=None` samples among all tokens.
    One prompt gives a string, or a list of strings with `num_samples` above 1; several prompts give a list of
    those. Raises LLMBuilderError for files or settings that cannot be used.
    """
    settings = generation_settings(config, _with_limit(max_new_tokens, overrides))
    generator = load_generator(model_path, tokenizer_path, _device(config, device, model_path))
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts:
        raise GenerationError("there is no prompt")
    results: list[Any] = []
    for text, samples in zip(prompts, generator.generate(prompts, settings), strict=True):
        whole = [text + sample for sample in samples]
        results.append(whole[0] if settings.num_samples == 1 else whole)
    return results[0] if isinstance(prompt, str) else results


def stream_text(
    model_path: str | Path | LanguageModel,
    tokenizer_path: str | Path | Tokenizer | None = None,
    prompt: str = "",
    max_new_tokens: int | None = None,
    config: GenerationConfig | Config | None = None,
    *,
    device: str | None = None,
    **overrides: Unpack[SamplingSettings],
) -> Iterator[str]:
    """Yield the continuation of one prompt as it is generated; arguments as for `generate_text`."""
    settings = generation_settings(config, _with_limit(max_new_tokens, {**overrides}))
    device = _device(config, device, model_path)
    yield from load_generator(model_path, tokenizer_path, device).stream(prompt, settings)
