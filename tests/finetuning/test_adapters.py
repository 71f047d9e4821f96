"""Adapters: beside ours and beside `peft`, the same logits from the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmbuilder.errors import CheckpointError, ConfigError
from llmbuilder.finetuning import load_adapter, save_adapter
from llmbuilder.finetuning.merging import merge_adapter_files
from llmbuilder.finetuning.peft_files import base_checksum
from llmbuilder.finetuning.switching import Adapters
from llmbuilder.model import LanguageModel, load_model
from llmbuilder.model.adapters import (
    AdaptedLinear,
    AdapterShape,
    adapted_layers,
    add_adapters,
    has_adapters,
    hold_frozen,
    linear_layers,
    merge_adapters,
    release_frozen,
    remove_adapters,
)
from tests.command_line import run, run_program

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
TOKENS = torch.arange(40).view(2, 20) * 7 % 97


@pytest.fixture(params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A small random model, written by transformers."""
    torch.manual_seed(1)
    if request.param == "llama":
        config = transformers.LlamaConfig(
            vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
    else:
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=97, n_embd=48, n_layer=2, n_head=4, n_positions=64)
        )
    model.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def ours(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(TOKENS)[0]


def theirs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(TOKENS).logits


def peft_model(base: Path, **settings: Any) -> Any:
    is_gpt = json.loads((base / "config.json").read_text())["model_type"] == "gpt2"
    targets = ["c_attn", "c_fc", "c_proj"] if is_gpt else ["q_proj", "v_proj", "o_proj", "down_proj"]
    settings = {"r": 4, "lora_alpha": 12, "target_modules": targets, "fan_in_fan_out": is_gpt, **settings}
    config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings)
    torch.manual_seed(2)
    return peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config)


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"use_rslora": True}], ids=["lora", "dora", "rslora"])
def test_an_adapter_of_peft_computes_the_same_here(base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    judge = peft_model(base, **settings)
    judge.save_pretrained(tmp_path / "adapter")
    model = load_model(base, "cpu")
    plain = ours(model)
    load_adapter(model, tmp_path / "adapter")
    assert (ours(model) - theirs(judge)).abs().max() < 1e-5
    assert (ours(model) - plain).abs().max() > 1e-2  # it does something
    merged = merge_adapters(model)
    assert not has_adapters(merged)
    assert (ours(merged) - theirs(judge)).abs().max() < 1e-5


def test_ranks_and_scales_of_single_layers(base: Path, tmp_path: Path) -> None:
    name = "c_fc" if "gpt2" in (base / "config.json").read_text() else "v_proj"
    judge = peft_model(base, rank_pattern={name: 2}, alpha_pattern={name: 30})
    judge.save_pretrained(tmp_path / "adapter")
    model = load_adapter(load_model(base, "cpu"), tmp_path / "adapter")
    assert (ours(model) - theirs(judge)).abs().max() < 1e-5
    save_adapter(model, tmp_path / "again")
    again = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), tmp_path / "again")
    assert (theirs(again) - theirs(judge)).abs().max() < 1e-5


@pytest.mark.parametrize("has_magnitudes", [False, True])
def test_our_adapter_computes_the_same_in_peft(base: Path, tmp_path: Path, has_magnitudes: bool) -> None:
    model = load_model(base, "cpu")
    plain = ours(model)
    names = linear_layers(model)
    add_adapters(model, {name: AdapterShape(4, 2.0, has_magnitudes) for name in names}, seed=3)
    assert (ours(model) - plain).abs().max() < 1e-5  # B begins at zero
    generator = torch.Generator().manual_seed(4)
    for _, layer in adapted_layers(model):
        torch.nn.init.normal_(layer.lora_B.weight, std=0.05, generator=generator)
        if layer.lora_magnitude_vector is not None:
            torch.nn.init.uniform_(layer.lora_magnitude_vector, 0.5, 1.5, generator=generator)
    save_adapter(model, tmp_path / "adapter", base="someone/base")
    judge = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter"
    )
    assert (ours(model) - theirs(judge)).abs().max() < 1e-5
    back = load_adapter(load_model(base, "cpu"), tmp_path / "adapter")
    assert torch.equal(ours(back), ours(model))


