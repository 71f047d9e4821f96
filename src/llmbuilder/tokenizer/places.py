"""What can be a tokenizer, told by its name and files alone; and the hub, for names that can only be there.

Nothing is asked of the hub for a name that may be a mistyped folder: it would tell a stranger the name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from llmbuilder.errors import LLMBuilderError, MissingDependencyError, TokenizerError

MISSING_HINT = "train one with `llmbuilder tokenizer train`, or name a folder that holds tokenizer.json"
SENTENCEPIECE = (
    "a SentencePiece model (tokenizer.model) cannot be read here: write it as tokenizer.json with transformers "
    "(LlamaTokenizerFast(vocab_file='tokenizer.model').save_pretrained('tokenizer')), and name that folder"
)
_HUB = "hf:"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (("tokenizer.json",), ("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"), ("meta.pkl",))


def is_hub_name(name: str) -> bool:
    """Whether a name that is no path is one of the hub's: `owner/name`, or anything that begins with "hf:"."""
    return name.startswith(_HUB) or _HUB_NAME.fullmatch(name) is not None


def has_tokenizer(folder: Path) -> bool:
    """Whether the files of a tokenizer that can be read lie in a folder."""
    return any(_held(folder))


def _held(folder: Path) -> list[bool]:
    return [all((folder / file).is_file() for file in files) for files in _FILES]


def require_tokenizer(path: str | Path) -> None:
    """Raise TokenizerError if a path holds no tokenizer, or is none and no name of the hub's; nothing is opened.

    A `Path` is never a name of the hub's: it has lost the "./" that told the two apart.
    """
    name, location = str(path), Path(path)
    if not name.strip():
        raise TokenizerError(f"the name of the tokenizer is empty; {MISSING_HINT}")
    has = _held(location)
    if location.suffix == ".model" or ((location / "tokenizer.model").is_file() and not (has[0] or has[3])):
        raise TokenizerError(f"{location}: {SENTENCEPIECE}")
    if location.is_dir():
        if not any(has):
            inner = sorted(file.parent for file in location.glob("*/tokenizer.json"))
            meant = f"; did you mean {inner[0]}?" if inner else f"; {MISSING_HINT}"
            raise TokenizerError(f"{location} holds no tokenizer{meant}")
    elif not location.exists() and (isinstance(path, Path) or not is_hub_name(name)):
        hub = "" if set(name) & set("/\\~") else hub_hint(name)
        raise TokenizerError(f"no tokenizer folder at {name}{hub}; {MISSING_HINT}")


def hub_hint(name: str) -> str:
    """Return, for a name that is none, how a name of the hub's would be written."""
    return f" (one of the Hugging Face hub is named owner/{name}, or {_HUB}{name})"


def folder_from_hub(name: str, files: list[str]) -> Path:
    """Return the folder of the local cache with these files of a repository. Raises TokenizerError if it has none."""
    return download_from_hub(name, files, [], lambda reason: TokenizerError(
        f"no tokenizer folder at {name}, and {name!r} {reason}; {MISSING_HINT}"
    ))  # fmt: skip


def download_from_hub(
    name: str, files: list[str], without: list[str], failure: Callable[[str], LLMBuilderError]
) -> Path:
    """Return the folder of the local cache with a repository's files, by patterns; those `without` are left there.

    Raises what `failure` makes of the reason if they cannot be had, MissingDependencyError without the extra 'hub'.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingDependencyError("huggingface_hub", "hub", f"taking {name!r} from the Hugging Face hub") from None
    try:
        return Path(snapshot_download(name.removeprefix(_HUB), allow_patterns=files, ignore_patterns=without or None))
    except Exception as error:
        raise failure(f"could not be had from the Hugging Face hub ({type(error).__name__})") from error
