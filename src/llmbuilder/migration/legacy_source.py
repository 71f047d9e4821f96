"""A model source cut down to what it defines, for files that train as soon as they are imported."""

from __future__ import annotations

import ast
import builtins


def does_more_than_define(tree: ast.Module) -> bool:
    """Whether importing a file would do what its program is for: loops, calls."""
    return any(
        isinstance(node, ast.For | ast.While | ast.With)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        for node in tree.body
    )


def definitions(tree: ast.Module) -> ast.Module:
    """Return a file's imports, classes, functions and constants, without what it would do besides."""
    kept: list[ast.stmt] = [
        node
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef)
        or (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and node.value is not None
            and not any(isinstance(part, ast.Call) for part in ast.walk(node.value))
        )
        or (isinstance(node, ast.Try) and any(isinstance(part, ast.Import | ast.ImportFrom) for part in node.body))
    ]
    return ast.Module(body=_without_failing(kept), type_ignores=[])


def _without_failing(nodes: list[ast.stmt]) -> list[ast.stmt]:
    """Drop constants that are made of names which were left out."""
    known = {*dir(builtins), "__name__", "__file__"}
    kept: list[ast.stmt] = []
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            used = {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)} if node.value is not None else set()
            if used - known:
                continue
        kept.append(node)
        known |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            known.add(node.name)
        known |= {(a.asname or a.name).split(".")[0] for n in ast.walk(node)
                  if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}  # fmt: skip
    return kept
