"""Programs read as text: what they are set to and what they are for. Nothing in them runs."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from llmbuilder.migration.configurations import program_settings
from llmbuilder.migration.programs import Program, read_program


def write(folder: Path, files: dict[str, str]) -> dict[PurePosixPath, Program]:
    programs = {}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        program = read_program(folder / name, PurePosixPath(name))
        assert program is not None
        programs[program.path] = program
    return programs


def test_constants_count_up_to_the_place_where_the_command_line_changes_them(tmp_path: Path) -> None:
    programs = write(tmp_path, {"train.py": (
        "import sys\nn_layer = 4\nblock_size = 8 * n_layer\nlearning_rate = 1e-3\nmin_lr = learning_rate / 10\n"
        "batch_size = make()\nexec(open('configurator.py').read())\nn_layer = 99\nloss.backward()\n"
    )})  # fmt: skip
    program = programs[PurePosixPath("train.py")]
    assert (program.role, program.style) == ("train", "configurator")
    assert program.defaults == {"n_layer": 4, "block_size": 32, "learning_rate": 1e-3, "min_lr": 1e-4}


def test_settings_without_a_configuration_file(tmp_path: Path) -> None:
    """build-nanogpt's way: constants with short names, a dataclass, and what is handed to it."""
    programs = write(tmp_path, {"train_gpt2.py": (
        "from dataclasses import dataclass\nimport torch\nfrom torch import nn\n"
        "class Block(nn.Module): pass\nclass GPT(nn.Module): pass\n"
        "@dataclass\nclass GPTConfig:\n    block_size: int = 1024\n    n_layer: int = 12\n    n_head: int = 12\n"
        "    vocab_size: int = 50257\n"
        "total = 64\nB = 4\nT = 32\ntotal_batch_size = 512\nmax_lr = 6e-4\nmin_lr = max_lr * 0.1\nmax_steps = 50\n"
        "model = GPT(GPTConfig(vocab_size=50304))\n"
        "optimizer = model.configure_optimizers(weight_decay=0.1, learning_rate=6e-4, device_type='cpu')\n"
        "for step in range(max_steps):\n    loss.backward()\n"
    )})  # fmt: skip
    settings, written = program_settings(programs[PurePosixPath("train_gpt2.py")], programs)
    assert settings["vocab_size"] == 50304, "what is handed over counts more than the default"
    assert (settings["n_layer"], settings["block_size"], settings["batch_size"]) == (12, 32, 4)
    assert settings["gradient_accumulation_steps"] == 4
    assert (settings["max_iters"], settings["weight_decay"], settings["learning_rate"]) == (50, 0.1, 6e-4)
    assert (written["batch_size"], written["max_iters"]) == ("B", "max_steps")


def test_a_configuration_made_by_functions_with_a_table_of_shapes(tmp_path: Path) -> None:
    """minGPT's way: `get_config`, the defaults of other modules, and a shape by name."""
    programs = write(tmp_path, {
        "lib/model.py": (
            "class Block(nn.Module): pass\nclass GPT(nn.Module):\n"
            "    @staticmethod\n    def get_default_config():\n        C = CN()\n        C.model_type = 'gpt'\n"
            "        C.n_layer = None\n        C.embd_pdrop = 0.2\n        C.resid_pdrop = 0.2\n"
            "        C.attn_pdrop = 0.2\n        return C\n"
            "    def __init__(self, config):\n"
            "        config.merge({'tiny': dict(n_layer=3, n_head=3, n_embd=48), 'big': dict(n_layer=9)}[config.x])\n"
        ),
        "lib/trainer.py": (
            "class Trainer:\n    @staticmethod\n    def get_default_config():\n        C = CN()\n"
            "        C.batch_size = 64\n        C.learning_rate = 3e-4\n        C.betas = (0.9, 0.95)\n        return C\n"
            "    def run(self):\n        loss.backward()\n"
        ),
        "projects/chars.py": (
            "from lib.model import GPT\nfrom lib.trainer import Trainer\n"
            "def get_config():\n    C = CN()\n    C.model = GPT.get_default_config()\n    C.model.model_type = 'tiny'\n"
            "    C.trainer.learning_rate = 5e-4\n    C.system.work_dir = './out/chars'\n    return C\n"
            "if __name__ == '__main__':\n    trainer = Trainer(config.trainer, model, data)\n    trainer.run()\n"
        ),
    })  # fmt: skip
    program = programs[PurePosixPath("projects/chars.py")]
    assert program.role == "train"
    settings, written = program_settings(program, programs)
    assert (settings["n_layer"], settings["n_head"], settings["n_embd"]) == (3, 3, 48)
    assert (settings["learning_rate"], settings["batch_size"]) == (5e-4, 64)
    assert (settings["beta1"], settings["beta2"], settings["dropout"]) == (0.9, 0.95, 0.2)
    assert (settings["out_dir"], written["out_dir"]) == ("./out/chars", "work_dir")