def test_only_the_adapter_learns(base: Path) -> None:
    model = load_model(base, "cpu")
    names = linear_layers(model)
    add_adapters(model, dict.fromkeys(names, AdapterShape(2, 1.0)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        loss = model.train().summed_loss(TOKENS, TOKENS.roll(-1)) / TOKENS.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all("lora_" in name for name in changed)
    expected = ours(model)
    assert (ours(merge_adapters(model)) - expected).abs().max() < 1e-4
    assert all(parameter.requires_grad for parameter in model.parameters())


def with_adapters(base: Path, *, has_magnitudes: bool = False) -> LanguageModel:
    """Return a model whose adapters do something."""
    model = load_model(base, "cpu")
    add_adapters(model, dict.fromkeys(linear_layers(model), AdapterShape(2, 1.0, has_magnitudes)))
    torch.manual_seed(3)
    for _, layer in adapted_layers(model):
        torch.nn.init.normal_(layer.lora_B.weight, std=0.1)
    return model


def held(model: LanguageModel, dtype: torch.dtype | None = torch.bfloat16) -> LanguageModel:
    whole = {name: layer.weight for name, layer in adapted_layers(model)}
    hold_frozen(model, dtype, whole.__getitem__)
    return model


def test_frozen_matrices_in_a_short_type_compute_what_autocast_does_and_come_back_whole(base: Path) -> None:
    model, expected = held(with_adapters(base)), with_adapters(base)
    assert {layer.weight.dtype for _, layer in adapted_layers(model)} == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(model), ours(expected))
        losses = [one.summed_loss(TOKENS, TOKENS.roll(-1)) for one in (model, expected)]
    gradients = [torch.autograd.grad(loss, [p for p in one.parameters() if p.requires_grad])
                 for loss, one in zip(losses, (model, expected), strict=True)]  # fmt: skip
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert not torch.equal(ours(model), ours(expected)) and (ours(model) - ours(expected)).abs().max() < 0.05
    assert base_checksum(model) == base_checksum(expected)
    written = model.weights()
    assert all(torch.equal(tensor, written[name]) for name, tensor in expected.weights().items())
    release_frozen(model)
    assert torch.equal(ours(model), ours(expected))
    assert torch.equal(ours(merge_adapters(held(model))), ours(merge_adapters(expected)))


def test_matrices_in_four_bits_compute_what_they_unpack_to_and_come_back_whole(base: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model, expected, whole = held(with_adapters(base), None), with_adapters(base), with_adapters(base)
    layers = list(zip(adapted_layers(model), adapted_layers(expected), strict=True))
    for (_, packed), (_, plain) in layers:
        assert packed.packed is not None and packed.weight.numel() == 0
        assert packed.packed.packed.numel() * 2 == plain.weight.numel()
        plain.weight.data = packed.packed.unpacked(torch.float32)
        assert plain.weight.shape == packed.packed.shape
    assert (ours(model) - ours(expected)).abs().max() < 1e-5
    assert 1e-3 < (ours(model) - ours(whole)).abs().max() < 0.5, "four bits round"
    found, wanted = (
        torch.autograd.grad(one.summed_loss(TOKENS, TOKENS.roll(-1)), [p for p in one.parameters() if p.requires_grad])
        for one in (model, expected)
    )
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(found, wanted, strict=True))
    assert model.num_parameters() == whole.num_parameters() and base_checksum(model) == base_checksum(whole)
    written = model.weights()
    assert all(torch.equal(tensor, written[name]) for name, tensor in whole.weights().items())
    release_frozen(model)
    assert torch.equal(ours(model), ours(whole))


def test_the_lengths_of_dora_are_compared_with_whole_matrices(base: Path) -> None:
    assert {layer.weight.dtype for _, layer in adapted_layers(held(with_adapters(base, has_magnitudes=True)))} == {
        torch.float32
    }


def test_adapters_leave_nothing_of_a_short_type_behind(base: Path) -> None:
    assert torch.equal(ours(remove_adapters(held(with_adapters(base)))), ours(load_model(base, "cpu")))


def test_what_does_not_belong_is_refused(base: Path, tmp_path: Path) -> None:
    peft_model(base).save_pretrained(tmp_path / "adapter")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    values = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())

    def refused(match: str, tensors: dict[str, torch.Tensor] | None = None, **changed: Any) -> None:
        save_file(weights if tensors is None else tensors, tmp_path / "adapter" / "adapter_model.safetensors")
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({**values, **changed}))
        with pytest.raises(CheckpointError, match=match):
            load_adapter(load_model(base, "cpu"), tmp_path / "adapter")

    some = next(name for name in weights if "lora_A" in name)
    refused("peft_type 'IA3'", peft_type="IA3")
    refused("modules_to_save", modules_to_save=["lm_head"])
    refused("bias 'all'", bias="all")
    refused("a_new_kind", a_new_kind=7)
    refused("lora_alpha 'much'", lora_alpha="much")
    refused("pattern", alpha_pattern={"(a+)+$": 3})
    refused("another model", {name.replace(".0.", ".9."): tensor for name, tensor in weights.items()})
    refused("another model", {**weights, some: weights[some][:, :5].contiguous()})
    refused("incomplete", {name: tensor for name, tensor in weights.items() if name != some})
    refused("not supported", {**weights, "base_model.model.model.embed_tokens.weight": torch.zeros(2, 2)})
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_adapter(load_model(base, "cpu"), tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="holds no adapter"):
        load_adapter(load_model(base, "cpu"), tmp_path)


