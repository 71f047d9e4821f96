"""PyTorch's files of tensors and plain values, read without running anything in them.

Objects of a program's own classes (a pickled `GPTConfig`, a whole module) are read as what they hold: PyTorch's reader
for untrusted files is given an empty class in the place of each class that the file names. A file that asks to call
anything is refused.
"""

from __future__ import annotations

import pickle
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

from llmbuilder.errors import CheckpointError

_NUMPY = ("numpy.dtype", "numpy.ndarray", *(f"numpy.{core}.multiarray.{name}"
          for core in ("core", "_core") for name in ("scalar", "_reconstruct")))  # fmt: skip

_LARGE_TENSOR, _MOST_REPETITIONS = 2**26, 16  # bytes; a tensor that is larger stores at least a sixteenth of itself


def write_torch_file(content: Any, path: Path) -> None:
    """Write a PyTorch file; a full disk is an OSError, as for every other file."""
    try:
        torch.save(content, path)
    except RuntimeError as error:  # PyTorch's zip writer reports a full disk this way
        raise OSError(28, f"no space left, or the write failed ({str(error).splitlines()[0]})") from error


def read_torch_file(path: Path, *, in_place: bool = False) -> Any:
    """Load a PyTorch file: tensors, plain values, and objects as dictionaries of what they hold.

    With `in_place` tensors stay on the disk until they are used, where the file's form allows it.
    Raises CheckpointError for a file that would have to call something to be read, and for anything else.
    """
    if not path.is_file():
        raise CheckpointError(f"no such model file: {path}")
    kind = _other_kind(path)
    if kind is not None:
        raise CheckpointError(f"{path} is {kind}")
    try:
        content = _load(path, mapped=in_place and zipfile.is_zipfile(path))
    except MemoryError:
        raise CheckpointError(f"{path} does not fit in this machine's memory") from None
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path) and _first_bytes(path)[:2] != b"\x80\x02":
            raise CheckpointError(f"{path} is cut short or no model file: torch.save writes no such file") from None
        raise CheckpointError(
            f"{path} is refused: opening it would have to call functions, which can run any code "
            f"({_unpickling_reason(error)}). If you made it yourself, save it again from your own program with plain "
            "values only: torch.save({'model': model.state_dict(), 'config': dataclasses.asdict(config)}, 'model.pt'), "
            "or vars(config) where it is no dataclass"
        ) from None
    except Exception as error:  # noqa: BLE001 - bytes that are no model can make the parser raise anything
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = first.split(". ")[0][:200]  # what follows is for PyTorch's own developers
        raise CheckpointError(f"{path} is cut short or no model file: {reason}") from None
    for name, tensor in _tensors(content):
        if _is_mostly_repeated(tensor):
            raise CheckpointError(
                f"{path} is refused: its {name} of {tuple(tensor.shape)} repeats the few values that it stores "
                f"(an expanded tensor), and would take {tensor.numel() * tensor.element_size() / 2**30:,.1f} GiB"
            )
    return content


def _other_kind(path: Path) -> str | None:
    """Say what a file is that is no file of torch.save, by its first bytes and names; None if it may be one."""
    start = _first_bytes(path)
    for magic, words in _OTHER_KINDS:
        if start.startswith(magic):
            return words
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "a safetensors file under another name: call it .safetensors"
    if not start:
        return "empty"
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
        return (
            "refused: it is TorchScript (torch.jit.save), which holds code. Save the model's state_dict() instead, "
            "from a program of your own: torch.save({'model': torch.jit.load(path).state_dict()}, 'model.pt')"
        )
    if names and not any(name.endswith("data.pkl") for name in names):
        arrays = all(name.endswith(".npy") for name in names)
        return "a file of NumPy arrays (.npz)" if arrays else "a zip archive that torch.save did not write"
    return None


_OTHER_KINDS = (
    (b"GGUF", "a GGUF file, and no checkpoint of a training run"),
    *((magic, "a file of llama.cpp from before GGUF: make a GGUF file of the original model") for magic in
      (b"lmgg", b"fmgg", b"tjgg")),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes its models: it holds nothing of PyTorch"),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself: fetch that with `git lfs pull`"),
    (b"\x1f\x8b", "compressed (gzip): unpack it first"),
    (b"\xfd7zXZ", "compressed (xz): unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd): unpack it first"),
    (b"<!DOCTYPE", "a web page: the download of the file failed"),
    (b"<html", "a web page: the download of the file failed"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
)  # fmt: skip


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a file's content with the names that lead to them."""
    if isinstance(value, Tensor):
        yield name or "tensor", value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _tensors(item, f"{name}[{number}]")


def _is_mostly_repeated(tensor: Tensor) -> bool:
    size = tensor.numel() * tensor.element_size()
    if size < _LARGE_TENSOR or tensor.device.type == "meta":
        return False
    is_plain = tensor.layout == torch.strided
    return not is_plain or size > _MOST_REPETITIONS * tensor.untyped_storage().nbytes()


