"""`TextDataset`: text from wherever it is, as windows of tokens.

The split is made over documents before anything is tokenized, so no window ever spans the two parts.
"""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmbuilder.config.schema import Config, DataConfig
from llmbuilder.corpus.corpus_files import iter_pieces, write_corpus
from llmbuilder.corpus.prepared import PreparedCorpus
from llmbuilder.data.in_force import is_token_folder, require_in_force
from llmbuilder.data.loader import DataLoader
from llmbuilder.documents.document import Document
from llmbuilder.documents.folders import is_prepared
from llmbuilder.errors import DataError, TokenizerError
from llmbuilder.files import link_file
from llmbuilder.notices import counted
from llmbuilder.tokenizer import Tokenizer, train_tokenizer
from llmbuilder.tokens.overlap import overlap_of
from llmbuilder.tokens.pairs import PairRows, has_pairs
from llmbuilder.tokens.samples import SAMPLE_FILES, SampleRows, has_samples
from llmbuilder.tokens.sampling import tokenizer_sample
from llmbuilder.tokens.shards import OpenedTokens, TokenFileInfo, TokenWriter, open_tokens
from llmbuilder.tokens.splitting import PARTS, Split, split_pieces
from llmbuilder.tokens.tokenizing import write_tokens
from llmbuilder.tokens.windows import TokenWindows

if TYPE_CHECKING:
    import torch

_READ_DOCUMENTS = "documents.jsonl"
logger = logging.getLogger("llmbuilder")
_TOKEN_FILES = [f"{part}.{kind}" for part in ("train", "validation", "val") for kind in ("bin", "json")]
_TOKEN_FILES += SAMPLE_FILES


