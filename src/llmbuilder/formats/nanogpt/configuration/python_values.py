"""What the expressions of a Python configuration are worth, computed without running any of it.

Understood are constants, names that were set before, arithmetic, text, containers, conditions, and the few functions
that configurations use. Everything is bounded: no value grows beyond `LARGEST` items or characters, so a file cannot
make its reader work without end.
"""

from __future__ import annotations

import ast
import math
import operator
import os.path
import re
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LARGEST = 100_000
_LARGEST_BITS = 4096

_ARITHMETIC: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitOr: operator.or_,
}
_SIGNS: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "len": len,
    "round": round,
    "abs": abs,
    "min": min,
    "max": max,
    "sum": sum,
    "list": list,
    "tuple": list,
    "os.path.join": os.path.join,
    "os.path.basename": os.path.basename,
    "os.path.dirname": os.path.dirname,
    "os.path.splitext": lambda path: list(os.path.splitext(path)),
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "math.sqrt": math.sqrt,
    # A bare run has no such variable: the default is what it uses.
    "os.environ.get": lambda _name, default: default,
    "os.getenv": lambda _name, default: default,
}
_CONVERSIONS: dict[int, Callable[[Any], str]] = {ord("r"): repr, ord("s"): str, ord("a"): ascii}
_TEXT_METHODS = {
    "lower",
    "upper",
    "strip",
    "lstrip",
    "rstrip",
    "split",
    "startswith",
    "endswith",
    "title",
    "capitalize",
}
_PATHS = {"Path", "pathlib.Path"}
_FAILURES = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, RecursionError)


class NotPlain(ValueError):
    """An expression whose value cannot be known without running the program."""


class MachineChoice(str):
    """The value of an expression that asks the machine, such as `'cuda' if torch.cuda.is_available() else 'cpu'`."""


def evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Return the value of an expression given those of the names set before it. Raises NotPlain if it has none."""
    try:
        value = _Evaluation(names).value_of(node)
    except _FAILURES as error:
        raise NotPlain(f"{_source(node)} ({error})") from error
    except NotPlain:
        raise
    except ValueError as error:
        raise NotPlain(f"{_source(node)} ({error})") from error
    _require_bounded(value)
    return value


def _source(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 200 else text[:197] + "..."


def _require_bounded(value: Any) -> None:
    if sum(1 for _, _ in zip(_parts(value), range(LARGEST + 1), strict=False)) > LARGEST:
        raise NotPlain(f"a value of more than {LARGEST} parts")


def _parts(value: Any) -> Iterator[None]:
    """Yield once for every character and item inside a value; numbers beyond all use yield without end."""
    yield None
    if isinstance(value, str | bytes):
        yield from (None for _ in value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _parts(key)
            yield from _parts(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _parts(item)
    elif isinstance(value, int) and value.bit_length() > _LARGEST_BITS:
        yield from (None for _ in range(LARGEST + 1))


class _Evaluation:
    """One method for each kind of node that has a value, under the name of its kind."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names

    def value_of(self, node: ast.expr) -> Any:
        method = getattr(self, f"_{type(node).__name__}", None)
        if method is None:
            raise NotPlain(_source(node))
        value = method(node)
        if isinstance(node, ast.BinOp | ast.JoinedStr | ast.Call | ast.List | ast.Tuple | ast.Dict):
            _require_bounded(value)
        return value

    def _Constant(self, node: ast.Constant) -> Any:
        if not isinstance(node.value, str | int | float | None):
            raise NotPlain(_source(node))
        return node.value

    def _Name(self, node: ast.Name) -> Any:
        if node.id not in self.names:
            raise NotPlain(f"{node.id} is not known")
        return self.names[node.id]

    def _UnaryOp(self, node: ast.UnaryOp) -> Any:
        if type(node.op) not in _SIGNS:
            raise NotPlain(_source(node))
        return _SIGNS[type(node.op)](self._decidable(node.operand))

    def _decidable(self, node: ast.expr) -> Any:
        """Return a value that decides something, which the choice of an unknown machine cannot."""
        value = self.value_of(node)
        if isinstance(value, MachineChoice):
            raise NotPlain(f"{_source(node)} depends on the machine")
        return value

    def _BoolOp(self, node: ast.BoolOp) -> Any:
        value: Any = None
        for part in node.values:
            value = self._decidable(part)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value

    def _Compare(self, node: ast.Compare) -> bool:
        left = self._decidable(node.left)
        for kind, other in zip(node.ops, node.comparators, strict=True):
            right = self._decidable(other)
            if not _COMPARISONS[type(kind)](left, right):
                return False
            left = right
        return True

    def _IfExp(self, node: ast.IfExp) -> Any:
        try:
            chosen = node.body if self._decidable(node.test) else node.orelse
        except (NotPlain, *_FAILURES):
            return self._machine_choice(node)
        return self.value_of(chosen)

    def _machine_choice(self, node: ast.IfExp) -> MachineChoice:
        asks_machine = any(
            isinstance(inner, ast.Attribute) and inner.attr in ("is_available", "is_bf16_supported")
            for inner in ast.walk(node.test)
        )
        if asks_machine and all(isinstance(self.value_of(side), str) for side in (node.body, node.orelse)):
            return MachineChoice("auto")
        raise NotPlain(_source(node))

    def _BinOp(self, node: ast.BinOp) -> Any:
        left, right = self.value_of(node.left), self.value_of(node.right)
        if isinstance(left, int | float) and isinstance(right, int | float):
            return _compute(node, left, right)
        kind = type(node.op)
        joined = kind is ast.Add and type(left) is type(right) and isinstance(left, str | list)
        if kind is ast.Mult and isinstance(left, int) and isinstance(right, str | list):
            left, right = right, left
        repeated = kind is ast.Mult and isinstance(left, str | list) and isinstance(right, int)
        if repeated and len(left) * max(right, 0) > LARGEST:
            raise NotPlain(f"{_source(node)} would be too long")
        if joined or repeated or (kind is ast.BitOr and isinstance(left, dict) and isinstance(right, dict)):
            return _ARITHMETIC[kind](left, right)
        if kind is ast.Mod and isinstance(left, str):
            _require_short_fields(" ".join(re.findall(r"%[-#0 +]*([\d*.]*)", left)))
            return left % (tuple(right) if isinstance(right, list) else right)
        if kind is ast.Div and isinstance(left, str) and isinstance(right, str) and _makes_path(node.left):
            return os.path.join(left, right)
        raise NotPlain(_source(node))

    def _JoinedStr(self, node: ast.JoinedStr) -> str:
        return "".join(str(self.value_of(part)) for part in node.values)

    def _FormattedValue(self, node: ast.FormattedValue) -> str:
        value = self._decidable(node.value)
        specification = str(self.value_of(node.format_spec)) if node.format_spec is not None else ""
        _require_short_fields(specification)
        conversion = _CONVERSIONS.get(node.conversion)
        return format(conversion(value) if conversion is not None else value, specification)

    def _List(self, node: ast.List | ast.Tuple | ast.Set) -> list[Any]:
        items: list[Any] = []
        for item in node.elts:
            items += self.value_of(item.value) if isinstance(item, ast.Starred) else [self.value_of(item)]
        return items

    _Tuple = _List
    _Set = _List

    def _Dict(self, node: ast.Dict) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                result.update(self.value_of(value))
            else:
                result[self.value_of(key)] = self.value_of(value)
        return result

    def _Subscript(self, node: ast.Subscript) -> Any:
        if ast.unparse(node.value) == "os.environ":
            raise NotPlain(_source(node))
        container = self._decidable(node.value)
        if isinstance(node.slice, ast.Slice):
            bounds = [
                self.value_of(x) if x is not None else None
                for x in (node.slice.lower, node.slice.upper, node.slice.step)
            ]
            return container[slice(*bounds)]
        return container[self.value_of(node.slice)]

    def _Attribute(self, node: ast.Attribute) -> Any:
        owner = self.value_of(node.value)
        if isinstance(owner, dict) and node.attr in owner:
            return owner[node.attr]
        raise NotPlain(_source(node))

    def _Call(self, node: ast.Call) -> Any:
        name = ast.unparse(node.func)
        if name in ("field", "dataclasses.field"):
            return self._field(node)
        arguments = [self.value_of(item) for item in node.args]
        named = self._named(node)
        if name == "dict":
            return dict(*arguments, **named)
        if name in self.names and isinstance(self.names[name], dict) and not arguments:
            return {**self.names[name], **named}  # an instance of a class that the file defines
        if name in _PATHS and not named and all(isinstance(item, str) for item in arguments):
            return os.path.join(*arguments)
        if any(isinstance(item, MachineChoice) for item in arguments):
            raise NotPlain(f"{_source(node)} depends on the machine")
        if name in _FUNCTIONS and not named:
            return _FUNCTIONS[name](*arguments)
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func, arguments, named)
        raise NotPlain(_source(node))

    def _named(self, node: ast.Call) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.value_of(keyword.value)
            named.update(value if keyword.arg is None else {keyword.arg: value})
        return named

    def _field(self, node: ast.Call) -> Any:
        for keyword in node.keywords:
            if keyword.arg == "default":
                return self.value_of(keyword.value)
            if keyword.arg == "default_factory" and isinstance(keyword.value, ast.Lambda):
                return self.value_of(keyword.value.body)
            if keyword.arg == "default_factory" and isinstance(keyword.value, ast.Name):
                made: dict[str, Any] = {"list": [], "dict": {}, "tuple": []}
                name = keyword.value.id
                return dict(self.names[name]) if isinstance(self.names.get(name), dict) else made[name]
        raise NotPlain(_source(node))

    def _method(self, node: ast.Call, function: ast.Attribute, arguments: list[Any], named: dict[str, Any]) -> Any:
        owner, name = self._decidable(function.value), function.attr
        if isinstance(owner, dict) and name == "get" and not named and 1 <= len(arguments) <= 2:
            return owner.get(*arguments)
        if isinstance(owner, dict) and name == "copy" and not arguments:
            return dict(owner)
        if isinstance(owner, str):
            if name in _TEXT_METHODS:
                return getattr(owner, name)(*arguments)
            if name == "join" and len(arguments) == 1:
                _require_bounded([owner] * len(arguments[0]))
                return owner.join(arguments[0])
            if name == "replace" and len(arguments) == 2:
                if (len(owner) + 1) * (len(arguments[1]) + 1) > LARGEST:
                    raise NotPlain(f"{_source(node)} could be too long")
                return owner.replace(*arguments)
            if name == "format":
                return _formatted(owner, arguments, named)
        raise NotPlain(_source(node))


