"""Loss, perplexity and bits per byte over a text.

Each token is scored once, with the longest context the window leaves it.
Source of the sliding window: Hugging Face, "Perplexity of fixed-length models".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
    stride: int | None = None,
    batch_size: int = 8,
    device: str | None = None,
) -> Evaluation:
    """Measure how well a model predicts the text of a corpus file of any size, or of a folder of documents.

    Windows of the model's context length advance by `stride` tokens (default: half the context).
    Raises DataError if the text is empty or shorter than two tokens, ConfigError for a stride or batch size below 1.
    """
    _require_positive(stride, batch_size)
    return Evaluation.of(score_text(load_generator(model, tokenizer, device), data, stride, batch_size))


def score_text(generator: Generator, data: str | Path, stride: int | None = None, batch_size: int = 8) -> Score:
    """Return the sums that `evaluate_model` averages."""
    _require_positive(stride, batch_size)
    pieces = _encoded(Path(data), generator.tokenizer)
    return _score_stream(generator.model, pieces, token_bytes(generator.tokenizer), stride, batch_size)


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700))


def _encoded(data: Path, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    separator = tokenizer.end_of_text_id
    begins = True
    for text, ends in _texts(data, tokenizer):
        if begins and tokenizer.beginning_ids:
            yield np.array(tokenizer.beginning_ids, dtype=np.uint32)
        yield tokenizer.encode_arrays([text])[0]
        begins = ends
        if ends and separator is not None:
            yield np.array([separator], dtype=np.uint32)


def _texts(data: Path, tokenizer: Tokenizer) -> Iterator[tuple[str, bool]]:
    """Yield pieces of text and whether a document ends there; the documents of a folder are read as for training."""
    if data.is_dir() and not is_prepared(data):
        yield from TextDataset(data, block_size=1, tokenizer=tokenizer).iter_texts()
    else:
        yield from iter_pieces(data, tokenizer=tokenizer)


def _require_positive(stride: int | None, batch_size: int) -> None:
    for name, value in (("stride", stride), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} ({value}) must be at least 1")


def score_tokens(model: LanguageModel, tokens: np.ndarray, *, stride: int | None = None, batch_size: int = 8) -> float:
    """Return the negative log-likelihood, in nats, of all tokens but the first. Raises DataError below two tokens."""
    _require_positive(stride, batch_size)
    return _score_stream(model, [tokens], np.zeros(model.config.vocab_size, dtype=np.int64), stride, batch_size).nats


def _score_stream(
    model: LanguageModel, pieces: Iterable[np.ndarray], sizes: np.ndarray, stride: int | None, batch_size: int
) -> Score:
    windows = sliding_windows(pieces, model.config.max_seq_length, stride)
    found = score(model, batched_windows(windows, batch_size), sizes)
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
    _require_positive(None, batch_size)
    return score(model, windows.in_order(batch_size, batches), token_bytes(tokenizer)).bits_per_byte
