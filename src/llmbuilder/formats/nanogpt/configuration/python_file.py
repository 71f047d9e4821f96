"""The settings of a Python file, read by parsing it: nothing in it runs.

Settings are the file's global names, the fields of its classes (data classes, or plain ones with constants or an
`__init__`), and the items of its dictionaries. Other configurations that it executes or imports are read the same way.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmbuilder.errors import ConfigError
from llmbuilder.formats.nanogpt.configuration.python_values import MachineChoice, NotPlain, evaluate

_DEEPEST = 8  # configurations that execute one another
_ROOT_MARKS = (".git", "train.py", "pyproject.toml", "setup.py")  # beyond the root other projects begin
_IGNORED_CALLS = {"print", "os.makedirs", "warnings.filterwarnings", "warnings.simplefilter", "sys.path.append",
                  "sys.path.insert", "logging.basicConfig", "random.seed", "np.random.seed", "numpy.random.seed",
                  "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"}  # fmt: skip
_SEEDING = {"torch.manual_seed", "set_seed", "seed_everything"}


@dataclass
class PythonSettings:
    """What a Python file sets, and what in it could not be understood."""

    values: dict[str, Any] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)  # the source of values that are not written as constants
    skipped: dict[str, str] = field(default_factory=dict)  # name, or "line N" -> source
    is_program: bool = False  # it defines functions, or classes that do more than hold settings


def read_python_settings(path: Path) -> PythonSettings:
    """Read a file's settings without running it. Raises ConfigError if it cannot be read or is not Python."""
    reading = _Reading()
    reading.file(path, [])
    return reading.settings()


