"""The shape of the package: imports point one way, start-up is light, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import llmbuilder

ROOT = Path(llmbuilder.__file__).parent
# Lower layers first; a module may import its own layer and those before it.
LAYERS = [
    ["errors"], ["files"], ["locking"], ["machine"], ["acceleration"], ["config"], ["tokenizer", "report"],
    ["data", "model"], ["corpus"], ["training", "inference"],
    ["evaluation"], ["export"], ["migration", "building"], ["cli"], ["__main__"],
]  # fmt: skip
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
SEPARATE = {("data", "model"), ("model", "data"), ("export", "training"), ("building", "migration")}


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("llmbuilder."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("llmbuilder.")}
    return found


def test_imports_point_one_way() -> None:
    wrong = []
    for file in ROOT.rglob("*.py"):
        part = file.relative_to(ROOT).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        assert part in LEVEL, f"{part} has no layer: add it to LAYERS"
        for imported in imports_of(file):
            if LEVEL[imported] > LEVEL[part] or (part, imported) in SEPARATE:
                wrong.append(f"{file.relative_to(ROOT)} imports {imported}")
    assert not wrong


def test_files_stay_readable() -> None:
    long = {f.name: n for f in ROOT.rglob("*.py") if (n := len(f.read_text("utf-8").splitlines())) > 400}
    assert not long


def test_only_the_command_line_prints() -> None:
    printing = [
        str(file.relative_to(ROOT))
        for file in ROOT.rglob("*.py")
        if "cli" not in file.parts
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not printing


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, llmbuilder; print([m for m in ('torch', 'numpy', 'pydantic', 'rich') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_building_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys, llmbuilder.cli.main; "
        "print([m for m in ('torch', 'numpy', 'pydantic', 'tokenizers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_public_name_resolves() -> None:
    for name in llmbuilder.__all__:
        assert getattr(llmbuilder, name) is not None
    assert set(llmbuilder.__all__) <= set(dir(llmbuilder))
