"""What can be known to be wrong with a base before it is opened: nothing there, no tokenizer, too little memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

from llmbuilder.building.adaptation_methods import METHODS
from llmbuilder.errors import CheckpointError, ConfigError, TokenizerError
from llmbuilder.formats.model_places import is_gguf, is_on_hub, require_model
from llmbuilder.machine import memory_bytes, require_four_bits
from llmbuilder.tokenizer.places import SENTENCEPIECE, has_tokenizer

AUTO = "auto"  # in the place of a base: from nothing, or from the best of those on this machine
NEEDS_TOKENIZER = "name a base with the tokenizer that it was trained with"
_WEIGHT, _TRAINED_WEIGHT = 4, 12  # bytes of a parameter that is computed with, and with both moments
_LEARNS = {"full": 16}  # with gradient and two moments; adapters' own are few


def require_base(base: str | Path, method: str) -> None:
    """Raise for a base that cannot be adapted, as far as its name, its files and their sizes tell; nothing is loaded.

    Raises CheckpointError if nothing there is a model, or it is larger than memory, TokenizerError for a folder without
    a tokenizer, ConfigError for another method than auto, lora, dora or full.
    """
    require_method(method)
    require_model(base)
    if is_on_hub(base):
        return
    place = Path(base)
    if place.is_dir() and not (place / "model.pt").is_file():
        if not any(place.glob("*.safetensors")) and not any(place.glob("*.bin")):
            raise CheckpointError(f"{place} holds no weights: there are neither .safetensors nor .bin files in it")
        if not has_tokenizer(place):
            reason = (
                SENTENCEPIECE if (place / "tokenizer.model").is_file() else f"it has no tokenizer: {NEEDS_TOKENIZER}"
            )
            raise TokenizerError(f"{place}: {reason}")
    _require_room(place, method)


def require_method(method: str) -> None:
    """Raise ConfigError for a method that there is none of, MissingDependencyError for one without its library."""
    if method not in METHODS:
        raise ConfigError(f"--method: {method!r} is no way to adapt a model: choose {', '.join(METHODS[:-1])} or full")
    if method == "qlora":
        require_four_bits()


def base_fingerprint(base: str | Path) -> str:
    """Return a digest of the names, sizes and times of a base's files; of a name of the hub's, that of the name."""
    digest = hashlib.sha256(resolved_base(base).encode("utf-8"))
    if not is_on_hub(base):
        for file in _files(Path(base)):
            status = file.stat()
            digest.update(f"\n{file.name} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def resolved_base(base: str | Path) -> str:
    """Return the name of a base by which it is found from any folder."""
    return str(base) if is_on_hub(base) else str(Path(base).resolve())


def base_places(base: str | Path) -> list[Path]:
    """Return the places in which a base lies, none of which a build may write to."""
    place = Path(base)
    return [] if is_on_hub(base) else [place, place.parent] if place.is_file() else [place]


def _files(place: Path) -> list[Path]:
    """Return the files that make a base: of a run its model, of a folder all weights and settings in it."""
    if not place.is_dir():
        return [place]
    if (place / "model.pt").is_file():
        return [place / "model.pt"]
    return sorted(file for file in place.iterdir() if file.is_file())


def _require_room(place: Path, method: str) -> None:
    parameters = least_parameters(place)
    a_parameter = _LEARNS.get(method, _WEIGHT)
    memory = memory_bytes()
    if parameters * a_parameter > memory:
        raise CheckpointError(
            f"{place} has {parameters / 1e9:,.3f} billion parameters, and adapting it takes at least "
            f"{parameters * a_parameter / 2**30:,.2f} GiB where this machine has {memory / 2**30:,.2f} GiB: the "
            f"largest base that fits has {memory / a_parameter / 1e9:,.3f} billion"
        )


def least_parameters(base: str | Path) -> int:
    """Return how many parameters a base surely has, none of a name of the hub's.

    Files that name their tensors in their heads say it; of others each parameter may be there with both its moments.
    """
    place = Path(base)
    if is_on_hub(base):
        return 0
    if is_gguf(place):
        from llmbuilder.formats.gguf.file import GGUFFile

        return sum(math.prod(tensor.shape) for tensor in GGUFFile(place).tensors.values())
    weights = [file for file in _files(place) if file.suffix in (".safetensors", ".bin", ".pt", ".pth")]
    counted = [file for file in weights if file.suffix == ".safetensors"]
    if counted:
        return sum(sum(_safetensors_sizes(file)) for file in counted)
    return sum(file.stat().st_size // (_WEIGHT if file.suffix == ".bin" else _TRAINED_WEIGHT) for file in weights)


def _safetensors_sizes(file: Path) -> Iterator[int]:
    """Yield the sizes of the tensors that a file names; none of a damaged one, which is said by who opens it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as handle:  # of which no tensor is read, and PyTorch is not loaded
            yield from [math.prod(handle.get_slice(name).get_shape()) for name in handle.keys()]  # noqa: SIM118
    except (SafetensorError, OSError):
        return