def _parse(path: Path) -> ast.Module:
    try:
        source = path.read_bytes()
    except OSError as error:
        wrong = "no such configuration file" if isinstance(error, FileNotFoundError) else "cannot read"
        raise ConfigError(f"{wrong}: {path}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # the file is only looked at
            warnings.simplefilter("ignore", DeprecationWarning)
            return ast.parse(source, str(path))
    except SyntaxError as error:
        raise ConfigError(f"{path} is not valid Python: {error.msg} at line {error.lineno}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path} is not valid Python: {error or type(error).__name__}") from None


def _source(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split("\n")[:1])[:200]


class _Reading:
    """The state of the reading: names known so far, and the classes among them."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.classes: dict[str, None] = {}
        self.written: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.is_program = False
        self.used: set[str] = set()  # classes whose fields are no settings of this file

    def settings(self) -> PythonSettings:
        """Flatten: global names first, then what dictionaries and instances hold, then classes never used."""
        found = PythonSettings(skipped=self.skipped, is_program=self.is_program)
        groups = {name: value for name, value in self.names.items() if isinstance(value, dict)}
        plain = {name: value for name, value in self.names.items() if name not in groups}
        for name, value in plain.items():
            self._put(found, name, value, name)
        # What was made last is most likely made from what came before it; classes are only patterns.
        made = [name for name in reversed(groups) if name not in self.classes]
        order = [*made, *(name for name in groups if name in self.classes)]
        for group in order:
            if group in self.classes and group in self.used:
                continue
            for key, value in groups[group].items():
                place = f"{group}.{key}"
                if isinstance(key, str) and not isinstance(value, dict) and key not in found.values:
                    self._put(found, key, value, place)
                elif isinstance(key, str) and isinstance(value, dict):
                    self._nested(found, key, value, place)
                elif found.values.get(str(key)) != value:
                    self._put(found, place, value, place)
        return found

    def _nested(self, found: PythonSettings, name: str, values: dict[Any, Any], place: str) -> None:
        for key, value in values.items():
            target = str(key) if str(key) not in found.values else f"{name}.{key}"
            self._put(found, target, value, f"{place}.{key}")

    def _put(self, found: PythonSettings, key: str, value: Any, place: str) -> None:
        found.values[key] = str(value) if isinstance(value, MachineChoice) else value
        if place in self.written:
            found.written[key] = self.written[place]

    def file(self, path: Path, above: list[Path]) -> None:
        resolved = path.resolve()
        if resolved in above or len(above) >= _DEEPEST:
            self.skipped[f"file {path.name}"] = "it reads itself"
            return
        self.body(_parse(path).body, path, [*above, resolved])

    def body(self, statements: list[ast.stmt], path: Path, above: list[Path]) -> None:
        for statement in statements:
            self.statement(statement, path, above)

    def statement(self, node: ast.stmt, path: Path, above: list[Path]) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self.assign(target, node.value)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.assign(node.target, node.value)
        elif isinstance(node, ast.AugAssign):
            changed = ast.BinOp(_as_read(node.target), node.op, node.value)
            self.assign(node.target, ast.fix_missing_locations(ast.copy_location(changed, node)))
        elif isinstance(node, ast.Expr):
            self.expression(node, path, above)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self.imported(node, path, above)
        elif isinstance(node, ast.If):
            self.condition(node, path, above)
        elif isinstance(node, ast.ClassDef):
            self.class_of(node)
        elif isinstance(node, ast.With):
            self.body(node.body, path, above)
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                self.names.pop(ast.unparse(target), None)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.skipped[f"line {node.lineno}"] = f"def {node.name}(...)"
            self.is_program = True
        elif not isinstance(node, ast.Pass | ast.Assert | ast.Global):
            self.uncertain(node)

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            parts = value.elts if isinstance(value, ast.Tuple | ast.List) else []
            if len(parts) != len(target.elts):
                self.skipped[ast.unparse(target)] = _source(value)
                return
            for one, part in zip(target.elts, parts, strict=True):
                self.assign(one, part)
            return
        place = ast.unparse(target)
        try:
            found = evaluate(value, self.names)
            owner, key = self._owner_of(target)
        except NotPlain:
            self.skipped[place] = _source(value)
            self.names.pop(place, None)  # whatever it was before, it no longer is
            return
        owner[key] = dict(found) if isinstance(found, dict) else found
        place = place.replace("['", ".").replace("']", "")
        self.skipped.pop(place, None)
        self.written.pop(place, None)
        if not isinstance(value, ast.Constant):
            self.written[place] = _source(value)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
            self.used.add(value.func.id)

    def _owner_of(self, target: ast.expr) -> tuple[dict[Any, Any], Any]:
        if isinstance(target, ast.Name):
            return self.names, target.id
        if isinstance(target, ast.Attribute | ast.Subscript):
            owner = evaluate(target.value, self.names)
            if isinstance(owner, dict):
                return owner, target.attr if isinstance(target, ast.Attribute) else evaluate(target.slice, self.names)
        raise NotPlain(ast.unparse(target))

    def expression(self, node: ast.Expr, path: Path, above: list[Path]) -> None:
        call = node.value
        if isinstance(call, ast.Constant):
            return  # a docstring
        if not isinstance(call, ast.Call):
            self.skipped[f"line {node.lineno}"] = _source(node)
            return
        name = ast.unparse(call.func)
        other = _executed_file(call)
        if other is not None:
            self.other_file(other, path, above, node)
        elif name in _SEEDING and len(call.args) == 1:
            self.assign(ast.Name("seed", ast.Store()), call.args[0])
        elif isinstance(call.func, ast.Attribute) and call.func.attr == "update":
            self.update(call, node)
        elif name not in _IGNORED_CALLS:
            self.skipped[f"line {node.lineno}"] = _source(node)

    def update(self, call: ast.Call, node: ast.Expr) -> None:
        assert isinstance(call.func, ast.Attribute)
        try:
            is_global = ast.unparse(call.func.value) in ("globals()", "locals()", "vars()")
            owner = self.names if is_global else evaluate(call.func.value, self.names)
            merged = ast.Call(ast.Name("dict", ast.Load()), call.args, call.keywords)
            owner.update(evaluate(ast.fix_missing_locations(ast.copy_location(merged, call)), self.names))
        except (NotPlain, AttributeError):
            self.skipped[f"line {node.lineno}"] = _source(node)

    def other_file(self, name: str, path: Path, above: list[Path], node: ast.stmt) -> None:
        if Path(name).name == "configurator.py":
            return  # nanoGPT's reader of the command line
        found = _nearby(name, path)
        if found is None:
            self.skipped[f"line {node.lineno}"] = _source(node)
        else:
            self.file(found, above)

    def imported(self, node: ast.Import | ast.ImportFrom, path: Path, above: list[Path]) -> None:
        if isinstance(node, ast.Import):
            return
        everything = any(alias.name == "*" for alias in node.names)
        inner = (node.module or "").replace(".", "/")
        found = _nearby(f"{inner}.py", path) if inner else None
        if found is None:
            if everything:
                self.skipped[f"line {node.lineno}"] = _source(node)
            return
        other = _Reading()
        try:
            other.file(found, above)
        except ConfigError as error:
            self.skipped[f"line {node.lineno}"] = f"{_source(node)} ({error})"
            return
        if everything:
            self.skipped.update(other.skipped)
        for alias in node.names:
            wanted = other.names if everything else {alias.name: other.names.get(alias.name)}
            for key, value in wanted.items():
                if key in other.names:
                    self.names[alias.asname or key] = value
                    if key in other.written:
                        self.written[alias.asname or key] = other.written[key]
        self.classes.update(other.classes)
        self.used.update(other.classes)  # imported to make instances of

    def condition(self, node: ast.If, path: Path, above: list[Path]) -> None:
        if ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING", "typing.TYPE_CHECKING"):
            return
        try:
            chosen = node.body if evaluate(node.test, self.names) else node.orelse
        except NotPlain:
            self.uncertain(node)
        else:
            self.body(chosen, path, above)

    def uncertain(self, node: ast.stmt) -> None:
        """Name what a statement may change: whether its parts run cannot be known without running it."""
        changed = [ast.unparse(inner) for inner in ast.walk(node) if isinstance(inner, ast.Name) and _is_set(inner)]
        for name in dict.fromkeys(changed):
            self.skipped[name] = f"may change at line {node.lineno}: {_source(node)}"
        if not changed:
            self.skipped[f"line {node.lineno}"] = _source(node)

    def class_of(self, node: ast.ClassDef) -> None:
        inner = _Reading()
        inner.names = {name: value for name, value in self.names.items() if name not in self.classes}
        before = set(inner.names)
        fields: dict[str, Any] = {}
        for base in node.bases:
            known = self.names.get(ast.unparse(base))
            fields.update(known if isinstance(known, dict) else {})
        for statement in node.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign):
                target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
                inner.names.pop(ast.unparse(target), None)
                before.discard(ast.unparse(target))
                inner.statement(statement, Path(), [])
            elif isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                fields.update(_set_by_init(statement, inner))
        fields.update({name: value for name, value in inner.names.items() if name not in before})
        for name, source in inner.skipped.items():
            self.skipped[f"{node.name}.{name}"] = source
        for name, source in inner.written.items():
            self.written[f"{node.name}.{name}"] = source
        if fields:
            self.names[node.name] = fields
            self.classes[node.name] = None
        if not _holds_settings(node):
            self.used.add(node.name)
            self.is_program = True


def _holds_settings(node: ast.ClassDef) -> bool:
    """Whether a class is made of settings: a data class, one named so, or one that does nothing but hold values."""
    kinds = " ".join(ast.unparse(part) for part in [*node.decorator_list, *node.bases])
    if re.search(
        r"dataclass|Config|Args|Arguments|Param|Settings|Options|NamedTuple|BaseModel", f"{kinds} {node.name}"
    ):
        return True
    functions = [part.name for part in node.body if isinstance(part, ast.FunctionDef)]
    return all(name.startswith("__") for name in functions)


def _as_read(target: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(target), mode="eval").body


def _is_set(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store | ast.Del)


def _set_by_init(node: ast.FunctionDef, inner: _Reading) -> dict[str, Any]:
    """Return what an `__init__` gives to `self` from constants and the defaults of its arguments."""
    reading = _Reading()
    reading.names = dict(inner.names)
    arguments = node.args.args
    for argument, default in zip(
        arguments[len(arguments) - len(node.args.defaults) :], node.args.defaults, strict=True
    ):
        reading.assign(ast.Name(argument.arg, ast.Store()), default)
    for argument, given in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if given is not None:
            reading.assign(ast.Name(argument.arg, ast.Store()), given)
    owner: dict[str, Any] = {}
    reading.names[arguments[0].arg if arguments else "self"] = owner
    reading.skipped.clear()
    for statement in node.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign | ast.If):
            reading.statement(statement, Path(), [])
    for name, source in reading.skipped.items():
        if name.startswith("self."):
            inner.skipped[name.removeprefix("self.")] = source
    return owner


def _executed_file(call: ast.Call) -> str | None:
    """Return the file that `exec(open('FILE').read())` or `runpy.run_path('FILE')` runs."""
    name = ast.unparse(call.func)
    inner: ast.expr | None = call.args[0] if call.args else None
    if name == "exec":
        while isinstance(inner, ast.Call | ast.Attribute):
            if isinstance(inner, ast.Call) and ast.unparse(inner.func) in ("open", "Path", "pathlib.Path", "compile"):
                inner = inner.args[0] if inner.args else None
            else:
                inner = inner.func if isinstance(inner, ast.Call) else inner.value
    elif name != "runpy.run_path":
        return None
    return inner.value if isinstance(inner, ast.Constant) and isinstance(inner.value, str) else None


def _nearby(name: str, path: Path) -> Path | None:
    """Find a file named as the program would: from the project's root, which is above, or from beside this one."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    for folder in list(path.resolve().parents)[:3]:
        if (folder / name).is_file():
            return folder / name
        if any((folder / mark).exists() for mark in _ROOT_MARKS):
            break
    return None
