"""A build's result in words: the sentences, the commands, the files."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

from llmbuilder.building.modelfile import ollama_name, write_modelfile
from llmbuilder.building.result import Expectation
from llmbuilder.building.summary import summary_markdown, write_summary
from llmbuilder.building.wording import describe_more_time, describe_plan_kept, describe_result, list_uses
from llmbuilder.config.schema import GenerationConfig
from llmbuilder.training import TrainingResults
from tests.building.test_result import a_result

EXPECTED = Expectation(502, 502_000, 10_000.0, 2.0, 1.9, 2.2, 50.0, [(120.0, 1.98), (600.0, 1.5)])


def _trained(steps: int, seconds: float, **more: object) -> TrainingResults:
    return TrainingResults(3.0, 3.1, 22.0, 1000.0 * steps / seconds, seconds, steps, None, None, **more)  # type: ignore[arg-type]


def test_planned_against_reached() -> None:
    assert describe_plan_kept(EXPECTED, _trained(334, 50.0)) == (
        "Planned 502 steps, trained 334: the machine was 1.5 times slower than measured."
    )
    assert describe_plan_kept(EXPECTED, _trained(1004, 50.0)).endswith("2.0 times faster than measured.")
    less = describe_plan_kept(EXPECTED, _trained(100, 5.0))
    assert less == "Planned 502 steps, trained 100: there was less time for them than planned."
    assert describe_plan_kept(EXPECTED, _trained(502, 51.0)) == "Planned 502 steps, trained 502."
    assert describe_plan_kept(EXPECTED, _trained(7, 1.0, interrupted=True)).endswith("trained 7: it was stopped.")
    assert describe_plan_kept(replace(EXPECTED, steps=1), _trained(1, 50.0)) == "Planned 1 step, trained 1."


def test_more_time_says_by_how_much() -> None:
    assert describe_more_time(EXPECTED, 120.0) == "10 minutes instead of 2 minutes: about 0.5 bits per byte less."
    assert describe_more_time(EXPECTED, 120.0, reached=4.0).startswith(
        "10 minutes instead of 2 minutes: about 2.5 bits"
    )
    assert "more documents would" in describe_more_time(replace(EXPECTED, longer=[(600.0, 1.99)]), 120.0)
    assert describe_more_time(replace(EXPECTED, longer=[]), 120.0) == ""


def test_the_first_row_is_what_it_can_do() -> None:
    rows = describe_result(a_result())
    assert rows[0] == ("what it can do", "It forms words.")
    facts = dict(rows)
    assert facts["how well it predicts"].startswith("2.12 bits per byte")
    assert "as expected (1.90 to 2.20)" in facts["how well it predicts"]
    assert facts["time"] == "42 seconds, 20 seconds of them training."
    assert facts["copied"].startswith("12% of what it wrote")
    assert facts["tested on"] == "docs/b.txt: kept out of training."
    assert facts["read"] == "3 documents, 9,000 characters."
    assert "better than" in dict(describe_result(a_result(bits_per_byte=1.5)))["how well it predicts"]
    assert "worse than" in dict(describe_result(a_result(bits_per_byte=2.5)))["how well it predicts"]


def test_a_leak_is_said_plainly() -> None:
    def fair(share: float) -> str:
        training = replace(a_result().training, validation_overlap=share)
        return dict(describe_result(a_result(training=training)))["is the test fair"]

    assert fair(0.0).startswith("Yes: nothing of the held-out text")
    assert fair(0.04).startswith("Mostly: 4.0% of the held-out text")
    assert fair(0.4).startswith("No: 40.0% of the held-out text")


def test_commands_can_be_pasted() -> None:
    place = "my run's dir"
    result = a_result(output=place, model_path=f"{place}/model.pt", gguf_path=f"{place}/model.gguf",
                      modelfile=f"{place}/Modelfile")  # fmt: skip
    commands = [shlex.split(command) for use in list_uses(result) for command in use.commands]
    assert [command[0] for command in commands] == ["llmbuilder", "ollama", "ollama", "llama-completion"]
    assert f"{place}/model.pt" in commands[0]
    assert commands[0][-1] == commands[2][-1] == commands[3][-1] == "The sea"
    assert commands[1] == ["ollama", "create", "my-run-s-dir", "-f", f"{place}/Modelfile"]
    assert [use.program for use in list_uses(a_result(modelfile=None, gguf_path=None))] == ["LLMBuilder"]


def test_ollama_gets_what_generation_does(tmp_path: Path) -> None:
    settings = GenerationConfig(temperature=0.7, top_p=0.9, top_k=None, stop=['say "stop"', "\n\n"])
    path = write_modelfile(tmp_path / "model.gguf", settings, context=256, ending="<|endoftext|>")
    text = path.read_text("utf-8")
    assert text.startswith('FROM ./model.gguf\nTEMPLATE "{{ .Prompt }}"\n')
    for line in ("num_ctx 256", "temperature 0.7", "top_p 0.9", "top_k 0", 'stop "<|endoftext|>"',
                 'stop """say "stop""""', 'stop "\n\n"'):  # fmt: skip
        assert f"PARAMETER {line}\n" in text
    greedy = write_modelfile(tmp_path / "m.gguf", GenerationConfig(do_sample=False), context=8, ending=None)
    assert "PARAMETER temperature 0\n" in greedy.read_text("utf-8")
    assert "stop" not in greedy.read_text("utf-8")
    assert ollama_name("runs/Über Hund_2") == "ber-hund-2"


def test_prompt_and_continuation_stand_apart(tmp_path: Path) -> None:
    result = a_result()
    text = summary_markdown(result)
    assert "Given:\n\n```text\nThe sea\n```\n\nIt went on:\n\n```text\n was calm.\n```" in text
    assert text.index("what it can do") < text.index("Given:") < text.index("ollama create") < text.index("nats")
    write_summary(tmp_path, result)
    words = json.loads((tmp_path / "summary.json").read_text("utf-8"))["words"]
    assert words["facts"][0] == ["what it can do", "It forms words."]
    assert words["uses"][0]["program"] == "LLMBuilder"
