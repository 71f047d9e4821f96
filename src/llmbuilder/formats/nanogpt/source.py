"""What a project's model source says of the architecture, read by parsing; nothing in it is executed.

Tensors do not show an activation, an epsilon or how rotary positions pair elements. Where a source offers several of a
kind, the choice is the configuration's, and this says only what there is to choose from.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MOST_FILES = 60
_HEADS = {"n_head", "n_heads", "num_heads", "num_attention_heads"}
_TORCH_EPSILON = 1.1920928955078125e-07  # what torch's rms_norm adds when it is given nothing, in float32
_ACTIVATIONS = {"silu": "silu", "SiLU": "silu", "relu": "relu", "ReLU": "relu", "leaky_relu": "leaky_relu",
                "LeakyReLU": "leaky_relu", "mish": "mish", "Mish": "mish", "NewGELU": "gelu_tanh"}  # fmt: skip


@dataclass
class ClassFacts:
    """What one class of a source has: its attributes, its own activations, and the names that it calls."""

    parts: set[str]
    activations: set[str]
    makes: set[str]


@dataclass
class ArchitectureFacts:
    """What was found in a project's source; sets hold every possibility that it offers."""

    files: list[str] = field(default_factory=list)
    activations: set[str] = field(default_factory=set)  # gelu, gelu_tanh, silu, relu, relu_squared, ...
    norms: set[str] = field(default_factory=set)  # layernorm, rmsnorm
    norm_epsilons: dict[str, set[float]] = field(default_factory=dict)  # kind of norm -> what it adds
    rotary: set[str] = field(default_factory=set)  # interleaved, halves
    rope_thetas: set[float] = field(default_factory=set)
    always: list[str] = field(default_factory=list)  # computed for every input, and in no model of this package
    sometimes: list[str] = field(default_factory=list)  # the same under a condition
    classes: dict[str, ClassFacts] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)  # of the classes that hold a model's configuration

    @property
    def activation(self) -> str | None:
        """The only activation there is, None if there are several or none."""
        return next(iter(self.activations)) if len(self.activations) == 1 else None

    def activations_with(self, name: str, parts: set[str]) -> set[str]:
        """Return the activations of a class that has certain parts, or of classes that it makes; else none."""
        found = self.classes[name]
        if not parts or not parts <= found.parts:
            return set()
        made = [self.classes[other].activations for other in found.makes if other in self.classes]
        return found.activations.union(*made)


def read_architecture(paths: Iterable[Path]) -> ArchitectureFacts:
    """Parse a project's model source, such as its model.py, and return what is found.

    Files that are no Python are passed over; `files` names those that were read.
    """
    facts = ArchitectureFacts()
    for path in paths:
        try:
            tree = ast.parse(path.read_text("utf-8-sig"), str(path))
        except (OSError, SyntaxError, ValueError):
            continue
        facts.files.append(path.name)
        _read(tree, facts, path.name)
    if "relu_squared" in facts.activations:
        facts.activations.discard("relu")
    if "RMSNorm" in facts.norm_epsilons:  # of several kinds, the one that has the usual name
        facts.norm_epsilons["rmsnorm"] = facts.norm_epsilons.pop("RMSNorm")
    return facts


def _read(tree: ast.Module, facts: ArchitectureFacts, name: str) -> None:
    for node, conditional in _walk(tree, False):
        if isinstance(node, ast.Call):
            _read_call(node, facts)
        if isinstance(node, ast.ClassDef):
            _read_class(node, facts)
        if isinstance(node, ast.FunctionDef):
            _read_function(node, facts)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            _read_power(node, facts)
        if isinstance(node, ast.Constant) and node.value == 0.044715:
            facts.activations.add("gelu_tanh")
        if isinstance(node, ast.Subscript):
            _read_slice(node, facts)
        foreign = _foreign(node, tree)
        if foreign is not None:
            sentence = f"{foreign} ({name}, line {getattr(node, 'lineno', 0)})"
            is_open = conditional or re.search(r" by (self\.)?[a-z_]+ \(", sentence) is not None
            (facts.sometimes if is_open else facts.always).append(sentence)


