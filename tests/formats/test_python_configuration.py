"""Python configurations as people write them: understood without running, and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbuilder.errors import ConfigError
from llmbuilder.formats.nanogpt.configuration import NANOGPT_DEFAULTS, MigratedConfig, migrate_python_file, weight_of


def migrated(folder: Path, text: str, name: str = "config/train_x.py") -> MigratedConfig:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return migrate_python_file(path)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("dataset: str = 'books'\nout_dir = f'out-{dataset}'", "out_dir", "out-books"),
        ("name = 'a'\nout_dir = 'out-' + name + '-' + str(3)", "out_dir", "out-a-3"),
        ("import os\nout_dir = os.path.join('runs', 'a', 'b')", "out_dir", "runs/a/b"),
        ("from pathlib import Path\nout_dir = str(Path('runs') / 'a')", "out_dir", "runs/a"),
        ("out_dir = 'run-%s-%d' % ('a', 3)", "out_dir", "run-a-3"),
        ("out_dir = 'run-{}-{n:03d}'.format('a', n=7)", "out_dir", "run-a-007"),
        ("rate = 1e-3\nlearning_rate = rate * 2\nmin_lr = learning_rate/10", "min_lr", 2e-4),
        ("small = True\nn_layer = 4 if small else 12", "n_layer", 4),
        ("small = False\nif small:\n    n_layer = 4\nelse:\n    n_layer = 8", "n_layer", 8),
        ("n_layer = n_head = 3", "n_head", 3),
        ("n_layer, n_head = 2, 6", "n_head", 6),
        ("batch_size = 4\nbatch_size *= 8", "batch_size", 32),
        ("config = dict(n_layer=5, n_head=5)", "n_layer", 5),
        ("config = {'n_layer': 5, 'bias': False}\nconfig['n_layer'] = 7", "n_layer", 7),
        ("base = {'n_layer': 5}\nconfig = {**base, 'n_head': 2}\nconfig.update(n_layer=6)", "n_layer", 6),
        ("config = {'model': {'n_layer': 5}, 'train': {'batch_size': 3}}", "batch_size", 3),
        ("class Config:\n    n_layer = 5\n    n_head = n_layer", "n_head", 5),
        ("class Config:\n    def __init__(self, n_head=9):\n        self.n_layer = 5\n        self.n_head = n_head",
         "n_head", 9),
        ("from dataclasses import dataclass, field\n@dataclass\nclass Training:\n    n_layer: int = 5\n"
         "    batch_size: int = field(default=6)\nconfig = Training(n_layer=8)\nconfig.batch_size = 9",
         "batch_size", 9),
        ("@dataclass\nclass GPTConfig:\n    n_layer: int = 12\nconfig = GPTConfig(n_layer=8)", "n_layer", 8),
        ("class A:\n    n_layer = 2\nclass B(A):\n    n_head = 3", "n_layer", 2),
        ("import os\nbatch_size = int(os.environ.get('BATCH', 16))", "batch_size", 16),
        ("import torch\ntorch.manual_seed(77)", "seed", 77),
        ("max_iters = 10 ** 3", "max_iters", 1000),
        ("block_size = 1 << 8", "block_size", 256),
        ("globals().update({'n_layer': 3})", "n_layer", 3),
        ("exec(open('config/base.py').read())\nn_head = 2", "n_layer", 21),
        ("from base import *\nn_head = 2", "n_layer", 21),
        ("from config.base import n_layer as n_head", "n_head", 21),
    ],
)  # fmt: skip
def test_settings_are_understood(tmp_path: Path, text: str, key: str, value: object) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "base.py").write_text("n_layer = 21\n")
    found = migrated(tmp_path, text)
    assert key in found.mapping
    expected = pytest.approx(value) if isinstance(value, float) else value
    assert found.legacy_values[key] == expected
    section, _, name = found.mapping[key].partition(".")
    assert found.values[section][name] == expected


def test_what_asks_the_machine_is_left_to_the_machine(tmp_path: Path) -> None:
    found = migrated(
        tmp_path,
        "import torch\ndevice = 'cuda' if torch.cuda.is_available() else 'cpu'\n"
        "dtype = 'bfloat16' if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else 'float16'\n"
        "compile = device == 'cuda'\n",
    )
    assert found.values["system"]["device"] == "auto"
    assert found.values["training"]["mixed_precision"] == "auto"
    assert found.legacy_values["device"] == "'cuda' if torch.cuda.is_available() else 'cpu'"
    assert "compile" in found.skipped, "what follows from the machine is not known"
    found.values["system"]["device"].encode()
    assert type(found.values["system"]["device"]) is str


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import time\nout_dir = 'x' + str(time.time())", "out_dir"),
        ("n_layer = load()", "n_layer"),
        ("n_layer = undefined", "n_layer"),
        ("import os\nn_layer = os.environ['N']", "n_layer"),
        ("a, b = pair()", "(a, b)"),
        ("for i in range(3):\n    n_layer = i", "n_layer"),
        ("try:\n    n_layer = 2\nexcept ValueError:\n    n_layer = 3", "n_layer"),
        ("if found():\n    n_layer = 2", "n_layer"),
        ("from elsewhere import *", "line 1"),
        ("exec(open('missing.py').read())", "line 1"),
        ("n_layer = 1 / 0", "n_layer"),
        ("n_layer = [1][4]", "n_layer"),
        ("n_layer = int('a')", "n_layer"),
        ("n_layer = ''.__class__", "n_layer"),
        ("out_dir = '{0.__class__}'.format(1)", "out_dir"),
        ("n_layer = b'bytes'", "n_layer"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path: Path, text: str, name: str) -> None:
    found = migrated(tmp_path, text)
    assert name in found.skipped
    assert name in found.legacy_values
    assert name not in found.mapping


@pytest.mark.parametrize(
    "text",
    [
        "x = 9 ** 9 ** 9", "x = 2.0 ** 1e308", "x = 'a' * 10**12", "x = [0] * 10**12", "x = 10**9 * [0]",
        "x = '%099999999999d' % 1", "x = '%*d' % (10**9, 1)", "x = f'{1:>9999999999}'",
        "x = '{:>9999999999}'.format(1)", "x = '{:{}}'.format(1, 10**9)",
        "a = 'ab' * 1000\nx = a.replace('a', a).replace('b', a).replace('a', a)",
        "a = [0] * 1000\nb = [a] * 1000\nx = [b] * 1000", "x = 'a'\n" + "x = x + x\n" * 60 + "x = len(x)",
        "x = (1 << 128) ** 60 * 3\n" + "x = x * x\n" * 40, "x = (-8) ** 0.5", "x = 1e308 * 10 ** 400",
        "a = {'k': 'v' * 1000}\n" + "a = {'x': a, 'y': a}\n" * 60 + "x = a",
    ],
)  # fmt: skip
def test_no_value_grows_beyond_bounds(tmp_path: Path, text: str) -> None:
    found = migrated(tmp_path, "n_layer = 2\n" + text)
    assert found.values["model"]["num_layers"] == 2
    assert found.skipped


def test_configurations_that_execute_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text("exec(open('a.py').read())\nn_layer = 4\n")
    found = migrated(tmp_path, "exec(open('b.py').read())\nn_head = 4\n", "a.py")
    assert {"n_layer", "n_head"} <= found.mapping.keys()
    assert "file a.py" in found.skipped


def test_files_beyond_the_project_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("n_layer = 99\n")
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text("")
    found = migrated(project, "exec(open('secret.py').read())\nexec(open('../secret.py').read())\nn_head = 2\n")
    assert "n_layer" not in found.mapping
    assert {"line 1", "line 2"} <= found.skipped.keys()


@pytest.mark.parametrize(
    "content", [b"n_layer = 2\nname = '\xe9'\n", b"n_layer = 2\0", b"(" * 500, b"-" * 100_000 + b"1"]
)
def test_files_that_are_no_python_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.py"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not valid Python"):
        migrate_python_file(path)


def test_declared_encodings_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_bytes(b"# -*- coding: latin-1 -*-\nout_dir = 'caf\xe9'\n")
    assert migrate_python_file(path).values["training"]["output_dir"] == "café"
    path.write_bytes(b"\xef\xbb\xbfn_layer = 3\r\nn_head = 3\r\n")
    assert migrate_python_file(path).values["model"]["num_layers"] == 3


def test_the_projects_own_defaults_come_before_nanogpts(tmp_path: Path) -> None:
    path = tmp_path / "train_x.py"
    path.write_text("n_head = 4\n")
    found = migrate_python_file(path, {"n_layer": 7, "n_head": 99, "block_type": "mamba"}, "this project's train.py")
    assert (found.values["model"]["num_layers"], found.values["model"]["num_heads"]) == (7, 4)
    assert found.defaults["n_layer"] == (7, "this project's train.py")
    assert found.defaults["beta2"] == (NANOGPT_DEFAULTS["beta2"], "nanoGPT")
    assert "n_head" not in found.defaults
    assert found.values["legacy"] == {"block_type": "mamba"}
    assert "this project's train.py's own defaults (n_layer, block_type)" in found.notice()
    assert set(found.mapping) == {"n_head"}


def test_keys_without_effect_are_ordered_by_what_they_change(tmp_path: Path) -> None:
    found = migrated(
        tmp_path,
        "n_layer = 2\nwandb_notes = 'x'\nsomething = 1\ncuda_graphs = True\nn_inner = 5\nmodel_preset = 'tiny'\n"
        "shuffle_buffer = 3\nmomentum = 0.9\nlog_attention = True\ncache_dir = 'x'\n",
    )
    assert found.unmapped_by_weight()[0] == "model_preset"
    order = found.unmapped_by_weight()
    expected = ["model_preset", "n_inner", "shuffle_buffer", "momentum", "cuda_graphs", "cache_dir", "wandb_notes"]
    assert [key for key in order if key in expected] == expected
    assert (
        weight_of("model_preset") > weight_of("n_inner") > weight_of("wandb_notes") == weight_of("log_attention") == 0
    )
    assert weight_of("logging.level") == 0
    assert weight_of("optimization.use_flash_attention") > weight_of("paths.cache_dir")
