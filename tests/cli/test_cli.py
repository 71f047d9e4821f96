"""The command line: results on standard output, messages without tracebacks, exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmbuilder.config import Config
from llmbuilder.model import save_model
from llmbuilder.tokenizer import Tokenizer
from tests.command_line import run, run_program
from tests.documents.samples import write_all
from tests.inference.test_chat import generator
from tests.references import NanoGPT


def test_help_names_every_group(tmp_path: Path) -> None:
    text = run_program("--help", cwd=tmp_path).stdout
    for name in (
        "build",
        "data",
        "tokenizer",
        "train",
        "generate",
        "model",
        "export",
        "import",
        "config",
        "migrate",
        "info",
    ):
        assert f"\n  {name} " in text
    assert run_program("--version", cwd=tmp_path).stdout.startswith("llmbuilder 0.")


def test_data_load_and_inspect(tmp_path: Path) -> None:
    write_all(tmp_path / "raw")
    (tmp_path / "raw" / "broken.pdf").write_bytes(b"%PDF-")
    result = run("data", "load", "--input", "raw", "--output", "data.txt", "--clean", cwd=tmp_path)
    assert "data.txt: 11 documents" in result.stdout
    assert "note: skipped raw/broken.pdf: cannot be read as pdf" in result.stderr
    counts = json.loads(run("data", "inspect", "data.txt", "--json", cwd=tmp_path).stdout)
    assert counts["documents"] == 11
    run("data", "load", "-i", "raw", "-o", "data.jsonl", cwd=tmp_path)
    deduplicated = run("data", "deduplicate", "data.jsonl", "unique.jsonl", "--json", cwd=tmp_path).stdout
    assert json.loads(deduplicated)["documents"] == 11


def test_tokenizer_train_and_inspect(tmp_path: Path, prose: str) -> None:
    (tmp_path / "data.txt").write_text(prose)
    facts = run("tokenizer", "train", "-i", "data.txt", "-o", "tok", "--vocab-size", 300, "--json", cwd=tmp_path).stdout
    assert json.loads(facts)["tokens"] <= 300
    shown = json.loads(run("tokenizer", "inspect", "tok", "--text", "Item 7: é", "--json", cwd=tmp_path).stdout)
    assert shown["round_trip"] is True
    again = run("tokenizer", "train", "-i", "data.txt", "-o", "tok", cwd=tmp_path, status=1)
    assert "already exists" in again.stderr


def write_harbours(folder: Path) -> None:
    folder.mkdir()
    for number, name in enumerate(("Brelnor", "Tamsoe", "Vexholm")):
        (folder / f"{number}.txt").write_text(f"Rain.\n\nThe harbour of {name} is {number}7 fathoms deep.\n")


def test_a_conversation_looks_things_up(tmp_path: Path, tiny_config: Config, bpe: Tokenizer) -> None:
    write_harbours(tmp_path / "docs")
    save_model(generator(tiny_config, bpe).model, tmp_path / "talks.pt")
    line = ("generate", "text", "-m", "talks.pt", "--documents", "docs", "--chat", "-n", 3)
    (told,) = json.loads(run(*line, "-p", "Tamsoe?", "--json", cwd=tmp_path).stdout)
    assert told["prompt"] == "Tamsoe?" and [one["source"] for one in told["sources"]] == ["docs/1.txt"]
    shown = run(*line, "-p", "Vexholm?", cwd=tmp_path)
    assert "[1] docs/2.txt, line 1: " in shown.stderr and "fathoms" not in shown.stdout
    spoken = run_program(*line, "-i", cwd=tmp_path, stdin="Tamsoe?\nzebra\n")
    assert spoken.stderr.count("[1] docs/1.txt") == 1
    assert spoken.stderr.count("nothing in the documents has a word of this") == 1
    refused = run(*line[:6], "-i", cwd=tmp_path, status=2)
    assert "--chat -i" in refused.stderr


def test_what_is_found_in_documents_stands_before_the_prompt(trained_run: Path, tmp_path: Path) -> None:
    write_harbours(tmp_path / "docs")
    line = ("generate", "text", "-m", trained_run, "--documents", "docs", "-n", 8, "--seed", 1)
    told = run(*line, "-p", "how deep is Tamsoe", cwd=tmp_path)
    assert told.stdout.startswith("how deep is Tamsoe") and "fathoms" not in told.stdout
    assert "[1] docs/1.txt, line 1: Rain. The harbour of Tamsoe is 17 fathoms deep. ..." in told.stderr
    without = run(*line[:4], *line[6:], "-p", "how deep is Tamsoe", "--json", cwd=tmp_path)
    found = json.loads(run(*line, "-p", "how deep is Tamsoe", "-p", "vexholm", "--json", cwd=tmp_path).stdout)
    assert [one["sources"][0]["source"] for one in found] == ["docs/1.txt", "docs/2.txt"]
    assert found[0]["sources"][0] == {
        "text": "Rain.\n\nThe harbour of Tamsoe is 17 fathoms deep.", "source": "docs/1.txt", "line": 1,
    }  # fmt: skip
    assert found[0]["continuations"] != json.loads(without.stdout)[0]["continuations"], "the model has read it"
    assert "sources" not in json.loads(without.stdout)[0]
    refused = run(*line, "-p", "zebra", cwd=tmp_path, status=1)
    assert refused.stderr.splitlines()[-1].startswith(
        "GenerationError: nothing in docs has a word of the prompt 'zebra'"
    )
    crowded = run(*line[:6], "-p", "Tamsoe " * 200, cwd=tmp_path, status=1)
    assert "too little text for a passage" in crowded.stderr


def test_train_generate_evaluate_export(tmp_path: Path, tiny_config: Config, prose: str) -> None:
    (tmp_path / "data.txt").write_text(prose)
    tiny_config.save(tmp_path / "config.yaml")
    trained = run("train", "model", "--config", "config.yaml", "--data", "data.txt", "-o", "run", "--set",
                  "training.max_steps=5", "--json", cwd=tmp_path)  # fmt: skip
    assert json.loads(trained.stdout)["steps"] == 5
    assert "Training 3" in trained.stderr
    refused = run(
        "train", "model", "--config", "config.yaml", "--data", "data.txt", "-o", "run", cwd=tmp_path, status=1
    )
    assert refused.stderr.startswith("CheckpointError: run already holds a run")
    text = run("generate", "text", "-m", "run/model.pt", "--tokenizer", "run/tokenizer", "-p", "Item", "-n", 5, "--seed", 1,
               cwd=tmp_path).stdout  # fmt: skip
    assert text.startswith("Item")
    several = run(
        "generate", "text", "-m", "run", "-p", "a", "-p", "b", "--num-samples", 2, "--json", cwd=tmp_path
    ).stdout
    assert [len(item["continuations"]) for item in json.loads(several)] == [2, 2]
    spoken = run_program(
        "generate", "text", "-m", "run", "--interactive", "-n", 3, cwd=tmp_path, stdin="Item\nThe\n"
    ).stdout
    assert spoken.count("\n") >= 4
    measured = run("model", "evaluate", "run", "--data", "data.txt", "--json", cwd=tmp_path).stdout
    assert json.loads(measured)["perplexity"] > 1
    assert json.loads(run("model", "info", "run", "--json", cwd=tmp_path).stdout)["metadata"]["step"] == 5
    exported = run("export", "gguf", "run", "m.gguf", "-q", "q8_0", "--json", cwd=tmp_path).stdout
    assert json.loads(exported)["verification"]["equal_tokenizations"] == 3
    run("export", "hf", "run", "hf", cwd=tmp_path)
    run("import", "hf", "hf", "back.pt", cwd=tmp_path)
    resumed = run("train", "resume", "run", "--set", "training.max_steps=7", "--json", cwd=tmp_path).stdout
    assert json.loads(resumed)["steps"] == 7


def test_configuration_commands(tmp_path: Path) -> None:
    listed = json.loads(run("config", "create", "--list", "--json", cwd=tmp_path).stdout)
    assert {row["preset"] for row in listed} == {"tiny", "cpu_small", "gpu_medium", "gpu_large", "inference"}
    assert "gpu_medium" in run("config", "create", "--list", cwd=tmp_path).stdout
    run("config", "create", "--preset", "tiny", "-o", "c.yaml", cwd=tmp_path)
    assert "is valid" in run("config", "validate", "c.yaml", cwd=tmp_path).stdout
    assert "already exists" in run("config", "create", "-o", "c.yaml", cwd=tmp_path, status=1).stderr
    (tmp_path / "old.json").write_text('{"n_layer": 2, "n_head": 12, "n_embd": 770, "device": "cpu"}')
    problem = run("config", "validate", "old.json", cwd=tmp_path, status=1).stdout
    assert "model.embedding_dim (770) is not divisible by model.num_heads (12)" in problem
    run("config", "validate", "old.json", "--fix", "-o", "fixed.json", cwd=tmp_path)
    run("config", "migrate", "old.json", "new.json", cwd=tmp_path)
    shown = json.loads(run("config", "show", "fixed.json", cwd=tmp_path).stdout)
    assert shown["model"]["embedding_dim"] == 768
    assert json.loads(run("config", "schema", cwd=tmp_path).stdout)["title"] == "Config"


def test_import_asks_for_the_activation_or_reads_it(tmp_path: Path) -> None:
    """An untied head is not nanoGPT's, so that nothing says which GELU its MLP computes."""
    import torch

    from llmbuilder.model import load_model

    model = NanoGPT(vocab=60)
    weights = {**model.state_dict(), "lm_head.weight": torch.randn(60, 32)}
    torch.save({"model": weights, "model_args": model.args}, tmp_path / "ckpt.pt")
    (tmp_path / "model.py").write_text("x = F.gelu(x, approximate='tanh')\n")
    result = run("import", "nanogpt", "ckpt.pt", "model.pt", cwd=tmp_path, status=1)
    assert "--activation gelu" in result.stderr
    for name, options in {"given.pt": ["--activation", "gelu_tanh"], "read.pt": ["--source", "model.py"]}.items():
        run("import", "nanogpt", "ckpt.pt", name, *options, cwd=tmp_path)
        assert load_model(tmp_path / name, "cpu").config.activation == "gelu_tanh"


