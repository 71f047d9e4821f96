"""Loss, perplexity and bits per byte over a text.

Each token is scored once, with the longest context the window leaves it.
Source of the sliding window: Hugging Face, "Perplexity of fixed-length models".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
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
    batch_size: int = 8,
    device: str | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Measure how well a model predicts the text of a corpus file of any size, or of a folder of documents.

    Windows of `window` tokens (default: the model's context) advance by `stride` tokens (default: half a window). A
    shorter window takes less time, and predicts a little worse.
    Raises DataError if the text is empty or shorter than two tokens, ConfigError for a stride, window or batch size
    below 1, or a window that is longer than the context.
    """
    sliding = Sliding(window, stride, batch_size)
    return Evaluation.of(score_text(load_generator(model, tokenizer, device), data, sliding, progress))


@dataclass(frozen=True)
class Sliding:
    """How windows slide over a text: see `evaluate_model`, which raises the same."""

    window: int | None = None
    stride: int | None = None
    batch_size: int = 8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} ({value}) must be at least 1")

    def over(self, model: LanguageModel) -> int:
        """Return the tokens of a window that `model` takes."""
        context = model.config.max_seq_length
        if self.window is not None and self.window > context:
            raise ConfigError(f"window ({self.window:,}) is more than the {context:,} tokens that the model takes")
        return self.window or context


def score_text(
    generator: Generator, data: str | Path, sliding: Sliding | None = None, progress: Progress = no_progress
) -> Score:
    """Return the sums that `evaluate_model` averages."""
    sliding = sliding or Sliding()
    sliding.over(generator.model)  # what it refuses, before a text is read
    texts = _texts(Path(data), generator.tokenizer)
    scored = None
    if progress is not no_progress:  # tokenizing takes no time beside scoring
        total = sum(map(len, _encoded(texts(), generator.tokenizer))) - 1
        scored = partial(_tell, progress, total)
    sizes = token_bytes(generator.tokenizer)
    return _score_stream(generator.model, _encoded(texts(), generator.tokenizer), sizes, sliding, scored)


def _tell(progress: Progress, total: int, done: int) -> None:
    progress("score", done, total)


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700))


def _encoded(texts: Iterable[tuple[str, bool]], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    separator = tokenizer.end_of_text_id
    begins = True
    for text, ends in texts:
        if begins and tokenizer.beginning_ids:
            yield np.array(tokenizer.beginning_ids, dtype=np.uint32)
        yield tokenizer.encode_arrays([text])[0]
        begins = ends
        if ends and separator is not None:
            yield np.array([separator], dtype=np.uint32)


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
    return _score_stream(model, [tokens], sizes, Sliding(stride=stride, batch_size=batch_size)).nats


def _score_stream(
    model: LanguageModel,
    pieces: Iterable[np.ndarray],
    sizes: np.ndarray,
    sliding: Sliding,
    scored: Callable[[int], None] | None = None,
) -> Score:
    windows = sliding_windows(pieces, sliding.over(model), sliding.stride)
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
