"""Legacy configurations: every key ends somewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmbuilder as lb
from llmbuilder.config import Config, migrate_legacy_config
from llmbuilder.config.validation import find_problems
from llmbuilder.errors import ConfigError
from llmbuilder.formats.nanogpt.configuration import CONVERTED_KEYS, FLAT_KEYS, migrate_dictionary

# The mapping table of the migration guide, key by key.
GUIDE = {
    "n_layer": ("model.num_layers", 3), "n_head": ("model.num_heads", 2), "n_embd": ("model.embedding_dim", 64),
    "block_size": ("model.max_seq_length", 99), "dropout": ("model.dropout", 0.3), "bias": ("model.bias", False),
    "vocab_size": ("model.vocab_size", 777), "device": ("system.device", "cpu"),
    "batch_size": ("training.batch_size", 5), "learning_rate": ("training.learning_rate", 0.002),
    "max_iters": ("training.max_steps", 123), "eval_interval": ("training.eval_every", 45),
}  # fmt: skip
NANOGPT = {
    "weight_decay": ("training.weight_decay", 0.2), "beta1": ("training.beta1", 0.8),
    "beta2": ("training.beta2", 0.99), "grad_clip": ("training.max_grad_norm", 0.5),
    "decay_lr": ("training.lr_schedule", "constant", False), "warmup_iters": ("training.warmup_steps", 11),
    "lr_decay_iters": ("training.lr_decay_steps", 400), "min_lr": ("training.min_learning_rate", 1e-5),
    "dtype": ("training.mixed_precision", "bf16", "bfloat16"), "compile": ("system.compile", True),
    "gradient_accumulation_steps": ("training.gradient_accumulation_steps", 4),
    "always_save_checkpoint": ("training.save_best_only", True, False), "eval_iters": ("training.eval_batches", 20),
    "init_from": ("training.init_from", "resume"), "out_dir": ("training.output_dir", "out-x"),
    "dataset": ("data.path", "shakespeare_char"), "wandb_log": ("tracking.wandb", True),
    "wandb_project": ("tracking.wandb_project", "owt"), "wandb_run_name": ("tracking.wandb_run_name", "gpt2"),
    "backend": ("system.distributed_backend", "nccl"), "log_interval": ("training.log_every", 7),
    "eval_only": ("training.eval_only", True),
}  # fmt: skip


def value_at(config: Config, dotted: str) -> object:
    section, key = dotted.split(".")
    return getattr(getattr(config, section), key)


@pytest.mark.parametrize(("key", "entry"), {**GUIDE, **NANOGPT}.items())
def test_each_key_moves_to_its_place(key: str, entry: tuple) -> None:
    target, expected, given_value = entry if len(entry) == 3 else (*entry, entry[1])
    config = migrate_legacy_config({"n_layer": 2, key: given_value})
    assert value_at(config, target) == expected


def test_all_nanogpt_keys_are_covered() -> None:
    assert {*GUIDE, *NANOGPT} <= {*FLAT_KEYS, *CONVERTED_KEYS}


def test_load_recognises_a_flat_file_and_gives_one_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"n_layer": 3, "n_head": 2, "n_embd": 64, "my_own_key": 5, "device": "cuda"}))
    config = lb.load_config(path)
    assert config.model.num_layers == 3
    assert config.model.activation == "gelu", "legacy weights keep the exact GELU"
    assert config.legacy == {"my_own_key": 5}
    assert len(caplog.records) == 1
    assert "my_own_key" in caplog.text
    config.save(tmp_path / "new.json")
    assert lb.load_config(tmp_path / "new.json") == config


def test_constant_rate_means_no_warmup_as_in_nanogpt() -> None:
    config = migrate_legacy_config({"n_layer": 2, "decay_lr": False, "warmup_iters": 100})
    assert (config.training.lr_schedule, config.training.warmup_steps) == ("constant", 0)
    assert 100 in config.legacy.values()  # type: ignore[union-attr]


def test_python_files_are_parsed_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "train_x.py"
    trap = tmp_path / "executed"
    path.write_text(
        '"""train a small model"""\n'
        "import time\n"
        f"open({str(trap)!r}, 'w').write('x')\n"
        "out_dir = 'out-x'\nbatch_size = 12\nblock_size = 8 * batch_size\nmax_iters = 5 * 2 ** 3\n"
        "wandb_run_name = 'mini-' + str(time.time())\nlearning_rate = 1e-3 # rate\nmin_lr = learning_rate / 10\n"
        "eval_only: bool = not True\n"
    )
    config = lb.load_config(path)
    assert not trap.exists()
    assert config.training.max_steps == 40
    assert config.model.max_seq_length == 96
    assert config.training.min_learning_rate == pytest.approx(1e-4)
    assert config.training.eval_only is False
    assert "wandb_run_name" in caplog.text, "what was not understood is named"
    # What the file leaves out is nanoGPT's own default, not ours.
    assert (config.model.num_layers, config.training.weight_decay, config.system.seed) == (12, 0.1, 1337)


@pytest.mark.parametrize("text", ["def f(:\n", "x = (((\n"])
def test_python_files_with_errors_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match="not valid Python"):
        lb.load_config(path)


def test_huge_powers_are_not_computed(tmp_path: Path) -> None:
    path = tmp_path / "bomb.py"
    path.write_text("n_layer = 2\nx = 9 ** 9 ** 9\n")
    assert lb.load_config(path).model.num_layers == 2


def test_nested_format_of_the_older_scripts() -> None:
    config = migrate_legacy_config(
        {
            "model": {"embedding_dim": 48, "num_layers": 3, "num_heads": 3, "hidden_dim": 100, "use_bias": True,
                      "tie_weights": True, "max_seq_length": 64, "vocab_size": 500, "dropout": 0.2},
            "training": {"batch_size": 2, "gradient_clip_norm": 0.7, "use_mixed_precision": False, "num_workers": 3,
                         "warmup_steps": 5, "log_every": 10, "pin_memory": True},
            "device": {"use_cuda": False, "cpu_threads": 4, "enable_mkldnn": True},
            "tokenizer": {"vocab_size": 500, "model_type": "bpe"},
            "optimization": {"beta1": 0.85, "scheduler": "cosine", "min_lr": 1e-6},
            "preprocessing": {"remove_duplicates": False},
            "logging": {"level": "INFO"},
        }
    )  # fmt: skip
    assert (config.model.embedding_dim, config.model.intermediate_size) == (48, 100)
    assert (config.training.max_grad_norm, config.training.mixed_precision) == (0.7, "no")
    assert (config.system.device, config.system.num_threads) == ("cpu", 4)
    assert (config.training.dataloader_num_workers, config.training.beta1) == (3, 0.85)
    assert config.data.remove_duplicates is False
    assert set(config.legacy or {}) == {"training.pin_memory", "device.enable_mkldnn", "logging.level"}


def test_cuda_flags_become_a_device() -> None:
    nested = {"model": {"use_bias": True}, "device": {"use_cuda": True, "cuda_device": 1}}
    assert migrate_legacy_config(nested).system.device == "cuda:1"


def test_something_else_is_not_taken_for_legacy() -> None:
    with pytest.raises(ConfigError, match="no legacy configuration"):
        migrate_legacy_config({"colour": "blue"})


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.integers() | st.text() | st.booleans()))
def test_no_key_is_dropped(extra: dict[str, object]) -> None:
    given_keys = {**extra, "n_layer": 2}
    migrated = migrate_dictionary(given_keys)
    accounted = {*migrated.mapping, *(key.split(" ")[0] for key in migrated.unmapped)}
    assert accounted == set(given_keys)


def test_mingpts_configuration_of_a_run() -> None:
    written = {
        "system": {"seed": 3407, "work_dir": "./out/chargpt"},
        "data": {"block_size": 128},
        "model": {"model_type": "gpt-mini", "n_layer": None, "n_head": None, "n_embd": None, "vocab_size": 65,
                  "block_size": 128, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "attn_pdrop": 0.2},
        "trainer": {"device": "auto", "num_workers": 4, "max_iters": None, "batch_size": 64, "learning_rate": 0.0005,
                    "betas": [0.9, 0.95], "weight_decay": 0.1, "grad_norm_clip": 1.0},
    }  # fmt: skip
    found = migrate_dictionary(written)
    config = migrate_legacy_config(written)
    assert (config.model.num_layers, config.model.num_heads, config.model.embedding_dim) == (6, 6, 192)
    assert (config.model.activation, config.model.tie_embeddings, config.model.bias) == ("gelu_tanh", False, True)
    assert (config.training.learning_rate, config.training.beta2, config.training.lr_schedule) == (
        0.0005, 0.95, "constant",
    )  # fmt: skip
    assert (config.system.seed, config.training.output_dir) == (3407, "./out/chargpt")
    assert found.mapping.keys() | found.unmapped.keys() == found.legacy_values.keys()
    assert "model.attn_pdrop" in found.unmapped
    assert (found.mapping["data.block_size"], config.model.max_seq_length) == ("model.max_seq_length", 128)
    assert not find_problems(config)
