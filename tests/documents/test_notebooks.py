"""Notebooks: line breaks as they are, code as code, what it wrote, no pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmbuilder.documents.readers import read_document
from llmbuilder.errors import DataError


def text_of(tmp_path: Path, notebook: object) -> str:
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(notebook))
    return read_document(path).text


def test_cells_in_order(tmp_path: Path) -> None:
    code = {"cell_type": "code", "source": ["a = 1\n", "if a:\n", "    print(a)"], "outputs": [
        {"output_type": "stream", "text": ["1\n", "2\n"]},
        {"output_type": "display_data", "data": {"image/png": "AAAA", "text/plain": "<Figure>"}},
        {"output_type": "execute_result", "data": {"text/plain": ["   x\n", "0  1"]}},
    ]}  # fmt: skip
    cells = [{"cell_type": "markdown", "source": "# T\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n1. x\n2. y"}, code]
    found = text_of(tmp_path, {"cells": cells, "metadata": {"language_info": {"name": "python"}}, "nbformat": 4})
    assert found == (
        "# T\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n1. x\n2. y\n\n```python\na = 1\nif a:\n    print(a)\n```\n\n"
        "```\n1\n2\n```\n\n```\n   x\n0  1\n```"
    )


def test_notebooks_of_the_third_version(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": "T"},
        {
            "cell_type": "code",
            "language": "python",
            "input": "f()",
            "outputs": [{"text": "out"}, {"png": "AA", "text": "x"}],
        },
    ]
    found = text_of(tmp_path, {"worksheets": [{"cells": cells}], "nbformat": 3})
    assert found == "## T\n\n```python\nf()\n```\n\n```\nout\n```"


@pytest.mark.parametrize("content", ["[1, 2]", "{", '{"cells": 5}', '{"cells": [1, {"source": {"a": 1}}]}'])
def test_what_is_no_notebook_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(content)
    with pytest.raises(DataError, match=r"a\.ipynb"):
        read_document(path)
