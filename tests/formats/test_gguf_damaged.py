"""GGUF files that are cut short, lie about themselves or were changed: a message each, soon and in little memory."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbuilder.errors import CheckpointError
from llmbuilder.export import export_gguf
from llmbuilder.formats.gguf.file import GGUFFile
from llmbuilder.model import load_model
from llmbuilder.tokenizer import Tokenizer, train_tokenizer
from tests.gguf_files import randomized, rewritten

STRING, ARRAY, UINT32, FLOAT32 = 8, 9, 4, 6


def header(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def text(value: str | bytes, length: int | None = None) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data) if length is None else length) + data


def number(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", UINT32, value)


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, place: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, place)


LIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "magic only": (b"GGUF", "its version takes 4 bytes"),
    "version 1": (header(version=1), "its version of the format is 1"),
    "version of tomorrow": (header(version=40), "its version of the format is 40"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "its numbers are big-endian"),
    "a million keys": (header(keys=1_000_000), "said to have 1,000,000 metadata keys"),
    "endless keys": (header(keys=2**63), "metadata keys, more than"),
    "endless tensors": (header(tensors=2**64 - 1), "tensors, more than"),
    "keys that are not there": (header(keys=3), "the name of metadata key 1 of 3"),
    "a huge name": (header(keys=1) + text("a", 2**40), "the name of metadata key 1 of 1 is said to have"),
    "a name past the end": (header(keys=1) + text("a", 60), "takes 60 bytes at byte 32, where 1 are left"),
    "a name of noise": (header(keys=1) + text(b"\xff\xfe") + struct.pack("<II", UINT32, 1), "no text in UTF-8"),
    "the same key twice": (header(keys=2) + 2 * number("a.b", 1), "the metadata key 'a.b' twice"),
    "a type of its own": (header(keys=1) + text("a.b") + struct.pack("<II", 77, 1), "'a.b' has the unknown type 77"),
    "a huge text": (header(keys=1) + text("a.b") + struct.pack("<IQ", STRING, 2**50), "the text of 'a.b' is said to have"),
    "a huge list": (header(keys=1) + text("a.b") + struct.pack("<IIQ", ARRAY, FLOAT32, 2**61), "the value of 'a.b' takes"),
    "a huge list of texts": (
        header(keys=1) + text("a.b") + struct.pack("<IIQ", ARRAY, STRING, 2**61), "'a.b' is said to have .* texts"
    ),
    "a list of lists": (header(keys=1) + text("a.b") + struct.pack("<IIQ", ARRAY, ARRAY, 5), "'a.b' is nested"),
    "an odd alignment": (header(keys=1) + number("general.alignment", 48), "general.alignment is 48, no power of two"),
    "no alignment": (header(keys=1) + number("general.alignment", 0), "general.alignment is 0, no power of two"),
    "a shape that overflows": (header(tensors=1) + tensor("t", (2**62, 2**62)), "tensor 't' of .* takes"),
    "a shape of nothing": (header(tensors=1) + tensor("t", (0, 4)), r"shape \(4, 0\), which F32 cannot have"),
    "a row that is no block": (header(tensors=1) + tensor("t", (33,), kind=3), r"shape \(33,\), which Q4_1 cannot have"),
    "nine dimensions": (header(tensors=1) + tensor("t", (1,) * 9), "tensor 't' has 9 dimensions"),
    "no dimensions": (header(tensors=1) + tensor("t", ()), "tensor 't' has 0 dimensions"),
    "a type of tensors of its own": (header(tensors=1) + tensor("t", (4,), kind=999), "'t' has the unknown type 999"),
    "the same tensor twice": (header(tensors=2) + 2 * tensor("t", (4,)) + bytes(64), "the tensor 't' twice"),
    "a place past the end": (header(tensors=1) + tensor("t", (4,), place=2**40) + bytes(64), "'t' of .* takes 16 bytes"),
    "a place between": (header(tensors=1) + tensor("t", (4,), place=4) + bytes(128), "'t' lies at byte"),
    "one place for two": (header(tensors=2) + tensor("t", (4,)) + tensor("u", (4,)) + bytes(128), "'u' lies at byte"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_lies_are_told_with_the_file_and_the_field(tmp_path: Path, name: str) -> None:
    content, message = LIES[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        GGUFFile(path)
    assert str(path) in str(caught.value)


def test_other_beginnings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for content, message in [(b"tjgg" + bytes(64), "from before GGUF"), (b"<html>", "download of the file failed")]:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            load_model(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, topics: list[str]) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    tokenizer = train_tokenizer(topics[:20], vocab_size=300)
    export_gguf(randomized("llama-grouped", len(tokenizer), width=16), path, "q8_0", tokenizer=tokenizer)
    return path


TOKENIZERS: list[tuple[dict[str, Any], list[str], str]] = [
    ({}, ["tokenizer.ggml.model"], "there is no tokenizer in it"),
    ({"tokenizer.ggml.model": "bert"}, [], "tokenizer.ggml.model 'bert' is not supported: only gpt2"),
    ({"tokenizer.ggml.pre": "chameleon"}, [], "tokenizer.ggml.pre 'chameleon' is not supported"),
    ({}, ["tokenizer.ggml.tokens"], "there are no tokens in it"),
    ({"tokenizer.ggml.tokens": ["a", "b"]}, [], "tokenizer.ggml.token_type has 300 entries for 2 tokens"),
    ({"tokenizer.ggml.tokens": ["a", "b"]}, ["tokenizer.ggml.token_type", "tokenizer.ggml.merges"],
     r"tokenizer\.ggml\.tokens has 2 entries, token_embd\.weight 300 rows"),
    ({"tokenizer.ggml.tokens": ["a"] * 300}, [], "tokenizer.ggml.tokens has 'a' twice"),
    ({"tokenizer.ggml.merges": ["Ġ t", "no blanks", "qq zz"]}, [], "entry 1 of tokenizer.ggml.merges"),
    ({"tokenizer.ggml.merges": "Ġ t"}, [], "tokenizer.ggml.merges is no list of texts"),
    ({"tokenizer.ggml.eos_token_id": 300}, [], "tokenizer.ggml.eos_token_id is 300: there are 300 tokens"),
    ({"tokenizer.ggml.add_bos_token": "yes"}, [], "add_bos_token is 'yes', neither true nor false"),
    ({"tokenizer.ggml.model": "llama"}, [], "tokenizer.ggml.scores has None entries"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(TOKENIZERS)))
def test_tokenizers_that_are_none_are_told(tmp_path: Path, small: Path, number: int) -> None:
    fields, without, message = TOKENIZERS[number]
    with pytest.raises(CheckpointError, match=message):
        load_model(rewritten(small, tmp_path / "m.gguf", fields, without=without))


def test_rows_without_tokens_are_told(tmp_path: Path, small: Path) -> None:
    table = GGUFFile(small).read("token_embd.weight")
    larger = {"token_embd.weight": np.concatenate([table, table[:7]])}
    with pytest.raises(CheckpointError, match=r"tokens has 300 entries, token_embd\.weight 307 rows"):
        load_model(rewritten(small, tmp_path / "m.gguf", tensors=larger))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_download_that_broke_off_is_told(tmp_path: Path, small: Path, share: float) -> None:
    content = small.read_bytes()
    (tmp_path / "m.gguf").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"m\.gguf is damaged or cut short"):
        load_model(tmp_path / "m.gguf")


@settings(max_examples=300)
@given(
    changes=st.lists(st.tuples(st.integers(0, 2**30), st.integers(0, 255)), min_size=1, max_size=6),
    header=st.booleans(),
)
def test_changed_bytes_open_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, small: Path, changes: list[tuple[int, int]], header: bool
) -> None:
    content = bytearray(small.read_bytes())
    begin = min(tensor.begin for tensor in GGUFFile(small).tensors.values())
    for place, value in changes:
        content[place % (begin if header else len(content))] = value
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(content)
    try:
        model = load_model(path, "cpu")
    except CheckpointError as refused:
        said = str(refused)
    else:
        said = str(path) if isinstance(model.tokenizer, Tokenizer) else "a model without a tokenizer"
    assert str(path) in said


def test_lies_take_no_memory(tmp_path: Path) -> None:
    """A file of a megabyte that says it is a petabyte, opened where little more than the interpreter fits."""
    lies = [content for content, _ in LIES.values()]
    lies.append(header(keys=1) + text("a.b") + struct.pack("<IIQ", ARRAY, STRING, 4_000_000) + bytes(1 << 20))
    for place, content in enumerate(lies):
        (tmp_path / f"{place}.gguf").write_bytes(content)
    code = f"""
import resource, sys
from pathlib import Path
import gguf, numpy
from llmbuilder.errors import CheckpointError
from llmbuilder.formats.gguf.file import GGUFFile
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in Path({str(tmp_path)!r}).iterdir():
    try:
        GGUFFile(path)
        sys.exit(f"{{path}} opened")
    except CheckpointError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(result.stdout) * unit < 64 << 20
