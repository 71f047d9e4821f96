"""Python code that files of tasks name, which runs for those who ask for it only."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbuilder.errors import DataError
from llmbuilder.evaluation.tasks import require_tasks

pytest.importorskip("lm_eval")


@pytest.mark.parametrize(
    "text",
    [
        "doc_to_text: !function evil.run\n",
        "doc_to_text: !func%74ion evil.run\n",  # a tag may be written so
        "metric_list: [{metric: !function evil.run}]\n",
        "include: other.yaml\n",
        "include: [plain.yaml, other.yaml]\n",
        "other: &file other.yaml\ninclude: *file\n",
        "include: around.yaml\n",
    ],
)
def test_code_is_found_however_it_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.yaml").write_text("process_docs: !function evil.run\n")
    (tmp_path / "around.yaml").write_text("include: other.yaml\n")
    (tmp_path / "plain.yaml").write_text("include: plain.yaml\noutput_type: multiple_choice\n")
    task = tmp_path / "task.yaml"
    task.write_text("task: mine\n" + text)
    with pytest.raises(DataError, match="names Python code"):
        require_tasks([str(task)])
    require_tasks([str(task)], allow_code=True)


def test_code_that_is_only_spoken_of_is_none(tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    task.write_text("task: mine\ndescription: without !function  # !function\n")
    require_tasks([str(task)])


@pytest.mark.parametrize(
    "text", ["", "- task: mine\n", "tasks: mine\n", "deep: {task: mine}\n", "include: other.yaml\n"]
)
def test_a_file_without_a_name_is_no_task(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.yaml").write_text("output_type: multiple_choice\n")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(DataError, match="mine.yaml is no task: it needs a line such as `task: mine`"):
        require_tasks([str(tmp_path / "mine.yaml")])
    (tmp_path / "mine.yaml").write_text("include: other.yaml\n")
    (tmp_path / "other.yaml").write_text("task: other\n")
    require_tasks([str(tmp_path / "mine.yaml")])