def _makes_path(node: ast.expr) -> bool:
    """Whether an expression is a pathlib path, whose division joins names."""
    inner: ast.expr = node
    while isinstance(inner, ast.BinOp):
        inner = inner.left
    return isinstance(inner, ast.Call) and ast.unparse(inner.func) in _PATHS


def _compute(node: ast.BinOp, left: float, right: float) -> Any:
    integers = isinstance(left, int) and isinstance(right, int)
    if isinstance(node.op, ast.Pow):
        if integers and (right < 0 or int(left).bit_length() * right <= _LARGEST_BITS):
            return left**right
        if not integers and not (left < 0 and int(right) != right):
            return float(left) ** right
        raise NotPlain(f"{_source(node)} is too large or no real number")
    if isinstance(node.op, ast.LShift) and integers and 0 <= right <= 128:
        return int(left) << int(right)
    if type(node.op) not in _ARITHMETIC:
        raise NotPlain(_source(node))
    return _ARITHMETIC[type(node.op)](left, right)


def _require_short_fields(text: str) -> None:
    """Refuse a format whose width or precision alone would fill the memory."""
    if any(int(number) > 1000 for number in re.findall(r"\d+", text)) or "*" in text:
        raise NotPlain(f"a format such as {text[:40]!r}")


def _formatted(text: str, arguments: list[Any], named: dict[str, Any]) -> str:
    for _, name, specification, _ in string.Formatter().parse(text):
        if name is not None and not re.fullmatch(r"\w*", name):
            raise NotPlain(f"the format {text[:40]!r}")
        if specification:
            if "{" in specification:
                raise NotPlain(f"the format {text[:40]!r}")
            _require_short_fields(specification)
    return text.format(*arguments, **named)