def test_tensors_are_those_that_the_settings_tell_of(base: Path, tmp_path: Path) -> None:
    peft_model(base, target_modules=["q_proj", "c_attn"]).save_pretrained(tmp_path / "whole")
    weights = load_file(tmp_path / "whole" / "adapter_model.safetensors")
    settings = json.loads((tmp_path / "whole" / "adapter_config.json").read_text())
    load_adapter(load_model(base, "cpu"), tmp_path / "whole")
    second = {name: tensor for name, tensor in weights.items() if ".1." not in name}
    broken = {name: tensor * float("nan") for name, tensor in weights.items()}
    for changed, values, said in [
        (second, {}, "is incomplete: it lacks the adapters of"),
        (weights, {"r": settings["r"] + 1}, "says rank"),
        (weights, {"use_dora": True}, "has no lora_magnitude_vector"),
        (weights, {"layers_to_transform": [0]}, "tells of no adapters beside"),
        (broken, {}, "is damaged"),
    ]:
        (tmp_path / "other").mkdir(exist_ok=True)
        save_file(changed, tmp_path / "other" / "adapter_model.safetensors")
        (tmp_path / "other" / "adapter_config.json").write_text(json.dumps({**settings, **values}))
        with pytest.raises(CheckpointError, match=said):
            load_adapter(load_model(base, "cpu"), tmp_path / "other")
    layers = [layer for layer in linear_layers(load_model(base, "cpu")) if layer.endswith(("mlp.c_proj", "q_proj"))]
    one = load_model(base, "cpu")
    add_adapters(one, {layer: AdapterShape(4, 1.0, False) for layer in layers})
    load_adapter(load_model(base, "cpu"), save_adapter(one, tmp_path / "one"))


def test_an_adapter_of_ours_knows_its_base(base: Path, tmp_path: Path) -> None:
    model = load_model(base, "cpu")
    add_adapters(model, dict.fromkeys(linear_layers(model), AdapterShape(2, 1.0)))
    with pytest.raises(ConfigError, match="adapters already"):
        add_adapters(model, dict.fromkeys(linear_layers(model), AdapterShape(2, 1.0)))
    save_adapter(model, tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="already exists"):
        save_adapter(model, tmp_path / "adapter")
    other = load_model(base, "cpu")
    with torch.no_grad():
        other.lm_head.weight += 1
    with pytest.raises(CheckpointError, match="belongs to another model"):
        load_adapter(other, tmp_path / "adapter")


def adapted(base: Path, folder: Path, *, has_magnitudes: bool = False) -> LanguageModel:
    """Write adapters of several ranks and scales, drawn at random, and return the model with them."""
    model = load_model(base, "cpu")
    names = linear_layers(model)
    add_adapters(model, {name: AdapterShape(2 + number % 3, 0.5 + number, has_magnitudes)
                         for number, name in enumerate(names)})  # fmt: skip
    torch.manual_seed(4)
    for _, layer in adapted_layers(model):
        torch.nn.init.normal_(layer.lora_B.weight, std=0.05)
    save_adapter(model, folder)
    return model


@pytest.mark.parametrize("has_magnitudes", [False, True], ids=["lora", "dora"])
def test_a_merged_model_is_one_that_needs_no_adapter(base: Path, tmp_path: Path, has_magnitudes: bool) -> None:
    beside = ours(adapted(base, tmp_path / "adapter", has_magnitudes=has_magnitudes))
    found = json.loads(
        run("model", "merge", base, tmp_path / "adapter", tmp_path / "whole.pt", "--json", cwd=tmp_path).stdout
    )
    assert found["layers"] == len(linear_layers(load_model(base, "cpu")))
    assert found["max_difference"] < 1e-5
    whole = load_model(tmp_path / "whole.pt", "cpu")
    assert not has_adapters(whole)
    assert (ours(whole) - beside).abs().max() < 1e-5
    assert (ours(whole) - ours(load_model(base, "cpu"))).abs().max() > 0.01


