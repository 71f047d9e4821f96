"""What a build ends with survives being written down and read back."""

from __future__ import annotations

import json

from llmbuilder.building import BuildResult, Expectation, Sample
from llmbuilder.export import GGUFExport, GGUFVerification
from llmbuilder.training import TrainingResults


def a_result(**changed: object) -> BuildResult:
    values = {
        "output": "run",
        "model_path": "run/model.pt",
        "gguf_path": "run/model.gguf",
        "documents": {
            "documents": 3,
            "characters": 9000,
            "formats": {"text": 3},
            "skipped": [],
            "duplicates": [],
            "cleaning": {},
        },
        "plan": "0.1M parameters",
        "training": TrainingResults(3.25, 3.5, 33.1, 1234.5, 20.0, 40, "run/model.pt", None, validation_overlap=0.01),
        "bits_per_byte": 2.123456,
        "samples": [Sample("The sea", " was calm."), Sample("A dog", " ran away.")],
        "export": GGUFExport("run/model.gguf", "f16", "qwen3", 1_500_000),
        "verification": GGUFVerification(3, 3, 32, 32, 90, 1e-6, 1e-4, 1.0),
        "seconds": 42.0,
        "machine": {"llmbuilder": "1.0", "device": "cpu"},
        "expected": Expectation(60, 60_000, 2000.0, 2.0, 1.9, 2.2, 20.0, [(300.0, 1.8), (3600.0, 1.2)]),
        "held_out": ["docs/b.txt"],
        "ability": "It forms words.",
        "copied_share": 0.125,
        "modelfile": "run/Modelfile",
    }
    return BuildResult(**{**values, **changed})  # type: ignore[arg-type]


def test_a_result_comes_back_from_json() -> None:
    for result in (a_result(), a_result(expected=None, export=None, verification=None, modelfile=None, plan=None)):
        assert BuildResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_a_result_of_an_earlier_version_is_read() -> None:
    values = a_result().to_dict()
    del values["ability"], values["expected"], values["held_out"]
    values["training"]["unknown"] = 1
    assert BuildResult.from_dict(values).held_out == []
