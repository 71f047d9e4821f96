"""GGUF files opened as models, each beside a real llama.cpp on the same file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from llmbuilder.config.model_schema import RopeScaling
from llmbuilder.errors import CheckpointError, ExportError
from llmbuilder.export import QUANTIZATIONS, export_gguf, export_huggingface, verify_gguf
from llmbuilder.formats.gguf.file import GGUFFile
from llmbuilder.formats.gguf.names import pair_halves, pair_neighbours
from llmbuilder.model import load_model, save_model
from llmbuilder.tokenizer import Tokenizer
from tests.command_line import run
from tests.export.test_gguf import PROBES
from tests.gguf_files import SHAPES, randomized, rewritten


@pytest.mark.parametrize("name", SHAPES)
def test_what_was_exported_opens_as_the_same_model(tmp_path: Path, name: str, bpe: Tokenizer) -> None:
    model = randomized(name, len(bpe))
    export_gguf(model, tmp_path / "model.gguf", "f32", tokenizer=bpe)
    found = load_model(tmp_path / "model.gguf", "cpu")
    tokens = torch.randint(len(bpe), (2, 150), generator=torch.Generator().manual_seed(0))
    assert (found(tokens)[0] - model(tokens)[0]).abs().max() < 1e-4
    assert found.tokenizer is not None
    assert found.tokenizer.encode_batch(PROBES) == bpe.encode_batch(PROBES)
    assert (found.tokenizer.special.end, found.tokenizer.ending_ids) == (bpe.special.end, bpe.ending_ids)
    assert found.config.rope_scaling == model.config.rope_scaling


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_every_type_that_is_written_is_read_as_llamacpp_reads_it(
    tmp_path: Path, bpe: Tokenizer, quantization: str
) -> None:
    export_gguf(randomized("llama-grouped", len(bpe)), tmp_path / "m.gguf", quantization, tokenizer=bpe)
    found = load_model(tmp_path / "m.gguf", "cpu")
    # The same numbers in a file of float32: llama.cpp's products of quantized matrices quantize the other side, too.
    export_gguf(found, tmp_path / "again.gguf", "f32")
    checked = verify_gguf(tmp_path / "again.gguf", found, PROBES)
    assert checked.equal_tokens == checked.greedy_tokens
    assert checked.mean_kl_divergence < 1e-6
    assert verify_gguf(tmp_path / "m.gguf", found, PROBES, greedy_tokens=1).mean_kl_divergence < 1e-2


@pytest.mark.parametrize("quantization", ["f16", "bf16"])
def test_sixteen_bits_are_written_again_in_sixteen(tmp_path: Path, bpe: Tokenizer, quantization: str) -> None:
    export_gguf(randomized("qwen3-untied", len(bpe)), tmp_path / "m.gguf", quantization, tokenizer=bpe)
    found = load_model(tmp_path / "m.gguf", "cpu")
    assert found.embedding.weight.dtype == torch.float32
    assert found.stored_dtype == {"f16": torch.float16, "bf16": torch.bfloat16}[quantization]


def test_every_type_of_the_library_is_converted(tmp_path: Path) -> None:
    rows, converted = np.random.default_rng(0), []
    for kind in gguf.GGMLQuantizationType:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        data = rows.integers(0, 60, (5, size * 3), np.uint8)
        writer = gguf.GGUFWriter(tmp_path / "t.gguf", "llama")
        writer.add_tensor("t", data, raw_shape=None if block > 1 else (5, size * 3), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        file = GGUFFile(tmp_path / "t.gguf")
        try:
            expected = gguf.quants.dequantize(data, kind)
        except NotImplementedError:
            with pytest.raises(CheckpointError, match=f"type {kind.name} of tensor t cannot be converted"):
                file.read("t")
            continue
        assert np.array_equal(file.read("t"), expected.reshape(5, -1), equal_nan=True)
        converted.append(kind.name)
    assert {"Q4_1", "Q4_K", "Q6_K", "IQ4_XS", "IQ2_XXS", "TQ1_0", "MXFP4"} <= set(converted)


def test_rows_are_permuted_and_back() -> None:
    rows = torch.arange(48.0).view(24, 2)
    assert pair_neighbours(rows, 8)[:4, 0].tolist() == [0, 8, 2, 10]
    assert torch.equal(pair_halves(pair_neighbours(rows, 8), 8), rows)
    assert torch.equal(pair_halves(pair_neighbours(rows[:, 0], 8), 8), rows[:, 0])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, bpe: Tokenizer) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    export_gguf(randomized("llama-grouped", len(bpe), width=32), path, "f32", tokenizer=bpe)
    return path


NOT_COMPUTED: dict[str, Any] = {
    "llama.expert_count": 8, "llama.attention.max_alibi_bias": 8.0, "llama.logit_scale": 0.5,
    "llama.attn_logit_softcapping": 50.0, "llama.final_logit_softcapping": 30.0, "llama.attention.clamp_kqv": 8.0,
    "llama.attention.causal": False, "llama.rope.scaling.type": "longrope", "llama.attention.q_lora_rank": 64,
    "llama.attention.sliding_window_pattern": 6, "llama.rope.dimension_count": 4, "llama.attention.value_length": 4,
    "llama.attention.scale": 0.1, "llama.rope.scaling.yarn_log_multiplier": 0.1, "llama.residual_scale": 0.2,
    "llama.attention.something_new": "on", "llama.use_parallel_residual": True,
}  # fmt: skip


@pytest.mark.parametrize("key", NOT_COMPUTED)
def test_what_computes_something_else_is_refused_by_its_key(tmp_path: Path, small: Path, key: str) -> None:
    path = rewritten(small, tmp_path / "m.gguf", {key: NOT_COMPUTED[key]})
    with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
        load_model(path)


def test_gemma_3_that_llamacpp_computes_otherwise_is_refused(tmp_path: Path, bpe: Tokenizer) -> None:
    model = randomized("gemma3", len(bpe), width=32)
    export_gguf(model, tmp_path / "own.gguf", "f32", tokenizer=bpe)
    for fields, named in [
        ({"gemma3.attention.sliding_window": 0}, "gemma3 without attention.sliding_window"),
        ({"gemma3.rope.scaling.type": "yarn", "gemma3.rope.scaling.factor": 4.0}, "rope.scaling.type 'yarn'"),
        ({"gemma3.attention.sliding_window_pattern": np.array([1, 0], np.int32)}, "differs from layer to layer"),
        ({"gemma3.final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0"),
    ]:
        with pytest.raises(CheckpointError, match=named):
            load_model(rewritten(tmp_path / "own.gguf", tmp_path / "m.gguf", fields))
    period = rewritten(tmp_path / "own.gguf", tmp_path / "m.gguf", {"gemma3.attention.sliding_window_pattern": 3})
    assert load_model(period, "cpu").config.sliding_window_layers == [0, 1, 3, 4, 6]
    for changes, named in [
        ({"sliding_window_layers": [0]}, "a window in all layers but each sixth"),
        ({"sliding_window": None, "sliding_window_layers": None, "windowed_rope_theta": None}, "a window in all"),
        ({"rope_scaling": RopeScaling(kind="yarn", factor=4.0)}, "in no way but linearly"),
        ({"num_layers": 62, "sliding_window_layers": [n for n in range(62) if (n + 1) % 6]}, "62 layers"),
    ]:
        other = type(model)(model.config.model_copy(update=changes))
        with pytest.raises(ExportError, match=named):
            export_gguf(other, tmp_path / "other.gguf", tokenizer=bpe)


def test_what_changes_nothing_refuses_nothing(tmp_path: Path, small: Path) -> None:
    harmless = {
        "llama.expert_count": 0, "llama.attention.causal": True, "llama.logit_scale": 1.0, "llama.pooling_type": 1,
        "llama.rope.scaling.type": "none", "llama.rope.scaling.finetuned": True, "llama.attention.scale": 8**-0.5,
        "llama.tensor_data_layout": "Meta AI original pth", "qwen2.expert_count": 8, "mradermacher.quantize_version": "2",
        "llama.attention.head_count": np.array([4, 4], np.int32), "general.tags": ["text-generation"],
    }  # fmt: skip
    tokens = torch.arange(20)[None]
    expected = load_model(small, "cpu")(tokens)[0]
    assert torch.equal(load_model(rewritten(small, tmp_path / "m.gguf", harmless), "cpu")(tokens)[0], expected)


def test_other_files_are_refused_by_what_they_are(tmp_path: Path, small: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"general.architecture": "mamba"}, "architecture 'mamba' is not supported: only gpt2, llama, qwen2"),
        ({"general.type": "adapter"}, "general.type is 'adapter'"),
        ({"split.count": 3}, "one of 3 parts of a model: join them"),
        ({"llama.block_count": 900000}, "block_count is 900,000, and there are tensors of 2 layers"),
        ({"llama.attention.head_count": np.array([4, 2], np.int32)}, "differs from layer to layer"),
        ({"llama.embedding_length": 48}, r"tensor \S+ is .*, and the metadata make it"),
        ({"llama.context_length": 0}, "llama.context_length is 0, no count"),
        ({"llama.rope.freq_base": "large"}, "llama.rope.freq_base is 'large', no number"),
    ]
    for fields, message in cases:
        with pytest.raises(CheckpointError, match=message):
            load_model(rewritten(small, tmp_path / "m.gguf", fields))
    with pytest.raises(CheckpointError, match=r"has no tensor blk\.1\.ffn_up\.weight"):
        load_model(rewritten(small, tmp_path / "m.gguf", without=["blk.1.ffn_up.weight"]))
    with pytest.raises(CheckpointError, match=r"has the tensors blk\.0\.ffn_gate_inp\.weight, which no model"):
        extra = {"blk.0.ffn_gate_inp.weight": np.zeros((8, 32), np.float32)}
        load_model(rewritten(small, tmp_path / "m.gguf", tensors=extra))
    with pytest.raises(CheckpointError, match="has no general.architecture"):
        save = tmp_path / "none.gguf"
        save.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(16))
        load_model(save)


@pytest.mark.parametrize(("theta", "width", "context", "factor"), [
    (500000.0, 128, 8192, 8.0), (500000.0, 64, 8192, 32.0), (10000.0, 32, 2048, 4.0),
])  # fmt: skip
def test_llama_3s_frequencies_are_found_again(
    tmp_path: Path, bpe: Tokenizer, theta: float, width: int, context: int, factor: float
) -> None:
    model = randomized("llama-wide-heads", len(bpe), width=32)
    scaling = RopeScaling(kind="llama3", factor=factor, original_max_seq_length=context)
    wide = model.config.model_copy(update={"rope_theta": theta, "head_dim": width, "rope_scaling": scaling})
    fresh = type(model)(wide)
    export_gguf(fresh, tmp_path / "m.gguf", "f16", tokenizer=bpe)
    assert load_model(tmp_path / "m.gguf", "cpu").config.rope_scaling == scaling
    file = GGUFFile(tmp_path / "m.gguf")
    other = file.read("rope_freqs.weight") ** 2
    with pytest.raises(CheckpointError, match=r"rope_freqs\.weight stretches rotary positions otherwise"):
        load_model(rewritten(tmp_path / "m.gguf", tmp_path / "other.gguf", tensors={"rope_freqs.weight": other}))


def test_a_window_is_kept_and_is_the_context_in_llamacpp(tmp_path: Path, small: Path, bpe: Tokenizer) -> None:
    path = rewritten(small, tmp_path / "m.gguf", {"llama.attention.sliding_window": 24})
    model = load_model(path, "cpu")
    assert (model.config.sliding_window, model.config.max_seq_length) == (24, 160)
    result = export_gguf(model, tmp_path / "again.gguf", "f32")
    assert "reaches back 24 tokens" in result.notes[0]
    assert GGUFFile(tmp_path / "again.gguf").fields["llama.context_length"] == 24


def test_what_the_file_says_of_its_model_goes_out_again(tmp_path: Path, small: Path) -> None:
    said = {
        "general.name": "A Name", "general.license": "apache-2.0", "general.license.link": "https://example.org",
        "tokenizer.chat_template": "{% for message in messages %}{{ message.content }}{% endfor %}",
        "general.sampling.temp": 0.6, "general.sampling.top_k": 20, "general.languages": ["en", "de"],
        "tokenizer.ggml.eot_token_id": 3, "tokenizer.ggml.add_eos_token": True,
    }  # fmt: skip
    model = load_model(rewritten(small, tmp_path / "m.gguf", said), "cpu")
    assert model.metadata["chat_template"] == said["tokenizer.chat_template"]
    assert (model.metadata["name"], model.metadata["license"]) == ("A Name", "apache-2.0")
    save_model(model, tmp_path / "model.pt")
    export_gguf(tmp_path / "model.pt", tmp_path / "again.gguf", "f32")
    again = GGUFFile(tmp_path / "again.gguf").fields
    assert {key: again.get(key) for key in said} == said
    export_gguf(model, tmp_path / "named.gguf", "f32", name="Another")
    assert GGUFFile(tmp_path / "named.gguf").fields["general.name"] == "Another"


def test_commands_take_gguf_files(tmp_path: Path, trained_run: Path) -> None:
    run("export", "gguf", str(trained_run), "m.gguf", "-q", "f32", "--no-verify", cwd=tmp_path)
    run("import", "gguf", "m.gguf", "model.pt", cwd=tmp_path)
    expected = load_model(trained_run, "cpu")
    tokens = torch.arange(60)[None]
    assert (load_model(tmp_path / "model.pt", "cpu")(tokens)[0] - expected(tokens)[0]).abs().max() < 1e-4
    generate = ("--prompt", "The assert statement", "--max-new-tokens", "20", "--greedy")
    shown = run("model", "info", "m.gguf", "--json", cwd=tmp_path).stdout
    assert json.loads(shown)["parameters"] == expected.num_parameters()
    one, other = (run("generate", "text", "-m", model, *generate, cwd=tmp_path).stdout
                  for model in ("m.gguf", str(trained_run)))  # fmt: skip
    assert one == other
    refused = run("import", "gguf", "model.pt", "again.pt", cwd=tmp_path, status=1)
    assert "is no GGUF file" in refused.stderr
    (tmp_path / "folder").mkdir()
    (tmp_path / "m.gguf").rename(tmp_path / "folder" / "m.gguf")
    assert "did you mean folder/m.gguf?" in run("model", "info", "folder", cwd=tmp_path, status=1).stderr


def test_a_gguf_file_goes_to_transformers(tmp_path: Path, small: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = load_model(small, "cpu")
    export_huggingface(model, tmp_path / "hf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    tokens = torch.arange(100)[None]
    assert (theirs(tokens).logits - model(tokens)[0]).abs().max() < 1e-4
    assert math.isfinite(float(model(tokens)[0].sum()))
