"""PyTorch files read without running anything: objects as what they hold, calls refused."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import io
import pathlib
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from llmbuilder.errors import CheckpointError
from llmbuilder.formats.torch_files import read_torch_file


@dataclasses.dataclass
class Shape:
    n_layer: int = 2
    inner: Any = None


class Kind(enum.Enum):
    GELU = "gelu"


class Version(str):
    """A string whose class is the program's own, as PyTorch's version is."""


class Steps(int):
    def __init__(self, value: int) -> None:
        self.unit = "steps"


class Pair(NamedTuple):
    first: int
    second: str


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.rest = nn.ModuleList([nn.Linear(3, 3, bias=False)])
        self.register_buffer("mask", torch.ones(3))
        self.register_buffer("cache", torch.zeros(1), persistent=False)


class Calls:
    """An object that asks its reader to call something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def stored(folder: Path, value: Any) -> Any:
    torch.save(value, folder / "file.pt")
    return read_torch_file(folder / "file.pt")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Shape(3, Shape()), {"n_layer": 3, "inner": {"n_layer": 2, "inner": None}}),
        (argparse.Namespace(a=1, b=["c"]), {"a": 1, "b": ["c"]}),
        (pathlib.Path("a/b"), "a/b"),
        (np.float64(1.5), 1.5),
        (Kind.GELU, "gelu"),
        (Version("2.1"), "2.1"),
        (torch.torch_version.TorchVersion("2.1"), "2.1"),
        (Steps(3), 3),
        (Pair(1, "a"), {"arguments": [1, "a"]}),
        ({"deep": [(Shape(),)]}, {"deep": [[{"n_layer": 2, "inner": None}]]}),
    ],
)
def test_objects_are_what_they_hold(tmp_path: Path, value: Any, expected: Any) -> None:
    assert stored(tmp_path, {"config": value})["config"] == expected


def test_a_whole_module_is_its_weights(tmp_path: Path) -> None:
    block = Block()
    found = stored(tmp_path, block)
    expected = block.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_whole_module_keeps_the_plain_attributes_of_its_modules(tmp_path: Path) -> None:
    block = Block()
    block.rest[0].heads, block.rest[0].shape, block.act = 8, Shape(), nn.GELU("tanh")  # type: ignore[assignment]
    found = {module.path: module for module in stored(tmp_path, {"model": block})["model"].modules}
    assert found["rest.0"].attributes["heads"] == 8
    assert found["rest.0"].attributes["shape"] == {"n_layer": 2, "inner": None}
    assert found["act"].kind.endswith(".GELU") and found["act"].attributes["approximate"] == "tanh"
    assert found[""].kind.endswith(".Block")


def test_arrays_and_states_of_generators_do_not_stand_in_the_way(tmp_path: Path) -> None:
    content = {"rng": np.random.default_rng(1), "array": np.arange(3), "state": np.random.get_state(), "step": 4}
    found = stored(tmp_path, content)
    assert found["step"] == 4
    assert found["array"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("function", [eval, exec, open, __import__, getattr, pathlib.os.system])  # type: ignore[attr-defined]
def test_a_file_that_calls_something_is_refused_and_nothing_is_called(tmp_path: Path, function: Any) -> None:
    torch.save({"model": {}, "config": Calls(function, f"open({str(tmp_path / 'ran')!r}, 'w')")}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=r"which can run any code.*dataclasses\.asdict"):
        read_torch_file(tmp_path / "file.pt")
    assert not (tmp_path / "ran").exists()


def test_weights_can_stay_on_the_disk(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.arange(4.0)}, "config": Shape()}, tmp_path / "file.pt")
    found = read_torch_file(tmp_path / "file.pt", in_place=True)
    assert found["model"]["a"].tolist() == [0, 1, 2, 3]
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert read_torch_file(tmp_path / "old.pt", in_place=True)["a"].tolist() == [1, 1]


def zipped(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return made.getvalue()


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file"),
        (b"\x1f\x8b\x08" + bytes(99), r"is compressed \(gzip\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "is a web page"),
        ((2).to_bytes(8, "little") + b'{"a":1}', "is a safetensors file under another name"),
        (b"", "is empty"),
        (zipped("a.npy", "b.npy"), "NumPy arrays"),
        (zipped("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"), "is refused: it is TorchScript.*holds code"),
        (zipped("readme.md"), "zip archive that torch.save did not write"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, start: bytes, words: str) -> None:
    (tmp_path / "file.pt").write_bytes(start)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match=words):
            read_torch_file(tmp_path / "file.pt")


@pytest.mark.parametrize("in_place", [False, True])
def test_a_tensor_that_would_grow_beyond_its_file_is_refused_by_name(tmp_path: Path, in_place: bool) -> None:
    torch.save({"model": {"a": torch.ones(1), "wte": torch.ones(1).expand(2**20, 2**17)}}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=r"model\.wte of \(1048576, 131072\) repeats .* 512\.0 GiB"):
        read_torch_file(tmp_path / "file.pt", in_place=in_place)
    small = {"mask": torch.ones(1).expand(64, 64)}
    assert stored(tmp_path, small)["mask"].shape == (64, 64)
