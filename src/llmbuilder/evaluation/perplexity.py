"""Loss, perplexity and bits per byte over a text.

Each token is scored once, with the longest context the window leaves it.
Source of the sliding window: Hugging Face, "Perplexity of fixed-length models".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path

import numpy as np

from llmbuilder.corpus.corpus_files import iter_pieces
from llmbuilder.data.dataset import TextDataset
from llmbuilder.documents.folders import is_prepared
from llmbuilder.errors import ConfigError, DataError
from llmbuilder.evaluation.intervals import Interval, Intervals
from llmbuilder.evaluation.scoring import Score, batched_windows, score, sliding_windows
from llmbuilder.evaluation.token_bytes import token_bytes
from llmbuilder.inference.generation import Generator, load_generator
from llmbuilder.model import LanguageModel
from llmbuilder.stages import Progress, no_progress
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokens.samples import SampleRows
from llmbuilder.tokens.windows import TokenWindows


@dataclass(frozen=True)
class Evaluation:
    """Mean negative log-likelihood in nats per token, its exponential, and bits per UTF-8 byte of the text.

    All tokens but the first of the text are scored, separators between documents among them; bits per byte leave
    separators out. `tokens` and `bytes_of_text` are those that were scored. The intervals say where the numbers would
    lie, 19 times of 20, on other text of the same kind; a text of less than 8 KB tells none.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    bytes_of_text: int
    loss_interval: Interval | None = None
    perplexity_interval: Interval | None = None
    bits_per_byte_interval: Interval | None = None

    @classmethod
    def of(cls, found: Score) -> Evaluation:
        """Return what the sums over a text come to."""
        sure = Intervals.of(found.blocks)
        perplexities = None if sure.loss is None else (_perplexity(sure.loss[0]), _perplexity(sure.loss[1]))
        return cls(
            found.loss, _perplexity(found.loss), found.bits_per_byte, found.tokens, found.bytes_of_text,
            loss_interval=sure.loss, perplexity_interval=perplexities, bits_per_byte_interval=sure.bits_per_byte,
        )  # fmt: skip


def evaluate_model(
    model: str | Path | LanguageModel,
    data: str | Path,
    tokenizer: str | Path | Tokenizer | None = None,
    *,
    window: int | None = None,
    stride: int | None = None,
    apart: bool = False,
    batch_size: int = 8,
    device: str | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Measure how well a model predicts the text of a corpus file of any size, or of a folder of documents.

    Windows of `window` tokens (default: the model's context) advance by `stride` tokens (default: half a window). A
    shorter window takes less time, and predicts a little worse. Documents are one stream, in which what is in one helps
    to predict the next; with `apart` each is predicted by itself.
    Raises DataError if the text is empty or shorter than two tokens, ConfigError for a stride, window or batch size
    below 1, a stride that is longer than the window, or a window that is longer than the context.
    """
    sliding = Sliding(window, stride, batch_size, apart)
    return Evaluation.of(score_text(load_generator(model, tokenizer, device), data, sliding, progress))


@dataclass(frozen=True)
class Sliding:
    """How windows slide over a text: see `evaluate_model`, which raises the same."""

    window: int | None = None
    stride: int | None = None
    batch_size: int = 8
    apart: bool = False

    def __post_init__(self) -> None:
        for name in ("window", "stride", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} ({value}) must be at least 1")

    def over(self, model: LanguageModel) -> int:
        """Return the tokens of a window that `model` takes."""
        context = model.config.max_seq_length
        if self.window is not None and self.window > context:
            raise ConfigError(f"window ({self.window:,}) is more than the {context:,} tokens that the model takes")
        window = self.window or context
        if self.stride is not None and self.stride > window:
            raise ConfigError(
                f"stride ({self.stride:,}) is more than the window ({window:,}): it would leave tokens out"
            )
        return window


def score_text(
    generator: Generator, data: str | Path, sliding: Sliding | None = None, progress: Progress = no_progress
) -> Score:
    """Return the sums that `evaluate_model` averages."""
    sliding = sliding or Sliding()
    sliding.over(generator.model)  # what it refuses, before a text is read
    texts = _texts(Path(data), generator.tokenizer)
    scored = None
    if progress is not no_progress:  # tokenizing takes no time beside scoring
        total = sum(len(piece) for _, piece in _encoded(texts(), generator.tokenizer, apart=sliding.apart)) - 1
        scored = partial(_tell, progress, total)
    sizes = token_bytes(generator.tokenizer)
    pieces = _encoded(texts(), generator.tokenizer, apart=sliding.apart)
    streams = ((piece for _, piece in stream) for _, stream in itertools.groupby(pieces, itemgetter(0)))
    return _score_streams(generator.model, streams, sizes, sliding, scored)


def _tell(progress: Progress, total: int, done: int) -> None:
    progress("score", done, total)


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700))


def _encoded(
    texts: Iterable[tuple[str, bool]], tokenizer: Tokenizer, *, apart: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield tokens with the number of their stream: of the document if these are `apart`, else there is one."""
    separator, first = tokenizer.end_of_text_id, tokenizer.beginning_ids
    if apart and tokenizer.first_id is not None:
        first = [tokenizer.first_id]  # what the first token of each is predicted from
    begins, number = True, 0
    for text, ends in texts:
        if begins and first:
            yield number, np.array(first, dtype=np.uint32)
        yield number, tokenizer.encode_arrays([text])[0]
        begins = ends
        if ends and separator is not None:
            yield number, np.array([separator], dtype=np.uint32)
        number += apart and ends


def _texts(data: Path, tokenizer: Tokenizer) -> Callable[[], Iterator[tuple[str, bool]]]:
    """Return what yields pieces of text, each with whether a document ends there, from the first on each time.

    The documents of a folder are read as for training.
    """
    if data.is_dir() and not is_prepared(data):
        return TextDataset(data, block_size=1, tokenizer=tokenizer).iter_texts
    return partial(iter_pieces, data, tokenizer=tokenizer)


def score_tokens(model: LanguageModel, tokens: np.ndarray, *, stride: int | None = None, batch_size: int = 8) -> float:
    """Return the negative log-likelihood, in nats, of all tokens but the first. Raises DataError below two tokens."""
    sizes = np.zeros(model.config.vocab_size, dtype=np.int64)
    return _score_streams(model, [[tokens]], sizes, Sliding(stride=stride, batch_size=batch_size)).nats


def _score_streams(
    model: LanguageModel,
    streams: Iterable[Iterable[np.ndarray]],
    sizes: np.ndarray,
    sliding: Sliding,
    scored: Callable[[int], None] | None = None,
) -> Score:
    windows = itertools.chain.from_iterable(
        sliding_windows(pieces, sliding.over(model), sliding.stride) for pieces in streams
    )
    found = score(model, batched_windows(windows, sliding.batch_size), sizes, scored)
    if not found.tokens:
        raise DataError("evaluation needs at least 2 tokens, the text has fewer")
    return found


def bits_per_byte(
    model: LanguageModel,
    windows: TokenWindows | SampleRows,
    tokenizer: Tokenizer,
    batch_size: int,
    batches: int | None = None,
) -> float:
    """Return the bits per byte of the windows that a validation loss is taken over (at most `batches` batches)."""
    Sliding(batch_size=batch_size)
    return score(model, windows.in_order(batch_size, batches), token_bytes(tokenizer)).bits_per_byte
