"""A legacy project's programs, read as text: their settings, their options, what they are for. Nothing is executed."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from llmbuilder.formats.nanogpt.configuration.python_values import NotPlain, evaluate

ROLES_BY_NAME = (
    ("prepare", re.compile(r"prepare|tokenize_data|download|process_data")),
    ("other", re.compile(r"bench|profile|(^|_)test|ablation")),
    ("evaluate", re.compile(r"eval|hellaswag")),
    ("sample", re.compile(r"sample|generate|inference|infer\b|chat|predict")),
    ("train", re.compile(r"train|finetune|pretrain")),
)


def adopt_options(program: Program, others: Iterable[Program]) -> None:
    """Give a program that parses its arguments in another file the options that are declared there."""
    if program.style == "none" and not program.options:
        for other in others:
            if other.options:
                program.options, program.option_defaults = dict(other.options), dict(other.option_defaults)
                program.style = "argparse"
                return


@dataclass
class Program:
    """What the text of a Python program says of itself."""

    path: PurePosixPath
    role: str = "other"  # train, sample, prepare, evaluate or other
    style: str = "none"  # configurator: `file.py --key=value` changes constants; argparse: declared options
    constants: dict[str, Any] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)  # an option as it is written, and the setting it is kept in
    option_defaults: dict[str, Any] = field(default_factory=dict)
    dataclasses: dict[str, dict[str, Any]] = field(default_factory=dict)
    configured: dict[str, Any] = field(default_factory=dict)  # what its `get_config` sets
    given: dict[str, Any] = field(default_factory=dict)  # what it hands to a configuration class: GPTConfig(n_layer=2)
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)  # "gpt-mini" -> its shape
    returned: dict[str, dict[str, Any]] = field(default_factory=dict)  # by functions that only make a dictionary
    called: set[str] = field(default_factory=set)  # names of functions
    imports: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)  # classes that are PyTorch modules
    strings: set[str] = field(default_factory=set)
    makes_characters: bool = False
    is_library: bool = False  # classes and functions only: it does nothing when it is run
    is_plain: bool = True  # settings only: no functions, no loops
    encodings: set[str] = field(default_factory=set)  # tiktoken's, by name

    @property
    def defaults(self) -> dict[str, Any]:
        """The program's own settings: constants, or the defaults of its options."""
        return {**self.constants, **self.option_defaults} if self.style == "argparse" else dict(self.constants)

    @property
    def is_model(self) -> bool:
        """Whether a language model is defined here."""
        return len(self.modules) >= 2


def read_program(file: Path, path: PurePosixPath) -> Program | None:
    """Return what a Python file says of itself; None if it is not Python that this interpreter can parse."""
    try:
        text = file.read_text("utf-8-sig")
        if path.suffix == ".ipynb":
            text = _cells(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the legacy program's own style
            tree = ast.parse(text)
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, RecursionError, MemoryError):
        return None
    program = Program(path)
    _read_constants(tree, program)
    for node in _walk(tree):
        _read_node(node, program)
    steps = (ast.FunctionDef, ast.AsyncFunctionDef, ast.For, ast.While, ast.Try)
    program.is_library = all(isinstance(node, _DEFINITIONS) or _is_docstring(node) for node in tree.body)
    parts = [*tree.body, *(part for node in tree.body if isinstance(node, ast.ClassDef) for part in node.body)]
    program.is_plain = not any(
        isinstance(node, steps) and getattr(node, "name", "") not in ("__init__", "__post_init__") for node in parts
    )
    if re.search(r"exec\(.{0,40}open\(.{0,80}configurator", text):
        program.style = "configurator"
    elif program.options:
        program.style = "argparse"
    program.role = _role(path, text)
    return program


_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Assign)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _cells(notebook: str) -> str:
    """Return the Python of a notebook, without the lines for its shell."""
    cells = [cell["source"] for cell in json.loads(notebook)["cells"] if cell["cell_type"] == "code"]
    text = "\n".join(cell if isinstance(cell, str) else "".join(cell) for cell in cells)
    return "\n".join("pass" if re.match(r"[!%]", line) else line for line in text.splitlines())


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def _read_constants(tree: ast.Module, program: Program) -> None:
    """Take the assignments at the top of the program, up to the place where command lines change them."""
    for statement in _statements(tree):
        if isinstance(statement, ast.Expr) and "configurator" in ast.unparse(statement):
            return
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets: list[ast.expr] = [statement.target]
        elif isinstance(statement, ast.Assign):
            targets = statement.targets
        else:
            continue
        assert statement.value is not None
        for target in targets:
            if isinstance(target, ast.Name):
                try:
                    program.constants[target.id] = _known_parts(statement.value, program.constants)
                except NotPlain:
                    program.constants.pop(target.id, None)


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield what a program does in order: its own statements, and those of its `main`."""
    for statement in tree.body:
        yield statement
        if (isinstance(statement, ast.FunctionDef) and statement.name in ("main", "train")) or (
            isinstance(statement, ast.If) and "__main__" in ast.unparse(statement.test)
        ):
            yield from statement.body


def _known_parts(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Return the value of an expression; of a dictionary those of its items that are known without running it."""
    if not isinstance(node, ast.Dict):
        return evaluate(node, names)
    found = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant):
            try:
                found[key.value] = _known_parts(value, names)
            except NotPlain:
                continue
    return found