def test_options_and_their_defaults(tmp_path: Path) -> None:
    programs = write(tmp_path, {"train.py": (
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--n-layer', type=int, default=6)\n"
        "p.add_argument('-b', '--batch_size', default=4 * 2)\np.add_argument('--compile', action='store_true')\n"
        "p.add_argument('--where', dest='out_dir', default='runs')\noptimizer = make()\n"
    )})  # fmt: skip
    program = programs[PurePosixPath("train.py")]
    assert program.style == "argparse"
    assert program.options["-b"] == program.options["--batch_size"] == "batch_size"
    assert program.defaults == {"n_layer": 6, "batch_size": 8, "compile": False, "out_dir": "runs"}


def test_a_table_with_values_that_only_running_tells(tmp_path: Path) -> None:
    programs = write(tmp_path, {"train.py": (
        "DEFAULTS = {'training': {'n_layer': 6, 'n_head': 2, 'batch_size': 4, 'num_proc': cpu_count() // 2}}\n"
        "loss.backward()\n"
    )})  # fmt: skip
    settings, _ = program_settings(programs[PurePosixPath("train.py")], programs)
    assert settings == {"n_layer": 6, "n_head": 2, "batch_size": 4}


def test_notebooks_are_programs_too(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["n_layer = 1"]},
        {"cell_type": "code", "source": ["!pip install torch\n", "n_layer = 5\n"]},
        {"cell_type": "code", "source": "%time\nbatch_size = 16\nloss.backward()"},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    program = read_program(tmp_path / "a.ipynb", PurePosixPath("a.ipynb"))
    assert program is not None
    assert (program.constants, program.role) == ({"n_layer": 5, "batch_size": 16}, "train")


def test_what_is_no_python_is_no_program(tmp_path: Path) -> None:
    for name, text in (("old.py", "print 'two'"), ("broken.ipynb", "{}"), ("null.py", "a\0b")):
        (tmp_path / name).write_text(text)
        assert read_program(tmp_path / name, PurePosixPath(name)) is None


def test_nothing_runs(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": f"open({str(tmp_path / 'ran')!r}, 'w')\nx = [open({str(tmp_path / 'ran')!r}, 'w')]\n"})
    assert not (tmp_path / "ran").exists()


def test_settings_of_a_file_that_the_program_imports(tmp_path: Path) -> None:
    """Constants in capitals, a dataclass with names of its own, and functions that make a dictionary."""
    programs = write(tmp_path, {
        "src/config.py": (
            "from dataclasses import dataclass\nLR = 5e-3\nBATCH_SIZE = 4\nMAX_STEPS = 40\nCONTEXT_LEN = 32\n"
            "@dataclass\nclass GPTConfig:\n    block_size: int = CONTEXT_LEN\n    d_model: int = 48\n"
        ),
        "src/shapes.py": "def small():\n    return dict(n_layer=3, n_head=2)\ndef large():\n    return dict(n_layer=9)\n",
        "src/train.py": "from src import config\nfrom src.config import *\nfrom src.shapes import small\nargs = small()\n"
                        "import torch\nloss.backward()\n",
    })  # fmt: skip
    settings, _ = program_settings(programs[PurePosixPath("src/train.py")], programs)
    assert settings == {
        "learning_rate": 5e-3, "batch_size": 4, "max_iters": 40, "block_size": 32, "n_embd": 48, "n_layer": 3, "n_head": 2,
    }  # fmt: skip


def test_settings_of_another_program_stay_there(tmp_path: Path) -> None:
    """Two models side by side: what one's shape is, is not the other's."""
    programs = write(tmp_path, {
        "models/a/model.py": "def shape():\n    return dict(n_layer=3, n_head=1)\n",
        "models/b/model.py": "def shape():\n    return dict(n_layer=9, n_head=3)\n",
        "core/checks.py": "from models.b.model import shape\n",
        "models/a/train.py": "from core.checks import check\nfrom models.a.model import shape\nshape()\nimport torch\n"
                             "batch_size = 2\nloss.backward()\n",
    })  # fmt: skip
    settings, _ = program_settings(programs[PurePosixPath("models/a/train.py")], programs)
    assert settings == {"n_layer": 3, "n_head": 1, "batch_size": 2}


def test_settings_inside_main(tmp_path: Path) -> None:
    programs = write(tmp_path, {"train.py": (
        "import torch\ndef main():\n    batch_size = 8\n    n_layer = 2\n    block_size = 4 * n_layer\n    loss.backward()\n"
        "if __name__ == '__main__':\n    main()\n"
    )})  # fmt: skip
    settings, _ = program_settings(programs[PurePosixPath("train.py")], programs)
    assert settings == {"batch_size": 8, "n_layer": 2, "block_size": 8}
