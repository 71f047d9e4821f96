"""Folders of transformers as they are found: sharded, wrapped, half tied, of half the bits, damaged, another model's."""

from __future__ import annotations

import json
import logging
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import llmbuilder as lb
from llmbuilder.errors import CheckpointError
from llmbuilder.formats import model_room
from llmbuilder.model import LanguageModel
from tests.command_line import run
from tests.formats.test_huggingface import CLASSES, difference, saved

transformers = pytest.importorskip("transformers")
Names = Callable[[str], str]


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Write a folder's weights anew."""
    path = folder / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file(change(weights), path, metadata={"format": "pt"})


def configured(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def sharded(folder: Path, kind: str = "llama", **changes: Any) -> Any:
    theirs = saved(folder / "whole", kind, **changes)
    theirs.save_pretrained(folder, max_shard_size="12KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return theirs


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"_orig_mod.module.module.{name}",
        lambda name: f"model.module.{name}",
        lambda name: name.removeprefix("model.").removeprefix("transformer."),
        lambda name: "module." + name.removeprefix("model.").removeprefix("transformer."),
        lambda name: name.replace(".0.", ".0._orig_mod.").replace("mlp.", "mlp._fsdp_wrapped_module."),
    ],
)
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_names_are_found_behind_wrappers(tmp_path: Path, kind: str, renamed: Names) -> None:
    theirs = saved(tmp_path, kind)
    rewritten(tmp_path, lambda weights: {renamed(name): tensor for name, tensor in weights.items()})
    assert difference(tmp_path, theirs) < 1e-5


def test_two_weights_of_one_name_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, "llama")
    rewritten(tmp_path, lambda weights: {**weights, "module.lm_head.weight": weights["lm_head.weight"].clone()})
    with pytest.raises(CheckpointError, match=r"two of its weights are lm_head.weight: .*module.lm_head.weight"):
        lb.load_model(tmp_path, "cpu")


@pytest.mark.parametrize("kind", CLASSES)
def test_what_models_compute_themselves_is_passed_over(tmp_path: Path, kind: str) -> None:
    theirs = saved(tmp_path, kind)
    masks = {"transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32), "transformer.h.1.attn.masked_bias": torch.ones(())}
    frequencies = {f"model.layers.{n}.self_attn.rotary_emb.inv_freq": torch.rand(4) for n in range(2)}
    frequencies["model.rotary_emb.inv_freq"] = torch.rand(4)
    rewritten(tmp_path, lambda weights: {**weights, **(masks if kind == "gpt2" else frequencies)})
    assert difference(tmp_path, theirs) < 1e-5


@pytest.mark.parametrize("kind", ["gpt2", "llama", "smollm3"])
def test_a_tied_table_is_taken_from_either_name(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    theirs = saved(tmp_path, kind, tie_word_embeddings=True)
    table = "transformer.wte.weight" if kind == "gpt2" else "model.embed_tokens.weight"
    rewritten(tmp_path, lambda weights: {**weights, "lm_head.weight": weights[table].clone()})
    assert difference(tmp_path, theirs) < 1e-5, "both"
    rewritten(tmp_path, lambda weights: {name: t for name, t in weights.items() if name != table})
    assert difference(tmp_path, theirs) < 1e-5, "only the output projection"
    assert lb.load_model(tmp_path, "cpu").config.tie_embeddings
    assert caplog.text == ""


def test_tables_that_differ_are_not_tied_whatever_the_configuration_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = saved(tmp_path, "llama", {"tie_word_embeddings": True})
    assert difference(tmp_path, theirs) < 1e-5
    assert "its output projection is another table: not tied" in caplog.text


def test_an_untied_model_without_its_output_projection_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "llama")
    rewritten(tmp_path, lambda weights: {name: t for name, t in weights.items() if name != "lm_head.weight"})
    with pytest.raises(CheckpointError, match=r"missing \['lm_head.weight'\]"):
        lb.load_model(tmp_path, "cpu")


def test_shards_are_read_and_an_export_over_them_leaves_none(tmp_path: Path) -> None:
    theirs = sharded(tmp_path / "shards")
    assert difference(tmp_path / "shards", theirs) < 1e-5
    (tmp_path / "shards" / "notes.txt").write_text("mine")
    other = saved(tmp_path / "other", "llama", tie_word_embeddings=True)
    run("export", "hf", "other", "shards", "--overwrite", cwd=tmp_path)
    assert difference(tmp_path / "shards", other) < 1e-5
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "shards").eval()
    assert difference(tmp_path / "other", again) < 1e-5
    left = {path.name for path in (tmp_path / "shards").iterdir() if path.is_file()}
    assert left == {"config.json", "model.safetensors", "generation_config.json", "notes.txt"}


