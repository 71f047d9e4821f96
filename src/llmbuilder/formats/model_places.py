"""What can be a model or an adapter, told by its name and first bytes alone."""

from __future__ import annotations

from pathlib import Path

from llmbuilder.errors import CheckpointError
from llmbuilder.tokenizer.places import download_from_hub, hub_hint, is_hub_name

GGUF_MAGIC = b"GGUF"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")  # as the peft library names them
_MODELS = "model.pt, .safetensors, .gguf, a run directory or a Hugging Face folder"
_FILES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".gguf")  # no repository has a name that ends so
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "LICEN*", "NOTICE*", "README.md", "tokenizer.model"]
_OLDER_HUB_FILES = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
_HUB_DUPLICATES = ["original/*", "consolidated*", "onnx/*", "*.fp16.safetensors"]


def require_model(path: str | Path) -> None:
    """Raise CheckpointError if nothing at `path` can be a model: nothing is there, a folder without one, a text.

    A name such as owner/name or hf:name that is no path is one of the Hugging Face hub's. A `Path` never is: it has
    lost the "./" that told the two apart.
    """
    name, place = str(path), Path(path)
    if not name.strip():
        raise CheckpointError(f"the name of the model is empty: name {_MODELS}")
    if place.is_dir():
        if not any((place / file).is_file() for file in ("model.pt", "config.json")):
            inner = [
                file
                for pattern in ("*.pt", "*.safetensors", "*.gguf", "*/model.pt")
                for file in sorted(place.glob(pattern))
            ]
            meant = f": did you mean {inner[0]}?" if inner else ""
            raise CheckpointError(f"{name} holds no model: there is neither model.pt nor config.json in it{meant}")
    elif not place.exists():
        if not is_on_hub(path):
            is_path = isinstance(path, Path) or place.suffix in _FILES or set(name) & set("/\\~")
            hub = "" if is_path else hub_hint(name)
            raise CheckpointError(f"no such model file: {name}{hub}")
    elif not place.is_file():
        raise CheckpointError(f"{name} is no regular file: name {_MODELS}")
    elif (kind := _kind_of_text(place)) is not None:
        raise CheckpointError(f"{name} is not a model file but {kind}: name {_MODELS}")


def is_gguf(path: str | Path) -> bool:
    """Whether a file begins as GGUF files do, whatever its name."""
    if not Path(path).is_file():
        return False
    with open(path, "rb") as handle:
        return handle.read(len(GGUF_MAGIC)) == GGUF_MAGIC


def is_on_hub(path: str | Path) -> bool:
    """Whether a name is no path and can be one of the Hugging Face hub's; the hub is not asked."""
    if isinstance(path, Path) or Path(path).suffix in _FILES or Path(path).exists():
        return False
    return is_hub_name(path)


def folder_from_hub(name: str) -> Path:
    """Return the folder of the local cache with a model of the Hugging Face hub, downloaded if it is not there.

    Raises CheckpointError if it cannot be had, MissingDependencyError without the extra 'hub'.
    """

    def failure(reason: str) -> CheckpointError:
        return CheckpointError(f"no such model file: {name}, and it {reason}")

    folder = download_from_hub(name, _HUB_FILES, _HUB_DUPLICATES, failure)
    if not any(folder.glob("*.safetensors")):
        folder = download_from_hub(name, [*_HUB_FILES, *_OLDER_HUB_FILES], [], failure)
    return folder


def _kind_of_text(path: Path) -> str | None:
    """Return what a text looks like; None for what is none, and for what the reader knows by its beginning."""
    try:
        start = path.open("rb").read(400)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    text = start.decode("utf-8", "ignore")
    if not start or len(text.encode()) < len(start) - 3 or any(ord(c) < 32 and c not in "\t\n\r\f" for c in text):
        return None
    if start.startswith((GGUF_MAGIC, b"<!DOCTYPE", b"<html", b"version https://git-lfs")):
        return None
    kind = {".json": "a JSON file", ".yaml": "a YAML file", ".yml": "a YAML file", ".py": "a Python program"}
    beginning = " ".join(text.split())[:40]
    return f"{kind.get(path.suffix.lower(), 'a text')} that begins with {beginning!r}"


def require_adapter(folder: Path) -> None:
    """Raise CheckpointError for a folder that holds no adapter, by the names of its files."""
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "not there"
        raise CheckpointError(f"{folder} is {kind}: name a folder with {' and '.join(ADAPTER_FILES)}")
    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} holds no adapter: there is no {name} in it")
