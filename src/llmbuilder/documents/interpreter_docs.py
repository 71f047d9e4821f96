"""The corpus every machine has: the documentation inside the running Python interpreter.

The language reference that `help()` shows (`pydoc_data.topics`) and the docstrings of the standard library,
about two megabytes of English prose and code.
"""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from llmbuilder.documents.document import Document

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__"}


def default_corpus() -> Iterator[Document]:
    """Yield one document for each help topic and each standard library module that has docstrings."""
    from pydoc_data import topics

    for name, text in sorted(topics.topics.items()):
        yield Document(text, f"python:topic/{name}", "help", name)
    library = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(library.rglob("*.py")):
        relative = file.relative_to(library)
        if _LEFT_OUT & set(relative.parts):
            continue
        text = "\n\n".join(docstrings(file))
        if text:
            yield Document(text, f"python:module/{relative.as_posix()}", "docstrings", relative.stem)


def docstrings(file: Path) -> Iterator[str]:
    """Yield the docstrings of a Python file with the names of what they describe; none of one that cannot be parsed."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # some libraries ship files for other Python versions
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                name = getattr(node, "name", None)
                yield f"{name}\n{docstring}" if name else docstring
