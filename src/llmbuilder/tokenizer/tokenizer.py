"""`Tokenizer`: text to token ids and back, stored as Hugging Face's `tokenizer.json`.

Byte-level BPE and character tokenizers give back exactly the text they were given. Text that spells a special
token ("<|endoftext|>") is encoded as ordinary text; the special token itself is only ever added by its id.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers

from llmbuilder.errors import TokenizerError
from llmbuilder.files import write_json, write_text
from llmbuilder.formats.nanogpt.characters import BYTES, read_nanogpt_characters, read_nanogpt_meta
from llmbuilder.tokenizer.added import backend_from, without_rowless
from llmbuilder.tokenizer.characters import LINE_END, byte_backend, character_backend, nanogpt_backend
from llmbuilder.tokenizer.engine_form import EngineForm, engine_form
from llmbuilder.tokenizer.engine_pretokenizing import kind_of
from llmbuilder.tokenizer.fast import FastEncoder, encode_fast, fast_encoder
from llmbuilder.tokenizer.places import MISSING_HINT, folder_from_hub, require_tokenizer
from llmbuilder.tokenizer.pretokenizing import name_of
from llmbuilder.tokenizer.special import (
    END_OF_TEXT,
    SIDE_FILES,
    SpecialTokens,
    default_special_tokens,
    put_first,
    read_special_tokens,
)
from llmbuilder.tokenizer.vocabulary_files import backend_from_files

if TYPE_CHECKING:
    import numpy as np


class Tokenizer:
    """A trained tokenizer. Make one with `from_pretrained`, `from_characters` or `train_tokenizer`."""

    def __init__(self, backend: tokenizers.Tokenizer, special: SpecialTokens | None = None) -> None:
        self._backend = backend
        self._backend.encode_special_tokens = True
        # Some files store how their author cut and filled batches; here every text is encoded whole and alone.
        self._backend.no_truncation()
        self._backend.no_padding()
        self.special = default_special_tokens(backend) if special is None else special.known_to(backend)
        put_first(backend, self.special)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Tokenizer:
        """Load a tokenizer from a folder or file.

        Understands a folder with `tokenizer.json`; GPT-2's own files (`encoder.json` and `vocab.bpe`, or
        `vocab.json` and `merges.txt`); nanoGPT's character table `meta.pkl` (read without running it); and,
        for a name such as `owner/name` or `hf:name` that is no path, the Hugging Face cache or hub.
        Raises TokenizerError if nothing of the kind is there or the files are damaged.
        """
        require_tokenizer(path)
        location = Path(path)
        if location.is_file():
            return cls._from_meta(location) if location.suffix == ".pkl" else cls._from_json(location)
        if not location.is_dir():
            return cls._from_hub(str(path))
        if (location / "tokenizer.json").is_file():
            return cls._from_json(location / "tokenizer.json")
        for vocabulary, merges in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
            if (location / vocabulary).is_file() and (location / merges).is_file():
                backend = backend_from_files(location / vocabulary, location / merges)
                special = read_special_tokens(location, backend)
                return cls(backend, replace(special, end=special.end or END_OF_TEXT))  # what their classes default to
        if (location / "meta.pkl").is_file():
            return cls._from_meta(location / "meta.pkl")
        raise TokenizerError(f"{location} holds no tokenizer; {MISSING_HINT}")

    @classmethod
    def from_characters(cls, alphabet: Sequence[str], *, end_of_text: str | None = END_OF_TEXT) -> Tokenizer:
        """Return a tokenizer whose tokens are the given characters, with ids in that order, then `end_of_text`."""
        return cls(character_backend(alphabet, end_of_text), SpecialTokens.ending_with(end_of_text))

    @classmethod
    def from_nanogpt_characters(cls, alphabet: Sequence[str]) -> Tokenizer:
        """Return nanoGPT's tokenizer of these characters: without end-of-text, and any line end is a line feed."""
        return cls(nanogpt_backend(alphabet), SpecialTokens())

    @classmethod
    def from_json(cls, content: str, special: SpecialTokens | None = None) -> Tokenizer:
        """Return the tokenizer that `to_json` described.

        That text does not say which tokens begin and end texts. Without `special`, GPT-2's end-of-text is taken, and
        the token that the description's post-processor puts first.
        """
        return cls(backend_from(content), special)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tokenizer:
        """Return the tokenizer that `to_dict` described: as files of models hold it."""
        backend = backend_from(values["tokenizer"])
        special = values.get("special_tokens")  # not in files of earlier versions
        return cls(backend, None if special is None else SpecialTokens.from_dict(special, backend))

    @classmethod
    def _from_json(cls, path: Path) -> Tokenizer:
        try:
            backend = backend_from(path.read_text("utf-8-sig"))
            return cls(backend, read_special_tokens(path.parent, backend))
        except (TokenizerError, UnicodeDecodeError) as error:
            raise TokenizerError(f"{path.parent}: damaged tokenizer files: {error}") from error

    @classmethod
    def _from_meta(cls, path: Path) -> Tokenizer:
        if read_nanogpt_meta(path).kind == BYTES:
            return cls(byte_backend(), SpecialTokens())
        return cls.from_nanogpt_characters(read_nanogpt_characters(path))

    @classmethod
    def _from_hub(cls, name: str) -> Tokenizer:
        folder = folder_from_hub(name, ["tokenizer.json", *SIDE_FILES])
        if not (folder / "tokenizer.json").is_file():
            raise TokenizerError(f"{name!r} has no tokenizer.json on the Hugging Face hub; {MISSING_HINT}")
        return cls._from_json(folder / "tokenizer.json")

    def for_rows(self, rows: int) -> tuple[Tokenizer, list[str]]:
        """Return this tokenizer for a model of so many rows, and the added tokens that it is then without.

        Raises TokenizerError if other tokens have no rows: then it is another model's tokenizer.
        """
        if len(self) <= rows:
            return self, []
        description, left_out = without_rowless(self.to_json(), rows)
        backend = backend_from(description)
        return Tokenizer(backend, self.special.known_to(backend)), left_out

    def __len__(self) -> int:
        """The rows a model needs: the largest id and one, which is more than there are tokens if some ids have none."""
        return len(self._tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"Tokenizer({self.algorithm}, {len(self):,} tokens, {self.fingerprint[:12]})"

    def __deepcopy__(self, _memo: dict[int, Any]) -> Tokenizer:
        return self  # nothing changes it

    def id_of(self, token: str | None) -> int | None:
        """Return the id of a token, None for none."""
        return None if token is None else self._backend.token_to_id(token)

    @property
    def end_of_text(self) -> str | None:
        """The token that separates documents and ends generation; None if the vocabulary has none."""
        return self.special.end

    @property
    def end_of_text_id(self) -> int | None:
        """The id that separates documents and ends generation; None if the vocabulary has none."""
        return self.id_of(self.special.end)

    @property
    def ending_ids(self) -> list[int]:
        """The ids that end generation, that of end-of-text first; models of conversations have several."""
        ids = map(self.id_of, (self.special.end, *self.special.other_ends))
        return [number for number in ids if number is not None]

    @property
    def beginning_ids(self) -> list[int]:
        """The ids that this tokenizer's models expect before every text: a begin-of-text token, or nothing."""
        begin = self.id_of(self.special.begin)
        return [begin] if self.special.adds_begin and begin is not None else []

    @property
    def first_id(self) -> int | None:
        """The id that a document in running text begins with: of the begin-of-text token, or of the end before it."""
        return self.beginning_ids[0] if self.beginning_ids else self.end_of_text_id

    @property
    def unknown_id(self) -> int | None:
        """The id of the token for what the vocabulary does not have; None if there is none."""
        return self.id_of(self._description["model"].get("unk_token"))

    @functools.cached_property
    def _description(self) -> dict[str, Any]:
        return json.loads(self._backend.to_str())

    @functools.cached_property
    def algorithm(self) -> str:
        """'bpe' (byte-level), 'unigram', 'wordpiece' or 'char'; otherwise the backend's own name."""
        kind = self._description["model"]["type"]
        byte_level = "ByteLevel" in json.dumps(self._description["pre_tokenizer"])
        if kind == "WordLevel" and all(len(token) == 1 for token in self._description["model"]["vocab"]):
            return "char"
        return {"Unigram": "unigram", "WordPiece": "wordpiece"}.get(
            kind, "bpe" if kind == "BPE" and byte_level else kind
        )

    @functools.cached_property
    def pretokenizer(self) -> str | None:
        """How this byte-level BPE cuts words, as `train_tokenizer` names it; None if it has no name there."""
        return name_of(kind_of(self._backend, self._description)) if self.algorithm == "bpe" else None

    @functools.cached_property
    def gguf_form(self) -> EngineForm | None:
        """What makes llama.cpp tokenize exactly like this tokenizer; None if nothing does."""
        return engine_form(self._backend, self._description, self.algorithm)

    @property
    def has_gguf_form(self) -> bool:
        """Whether llama.cpp can tokenize exactly like this tokenizer: BPE of bytes or pieces, and characters."""
        return self.gguf_form is not None

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of the vocabulary and rules; equal fingerprints tokenize equally."""
        canonical = json.dumps(self._description, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode("utf-8")).hexdigest()

    @functools.cached_property
    def _alphabet(self) -> frozenset[str] | None:
        return frozenset(self._backend.get_vocab(with_added_tokens=False)) if self.algorithm == "char" else None

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`. Raises TokenizerError for characters a character tokenizer does not have."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, using all cores."""
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def encode_arrays(self, texts: Sequence[str], *, threads: int | None = None) -> list[np.ndarray]:
        """Like `encode_batch`, as arrays of uint32; `threads` are used at a time (default: one for each CPU)."""
        import numpy as np

        texts = [self._with_line_ends(text) for text in texts]
        self._check_characters(texts)
        try:
            if self._fast is not None and self._fast.takes(texts):
                return encode_fast(self._fast, texts, threads)
            encoded = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
            return [np.array(one.ids, np.uint32) for one in encoded]
        except (UnicodeEncodeError, TypeError) as error:
            raise TokenizerError(
                f"text with lone surrogates is not valid Unicode and cannot be encoded: {error}"
            ) from error

    def _check_characters(self, texts: Sequence[str]) -> None:
        if self._alphabet is None:
            return
        for text in texts:
            unknown = sorted(set(text) - self._alphabet)
            if unknown:
                shown = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown[:5])
                more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
                raise TokenizerError(
                    f"this character tokenizer does not know {shown}{more}; it knows {len(self._alphabet)} "
                    "characters: train one on text that has them, or use a byte-level BPE tokenizer"
                )

    @functools.cached_property
    def _fast(self) -> FastEncoder | None:
        return fast_encoder(self._backend, self._description) if self.algorithm == "bpe" else None

    def keep_known(self, text: str) -> str:
        """Return `text` without the characters a character tokenizer does not have."""
        text = self._with_line_ends(text)
        return text if self._alphabet is None else "".join(c for c in text if c in self._alphabet)

    def _with_line_ends(self, text: str) -> str:
        """Apply the only normalizer that a character tokenizer has."""
        return LINE_END.sub("\n", text) if self._replaces_line_ends and "\r" in text else text

    @functools.cached_property
    def _replaces_line_ends(self) -> bool:
        return self._alphabet is not None and self._description["normalizer"] is not None

    @property
    def spells_end_of_text(self) -> bool:
        """Whether "<|endoftext|>" in a text can only be text: there are its characters, and no such token."""
        return self.end_of_text is None and self._alphabet is not None and set(END_OF_TEXT) <= self._alphabet

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of token ids. Raises TokenizerError for an id outside the vocabulary."""
        ids = [int(token) for token in ids]
        tokens = self._tokens
        wrong = next((token for token in ids if not 0 <= token < len(tokens) or tokens[token] is None), None)
        if wrong is not None:
            raise TokenizerError(
                f"token id {wrong} is outside this tokenizer's vocabulary of {len(self)}"
                if not 0 <= wrong < len(tokens)
                else f"token id {wrong} has no token: this tokenizer's vocabulary has a hole there"
            )
        return self._backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def decode_document(self, ids: Iterable[int]) -> str:
        """Return the text of a document as it lies in running text, without the token that it begins with."""
        ids, begins = list(ids), self.beginning_ids
        return self.decode(ids[len(begins) :] if ids[: len(begins)] == begins else ids)

    def decode_batch(self, batch: Iterable[Iterable[int]], *, skip_special_tokens: bool = False) -> list[str]:
        """Return the text of each list of token ids."""
        return [self.decode(ids, skip_special_tokens=skip_special_tokens) for ids in batch]

    def vocabulary(self) -> dict[str, int]:
        """Return every token, special ones included, with its id."""
        return self._backend.get_vocab(with_added_tokens=True)

    @functools.cached_property
    def _tokens(self) -> list[str | None]:
        vocabulary = self.vocabulary()
        tokens: list[str | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
        for number in vocabulary.values():
            tokens[number] = self._backend.id_to_token(number)
        return tokens

    def tokens(self) -> list[str | None]:
        """Return the token of every id in order, None for an id that the vocabulary leaves out."""
        return list(self._tokens)

    def holes(self) -> list[int]:
        """Return the ids below the largest that have no token."""
        return [number for number, token in enumerate(self._tokens) if token is None]

    def word_ids(self) -> set[int]:
        """Return the ids of added tokens that are words: found whole in a text, unlike special tokens."""
        return {token["id"] for token in self._description["added_tokens"] if not token["special"]}

    def generation_ids(self) -> dict[str, int | list[int] | None]:
        """Return the ids that Hugging Face's `config.json` and `generation_config.json` name."""
        ends = self.ending_ids
        ids: dict[str, int | list[int] | None] = {
            "bos_token_id": self.id_of(self.special.begin),
            "eos_token_id": ends if len(ends) > 1 else self.end_of_text_id,
        }
        padding = self.id_of(self.special.padding)
        return ids if padding is None else {**ids, "pad_token_id": padding}

    def merges(self) -> list[tuple[str, str]]:
        """Return the merges of a BPE tokenizer in order of priority; empty for other kinds."""
        merges = self._description["model"].get("merges", [])
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
        return [(left, right) for left, right in pairs]

    def special_ids(self) -> set[int]:
        """Return the ids of special tokens."""
        return {token["id"] for token in self._description["added_tokens"] if token["special"]}

    def to_json(self) -> str:
        """Return vocabulary and rules as the text of a `tokenizer.json`, which holds no parts of special tokens."""
        return self._backend.to_str()

    def to_dict(self) -> dict[str, Any]:
        """Return the whole tokenizer as plain values: `tokenizer`, a `tokenizer.json`, and `special_tokens`."""
        return {"tokenizer": self.to_json(), "special_tokens": self.special.to_dict(self._backend)}

    def save_pretrained(self, folder: str | Path, settings: Mapping[str, Any] | None = None) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which `transformers.AutoTokenizer` reads.

        `settings` go into the latter; a value of None leaves out what would be there. Where several tokens end a text,
        `generation_config.json` names them.
        """
        folder = Path(folder)
        named: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": 1_000_000_000,
            "model_input_names": ["input_ids", "attention_mask"],  # others' models would take token types for tokens
            "split_special_tokens": True,  # text that spells one stays text, as it does here
            "unk_token": self._description["model"].get("unk_token"),
            **self.special.settings(),
            **(settings or {}),
        }
        if self.special.other_ends:  # which that file has no place for
            write_json(folder / "generation_config.json", self.generation_ids())
        write_text(folder / "tokenizer.json", self._backend.to_str(pretty=True))
        write_json(folder / "tokenizer_config.json", {key: value for key, value in named.items() if value is not None})