def _walk(node: ast.AST, conditional: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield every node, and whether it is computed under a condition only."""
    yield node, conditional
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                is_branch = isinstance(node, ast.If | ast.IfExp) and name != "test"
                yield from _walk(child, conditional or is_branch)


def _name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _number(node: ast.AST | None) -> float | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand)
        return None if inner is None else -inner
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    return None


def _read_call(node: ast.Call, facts: ArchitectureFacts) -> None:
    name = _name_of(node.func)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in ("gelu", "GELU") and isinstance(node.func, ast.Attribute) and _name_of(node.func.value) != "self":
        form = keywords.get("approximate", next(iter(node.args), None) if name == "GELU" else None)
        is_tanh = isinstance(form, ast.Constant) and form.value == "tanh"
        facts.activations.add("gelu_tanh" if is_tanh else "gelu")
    elif name in _ACTIVATIONS and (isinstance(node.func, ast.Name) or _name_of(node.func.value) != "self"):  # type: ignore[attr-defined]
        facts.activations.add(_ACTIVATIONS[name])
    elif name in ("layer_norm", "LayerNorm") and _is_torch(node.func):
        facts.norms.add("layernorm")
        default = node.args[4] if name == "layer_norm" and len(node.args) > 4 else None
        _add_epsilon("layernorm", keywords.get("eps", default), 1e-5, facts)
    elif name in ("rms_norm", "RMSNorm") and _is_torch(node.func):
        facts.norms.add("rmsnorm")
        default = node.args[3] if name == "rms_norm" and len(node.args) > 3 else None
        _add_epsilon("rmsnorm", keywords.get("eps", default), _TORCH_EPSILON, facts)
    elif name in ("square", "pow") and isinstance(node.func, ast.Attribute) and _is_relu(node.func.value):
        facts.activations.add("relu_squared")
    elif name in ("view_as_complex", "polar") or (name in ("reshape", "view") and "-1, 2)" in ast.unparse(node)[-8:]):
        facts.rotary.add("interleaved")


def _is_torch(function: ast.AST) -> bool:
    return isinstance(function, ast.Attribute) and _name_of(function.value) in ("nn", "F", "functional")


def _is_relu(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _name_of(node.func) in ("relu", "ReLU")


def _add_epsilon(kind: str, node: ast.AST | None, default: float, facts: ArchitectureFacts) -> None:
    value = default if node is None else _number(node)
    if value is not None:
        facts.norm_epsilons.setdefault(kind, set()).add(value)


def _read_class(node: ast.ClassDef, facts: ArchitectureFacts) -> None:
    source = ast.unparse(node)
    fields = {name: value.value for name, value in _fields(node) if isinstance(value, ast.Constant)}
    names = {name for name, _ in _fields(node)} | _arguments(node)
    facts.classes.setdefault(node.name, _class_facts(node))
    if _HEADS & names and "vocab_size" in names:
        facts.defaults = {**fields, **facts.defaults}
    if any(_is_torch(base) and _name_of(base) == "LayerNorm" for base in node.bases):
        facts.norms.add("layernorm")
        _add_epsilon("layernorm", None, 1e-5, facts)
    if "norm" in node.name.lower() and re.search(r"rsqrt|\.pow\(2\)|\*\* 2|\.norm\(", source) and "layer" not in source:
        facts.norms.add("rmsnorm")
        kind = "RMSNorm" if node.name == "RMSNorm" else "rmsnorm"
        given = [value for name, value in _argument_defaults(node) if name == "eps"]
        for value in given:
            _add_epsilon(kind, value, 1e-5, facts)
        if not given and "eps" not in source:
            found = list(_small_numbers(node)) or [0.0]
            facts.norm_epsilons.setdefault(kind, set()).update(found)


def _class_facts(node: ast.ClassDef) -> ClassFacts:
    own, parts, makes = ArchitectureFacts(), set(), set()
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            _read_call(part, own)
            makes.add(_name_of(part.func))
            parts |= {keyword.arg for keyword in part.keywords if keyword.arg is not None}  # ModuleDict(dict(c_fc=...))
        elif isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow):
            _read_power(part, own)
        elif isinstance(part, ast.Constant) and part.value == 0.044715:
            own.activations.add("gelu_tanh")
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            parts.add(part.value)
        elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            parts.add(part.attr)
    if "relu_squared" in own.activations:
        own.activations.discard("relu")
    return ClassFacts(parts, own.activations, makes - {node.name})


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the fields of a dataclass, or the arguments with defaults of a class that is made by hand."""
    for line in node.body:
        if isinstance(line, ast.AnnAssign):
            yield _name_of(line.target), line.value
        elif isinstance(line, ast.Assign):
            yield _name_of(line.targets[0]), line.value
    if not any(isinstance(line, ast.FunctionDef) and line.name == "forward" for line in node.body):
        yield from _argument_defaults(node)


def _arguments(node: ast.ClassDef) -> set[str]:
    """Return the arguments that a class of configurations is made with; a module's are none."""
    functions = {line.name: line for line in node.body if isinstance(line, ast.FunctionDef)}
    if "forward" in functions or "__init__" not in functions:
        return set()
    return {argument.arg for argument in functions["__init__"].args.args}


def _argument_defaults(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for line in node.body:
        if isinstance(line, ast.FunctionDef) and line.name == "__init__":
            yield from _defaults(line)


def _defaults(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    arguments = function.args
    named = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    yield from ((argument.arg, value) for argument, value in zip(named, arguments.defaults, strict=True))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is not None:
            yield argument.arg, default


def _small_numbers(node: ast.AST) -> Iterator[float]:
    for part in ast.walk(node):
        value = _number(part)
        if value is not None and 0 < value < 1e-2:
            yield value


def _read_function(node: ast.FunctionDef, facts: ArchitectureFacts) -> None:
    if node.name in ("rotate_half", "_rotate_half"):
        facts.rotary.add("halves")
    for name, value in _defaults(node):
        number = _number(value)
        if name in ("theta", "base", "rope_theta", "rope_base") and number is not None and number > 1:
            facts.rope_thetas.add(number)


def _read_power(node: ast.BinOp, facts: ArchitectureFacts) -> None:
    base = _number(node.left)
    if base is not None and base >= 100:
        facts.rope_thetas.add(base)
    if _is_relu(node.left) and _number(node.right) == 2:
        facts.activations.add("relu_squared")


def _read_slice(node: ast.Subscript, facts: ArchitectureFacts) -> None:
    text = ast.unparse(node.slice).strip("()")
    if re.fullmatch(r"\.\.\., (0|1)?:[^:]*:2", text):
        facts.rotary.add("interleaved")
    elif re.fullmatch(r"\.\.\., (:[^:]*(half|// ?2|d2?)|[^:]*(half|// ?2|d2?):)", text):
        facts.rotary.add("halves")


def _foreign(node: ast.AST, tree: ast.Module) -> str | None:
    """Return what a node computes that no model of this package does, None for everything else."""
    if isinstance(node, ast.BinOp):
        text = ast.unparse(node)
        if isinstance(node.op, ast.Mult) and re.search(r"\btanh\([^()]* / ", text) and "logit" in text:
            return "caps its logits with a tanh"
        if isinstance(node.op, ast.Mult) and re.search(r"(wte|tok_emb|embed\w*)\([^()]*\) \* .*(sqrt|n_embd|\d)", text):
            return "scales its embeddings"
        if isinstance(node.op, ast.Mult | ast.Div) and _is_scores(node.left):
            return _scale(node, tree)
    if isinstance(node, ast.Call) and _name_of(node.func) == "scaled_dot_product_attention":
        scale = next((keyword.value for keyword in node.keywords if keyword.arg == "scale"), None)
        is_given = scale is not None and not (isinstance(scale, ast.Constant) and scale.value is None)
        if scale is not None and is_given and not _is_usual_scale(ast.Mult(), _resolve(scale, tree)):
            return f"scales attention by {ast.unparse(_resolve(scale, tree))}"
    if (
        isinstance(node, ast.Call)
        and re.search(r"(^|_)(ln|norm)", _name_of(node.func))
        and node.args
        and isinstance(node.args[0], ast.BinOp)
        and isinstance(node.args[0].op, ast.Add)
        and re.search(r"(attn|attention|mlp|feed_forward|ffn)\w*\(", ast.unparse(node.args[0]))
    ):
        return "normalises after the residual sum, not before each part"
    return None


def _is_scores(node: ast.AST) -> bool:
    """Whether a node is queries times transposed keys."""
    text = ast.unparse(node)
    is_product = isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
    return (is_product or text.startswith(("torch.matmul(", "torch.bmm("))) and bool(
        re.search(r"transpose|\.mT\b", text)
    )


def _scale(node: ast.BinOp, tree: ast.Module) -> str | None:
    scale = _resolve(node.right, tree)
    if _is_usual_scale(node.op, scale):
        return None
    return f"scales attention by {'1 / ' * isinstance(node.op, ast.Div)}{ast.unparse(scale)}"


def _is_usual_scale(operation: ast.operator, scale: ast.AST) -> bool:
    """Whether scores are multiplied by, or divided by the inverse of, one over the root of a head's width."""
    power = 1.0 if isinstance(operation, ast.Mult) else -1.0
    if isinstance(scale, ast.BinOp) and isinstance(scale.op, ast.Div) and _number(scale.left) == 1:
        scale, power = scale.right, -power
    if isinstance(scale, ast.Call) and _name_of(scale.func) in ("sqrt", "rsqrt") and len(scale.args) == 1:
        width: ast.AST = scale.args[0]
        power *= 0.5 if _name_of(scale.func) == "sqrt" else -0.5
    elif isinstance(scale, ast.BinOp) and isinstance(scale.op, ast.Pow) and _number(scale.right) is not None:
        width, power = scale.left, power * (_number(scale.right) or 0.0)
    else:
        return False
    is_width = not isinstance(width, ast.BinOp) or isinstance(width.op, ast.FloorDiv)
    return is_width and _number(width) is None and power == -0.5


def _resolve(node: ast.AST, tree: ast.Module) -> ast.AST:
    """Return what an attribute or a variable was given, if it is given once; otherwise the node itself."""
    if not isinstance(node, ast.Attribute | ast.Name):
        return node
    text = ast.unparse(node)
    given = [
        line.value
        for line in ast.walk(tree)
        if isinstance(line, ast.Assign) and any(ast.unparse(target) == text for target in line.targets)
    ]
    return given[0] if len({ast.unparse(value) for value in given}) == 1 else node


def imported_files(path: Path, root: Path) -> list[Path]:
    """Return a model source and the files of its project that it imports, directly or through others.

    Only files under `root` count; names are looked for beside the importing file and from `root` on.
    """
    found: list[Path] = []
    waiting = [path]
    while waiting and len(found) < _MOST_FILES:
        current = waiting.pop(0)
        if current in found:
            continue
        found.append(current)
        try:
            tree = ast.parse(current.read_text("utf-8-sig"))
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            waiting += [file for name, level in _imported(node) for file in _locate(name, level, current, root)]
    return found


def _imported(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, 0) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        yield module, node.level
        yield from ((f"{module}.{alias.name}".strip("."), node.level) for alias in node.names)


def _locate(name: str, level: int, importing: Path, root: Path) -> list[Path]:
    starts = [importing.parents[level - 1]] if level and level <= len(importing.parents) else [importing.parent, root]
    for start in starts:
        place = start.joinpath(*name.split(".")) if name else start
        for file in (place.with_suffix(".py") if name else place / "__init__.py", place / "__init__.py"):
            if file.is_file() and root in file.parents:
                return [file]
    return []
