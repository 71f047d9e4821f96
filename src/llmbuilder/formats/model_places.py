"""What can be a model, told by its name and first bytes alone."""

from __future__ import annotations

from pathlib import Path

from llmbuilder.errors import CheckpointError

_MODELS = "model.pt, .safetensors, a run directory or a Hugging Face folder"


def require_model(path: str | Path) -> None:
    """Raise CheckpointError if nothing at `path` can be a model: nothing is there, a folder without one, a text."""
    name, place = str(path), Path(path)
    if not name.strip():
        raise CheckpointError(f"the name of the model is empty: name {_MODELS}")
    if place.is_dir():
        if not any((place / file).is_file() for file in ("model.pt", "config.json")):
            inner = [
                file for pattern in ("*.pt", "*.safetensors", "*/model.pt") for file in sorted(place.glob(pattern))
            ]
            meant = f": did you mean {inner[0]}?" if inner else ""
            raise CheckpointError(f"{name} holds no model: there is neither model.pt nor config.json in it{meant}")
    elif not place.exists():
        raise CheckpointError(f"no such model file: {name}")
    elif not place.is_file():
        raise CheckpointError(f"{name} is no regular file: name {_MODELS}")
    elif (kind := _kind_of_text(place)) is not None:
        raise CheckpointError(f"{name} is not a model file but {kind}: name {_MODELS}")


def _kind_of_text(path: Path) -> str | None:
    """Return what a text looks like; None for what is none, and for what the reader knows by its beginning."""
    try:
        start = path.open("rb").read(400)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    text = start.decode("utf-8", "ignore")
    if not start or len(text.encode()) < len(start) - 3 or any(ord(c) < 32 and c not in "\t\n\r\f" for c in text):
        return None
    if start.startswith((b"GGUF", b"<!DOCTYPE", b"<html", b"version https://git-lfs")):
        return None
    kind = {".json": "a JSON file", ".yaml": "a YAML file", ".yml": "a YAML file", ".py": "a Python program"}
    beginning = " ".join(text.split())[:40]
    return f"{kind.get(path.suffix.lower(), 'a text')} that begins with {beginning!r}"
