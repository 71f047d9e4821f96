"""Model files: round trips, damage, foreign files, legacy checkpoints, a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import llmbuilder as lb
from llmbuilder.config import Config, ModelConfig
from llmbuilder.errors import CheckpointError, LLMBuilderError
from llmbuilder.model import LanguageModel, build_model, load_model, read_metadata, save_model
from llmbuilder.tokenizer import Tokenizer
from tests.references import NanoGPT, OldScriptsGPT

CONFIG = ModelConfig(vocab_size=512, num_layers=2, num_heads=2, embedding_dim=32, max_seq_length=32, dropout=0.0)


@pytest.fixture
def model() -> LanguageModel:
    return build_model(CONFIG).eval()


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "folder"])
@pytest.mark.parametrize("family", ["gpt", "llama"])
def test_round_trip_keeps_logits_and_tokenizer(tmp_path: Path, bpe: Tokenizer, name: str, family: str) -> None:
    model = build_model(CONFIG.model_copy(update={"model_type": family})).eval()
    save_model(model, tmp_path / name, tokenizer=bpe)
    again = load_model(tmp_path / name, device="cpu")
    tokens = torch.arange(20)[None]
    assert torch.equal(model(tokens)[0], again(tokens)[0])
    assert again.tokenizer == bpe
    assert not again.training


def test_metadata_may_hold_configurations_and_results(tmp_path: Path, model: LanguageModel) -> None:
    from llmbuilder.training import TrainingResults

    results = TrainingResults(1.5, None, 4.5, 10.0, 2.0, 3, "model.pt", None)
    path = save_model(
        model, tmp_path / "model.pt",
        {"config": Config(), "results": results, "array": torch.tensor([1, 2]), "where": Path("x"), "set": {1}},
    )  # fmt: skip
    stored = read_metadata(path)
    assert stored["config"]["model"]["num_layers"] == 12
    assert stored["results"]["final_loss"] == 1.5
    assert stored["array"] == [1, 2]
    assert load_model(path).metadata["where"] == "x"
    torch.load(path, weights_only=True)  # plain values only
    with pytest.raises(CheckpointError, match="metadata cannot hold a object"):
        save_model(model, tmp_path / "other.pt", {"thing": object()})
    assert not (tmp_path / "other.pt").exists()


def test_an_earlier_file_is_kept(tmp_path: Path, model: LanguageModel, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "model.pt").write_text("precious")
    save_model(model, tmp_path / "model.pt")
    assert (tmp_path / "model.1.pt").read_text() == "precious"
    assert "kept as" in caplog.text
    save_model(model, tmp_path / "model.pt", overwrite=True)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("keep", [0.5, 0.99, 0.01])
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_truncated_files(tmp_path: Path, model: LanguageModel, name: str, keep: float) -> None:
    path = save_model(model, tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CheckpointError, match=rf"{name} is (cut short|no complete)"):
        load_model(path)


def test_flipped_bits_are_noticed(tmp_path: Path, model: LanguageModel) -> None:
    path = save_model(model, tmp_path / "model.safetensors")
    content = bytearray(path.read_bytes())
    content[-100] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        load_model(path)


def test_foreign_and_future_files(tmp_path: Path, model: LanguageModel) -> None:
    torch.save({"hello": 1, "world": 2}, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="no model of this package.*hello, world"):
        load_model(tmp_path / "foreign.pt")
    content = torch.load(save_model(model, tmp_path / "model.pt"), weights_only=True)
    torch.save({**content, "format_version": 99, "llmbuilder": "9.0"}, tmp_path / "future.pt")
    with pytest.raises(CheckpointError, match=r"format version 99, made by LLMBuilder 9.0.*upgrade"):
        load_model(tmp_path / "future.pt")
    (tmp_path / "text.pt").write_text("not a model at all")
    with pytest.raises(CheckpointError, match="text.pt is"):
        load_model(tmp_path / "text.pt")
    with pytest.raises(CheckpointError, match="no such model file"):
        load_model(tmp_path / "absent.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no model"):
        load_model(tmp_path / "empty")


class _Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("bomb-went-off"),)


def test_a_pickle_bomb_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "payload": _Bomb()}, "model.pt")
    with pytest.raises(CheckpointError, match=r"(?s)is refused.*which can run any code.*torch\.save\(\{'model'"):
        load_model("model.pt")
    assert not Path("bomb-went-off").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits are set through resource on Linux")
def test_full_disk_leaves_the_earlier_file(tmp_path: Path, model: LanguageModel) -> None:
    """A real write that fails half-way: the kernel refuses to let the file grow, as a full disk does."""
    path = save_model(model, tmp_path / "model.pt")
    before = path.read_bytes()
    code = (
        "import resource, signal, sys, llmbuilder as lb\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "model = lb.load_model(sys.argv[1], 'cpu')\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2}, {len(before) // 2}))\n"
        "try:\n    lb.save_model(model, sys.argv[1], overwrite=True)\n"
        "except lb.errors.LLMBuilderError as error:\n    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert "cannot write" in result.stdout
    assert "what was there before is unchanged" in result.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left behind"


def test_an_unwritable_place_is_a_message(model: LanguageModel) -> None:
    with pytest.raises(LLMBuilderError, match="cannot write /proc"):
        save_model(model, "/proc/model.pt")


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_nanogpt_checkpoints_give_the_same_logits(tmp_path: Path, prefix: str, bias: bool) -> None:
    torch.manual_seed(0)
    legacy = NanoGPT(bias=bias)
    tokens = torch.randint(65, (4, 33))
    with torch.enable_grad():
        optimizer = legacy.train_steps(tokens, 5)
    torch.save(legacy.checkpoint(optimizer, prefix=prefix), tmp_path / "ckpt.pt")
    model = load_model(tmp_path / "ckpt.pt", "cpu")
    assert model.config.bias is bias
    assert model.config.activation == "gelu"
    assert (legacy(tokens[:, :32]) - model(tokens[:, :32])[0]).abs().max() < 1e-5
    assert model.metadata["legacy"]["step"] == 20
    assert model.metadata["legacy"]["best_validation_loss"] == pytest.approx(3.25)


@torch.no_grad()
def test_the_bare_form_and_the_older_scripts(tmp_path: Path) -> None:
    legacy = NanoGPT()
    torch.save({"model": legacy.state_dict(), "config": legacy.args, "iter_num": 7}, tmp_path / "bare.pt")
    tokens = torch.randint(65, (2, 32))
    assert (legacy(tokens) - load_model(tmp_path / "bare.pt", "cpu")(tokens)[0]).abs().max() < 1e-5

    old = OldScriptsGPT()
    nested = {"model": {"num_heads": 2, "embedding_dim": 32, "dropout": 0.1}}
    torch.save({"model_state_dict": old.state_dict(), "config": nested, "epoch": 3}, tmp_path / "old.pt")
    model = load_model(tmp_path / "old.pt", "cpu")
    assert (old(tokens) - model(tokens)[0]).abs().max() < 1e-5
    assert model.metadata["legacy"]["origin"] == "older LLMBuilder scripts"


def test_weights_alone_need_a_configuration(tmp_path: Path) -> None:
    legacy = NanoGPT()
    torch.save(legacy.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="does not say how many attention heads"):
        load_model(tmp_path / "weights.pt")
    config = ModelConfig(vocab_size=65, num_layers=2, num_heads=2, embedding_dim=32, max_seq_length=32, bias=False,
                         activation="gelu", dropout=0.0)  # fmt: skip
    tokens = torch.randint(65, (2, 32))
    with torch.no_grad():
        assert (
            legacy(tokens) - load_model(tmp_path / "weights.pt", "cpu", config=config)(tokens)[0]
        ).abs().max() < 1e-5


def test_a_tokenizer_beside_the_model_is_found(tmp_path: Path, model: LanguageModel, bpe: Tokenizer) -> None:
    save_model(model, tmp_path / "model.pt")
    assert load_model(tmp_path / "model.pt").tokenizer is None
    bpe.save_pretrained(tmp_path / "tokenizer")
    assert load_model(tmp_path / "model.pt").tokenizer is not None


def test_unsupported_hugging_face_models_say_why(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 100}
    LlamaForCausalLM(LlamaConfig(**small, intermediate_size=64, hidden_act="gelu")).save_pretrained(tmp_path / "a")
    with pytest.raises(CheckpointError, match="hidden_act 'gelu', not supported"):
        load_model(tmp_path / "a")
    OPTForCausalLM(OPTConfig(**small, ffn_dim=64, word_embed_proj_dim=32)).save_pretrained(tmp_path / "b")
    with pytest.raises(CheckpointError, match="'opt' is not supported"):
        load_model(tmp_path / "b")


@torch.no_grad()
def test_models_made_by_transformers_open(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    theirs = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=100, n_positions=64)).eval()
    theirs.save_pretrained(tmp_path)
    tokens = torch.randint(100, (2, 64))
    assert (theirs(tokens).logits - lb.load_model(tmp_path, "cpu")(tokens)[0]).abs().max() < 1e-5


def test_a_gguf_file_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_model(tmp_path / "model.gguf")
