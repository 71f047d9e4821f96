"""Tasks of lm-eval: the same scores as transformers gets on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llmbuilder.config import ModelConfig
from llmbuilder.errors import ConfigError, DataError
from llmbuilder.evaluation.tasks import TaskScore, evaluate_tasks
from llmbuilder.export import export_huggingface
from llmbuilder.model import LanguageModel, build_model
from llmbuilder.tokenizer import Tokenizer
from tests.command_line import run

pytest.importorskip("lm_eval")
pytest.importorskip("transformers")
pytestmark = pytest.mark.slow  # the harness takes a while to be imported

QUESTIONS = [
    {"question": f"What does the {animal} say?", "answers": ["It barks.", "It mews.", " It sings of rivers"], "right": right}
    for right, animal in enumerate(["dog", "cat", "bird"] * 4)
]  # fmt: skip
HEAD = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
"""
CHOICE = (
    HEAD
    + """output_type: multiple_choice
doc_to_text: "{{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{answers}}}}"
doc_to_target: "{{{{right % 3}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
)
ROLLING = (
    HEAD
    + """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}} {{{{answers | join(' ')}}}}"
metric_list: [{{metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}}]
"""
)
WRITING = (
    HEAD
    + """output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answers[0]}}}}"
generation_kwargs: {{until: ["e"], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: chrf, aggregation: chrf, higher_is_better: true}}]
"""
)


@pytest.fixture
def model(bpe: Tokenizer) -> LanguageModel:
    torch.manual_seed(5)
    config = ModelConfig(
        vocab_size=len(bpe), num_layers=2, num_heads=2, embedding_dim=32, max_seq_length=48, dropout=0.0, qk_norm=False
    )
    built = build_model(config).eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    built.tokenizer = bpe
    return built


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    found = []
    for name, form in (("choice", CHOICE), ("rolling", ROLLING), ("writing", WRITING)):
        (tmp_path / f"{name}.yaml").write_text(form.format(name=name, data=data))
        found.append(str(tmp_path / f"{name}.yaml"))
    return found


def theirs(folder: Path, tasks: list[str]) -> dict[tuple[str, str], float]:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    judge: Any = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4, max_length=48)
    found = simple_evaluate(judge, tasks=tasks, log_samples=False, bootstrap_iters=0)
    return {
        (task, key.partition(",")[0]): value
        for task, metrics in found["results"].items()
        for key, value in metrics.items()
        if "," in key and "_stderr" not in key
    }


def test_the_same_weights_get_the_scores_that_transformers_gets(
    tmp_path: Path, model: LanguageModel, tasks: list[str]
) -> None:
    export_huggingface(model, tmp_path / "folder")
    expected = theirs(tmp_path / "folder", tasks)
    found = evaluate_tasks(model, tasks, batch_size=5)
    assert {(score.task, score.metric) for score in found} == set(expected) and len(found) == 4
    for score in found:
        assert score.value == pytest.approx(expected[score.task, score.metric], abs=1e-4)
        assert score.samples == len(QUESTIONS)
    right = next(score for score in found if score.metric == "acc")
    assert right.interval is not None and 0 < right.interval[0] < right.value < right.interval[1] < 1
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    changed = evaluate_tasks(model, tasks)
    assert [score.value for score in changed] != [score.value for score in found], "other weights, other scores"


def test_what_cannot_be_run_is_refused(tmp_path: Path, model: LanguageModel, tasks: list[str]) -> None:
    with pytest.raises(ConfigError, match="no task is called 'hellaswagg'.*did you mean 'hellaswag'"):
        evaluate_tasks(model, ["hellaswagg"])
    coded = tmp_path / "coded.yaml"
    coded.write_text(Path(tasks[0]).read_text() + "process_docs: !function evil.run\n")
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(DataError, match="names Python code"):
        evaluate_tasks(model, [str(coded)])
    broken = tmp_path / "broken.yaml"
    broken.write_text(Path(tasks[0]).read_text().replace("questions.jsonl", "nowhere.jsonl"))
    with pytest.raises(DataError, match="nowhere.jsonl.*in the folder that the command runs in"):
        evaluate_tasks(model, [str(broken)])
    senseless = tmp_path / "senseless.yaml"
    senseless.write_text(Path(tasks[2]).read_text().replace("chrf, aggregation: chrf", "acc, aggregation: mean"))
    with pytest.raises(DataError, match="senseless.yaml ask for what lm-eval cannot do"):
        evaluate_tasks(model, [str(senseless)])


def test_the_command_prints_scores(tmp_path: Path, model: LanguageModel, tasks: list[str]) -> None:
    from llmbuilder.model import save_model

    save_model(model, tmp_path / "model.pt")
    asked = ["--tasks", f"{tasks[0]},{tasks[1]}", "--limit", "6", "--json"]
    done = run("model", "evaluate", "model.pt", *asked, cwd=tmp_path)
    scores = [TaskScore(**values) for values in json.loads(done.stdout)["tasks"]]
    assert [(score.task, score.metric, score.samples) for score in scores] == [
        ("choice", "acc", 6), ("choice", "acc_norm", 6), ("rolling", "bits_per_byte", 6),
    ]  # fmt: skip
