"""Tuning on conversations: the same engine, the template that comes along or is given, and an end to every answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import llmbuilder as lb
from llmbuilder.config import Config
from llmbuilder.conversations.dataset import ConversationDataset
from llmbuilder.errors import ConfigError, DataError
from llmbuilder.export import export_gguf, export_huggingface
from llmbuilder.files import read_json_lines
from llmbuilder.finetuning.chat import prepare_for_chat
from llmbuilder.inference import Chat, GenerationConfig
from llmbuilder.inference.generation import Generator, load_generator
from llmbuilder.model import build_model, load_model, save_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import Callback, finetune_model, resume_training
from llmbuilder.training.tuning import inspect_conversations, tuning_config
from tests.command_line import run, run_program
from tests.conversations.templates import CHATML_TOOLS, marked_tokenizer

ANSWERS = {"What is red?": "A rose.", "What is blue?": "The sky at noon.", "What is green?": "Grass, and most leaves."}
GREEDY = GenerationConfig(max_new_tokens=40, do_sample=False)


def settings(method: str = "full", **training: Any) -> Config:
    wanted = {"max_steps": 60, "batch_size": 4, "learning_rate": 0.01, "save_every": 0, "eval_every": 0,
              "warmup_steps": 2, "mixed_precision": "no", "optimizer": "adamw", **training}  # fmt: skip
    return tuning_config({"training": wanted, "finetuning": {"method": method}, "system": {"seed": 3}})


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in ANSWERS.items()
    ]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 8))
    return tmp_path / "talk.jsonl"


@pytest.fixture
def bare(tmp_path: Path, tiny_config: Config, bpe: Tokenizer) -> Path:
    """A model without a chat template, and without the tokens of one."""
    return _saved(tmp_path / "bare.pt", tiny_config, bpe)


def _saved(path: Path, config: Config, tokenizer: Tokenizer, **metadata: str) -> Path:
    config.model.vocab_size, config.model.max_seq_length = len(tokenizer), 64
    torch.manual_seed(0)
    model = build_model(config)
    model.tokenizer, model.metadata = tokenizer, metadata
    return save_model(model, path)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_tuned_model_answers_and_stops_by_itself(tmp_path: Path, bare: Path, talk: Path, method: str) -> None:
    config = settings(method, max_steps=120 if method == "lora" else 60)
    finetune_model(bare, talk, tmp_path / "run", config, callbacks=[])
    tuned = load_model(tmp_path / "run", "cpu")
    chat = Chat(Generator(tuned))
    found = {question: chat.answers(question, GREEDY)[0] for question in ANSWERS}
    chat.close()
    assert found == ANSWERS
    assert tuned.config.vocab_size == load_model(bare, "cpu").config.vocab_size + 2
    told = run_program(
        "generate", "text", "-m", "run", "--chat", "-i", "--greedy", cwd=tmp_path, stdin="What is blue?\n"
    )
    assert told.stdout == "The sky at noon.\n\n"
    # With the embedding that learned beside them, adapters alone are not the model.
    assert not (tmp_path / "run" / "adapter").exists()


def test_new_tokens_start_at_the_mean(bare: Path) -> None:
    model = load_model(bare, "cpu")
    rows = model.embedding.weight.detach().clone()
    template, has_new = prepare_for_chat(model)
    assert has_new and template.tokenizer.ending_ids[-1] == len(rows) + 1
    assert torch.equal(model.embedding.weight[: len(rows)], rows)
    torch.testing.assert_close(model.embedding.weight[len(rows) :], rows.mean(0).expand(2, -1))
    torch.testing.assert_close(model.lm_head.weight[len(rows)], model.lm_head.weight[: len(rows)].mean(0))
    assert prepare_for_chat(model)[1] is False  # it has them now


def test_a_models_own_template_is_used_stored_and_exported(
    tmp_path: Path, tiny_config: Config, bpe: Tokenizer, talk: Path
) -> None:
    base = _saved(tmp_path / "base.pt", tiny_config, marked_tokenizer(bpe), chat_template=CHATML_TOOLS)
    finetune_model(base, talk, tmp_path / "run", settings("lora", max_steps=2), callbacks=[])
    tuned = load_model(tmp_path / "run", "cpu")
    assert tuned.metadata["chat_template"] == CHATML_TOOLS
    assert (tmp_path / "run" / "adapter").is_dir()
    export_huggingface(tuned, tmp_path / "hf")
    assert (tmp_path / "hf" / "chat_template.jinja").read_text() == CHATML_TOOLS
    export_gguf(tuned, tmp_path / "model.gguf", "f32")
    assert load_model(tmp_path / "model.gguf", "cpu").metadata["chat_template"] == CHATML_TOOLS
    assert tuned.tokenizer is not None
    ends = tuned.tokenizer.ending_ids
    for place in ("hf", "model.gguf"):
        tokenizer = load_model(tmp_path / place, "cpu").tokenizer
        assert tokenizer is not None
        assert set(ends) <= set(tokenizer.ending_ids)
    assert tuned.tokenizer.id_of("<|im_end|>") in ends


def test_our_template_gives_the_same_tokens_in_transformers(tmp_path: Path, bare: Path, talk: Path) -> None:
    from transformers import AutoTokenizer

    finetune_model(bare, talk, tmp_path / "run", settings(max_steps=1), callbacks=[])
    tuned = load_model(tmp_path / "run", "cpu")
    export_huggingface(tuned, tmp_path / "hf")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    messages = [{"role": "system", "content": " Be\n brief "}, {"role": "user", "content": "What is red?"}]
    template, _ = prepare_for_chat(tuned)
    with template:
        ours = template.encode(messages, add_generation_prompt=True)
    assert theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False) == ours


class _Stop(Callback):
    def on_step(self, metrics: dict[str, Any]) -> None:
        if metrics["step"] == 5:
            raise RuntimeError("pulled the plug")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, bare: Path, talk: Path, method: str) -> None:
    config = settings(method, max_steps=12, save_every=4, eval_every=6)
    finetune_model(bare, talk, tmp_path / "whole", config, callbacks=[])
    with pytest.raises(RuntimeError, match="plug"):
        finetune_model(bare, talk, tmp_path / "stopped", config, callbacks=[_Stop()])
    resume_training(tmp_path / "stopped", callbacks=[])
    whole, stopped = (load_model(tmp_path / name / "model.pt", "cpu") for name in ("whole", "stopped"))
    assert all(torch.equal(a, b) for a, b in zip(whole.weights().values(), stopped.weights().values(), strict=True))
    losses = [[line["loss"] for line in read_json_lines(tmp_path / name / "metrics.jsonl") if "loss" in line]
              for name in ("whole", "stopped")]  # fmt: skip
    assert losses[0] == losses[1]
    assert stopped.metadata["chat_template"] == whole.metadata["chat_template"]
    assert load_generator(stopped).tokenizer.ending_ids == load_generator(whole).tokenizer.ending_ids


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path: Path, bare: Path, talk: Path) -> None:
    given = ("training.max_steps=6", "training.batch_size=4", "training.log_every=1", "training.mixed_precision=no",
             "training.eval_every=3", "system.num_threads=1")  # fmt: skip
    overrides = [word for setting in given for word in ("--set", setting)]
    command = ("finetune", "model", "-m", bare, "--data", talk, "--quiet", *overrides)
    run_program(*command, "-o", "one", cwd=tmp_path)
    run_program(*command, "-o", "two", "--nproc", 2, cwd=tmp_path)
    one, two = ([line for line in read_json_lines(tmp_path / name / "metrics.jsonl") if "learning_rate" in line]
                for name in ("one", "two"))  # fmt: skip
    assert len(one) == len(two) == 6
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-5)


def test_broken_rows_are_listed_and_the_rest_is_used(
    tmp_path: Path, bare: Path, talk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = talk.read_text().splitlines()
    talk.write_text("\n".join([rows[0], "{broken", *rows[1:20], *['{"messages": []}'] * 12]))
    finetune_model(bare, talk, tmp_path / "run", settings(max_steps=1), callbacks=[])
    assert "13 of the 33 conversations" in caplog.text
    assert "talk.jsonl:2: the line is no JSON" in caplog.text
    assert caplog.text.count("it has no assistant turn") == 1
    assert "talk.jsonl:31 and 2 more: it has no assistant turn" in caplog.text
    all_of_them = read_json_lines(tmp_path / "run" / "tokens" / "left_out.jsonl")
    assert [item["place"].rpartition(":")[2] for item in all_of_them] == ["2", *map(str, range(22, 34))]
    assert all_of_them[-1]["reason"].startswith("it has no assistant turn")
    talk.write_text("\n".join([rows[0], *["{broken"] * 3]))
    with pytest.raises(DataError, match="3 of the 4 conversations"):
        finetune_model(bare, talk, tmp_path / "other", settings(max_steps=1), callbacks=[])
    assert not (tmp_path / "other").exists()


def test_a_model_whose_template_cannot_be_learned_is_refused(
    tmp_path: Path, tiny_config: Config, bpe: Tokenizer, talk: Path
) -> None:
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    base = _saved(tmp_path / "open.pt", tiny_config, bpe, chat_template=source)
    with pytest.raises(DataError, match=r"cannot learn conversations: .* no token of their own"):
        finetune_model(base, talk, tmp_path / "run", settings(), callbacks=[])
    assert not (tmp_path / "run").exists()


def test_too_long_samples_are_counted(tmp_path: Path, bare: Path, talk: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = {
        "messages": [{"role": "user", "content": "What is red?"}, {"role": "assistant", "content": "A rose. " * 90}]
    }
    asked = {
        "messages": [{"role": "user", "content": "What is red? " * 90}, {"role": "assistant", "content": "A rose."}]
    }
    talk.write_text(talk.read_text() + json.dumps(long) + "\n" + json.dumps(asked) + "\n")
    model = load_model(bare, "cpu")
    template, _ = prepare_for_chat(model)
    dataset = ConversationDataset(talk, 48, template, 0.5).prepare(tmp_path / "tokens")
    assert "1 sample of" in caplog.text and "longer than the window" in caplog.text
    assert "talk.jsonl:26: its question alone fills the window of 48 tokens" in caplog.text
    assert dataset.validation is not None
    assert dataset.account.used == 25


def test_text_in_the_form_of_a_template_is_told_of(
    tmp_path: Path, bare: Path, talk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inspect_conversations(bare, talk)
    assert "give the messages without it" not in caplog.text
    rendered = {"prompt": "<|im_start|>user\nWhat is red?<|im_end|>\n<|im_start|>assistant\n", "completion": "A rose."}
    plain = {"prompt": "What is blue?", "completion": "The sky at noon."}
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [rendered, plain, rendered]))
    inspect_conversations(bare, tmp_path / "texts.jsonl")
    assert "the text of 2 conversations of" in caplog.text and "give the messages without it" in caplog.text


def test_rows_that_are_left_out_move_no_others_to_the_other_side(tmp_path: Path, bare: Path) -> None:
    def row(question: str, answer: str) -> str:
        return json.dumps({"prompt": question, "completion": answer}) + "\n"

    short = [row(f"What is {number}?", f"It is {number + 1}.") for number in range(50)]
    long = [row("Say it all. " * 5000 + str(number), "All.") for number in range(3)]
    template, _ = prepare_for_chat(load_model(bare, "cpu"))
    parts = []
    for name, rows in (("short", short), ("long", [*short, *long])):
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
        dataset = ConversationDataset(tmp_path / f"{name}.jsonl", 48, template, 0.9).prepare(tmp_path / name)
        assert dataset.validation is not None
        parts.append(dataset.validation.info.tokens / dataset.info.tokens)
    assert parts[0] < 0.2 and parts[1] < 0.2


def test_questions_and_answers_of_an_unknown_form_are_told_of(
    tmp_path: Path, bare: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"question": f"What is {number} and one?", "answer": str(number + 1)} for number in range(40)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    finetune_model(bare, tmp_path / "asked.jsonl", tmp_path / "run", settings(max_steps=1), [])
    assert "questions, too: its rows have the fields question, answer" in caplog.text


def test_equal_conversations_stay_on_one_side(tmp_path: Path, bare: Path, talk: Path) -> None:
    template, _ = prepare_for_chat(load_model(bare, "cpu"))
    dataset = ConversationDataset(talk, 48, template, 0.6).prepare(tmp_path / "tokens")
    assert dataset.validation is not None
    shown = [{tuple(row) for part in windows.in_order(1) for row in part[1].tolist()}
             for windows in (dataset.train, dataset.validation)]  # fmt: skip
    assert not shown[0] & shown[1]
    assert dataset.validation_overlap == 0.0 or dataset.validation_overlap is None


def test_settings_of_documents_do_not_act_here(tmp_path: Path, bare: Path, talk: Path) -> None:
    config = settings()
    config.data.redact = ["email"]
    with pytest.raises(ConfigError, match=r"data.redact would not act here"):
        finetune_model(bare, talk, tmp_path / "run", config, callbacks=[])


def test_samples_are_shown_with_what_is_learned(tmp_path: Path, bare: Path, talk: Path) -> None:
    found = inspect_conversations(bare, talk, 2)
    assert ["".join(piece.text for piece in sample.pieces if piece.is_learned) for sample in found.samples] == [
        "A rose.<|im_end|>", "The sky at noon.<|im_end|>",
    ]  # fmt: skip
    told = run("finetune", "model", "-m", bare, "--data", talk, "--inspect", 1, cwd=tmp_path)
    assert "assistant\n[[A rose.<|im_end|>]]" in told.stdout
    assert "talk.jsonl:1" in told.stderr
    told = run("finetune", "model", "-m", bare, "--data", talk, "--inspect", 1, "--json", cwd=tmp_path)
    assert json.loads(told.stdout)["samples"][0]["pieces"][1] == {"text": "A rose.<|im_end|>", "is_learned": True}
    (tmp_path / "text.txt").write_text("Once upon a time")
    refused = run("finetune", "model", "-m", bare, "--data", "text.txt", "--inspect", 1, cwd=tmp_path, status=1)
    assert "holds no conversations" in refused.stderr
    refused = run("finetune", "model", "-m", bare, "--data", talk, "--inspect", 1, "-o", "x", cwd=tmp_path, status=2)
    assert "trains nothing" in refused.stderr
    assert not (tmp_path / "x").exists()


def test_the_command_trains_and_talks(tmp_path: Path, bare: Path, talk: Path) -> None:
    told = run("finetune", "model", "-m", bare, "--data", talk, "-o", "run", "--json", "--set", "training.max_steps=2",
               "--set", "training.batch_size=2", cwd=tmp_path)  # fmt: skip
    assert json.loads(told.stdout)["steps"] == 2
    config = lb.load_config(tmp_path / "run" / "config.json")
    assert config.finetuning.embeddings and config.training.embedding_learning_rate is not None
    told = run("generate", "text", "-m", "run", "--chat", "-p", "What is red?", "--system", "Be brief.", "-n", 3, "--json",
               cwd=tmp_path)  # fmt: skip
    assert json.loads(told.stdout)[0]["prompt"] == "What is red?"
    refused = run("generate", "text", "-m", "run", "--system", "x", "-p", "y", cwd=tmp_path, status=2)
    assert "--chat" in refused.stderr
    refused = run("generate", "text", "-m", bare, "--chat", "-p", "y", cwd=tmp_path, status=1)
    assert "has no chat template" in refused.stderr