def _load(path: Path, *, mapped: bool) -> Any:
    def read() -> Any:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # how old a file's form is, says nothing to its owner
        try:
            return read()
        except pickle.UnpicklingError:
            named = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
            if not named:
                raise
        with torch.serialization.safe_globals(_stand_ins(named)):
            return _plain(read())


class _Held:
    """What an object of a class that is not loaded holds."""

    def __new__(cls, *arguments: Any, **_options: Any) -> Any:
        made = super().__new__(cls)
        if arguments:  # of a string, a number or a tuple with a class of its own
            made.__dict__["arguments"] = list(arguments)
        return made

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):  # with and without slots
            if isinstance(part, dict):
                self.__dict__.update((str(key), value) for key, value in part.items())


class _NeverCalled(type):
    """The kind of the stand-ins: a call of one gives an object that holds the arguments, and does nothing else.

    Enumerations and generators' states are stored as calls. A call of Python's own functions is no way to store a
    value, and says that the file is after something else.
    """

    def __call__(cls, *arguments: Any, **_options: Any) -> Any:
        library = cls.__name__.partition(".")[0]
        if library in sys.stdlib_module_names and library not in _MAKES_VALUES:
            raise pickle.UnpicklingError(f"it asks to call {cls.__name__}")
        made = _Held()
        made.__dict__["arguments"] = list(arguments)
        return made


_MAKES_VALUES = ("collections", "copyreg", "datetime", "decimal", "enum", "fractions", "random", "uuid")


def _stand_ins(named: Sequence[str]) -> list[Any]:
    """Return what takes the place of the classes and functions that a file names: nothing that could run.

    NumPy's numbers and arrays, and paths, are plain values, and made by their own constructors.
    """
    others = [_Held, *(_stand_in(name) for name in named if name not in _NUMPY)]
    if not any(name.startswith("numpy") for name in named):
        return others
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    reconstruct = np.zeros(1).__reduce__()[0]
    numpys = [np.ndarray, np.dtype, *(kind for kind in vars(np.dtypes).values() if isinstance(kind, type))]
    made = {"scalar": scalar, "_reconstruct": reconstruct}
    return [*others, *numpys, *((made[name.rsplit(".", 1)[-1]], name) for name in _NUMPY if "multiarray" in name)]


def _stand_in(name: str) -> tuple[Any, str]:
    return (PurePath if name.startswith("pathlib.") else _NeverCalled(name, (_Held,), {})), name


def _plain(value: Any) -> Any:
    """Return a value with objects as dictionaries of what they hold; a module as its weights."""
    if isinstance(value, _Held):
        held = vars(value)
        made_of = arguments if isinstance(arguments := held.get("arguments"), list) and len(arguments) == 1 else []
        # An enumeration's value; a string or a number whose class is the program's own, whatever else it holds.
        if made_of and (held.keys() == {"arguments"} or isinstance(made_of[0], str | int | float)):
            return _plain(made_of[0])
        return _module_of(value) if "_parameters" in held else {k: _plain(v) for k, v in held.items()}
    if isinstance(value, OrderedDict):
        return OrderedDict((key, _plain(item)) for key, item in value.items())
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


@dataclass(frozen=True)
class HeldModule:
    """A module of a pickled model: where it lies in it, the name of its class, and its plain attributes."""

    path: str
    kind: str
    attributes: dict[str, Any]


class ModuleWeights(dict[str, Tensor]):
    """The state dict of a model that was pickled whole, with what its modules hold besides tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.modules: list[HeldModule] = []


def _module_of(module: Any) -> ModuleWeights:
    found = ModuleWeights()
    _collect(module, "", found)
    return found


def _collect(module: Any, path: str, found: ModuleWeights) -> None:
    """Add a module's tensors, and those of the modules in it, under the names that its state dict would have."""
    held = vars(module)
    prefix = f"{path}." if path else ""
    for group in ("_parameters", "_buffers"):
        for name, tensor in (held.get(group) or {}).items():
            if isinstance(tensor, Tensor) and name not in (held.get("_non_persistent_buffers_set") or ()):
                found[prefix + name] = tensor.detach()
    attributes = {key: _plain(value) for key, value in held.items() if not key.startswith("_") and _says(value)}
    found.modules.append(HeldModule(path, type(module).__name__, attributes))
    for name, inner in (held.get("_modules") or {}).items():
        if inner is not None and hasattr(inner, "__dict__"):
            _collect(inner, f"{prefix}{name}", found)


def _says(value: Any) -> bool:
    """Whether an attribute of a module is a plain value or a configuration: no tensor, class or other module."""
    if isinstance(value, _Held):
        return "_parameters" not in vars(value)
    return isinstance(value, str | int | float | Mapping | list | tuple)


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as handle:
        return handle.read(64)


def _unpickling_reason(error: Exception) -> str:
    told = ("GLOBAL", "Unsupported", "asks to call")
    lines = [line.strip() for line in str(error).splitlines() if any(words in line for words in told)]
    return (lines[0].removeprefix("WeightsUnpickler error: ") if lines else str(error).splitlines()[0])[:160]
