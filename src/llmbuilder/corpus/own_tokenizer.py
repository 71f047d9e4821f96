"""The tokenizer of a corpus: the one it was given, now or earlier, or one trained from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmbuilder.config.schema import Config
from llmbuilder.corpus.document_files import DocumentFile
from llmbuilder.documents.tables import iter_parquet_rows
from llmbuilder.files import write_json
from llmbuilder.stages import Progress
from llmbuilder.tokenizer import Tokenizer, choose_vocab_size, train_tokenizer
from llmbuilder.tokenizer.in_force import require_made_as
from llmbuilder.tokens.sampling import tokenizer_sample


class OwnTokenizer:
    """The folder `tokenizer` of a corpus, and the record of how the corpus came to it."""

    def __init__(self, folder: Path, config: Config, progress: Progress) -> None:
        self._folder = folder / "tokenizer"
        self._record = folder / "work" / "tokenizer.json"
        self._settings = config.tokenizer
        self._seed = config.system.seed
        self._progress = progress

    def choose(self, files: Sequence[DocumentFile], given: str | Path | Tokenizer | None) -> Tokenizer:
        """Return the tokenizer named, the one that is there if it was given or asked for alike, or a new one.

        Raises ConfigError for a setting that the one that is used was not made with.
        """
        source = given or self._settings.path
        if source is not None:
            return self._take(source)
        asked = {**self._settings.model_dump(), "seed": self._seed}
        earlier = self._recorded()
        if earlier == asked or "given" in earlier:
            tokenizer = Tokenizer.from_pretrained(self._folder)
            require_made_as(self._settings, tokenizer, self._folder, None if "given" in earlier else earlier)
            return tokenizer
        self._progress("tokenizer", 0, 1)
        tokenizer = self._train(files)
        tokenizer.save_pretrained(self._folder)
        write_json(self._record, asked)
        self._progress("tokenizer", 1, 1)
        return tokenizer

    @property
    def training_options(self) -> dict[str, Any] | None:
        """The settings that it was trained with; None for one that was given."""
        return None if "given" in self._recorded() else self._settings.training_options

    def _take(self, source: str | Path | Tokenizer) -> Tokenizer:
        tokenizer = source if isinstance(source, Tokenizer) else Tokenizer.from_pretrained(source)
        require_made_as(self._settings, tokenizer, source if isinstance(source, str | Path) else "this call")
        tokenizer.save_pretrained(self._folder)
        write_json(self._record, {"given": tokenizer.fingerprint})
        return tokenizer

    def _train(self, files: Sequence[DocumentFile]) -> Tokenizer:
        characters = sum(sum(file.lengths) for file in files)
        texts = (row["text"] for file in files for row in iter_parquet_rows(file.path, ["text"]))
        return train_tokenizer(
            tokenizer_sample(texts, characters, self._seed),
            vocab_size=self._settings.vocab_size or choose_vocab_size(characters),
            **self._settings.training_options,
        )

    def _recorded(self) -> dict[str, Any]:
        """Return how the tokenizer that is there was made; nothing if none is."""
        if not self._record.is_file() or not self._folder.is_dir():
            return {}
        values: dict[str, Any] = json.loads(self._record.read_text("utf-8"))
        return values
