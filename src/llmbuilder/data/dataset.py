"""`TextDataset`: windows of tokens for training and validation, memory-mapped.

The split is made over documents before anything is tokenized, so no window ever spans the two parts.
Which windows a step sees is a pure function of the seed and the step, so a resumed run sees the same ones.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmbuilder.config.schema import Config
from llmbuilder.corpus.files import iter_pieces
from llmbuilder.corpus.prepared import PreparedCorpus, is_prepared
from llmbuilder.data.loader import DataLoader
from llmbuilder.documents.document import Document
from llmbuilder.errors import DataError, TokenizerError
from llmbuilder.tokenizer import Tokenizer, train_tokenizer
from llmbuilder.tokens.shards import OpenedTokens, TokenFileInfo, TokenWriter, open_tokens
from llmbuilder.tokens.splitting import split_documents

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("llmbuilder")
_BATCH_CHARACTERS = 1 << 20
_TOKENIZER_SAMPLE_CHARACTERS = 200_000_000


class TokenWindows:
    """Windows of `block_size` + 1 tokens over a memory-mapped token file or shards `opened` already, `stride` apart.

    Without a stride windows follow each other without overlap, and each epoch begins at another offset so
    that tokens change their place in the window.
    """

    def __init__(
        self,
        path: Path,
        block_size: int,
        stride: int | None,
        seed: int,
        opened: OpenedTokens | None = None,
    ) -> None:
        self.path = path
        self.tokens, self.info = opened or open_tokens(path)
        self.seed = seed
        if len(self.tokens) < block_size + 1:
            raise DataError(
                f"too little text: {path.stem} has {len(self.tokens):,} tokens, and a window of block_size "
                f"{block_size} needs {block_size + 1:,}; use block_size {max(1, len(self.tokens) - 1)} or less, "
                "or add text"
            )
        self.block_size = block_size
        self.stride = stride or block_size
        room = len(self.tokens) - 1 - block_size
        self._slack = min(block_size, room + 1) if stride is None and room >= block_size else 1
        self._count = (room - (self._slack - 1)) // self.stride + 1
        self._epoch: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (inputs, targets) of window `index` in file order, each of shape (block_size,)."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        inputs, targets = self.gather(np.array([index % len(self) * self.stride]))
        return inputs[0], targets[0]

    def gather(self, starts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (inputs, targets) of the windows that begin at these tokens, each of shape (batch, block_size)."""
        import torch

        rows = self.tokens[starts[:, None] + np.arange(self.block_size + 1)].astype(np.int64)
        batch = torch.from_numpy(rows)
        return batch[:, :-1], batch[:, 1:]

    def starts_at(self, first: int, count: int) -> np.ndarray:
        """Return where `count` windows begin, from number `first` on, of an endless stream of shuffled epochs."""
        numbers = np.arange(first, first + count)
        starts = np.empty(count, dtype=np.int64)
        for epoch in np.unique(numbers // len(self)):
            here = numbers // len(self) == epoch
            starts[here] = self._shuffled(int(epoch))[numbers[here] % len(self)]
        return starts

    def _shuffled(self, epoch: int) -> np.ndarray:
        if self._epoch[0] != epoch:
            random = np.random.default_rng([self.seed, epoch])
            offset = int(random.integers(self._slack)) if epoch else 0
            self._epoch = (epoch, random.permutation(len(self)) * self.stride + offset)
        return self._epoch[1]

    def in_order(self, batch_size: int, limit: int | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield batches of the non-overlapping windows in file order, at most `limit` of them."""
        starts = np.arange(0, len(self.tokens) - self.block_size, self.block_size)
        for number, begin in enumerate(range(0, len(starts), batch_size)):
            if limit is not None and number >= limit:
                return
            yield self.gather(starts[begin : begin + batch_size])


class TextDataset:
    """Text as training windows.

    `source` is a corpus file (.txt as `write_corpus` writes it or any other, .jsonl, .parquet), a corpus that
    `data prepare` made (its own split and tokens are used unless another tokenizer is given), a folder of
    documents, a folder of token files (`train.bin`, `val.bin`, as nanoGPT writes them or as this class does),
    or a list of texts or Documents.
    `block_size` is the window in tokens, `stride` the distance between windows (default: no overlap),
    `train_split` the share of the text for training (default: all of it, no validation part).
    Without `tokenizer` one is learned when training starts (or by `prepare`).

    Raises DataError if there is no text, and, once tokenized, if there is not enough for one window.
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Document],
        block_size: int,
        stride: int | None = None,
        train_split: float | None = None,
        tokenizer: Tokenizer | None = None,
        *,
        seed: int = 42,
    ) -> None:
        if block_size < 1 or (stride is not None and stride < 1):
            raise DataError(f"block_size ({block_size}) and stride ({stride}) must be at least 1")
        if train_split is not None and not 0 < train_split <= 1:
            raise DataError(f"train_split must be more than 0 and at most 1, not {train_split}")
        self.block_size = block_size
        self.stride = stride
        self.train_split = train_split
        self.tokenizer = tokenizer
        self.seed = seed
        self.source_name = str(source) if isinstance(source, str | Path) else f"{len(source)} texts"
        self._texts: list[str] | None = None
        self._documents: Path | None = None  # a folder, read when its text is first needed
        self._path: Path | None = None
        self._token_folder: Path | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._corpus: PreparedCorpus | None = None
        self._train: TokenWindows | None = None
        self._validation: TokenWindows | None = None
        self._locate(source)

    @classmethod
    def from_config(
        cls, source: str | Path | Sequence[str | Document], config: Config, tokenizer: Tokenizer | None = None
    ) -> TextDataset:
        """Return the dataset a configuration describes: its window, stride, split and seed."""
        return cls(
            source,
            config.model.max_seq_length,
            config.data.stride,
            config.data.train_split,
            tokenizer,
            seed=config.system.seed,
        )

    def _locate(self, source: str | Path | Sequence[str | Document]) -> None:
        if not isinstance(source, str | Path):
            self._texts = [item.text if isinstance(item, Document) else item for item in source]
            if not any(text.strip() for text in self._texts):
                raise DataError("there is no text in the given list" if self._texts else "the list of texts is empty")
            return
        path = Path(source)
        if is_prepared(path):
            self._use_prepared(PreparedCorpus(path))
        elif path.is_dir() and (path / "train.bin").is_file():
            self._token_folder = path
            if self.tokenizer is None and any((path / name).is_file() for name in ("meta.pkl", "tokenizer.json")):
                self.tokenizer = Tokenizer.from_pretrained(path)
            self._open(path)
        elif path.is_dir():
            self._documents = path
        elif not path.is_file():
            raise DataError(f"no such file or folder: {path}")
        else:
            self._path = path
            next(iter_pieces(path), None)  # an empty or binary file is refused now, not when training starts

    def _use_prepared(self, corpus: PreparedCorpus) -> None:
        """Use a corpus's tokens if they are of the tokenizer wanted, else its text."""
        own = self.tokenizer is None or self.tokenizer.fingerprint == corpus.tokenizer_fingerprint
        if corpus.tokenizer is None or not own:
            self._path = corpus.folder
            return
        self.tokenizer = self.tokenizer or Tokenizer.from_pretrained(corpus.tokenizer)
        self._corpus = corpus
        self._token_folder = corpus.folder
        self._open(corpus.folder)

    @property
    def corpus_fingerprint(self) -> str | None:
        """The fingerprint of the prepared corpus whose tokens these are, None for any others."""
        return self._corpus.fingerprint if self._corpus is not None else None

    @property
    def is_prepared(self) -> bool:
        """Whether the text is tokenized already."""
        return self._train is not None

    @property
    def train(self) -> TokenWindows:
        """The training windows."""
        if self._train is None:
            raise DataError("this dataset has no tokens yet: give it a tokenizer= or call prepare()")
        return self._train

    @property
    def validation(self) -> TokenWindows | None:
        """The validation windows; None without a validation part."""
        self.train  # noqa: B018 - raises when there are no tokens yet
        return self._validation

    def __len__(self) -> int:
        if self._train is None and self.tokenizer is not None:
            self.prepare()
        return len(self.train)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._train is None and self.tokenizer is not None:
            self.prepare()
        return self.train[index]

    def iter_texts(self) -> Iterator[tuple[str, bool]]:
        """Yield pieces of text and whether a document ends there. Raises DataError for a dataset of tokens."""
        if self._documents is not None and self._texts is None:
            self._texts = [document.text for document in DataLoader().load_directory(self._documents)]
        if self._path is not None:
            yield from iter_pieces(self._path)
        elif self._texts is not None:
            for text in self._texts:
                yield text, True
        else:
            raise DataError(f"{self.source_name} holds tokens only, no text")

    def learn_tokenizer(self, *, vocab_size: int, **options: Any) -> Tokenizer:
        """Train a tokenizer on this dataset's text (at most its first 200 million characters) and keep it.

        `options` are those of `train_tokenizer`.
        """
        self.tokenizer = train_tokenizer(self._sample(), vocab_size=vocab_size, **options)
        return self.tokenizer

    def _sample(self) -> Iterator[str]:
        seen = 0
        for text, _ in self.iter_texts():
            yield text
            seen += len(text)
            if seen >= _TOKENIZER_SAMPLE_CHARACTERS:
                return

    def prepare(self, folder: str | Path | None = None) -> TextDataset:
        """Tokenize the text into `folder` (default: a temporary one that lives as long as the dataset)."""
        if self._train is not None:
            return self
        if self.tokenizer is None:
            raise TokenizerError("prepare() needs a tokenizer: give TextDataset one, or call learn_tokenizer()")
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="llmbuilder-tokens-")
            folder = self._temporary.name
        self._token_folder = Path(folder)
        self._write(self._token_folder, self.tokenizer)
        self._open(self._token_folder)
        return self

    def _write(self, folder: Path, tokenizer: Tokenizer) -> None:
        split = split_documents(self.iter_texts(), self.train_split, self.seed)
        options = {"tokenizer": tokenizer.fingerprint, "separator": tokenizer.end_of_text_id}
        folder.mkdir(parents=True, exist_ok=True)
        for stale in ("validation.bin", "validation.json"):
            (folder / stale).unlink(missing_ok=True)
        parts = ("train", "validation") if split.has_validation else ("train",)
        for part in parts:
            with TokenWriter(folder / f"{part}.bin", len(tokenizer), **options) as writer:  # type: ignore[arg-type]
                _tokenize(split.select(self.iter_texts(), part), tokenizer, writer)

    def _open(self, folder: Path) -> None:
        train, validation = self._open_corpus() if self._corpus is not None else _open_folder(folder)
        self._train = TokenWindows(folder / "train.bin", self.block_size, self.stride, self.seed, train)
        if validation is not None:
            available = validation[1].tokens
            if available < 2:
                raise DataError(f"the validation part of {self.source_name} has {available} token(s); add text")
            window = min(self.block_size, available - 1)
            self._validation = TokenWindows(folder / "validation.bin", window, None, self.seed, validation)
        self._check_tokenizer()

    def _open_corpus(self) -> tuple[OpenedTokens, OpenedTokens | None]:
        assert self._corpus is not None
        train = self._corpus.tokens("train")
        if train is None:
            raise DataError(f"{self.source_name} has no training tokens: lower data.train_split, or add documents")
        return train, self._corpus.tokens("validation")

    def _check_tokenizer(self) -> None:
        made_by = self.train.info.tokenizer
        if self.tokenizer is not None and made_by is not None and made_by != self.tokenizer.fingerprint:
            raise TokenizerError(
                f"the tokens in {self._token_folder} were made by another tokenizer: tokenize the text again"
            )

    def shorten_windows(self, block_size: int) -> None:
        """Use shorter windows from now on, for a model whose context is shorter than this dataset's windows."""
        self.block_size = min(self.block_size, block_size)
        if self._token_folder is not None and self.is_prepared:
            self._open(self._token_folder)

    def largest_token_id(self) -> int:
        """Return the largest id in the training part (reads all of it when no tokenizer tells)."""
        return len(self.tokenizer) - 1 if self.tokenizer is not None else int(self.train.tokens.max())

    @property
    def info(self) -> TokenFileInfo:
        """What the training part holds."""
        return self.train.info


def _open_folder(folder: Path) -> tuple[OpenedTokens, OpenedTokens | None]:
    name = next((name for name in ("validation.bin", "val.bin") if (folder / name).is_file()), None)
    return open_tokens(folder / "train.bin"), open_tokens(folder / name) if name is not None else None


def _tokenize(pieces: Iterable[tuple[str, bool]], tokenizer: Tokenizer, writer: TokenWriter) -> None:
    batch: list[tuple[str, bool]] = []

    def flush() -> None:
        texts = [text for text, _ in batch]
        for (text, ends), ids in zip(batch, tokenizer.encode_arrays(texts), strict=True):
            writer.add(ids, len(text.encode("utf-8")))
            if ends:
                writer.end_document()
        batch.clear()

    waiting = 0
    for text, ends in pieces:
        batch.append((text, ends))
        waiting += len(text)
        if waiting >= _BATCH_CHARACTERS:
            flush()
            waiting = 0
    flush()