def test_older_folders_hold_a_file_of_torch(tmp_path: Path) -> None:
    theirs = saved(tmp_path, "gpt2")
    torch.save(dict(theirs.state_dict()), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert difference(tmp_path, theirs) < 1e-5
    lb.save_model(lb.load_model(tmp_path, "cpu"), tmp_path, overwrite=True)
    assert not (tmp_path / "pytorch_model.bin").exists()
    assert difference(tmp_path, theirs) < 1e-5


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda index: "{", "model.safetensors.index.json is no JSON"),
        (lambda index: "", "it is cut short"),
        (lambda index: "[]", "holds no settings but a list"),
        (lambda index: json.dumps({}), "has no weight_map"),
        (lambda index: json.dumps({"weight_map": ["a"]}), "has no weight_map"),
        (lambda index: json.dumps({"weight_map": {"a": "../other.safetensors"}}), "a file outside the folder"),
        (lambda index: json.dumps({"weight_map": {**index, "a": "gone.safetensors"}}), "gone.safetensors is missing"),
        (lambda index: json.dumps({"weight_map": {**index, "model.more.weight": sorted(index.values())[0]}}),
         "lacks model.more.weight"),
    ],
)  # fmt: skip
def test_a_broken_index_is_a_message(tmp_path: Path, broken: Callable[[Any], str], said: str) -> None:
    sharded(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(broken(json.loads(index.read_text())["weight_map"]))
    with pytest.raises(CheckpointError, match=rf"cannot be opened: .*{said}"):
        lb.load_model(tmp_path, "cpu")


def raw(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        raw({"a": tensor(0, 16, [4]), "b": tensor(8, 24, [4])}, bytes(24)),  # they overlap
        raw({"a": tensor(0, 16, [4]), "b": tensor(0, 16, [4])}, bytes(16)),
        raw({"a": tensor(0, 16, [4])}, bytes(8)),  # past the end
        raw({"a": tensor(0, 1 << 50, [1 << 48])}, bytes(8)),
        raw({"a": tensor(0, 16, [1 << 40, 1 << 40])}, bytes(16)),
        raw({"a": tensor(0, 16, [5])}, bytes(16)),  # another size than the shape's
        raw({"a": tensor(4, 20, [4])}, bytes(20)),  # a hole
        raw({"a": tensor(0, 16, [-4])}, bytes(16)),
        raw({"a": tensor(0, 16, [4], "F33")}, bytes(16)),
        raw(b"{" * 10_000, b""),
        raw(b"[]", b""),
        struct.pack("<Q", 1 << 62) + b"{}",
        b"\x00" * 4,
        b"",
    ],
)
def test_false_sizes_and_offsets_are_a_message(tmp_path: Path, content: bytes) -> None:
    saved(tmp_path, "llama")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be opened: model.safetensors is damaged"):
        lb.load_model(tmp_path, "cpu")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_hidden_layers": 9_999}, "says 9,999 layers, and its weights have 2"),
        ({"num_hidden_layers": 1}, "says 1 layers, and its weights have 2"),
        ({"num_hidden_layers": 10**15}, "num_hidden_layers is 10"),
        ({"vocab_size": 10**12}, "vocab_size is larger than all of its weights"),
        ({"hidden_size": 10**9 + 1}, "embedding_dim is larger than all of its weights"),
        ({"intermediate_size": 10**30}, "intermediate_size is larger than all of its weights"),
        ({"vocab_size": 10**400}, "vocab_size is larger than all of its weights"),
        ({"vocab_size": 10_000}, "describes .* parameters, and its weights are"),
        ({"vocab_size": 91}, r"model.embed_tokens.weight is \(90, 32\), not \(91, 32\)"),
        ({"intermediate_size": 47}, r"is \(48, 32\), not \(47, 32\)"),
        ({"num_key_value_heads": 4}, "k_proj.weight is"),
        ({"attention_bias": True}, r"missing .*bias"),
        ({"num_attention_heads": 0, "head_dim": None}, "num_heads"),
        ({"hidden_size": -32}, "embedding_dim"),
        ({"num_attention_heads": 5, "head_dim": None, "num_key_value_heads": None}, "not divisible"),
        ({"head_dim": 7}, "even"),
        ({"rms_norm_eps": "small"}, "norm_eps"),
        ({"rope_theta": None, "rope_parameters": None}, "rope_theta"),
    ],
)
def test_a_configuration_of_another_shape_is_refused_before_memory_is_taken(
    tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    saved(tmp_path, "llama", values)
    with pytest.raises(CheckpointError, match=rf"cannot be opened: .*({said})"):
        lb.load_model(tmp_path, "cpu")


@pytest.mark.parametrize("content", [b"", b"{", b'{"model_type": "llama"', b"[1, 2]", b"3", b'"llama"', b"null",
                                     b"\xff\xfe{\x00}\x00", b"[" * 100_000, b"\x80abc"])  # fmt: skip
def test_a_configuration_that_is_none_is_a_message(tmp_path: Path, content: bytes) -> None:
    saved(tmp_path, "llama")
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be opened: config.json (is no JSON|holds no settings)"):
        lb.load_model(tmp_path, "cpu")


def test_a_configuration_with_a_byte_order_mark_opens(tmp_path: Path) -> None:
    theirs = saved(tmp_path, "llama")
    text = (tmp_path / "config.json").read_text("utf-8")
    (tmp_path / "config.json").write_text(text, "utf-8-sig")
    assert difference(tmp_path, theirs) < 1e-5


def test_adapters_and_whole_numbers_are_named(tmp_path: Path) -> None:
    saved(tmp_path, "llama")
    rewritten(tmp_path, lambda weights: {**weights, "model.layers.0.mlp.up_proj.lora_A.weight": torch.ones(2, 2)})
    with pytest.raises(CheckpointError, match="lora_A.weight belongs to an adapter"):
        lb.load_model(tmp_path, "cpu")
    rewritten(tmp_path, lambda weights: {n: t.to(torch.int8) for n, t in weights.items() if "lora" not in n})
    with pytest.raises(CheckpointError, match=r"is stored as I8: quantized weights are not supported"):
        lb.load_model(tmp_path, "cpu")


def size_of(folder: Path) -> int:
    return (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_shorter_types_do_not_double(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    saved(tmp_path / "theirs", kind).to(dtype).save_pretrained(tmp_path / "theirs")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs", dtype=torch.float32).eval()
    model = lb.load_model(tmp_path / "theirs", "cpu")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert difference(tmp_path / "theirs", theirs) < 1e-5, "computed with in float32"
    for name in ("model.pt", "model.safetensors", "ours"):
        lb.save_model(model, tmp_path / name)
        again = lb.load_model(tmp_path / name, "cpu")
        assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
        assert again.stored_dtype == dtype
    assert size_of(tmp_path / "ours") < 1.05 * size_of(tmp_path / "theirs")
    assert (tmp_path / "model.pt").stat().st_size < 1.2 * size_of(tmp_path / "theirs") + 20_000
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["torch_dtype"] == str(dtype).removeprefix("torch.")
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype="auto")
    assert opened.dtype == dtype
    short = lb.load_model(tmp_path / "theirs", "cpu", dtype=dtype)
    assert {p.dtype for p in short.parameters()} == {dtype}


def test_trained_weights_are_not_shortened(tmp_path: Path) -> None:
    saved(tmp_path / "a", "llama").to(torch.bfloat16).save_pretrained(tmp_path / "a")
    model = lb.load_model(tmp_path / "a", "cpu")
    with torch.no_grad():
        model.embedding.weight += 1e-4
    lb.save_model(model, tmp_path / "b")
    assert {tensor.dtype for tensor in load_file(tmp_path / "b" / "model.safetensors").values()} == {torch.float32}
    assert torch.equal(lb.load_model(tmp_path / "b", "cpu").embedding.weight, model.embedding.weight)


def test_norms_in_float32_among_shorter_weights_stay_exact(tmp_path: Path) -> None:
    saved(tmp_path, "llama").to(torch.bfloat16).save_pretrained(tmp_path)
    rewritten(tmp_path, lambda weights: {n: torch.rand(len(t)) if "norm" in n else t for n, t in weights.items()})
    model = lb.load_model(tmp_path, "cpu")
    lb.save_model(model, tmp_path / "again")
    found = load_file(tmp_path / "again" / "model.safetensors")
    assert {t.dtype for n, t in found.items() if "norm" in n} == {torch.float32}
    assert {t.dtype for n, t in found.items() if "norm" not in n} == {torch.bfloat16}


def test_a_model_larger_than_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, "llama").to(torch.bfloat16).save_pretrained(tmp_path)
    parameters = lb.load_model(tmp_path, "cpu").num_parameters()

    def never(*_: Any) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(model_room, "memory_bytes", lambda: 3 * parameters)
    kept = lb.load_model(tmp_path, "cpu")
    assert {p.dtype for p in kept.parameters()} == {torch.bfloat16}
    assert "do not fit into memory in float32" in caplog.text
    monkeypatch.setattr(model_room, "memory_bytes", lambda: parameters)
    monkeypatch.setattr("llmbuilder.formats.huggingface.reading.read_tensors", never)
    with pytest.raises(CheckpointError, match=r"billion parameters, which take .* the largest that fits has"):
        lb.load_model(tmp_path, "cpu")
    with pytest.raises(CheckpointError, match="the largest that fits has"):
        lb.load_model(tmp_path, "cpu", dtype=torch.float32)


_MEASURE = """
import sys
import llmbuilder as lb
def memory(kind):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(kind))
lb.load_model(sys.argv[1], "cpu")  # what is loaded once and for all
before = memory("VmRSS")
model = lb.load_model(sys.argv[2], "cpu")
total = sum(float(p.sum()) for p in model.parameters())  # every value was in memory
print((memory("VmHWM") - before) / (4 * model.num_parameters()), total == total)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read as Linux tells it")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reading_takes_little_more_memory_than_the_model(tmp_path: Path, dtype: torch.dtype) -> None:
    config = transformers.LlamaConfig(
        hidden_size=512, num_hidden_layers=8, num_attention_heads=8, intermediate_size=1376, vocab_size=4000
    )
    theirs = transformers.LlamaForCausalLM(config).to(dtype)
    assert 25e6 < sum(p.numel() for p in theirs.parameters()) < 35e6
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "many", max_shard_size="20MB")
    saved(tmp_path / "small", "llama")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("one", "many"):
        arguments = [sys.executable, "-c", _MEASURE, str(tmp_path / "small"), str(tmp_path / name)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
        factor, finite = done.stdout.split()
        assert finite == "True"
        assert 0.9 < float(factor) < 1.3, (name, factor)


@pytest.mark.parametrize("name", ["out.gguf", "out.bin"])
def test_an_import_writes_no_files_of_other_programs(tmp_path: Path, name: str) -> None:
    saved(tmp_path / "theirs", "gpt2")
    done = run("import", "hf", "theirs", name, cwd=tmp_path, status=1)
    assert "is not what an import writes: name model.pt" in done.stderr
    assert "export gguf theirs" in done.stderr
    with pytest.raises(CheckpointError, match="no name of what is written"):
        lb.save_model(lb.load_model(tmp_path / "theirs", "cpu"), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_model_of_the_hub_is_taken_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a network."""
    from huggingface_hub import constants

    place = tmp_path / "models--org--name"
    theirs = saved(place / "snapshots" / ("0" * 40), "llama")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model: LanguageModel = lb.load_model("org/name", "cpu")
    tokens = torch.arange(20)[None]
    assert torch.allclose(model(tokens)[0], theirs(tokens).logits, atol=1e-3)
    for missing in ("org/other", "hf:other"):
        with pytest.raises(CheckpointError, match="could not be had from the Hugging Face hub"):
            lb.load_model(missing, "cpu")
    for path in (Path("org/name"), "org/name.pt", "./org/name"):
        with pytest.raises(CheckpointError, match="no such model file"):
            lb.load_model(path, "cpu")


def test_logging_is_quiet_about_a_plain_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved(tmp_path, "llama")
    with caplog.at_level(logging.INFO, "llmbuilder"):
        lb.load_model(tmp_path, "cpu")
    assert caplog.text == ""