class TextDataset:
    """Text as training windows.

    `source` is a corpus file (.txt as `write_corpus` writes it or any other, .jsonl, .parquet), a corpus that
    `data prepare` made (its own split and tokens are used unless another tokenizer is given), a folder of
    documents, a folder of token files (`train.bin`, `val.bin`, as nanoGPT writes them or as this class does),
    or a list of texts or Documents.
    `block_size` is the window in tokens, `stride` the distance between windows (default: no overlap),
    `train_split` the share of the text for training (default: all of it, no validation part).
    Without `tokenizer` one is learned when training starts (or by `prepare`). With `documents_apart` the documents in a
    window do not see each other, where the tokenizer has a token that stands between them. `data` says how the
    documents of a folder are read, cleaned and filtered, and which column of a table has the text.

    Raises DataError if there is no text, and, once tokenized, if there is not enough for one window; ConfigError if
    `data` asks for something that does not act on this source.
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
        data: DataConfig | None = None,
        documents_apart: bool = False,
    ) -> None:
        if block_size < 1 or (stride is not None and stride < 1):
            raise DataError(f"block_size ({block_size}) and stride ({stride}) must be at least 1")
        if train_split is not None and not 0 < train_split <= 1:
            raise DataError(f"train_split must be more than 0 and at most 1, not {train_split}")
        self.block_size = block_size
        self.stride = stride
        self.train_split = train_split
        self.tokenizer = tokenizer
        self.has_learned_tokenizer = False  # from this very text
        self.seed = seed
        self.documents_apart = documents_apart
        self._data = data or DataConfig()
        self.source_name = str(source) if isinstance(source, str | Path) else f"{len(source)} texts"
        self._texts: list[str] | None = None
        self._documents: Path | None = None  # a folder, read when its text is first needed
        self._read_documents: tempfile.TemporaryDirectory[str] | None = None
        self._path: Path | None = None
        self._token_folder: Path | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._corpus: PreparedCorpus | None = None
        self._split: Split | None = None
        self._train: TokenWindows | SampleRows | None = None
        self._validation: TokenWindows | SampleRows | None = None
        self._locate(source)

    @classmethod
    def from_config(
        cls, source: str | Path | Sequence[str | Document], config: Config, tokenizer: Tokenizer | None = None
    ) -> TextDataset:
        """Return the dataset a configuration describes: how it is read, its window, stride, split, seed and tokenizer.

        `tokenizer` stands in the place of `config.tokenizer.path`.
        """
        if tokenizer is None and config.tokenizer.path is not None:
            tokenizer = Tokenizer.from_pretrained(config.tokenizer.path)
        return cls(
            source,
            config.model.max_seq_length,
            config.data.stride,
            config.data.train_split,
            tokenizer,
            seed=config.system.seed,
            data=config.data,
            documents_apart=config.data.documents_apart is True,
        )

    def _locate(self, source: str | Path | Sequence[str | Document]) -> None:
        require_in_force(self._data, source if isinstance(source, str | Path) else None)
        if not isinstance(source, str | Path):
            self._texts = [item.text if isinstance(item, Document) else item for item in source]
            if not any(text.strip() for text in self._texts):
                raise DataError("there is no text in the given list" if self._texts else "the list of texts is empty")
            return
        path = Path(source)
        if is_prepared(path):
            self._use_prepared(PreparedCorpus(path))
        elif is_token_folder(path):
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
            # An empty or binary file is refused now, not when training starts.
            next(iter_pieces(path, self._data.text_column), None)

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
    def tokenizer_settings(self) -> dict[str, Any] | None:
        """The settings that the tokenizer of a prepared corpus was trained with; None where they are not known."""
        return self._corpus.tokenizer_settings if self._corpus is not None else None

    @property
    def is_prepared(self) -> bool:
        """Whether the text is tokenized already."""
        return self._train is not None

    @property
    def holds_pairs(self) -> bool:
        """Whether these are preference pairs, which only the objective 'dpo' learns from."""
        return isinstance(self._train, PairRows)

    @property
    def train(self) -> TokenWindows | SampleRows:
        """The training windows."""
        if self._train is None:
            raise DataError("this dataset has no tokens yet: give it a tokenizer= or call prepare()")
        return self._train

    @property
    def validation(self) -> TokenWindows | SampleRows | None:
        """The validation windows; None without a validation part."""
        self.train  # noqa: B018 - raises when there are no tokens yet
        return self._validation

    @functools.cached_property
    def validation_overlap(self) -> float | None:
        """The share of the validation part that stands in the training part word for word, 0 to 1; None without one.

        See `tokens.overlap`.
        """
        if self.validation is None:
            return None
        if self._corpus is not None and self._corpus.held_out_overlap is not None:
            return self._corpus.held_out_overlap
        if isinstance(self.train, SampleRows) and isinstance(self.validation, SampleRows):
            # What a template writes is alike everywhere.
            return overlap_of(
                (self.train.answers(), self.train.info), (self.validation.answers(), self.validation.info)
            )
        return overlap_of((self.train.tokens, self.train.info), (self.validation.tokens, self.validation.info))

    def __len__(self) -> int:
        if self._train is None and self.tokenizer is not None:
            self.prepare()
        return len(self.train)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        if self._train is None and self.tokenizer is not None:
            self.prepare()
        return self.train[index]

    def iter_texts(self) -> Iterator[tuple[str, bool]]:
        """Yield pieces of text and whether a document ends there. Raises DataError for a dataset of tokens."""
        if self._documents is not None and self._read_documents is None:
            self._read_documents = self._read(self._documents)
        if self._read_documents is not None:
            yield from iter_pieces(Path(self._read_documents.name) / _READ_DOCUMENTS)
        elif self._path is not None:
            yield from iter_pieces(self._path, self._data.text_column, self.tokenizer)
        elif self._texts is not None:
            for text in self._texts:
                yield text, True
        else:
            raise DataError(f"{self.source_name} holds tokens only, no text")

    def _read(self, folder: Path) -> tempfile.TemporaryDirectory[str]:
        """Read the documents of a folder into a temporary file, because all their texts may not fit into memory."""
        temporary = tempfile.TemporaryDirectory(prefix="llmbuilder-documents-")
        loader = DataLoader.from_config(self._data)
        loader.has_manifest = False
        write_corpus(loader.iter_directory(folder), Path(temporary.name) / _READ_DOCUMENTS, loader.report)
        repeated = sum(item["stage"] == "exact" for item in loader.report.dropped)
        if repeated:
            logger.warning(
                f"{folder}: {counted(repeated, 'document is', 'documents are')} left out, which others repeat"
            )
        return temporary

    def learn_tokenizer(self, *, vocab_size: int, **options: Any) -> Tokenizer:
        """Train a tokenizer on this dataset's text and keep it; of a large text on a part drawn by checksum.

        `options` are those of `train_tokenizer`.
        """
        texts = (text for text, _ in self.iter_texts())
        sample = tokenizer_sample(texts, self.count_characters(), self.seed)
        self.tokenizer = train_tokenizer(sample, vocab_size=vocab_size, **options)
        self.has_learned_tokenizer = True
        return self.tokenizer

    def count_characters(self) -> int:
        """Return the number of characters of this dataset's text (reads all of it)."""
        return sum(len(text) for text, _ in self.iter_texts())

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

    @property
    def has_temporary_tokens(self) -> bool:
        """Whether the tokens vanish with this dataset."""
        return self._temporary is not None

    def move_to(self, folder: Path) -> None:
        """Use the tokens from `folder` from now on: the same files by another name, or copies on another disk."""
        assert self._token_folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        for name in _TOKEN_FILES:
            if (self._token_folder / name).is_file():
                link_file(self._token_folder / name, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
        self._token_folder = folder
        self._open(folder)
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def held_out_documents(self) -> dict[int, bool]:
        """Return the numbers of the documents that are not trained on, and whether each is held out as a whole.

        They count from 0 in the order of the text, which is read. Raises DataError for a dataset of tokens.
        """
        split = self._find_split()
        held_out = {number for number, _, _ in split.select(self.iter_texts(), "validation")}
        if split.cut_at is None:
            return dict.fromkeys(sorted(held_out), True)
        divided = {number for number, _, _ in split.select(self.iter_texts(), "train")} & held_out
        return {number: number not in divided for number in sorted(held_out)}

    def _find_split(self) -> Split:
        if self._split is None:
            self._split = split_pieces(self.iter_texts, self.train_split, self.seed)
        return self._split

    def _write(self, folder: Path, tokenizer: Tokenizer) -> None:
        split = self._find_split()
        options = {"tokenizer": tokenizer.fingerprint, "separator": tokenizer.end_of_text_id}
        folder.mkdir(parents=True, exist_ok=True)
        for stale in ("validation.bin", "validation.json", *SAMPLE_FILES):
            (folder / stale).unlink(missing_ok=True)
        for part in PARTS if split.has_validation else PARTS[:1]:
            pieces = ((text, ends) for _, text, ends in split.select(self.iter_texts(), part))
            with TokenWriter(folder / f"{part}.bin", len(tokenizer), **options) as writer:  # type: ignore[arg-type]
                write_tokens(pieces, tokenizer, writer)

    def _open(self, folder: Path) -> None:
        train, validation = self._open_corpus() if self._corpus is not None else _open_folder(folder)
        if has_samples(folder / "train.bin"):
            rows = PairRows if has_pairs(folder / "train.bin") else SampleRows
            self._train = rows(folder / "train.bin", self.block_size, self.seed, train)
            if validation is not None:
                self._validation = rows(folder / "validation.bin", self.block_size, self.seed, validation)
            self._check_tokenizer()
            return
        first = self.tokenizer.first_id if self.tokenizer is not None and self.documents_apart else None
        self._train = TokenWindows(
            folder / "train.bin", self.block_size, self.stride, self.seed, train, first_of_document=first
        )
        if validation is not None:
            available = validation[1].tokens
            if available < 2:
                raise DataError(
                    f"the validation part of {self.source_name} has {counted(available, 'token')}; add text"
                )
            window = min(self.block_size, available - 1)
            self._validation = TokenWindows(
                folder / "validation.bin", window, None, self.seed, validation, first_of_document=first
            )
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

    def set_windows(self, block_size: int, stride: int | None, *, documents_apart: bool = False) -> None:
        """Use other windows from now on, for a model that takes shorter ones or was chosen later."""
        self.block_size, self.stride, self.documents_apart = block_size, stride, documents_apart
        if self._token_folder is not None and self.is_prepared:
            self._open(self._token_folder)

    def set_configured_windows(self, block_size: int, data: DataConfig) -> None:
        """Use windows of this length from now on, with the stride and the borders that a configuration asks for."""
        self.set_windows(block_size, data.stride, documents_apart=data.documents_apart is True)

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