def _read_node(node: ast.AST, program: Program) -> None:
    if isinstance(node, ast.Import):
        program.imports += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        program.imports.append("." * node.level + (node.module or ""))
    elif isinstance(node, ast.ClassDef):
        _read_class(node, program)
    elif isinstance(node, ast.Call):
        _read_call(node, program)
    elif isinstance(node, ast.Dict):
        _read_presets(node, program)
    elif isinstance(node, ast.FunctionDef):
        _read_function(node, program)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 300:
        program.strings.add(node.value)
    elif isinstance(node, ast.Name) and node.id in ("stoi", "itos", "char_to_idx", "char2idx"):
        program.makes_characters = True


def _read_class(node: ast.ClassDef, program: Program) -> None:
    if any(ast.unparse(base).rsplit(".", 1)[-1] == "Module" for base in node.bases):
        program.modules.append(node.name)
        return
    is_data = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    if not (is_data or node.name.endswith(("Config", "Args", "Arguments"))):
        return
    values: dict[str, Any] = {}
    for statement in node.body:
        target: ast.expr | None = statement.target if isinstance(statement, ast.AnnAssign) else None
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        value = getattr(statement, "value", None)
        if isinstance(target, ast.Name) and value is not None:
            try:
                values[target.id] = evaluate(value, {**program.constants, **values})
            except NotPlain:
                continue
    if values:
        program.dataclasses[node.name] = values


def _read_presets(node: ast.Dict, program: Program) -> None:
    """Take a table of shapes by name: `{'gpt-mini': dict(n_layer=6, n_head=6, n_embd=192), ...}`."""
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(key.value, str) and isinstance(value, ast.Call | ast.Dict):
            try:
                shape = evaluate(value, program.constants)
            except NotPlain:
                continue
            if isinstance(shape, dict) and "n_layer" in shape:
                program.presets[key.value] = shape


def _read_function(node: ast.FunctionDef, program: Program) -> None:
    if re.fullmatch(r"get_(default_)?config", node.name):
        _read_config_function(node, program)
    last = node.body[-1]
    if isinstance(last, ast.Return) and last.value is not None:
        try:
            made = evaluate(last.value, program.constants)
        except NotPlain:
            return
        if isinstance(made, dict):
            program.returned[node.name] = made


def _read_config_function(node: ast.FunctionDef, program: Program) -> None:
    """Take what a function that makes a configuration sets: `C.trainer.learning_rate = 5e-4`."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Attribute):
            try:
                value = evaluate(statement.value, program.constants)
            except NotPlain:
                continue
            if value is not None:
                program.configured[statement.targets[0].attr] = value


def _read_call(node: ast.Call, program: Program) -> None:
    name = ast.unparse(node.func).rsplit(".", 1)[-1]
    program.called.add(name)
    first = node.args[0] if node.args else None
    if name == "add_argument":
        _read_option(node, program)
    elif name.endswith(("Config", "Args")) or name == "configure_optimizers":
        for keyword in node.keywords:
            if keyword.arg is not None:
                try:
                    program.given[keyword.arg] = evaluate(keyword.value, program.constants)
                except NotPlain:
                    continue
    elif name in ("get_encoding", "encoding_for_model") and isinstance(first, ast.Constant):
        program.encodings.add(str(first.value))


def _read_option(node: ast.Call, program: Program) -> None:
    flags = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    words = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    if not flags:
        return
    name = next((flag for flag in flags if flag.startswith("--")), flags[0]).lstrip("-").replace("-", "_")
    try:
        destination = str(evaluate(words["dest"], {})) if "dest" in words else name
        default = evaluate(words["default"], program.constants) if "default" in words else None
    except NotPlain:
        destination, default = name, None
    action = ast.unparse(words["action"]).strip("'\"") if "action" in words else ""
    if default is None and action in ("store_true", "store_false"):
        default = action == "store_false"
    for flag in flags:
        program.options[flag] = destination
    if default is not None:
        program.option_defaults[destination] = default


def _role(path: PurePosixPath, text: str) -> str:
    """Tell what a program is for: by what it does first, then by its name."""
    named = next((role for role, pattern in ROLES_BY_NAME if pattern.search(path.stem.lower())), None)
    if named == "other":
        return "other"
    if ".backward()" in text or re.search(r"\bTrainer\(.{0,80}\)[\s\S]*\.(run|train|fit)\(", text):
        return "train"
    if any("tokeniz" in part.lower() for part in path.parts):
        return "other"
    if named == "train":
        # `BpeTrainer`, `SentencePieceTrainer` and their like train tokenizers.
        trains = r"\b(torch|jax|tensorflow)\b|optimizer|(?<!Bpe)(?<!Piece)(?<!Unigram)(?<!WordLevel)Trainer\b"
        return "train" if re.search(trains, text) else "other"
    if named == "sample" and not re.search(r"torch|jax|tensorflow|transformers|[Mm]odel|ckpt|checkpoint", text):
        return "other"  # it generates data
    if named is not None:
        return named
    if re.search(r"\.tofile\(|['\"]train\.bin", text):
        return "prepare"
    return "sample" if ".generate(" in text and "argparse" in text else "other"
