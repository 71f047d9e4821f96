"""The migration guide, block by block: read from its file, executed as printed.

Blocks under a label such as "Old way" or "Legacy ..." show the legacy project's own code; they run inside
the legacy project. All others run, in order, in one directory and one Python session.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.documents.samples import write_all
from tests.migration.legacy_project import write_legacy_project
from tests.tokenizer.test_tokenizer import gpt2_files

GUIDE = Path(__file__).resolve().parents[3] / "shared" / "migration-guide.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The one block that is no program: its methods hold only comments.
_INCOMPLETE = "class GPT(nn.Module):"

# Sizes are reduced by the environment; the blocks stay as they are.
SMALL = {
    "LLMBUILDER_MODEL__NUM_LAYERS": "2", "LLMBUILDER_MODEL__NUM_HEADS": "2", "LLMBUILDER_MODEL__EMBEDDING_DIM": "32",
    "LLMBUILDER_MODEL__MAX_SEQ_LENGTH": "512", "LLMBUILDER_MODEL__VOCAB_SIZE": "512",
    "LLMBUILDER_TRAINING__MAX_STEPS": "3", "LLMBUILDER_TRAINING__BATCH_SIZE": "2",
    "LLMBUILDER_TRAINING__WARMUP_STEPS": "1", "LLMBUILDER_TRAINING__GRADIENT_ACCUMULATION_STEPS": "1",
    "LLMBUILDER_TRAINING__LOG_EVERY": "1",
}  # fmt: skip

# Runs the blocks like cells of a notebook: one session for the new ones, one for the legacy ones.
DRIVER = """
import json, os, subprocess, sys
blocks = json.load(open(sys.argv[1]))
new = {"__name__": "__main__", "prompt": "The lighthouse keeper"}
old = {"__name__": "__main__", "max_iters": 2, "eval_interval": 1, "evaluate": lambda: None, "iter_num": 2}
here = os.getcwd()
for block in blocks:
    print("block at line", block["line"], flush=True)
    if block["legacy"]:
        os.chdir("legacy_project")
        sys.path.insert(0, os.getcwd())
    if block["language"] == "bash":
        subprocess.run(["bash", "-eu", "-c", block["text"]], check=True)
    else:
        exec(compile(block["text"], "line-%d" % block["line"], "exec"), old if block["legacy"] else new)
    if block["legacy"]:
        sys.path.pop(0)
        os.chdir(here)
print("all blocks ran")
"""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    label: str

    @property
    def legacy(self) -> bool:
        return self.label.startswith(("**Old", "**Legacy"))


def read_blocks(guide: str) -> list[Block]:
    blocks = []
    for match in _BLOCK.finditer(guide):
        before = [line for line in guide[: match.start()].splitlines() if line.strip()]
        line = guide[: match.start()].count("\n") + 1
        blocks.append(Block(match.group(1), match.group(2), line, before[-1] if before else ""))
    return blocks


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    if not GUIDE.is_file():
        pytest.skip(f"the migration guide is not at {GUIDE}")
    return read_blocks(GUIDE.read_text("utf-8"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, blocks: list[Block], prose: str) -> Path:
    folder = tmp_path_factory.mktemp("guide")
    write_legacy_project(folder / "legacy_project", prose)
    subprocess.run([sys.executable, "train.py"], cwd=folder / "legacy_project", check=True)  # leaves its model.pt
    legacy_json = next(b.text for b in blocks if b.language == "json" and '"n_layer"' in b.text)
    for name in ("legacy_config.json", "config.json"):
        (folder / name).write_text(legacy_json)
    for name in ("data.txt", "test_data.txt"):
        (folder / name).write_text(prose * 3)
    write_all(folder / "raw")
    write_all(folder / "raw_data")
    cache = folder / "encodings"
    cache.mkdir()
    place = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
    for name in ("vocab.bpe", "encoder.json"):
        shutil.copy(gpt2_files() / name, cache / hashlib.sha1((place + name).encode()).hexdigest())
    subprocess.run(
        [sys.executable, "-m", "llmbuilder", "config", "migrate", "legacy_config.json", "migrated_config.json"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_the_guide_has_the_blocks_it_should(blocks: list[Block]) -> None:
    programs = [block for block in blocks if block.language in ("python", "bash")]
    assert len(programs) >= 20
    assert sum(block.legacy for block in programs) >= 6
    broken = []
    for block in programs:
        if block.language == "python":
            try:
                compile(block.text, "block", "exec")
            except SyntaxError:
                broken.append(block)
    assert [block.text.splitlines()[0] for block in broken] == [_INCOMPLETE]
    assert all(block.legacy for block in broken)


@pytest.mark.slow
def test_every_block_runs_in_order_in_one_directory(directory: Path, blocks: list[Block]) -> None:
    programs = [
        {"language": b.language, "text": b.text, "line": b.line, "legacy": b.legacy}
        for b in blocks
        if b.language in ("python", "bash") and not b.text.startswith(_INCOMPLETE)
    ]
    (directory / "blocks.json").write_text(json.dumps(programs))
    (directory / "driver.py").write_text(DRIVER)
    environment = {**os.environ, **SMALL, "TIKTOKEN_CACHE_DIR": str(directory / "encodings"),
                   "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}  # fmt: skip
    result = subprocess.run(
        [sys.executable, "driver.py", "blocks.json"], cwd=directory, env=environment, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-5000:]}"
    assert result.stdout.rstrip().endswith("all blocks ran")
    assert "Training completed:" in result.stdout
    for name in (
        "new_config.json",
        "fixed_config.json",
        "model.pt",
        "tokenizer",
        "model.gguf",
        "model/model.pt",
        "new_project",
    ):
        assert (directory / name).exists(), name
    assert (directory / "model.gguf").read_bytes()[:4] == b"GGUF"

    # The script that the guide's own migration writes trains too.
    subprocess.run(
        [sys.executable, "train.py"], cwd=directory / "new_project", env=environment, check=True, capture_output=True,
        timeout=120,
    )  # fmt: skip