def test_import_and_info(tmp_path: Path) -> None:
    import torch

    model = NanoGPT()
    torch.save({"model": model.state_dict(), "model_args": model.args}, tmp_path / "ckpt.pt")
    facts = json.loads(run("import", "nanogpt", "ckpt.pt", "model.pt", "--json", cwd=tmp_path).stdout)
    assert facts["family"] == "gpt"
    assert json.loads(run("info", "--json", cwd=tmp_path).stdout)["torch"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "model", "--data", "absent.txt", "-o", "x"], "DataError: no such file or folder: absent.txt"),
        (["train", "model", "-o", "x"], "ConfigError: name the training text with --data"),
        (["train", "model", "--data", "d.txt"], "ConfigError: name a run directory with --output"),
        (["train", "model", "--data", "d.txt", "-o", "x", "--set", "training.batchsize=3"], "did you mean training.batch_size?"),
        (["train", "resume", "nowhere"], "TrainingError: nowhere holds no run"),
        (["generate", "text", "-m", "absent.pt", "-p", "x"], "CheckpointError: no such model file: absent.pt"),
        (["generate", "text", "-m", "d.txt", "-p", "x"], "CheckpointError: d.txt is not a model file but a text"),
        (["data", "load", "-i", "empty", "-o", "out.txt"], "DataError: empty is empty: put documents there"),
        (["data", "load", "-i", "d.txt", "-o", "out.doc"], "use one of .txt, .jsonl, .parquet"),
        (["build", "absent", "-o", "x"], "DataError: no such file or folder: absent"),
        (["build", "empty", "-o", "x"], "DataError: empty is empty"),
        (["build", "-o", "full"], "DataError: full already exists"),
        (["build", "-o", "x", "--time-budget", "soon"], "ConfigError: 'soon' is no duration"),
        (["config", "validate", "broken.json"], "broken.json is not valid JSON"),
        (["tokenizer", "inspect", "./absent/dir"], "TokenizerError: no tokenizer folder at ./absent/dir"),
        (["migrate", "absent", "new"], "MigrationError: no such folder: absent"),
    ],
)  # fmt: skip
def test_user_errors_are_one_message_and_status_one(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "d.txt").write_text("some text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    (tmp_path / "broken.json").write_text("{")
    before = {p.name for p in tmp_path.iterdir()}
    assert message in run(*arguments, cwd=tmp_path, status=1).stderr
    assert {p.name for p in tmp_path.iterdir()} == before, "nothing is left behind"


def test_the_program_ends_with_the_message_and_status_one(tmp_path: Path) -> None:
    said = run_program("train", "resume", "nowhere", cwd=tmp_path, status=1)
    assert "TrainingError: nowhere holds no run" in said.stderr
    assert not list(tmp_path.iterdir())


def test_wrong_usage_is_status_two(tmp_path: Path) -> None:
    run_program("generate", "text", cwd=tmp_path, status=2)