def test_a_merge_that_would_change_logits_writes_nothing(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted(base, tmp_path / "adapter")
    monkeypatch.setattr(AdaptedLinear, "merged", lambda self: self.weight * 1.1)
    with pytest.raises(CheckpointError, match="cannot be merged into .*: logits change by"):
        merge_adapter_files(base, tmp_path / "adapter", tmp_path / "whole.pt")
    assert not (tmp_path / "whole.pt").exists()


def two_adapters(model: LanguageModel, folder: Path) -> list[Path]:
    """Write two different adapters of a model, and leave it as it was."""
    folders = [folder / name / "adapter" for name in ("ships", "verses")]
    for number, place in enumerate(folders):
        add_adapters(model, dict.fromkeys(linear_layers(model), AdapterShape(2, 1.0)))
        torch.manual_seed(number)
        for _, layer in adapted_layers(model):
            torch.nn.init.normal_(layer.lora_B.weight, std=0.1)
        place.parent.mkdir()
        save_adapter(model, place)
        remove_adapters(model)
    return folders


def test_adapters_are_switched_between(base: Path, tmp_path: Path) -> None:
    model = load_model(base, "cpu")
    alone, folders = ours(model), two_adapters(model, tmp_path)
    expected = [ours(load_adapter(load_model(base, "cpu"), folder)) for folder in folders]
    assert not torch.equal(*expected)
    adapters = Adapters(model, folders)
    assert torch.equal(ours(model), expected[0]) and adapters.current == str(folders[0])
    adapters.use("verses/adapter")
    assert torch.equal(ours(model), expected[1]) and adapters.current == str(folders[1])
    with pytest.raises(ConfigError, match="several adapters are called 'adapter'"):
        adapters.use("adapter")
    with pytest.raises(ConfigError, match="no adapter is called 'odes': there are .*none"):
        adapters.use("odes")
    assert torch.equal(ours(model), expected[1]), "what is not there changes nothing"
    adapters.use("none")
    assert torch.equal(ours(model), alone)


def test_an_adapter_of_another_model_is_refused_before_it_is_asked_for(base: Path, tmp_path: Path) -> None:
    model = load_model(base, "cpu")
    folders = two_adapters(model, tmp_path)
    with torch.no_grad():
        model.embedding.weight.mul_(2)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        Adapters(model, folders)


def test_a_conversation_changes_adapters(tmp_path: Path, trained_run: Path) -> None:
    folders = two_adapters(load_model(trained_run, "cpu"), tmp_path)
    chosen = [part for folder in folders for part in ("--adapter", folder)]
    asked = ["generate", "text", "--model", trained_run, "--greedy", "-n", 12, "--device", "cpu"]
    typed = "The assert\n/adapter verses/adapter\nThe assert\n/adapter odes\n/adapter none\nThe assert\n/adapter\n"
    done = run_program(*asked, *chosen, "-i", cwd=tmp_path, stdin=typed)
    single = [["--adapter", folders[0]], ["--adapter", folders[1]], []]
    expected = [run(*asked, "--prompt", "The assert", *one, cwd=tmp_path).stdout.strip() for one in single]
    assert len(set(expected)) == 3
    places = [done.stdout.index(text) for text in expected]
    assert places == sorted(places)
    assert "no adapter is called 'odes'" in done.stderr and "none (in use)" in done.stderr
    refused = run(*asked, *chosen, "--prompt", "x", cwd=tmp_path, status=2).stderr
    assert "give -i" in refused


def test_commands_lay_adapters_beside_a_model(tmp_path: Path, trained_run: Path) -> None:
    model = load_model(trained_run, "cpu")
    add_adapters(model, dict.fromkeys(linear_layers(model), AdapterShape(4, 2.0)))
    torch.manual_seed(4)
    for _, layer in adapted_layers(model):
        torch.nn.init.normal_(layer.lora_B.weight, std=0.1)
    save_adapter(model, tmp_path / "adapter")
    merge_adapter_files(trained_run, tmp_path / "adapter", tmp_path / "whole.pt")
    (tmp_path / "text.txt").write_text("The assert statement is short. " * 20)
    beside = ["--model", trained_run, "--adapter", tmp_path / "adapter"]
    asked = ["generate", "text", "--prompt", "The assert", "--greedy", "--max-new-tokens", 12, "--device", "cpu"]
    written = [
        run(*asked, *one, cwd=tmp_path).stdout for one in (beside, ["--model", tmp_path / "whole.pt"], beside[:2])
    ]
    assert written[0] == written[1] != written[2]
    told = [
        json.loads(run("model", "evaluate", *one, "--data", tmp_path / "text.txt", "--json", cwd=tmp_path).stdout)[
            "loss"
        ]
        for one in ([trained_run, *beside[2:]], [tmp_path / "whole.pt"], [trained_run])
    ]
    assert told[0] == pytest.approx(told[1], rel=1e-5)
    assert told[0] != pytest.approx(told[2], rel=1e-3)
