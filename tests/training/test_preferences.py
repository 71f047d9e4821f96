"""Direct preference optimization: the loss of the paper, over pairs of answers, by the one engine."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import llmbuilder as lb
from llmbuilder.config import Config
from llmbuilder.config.recipe import choose_adapter_rate, choose_full_rate, resolve_recipe, settle_tuning
from llmbuilder.config.sizes import estimate_run_memory
from llmbuilder.conversations.preferences import PreferenceDataset
from llmbuilder.data import TextDataset
from llmbuilder.errors import ConfigError, DataError, TrainingError
from llmbuilder.export import export_huggingface
from llmbuilder.files import read_json_lines
from llmbuilder.finetuning.chat import prepare_for_chat
from llmbuilder.model import LanguageModel, build_model, load_model, save_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.training import Callback, finetune_model, resume_training, train_model
from llmbuilder.training.loop import processor, trainer
from llmbuilder.training.loop.batches import StepBatches
from llmbuilder.training.loop.learner import Learner
from llmbuilder.training.loop.reference import keep_reference
from llmbuilder.training.processes.distributed import Processes
from llmbuilder.training.storage.paths import RunPaths
from llmbuilder.training.storage.reference import begin_preferences
from llmbuilder.training.tuning import tuning_config
from tests.command_line import run, run_program
from tests.conversations.templates import CHATML_TOOLS, THINKING, marked_tokenizer

WINDOW, BETA = 48, 0.3
QUESTIONS = ["What is red?", "What is blue?", "What is green?", "What is grey?"]
CHOSEN = ["A rose.", "The sky at noon, and the sea.", "Grass.", "Most stones of this land."]
REJECTED = ["A nail that lay in the rain.", "No.", "Grass, perhaps.", "The sky."]


def settings(method: str = "full", **training: Any) -> Config:
    wanted = {"max_steps": 40, "batch_size": 4, "learning_rate": 0.003, "save_every": 0, "eval_every": 0, "log_every": 1,
              "warmup_steps": 2, "mixed_precision": "no", "optimizer": "adamw", "sample_every": 0, **training}  # fmt: skip
    finetuning = {"method": method, "objective": "dpo", "dpo_beta": BETA}
    return tuning_config({"training": wanted, "finetuning": finetuning, "system": {"seed": 3}})


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(chosen: list[str], rejected: list[str]) -> list[dict[str, Any]]:
    return [{"prompt": q, "chosen": c, "rejected": r} for q, c, r in zip(QUESTIONS, chosen, rejected, strict=True)]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write(tmp_path / "pairs.jsonl", rows_of(CHOSEN, REJECTED))


@pytest.fixture
def base(tmp_path: Path, tiny_config: Config, bpe: Tokenizer) -> Path:
    return made(tmp_path / "base.pt", tiny_config, bpe)


def made(path: Path, config: Config, bpe: Tokenizer, template: str = CHATML_TOOLS) -> Path:
    tokenizer = marked_tokenizer(bpe)
    config.model.vocab_size, config.model.max_seq_length = len(tokenizer), WINDOW
    torch.manual_seed(0)
    model = build_model(config)
    model.tokenizer, model.metadata = tokenizer, {"chat_template": template}
    return save_model(model, path)


def perturbed(model: LanguageModel) -> LanguageModel:
    """Let a model be another one than it was."""
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=random))
    return model


def prepared(base: Path, pairs: Path, folder: Path) -> tuple[LanguageModel, PreferenceDataset, RunPaths]:
    model = load_model(base, "cpu")
    template, _ = prepare_for_chat(model)
    dataset = PreferenceDataset(pairs, WINDOW, template)
    dataset.prepare(folder / "tokens")
    paths = RunPaths.choose(folder)
    paths.write_record({})
    begin_preferences(model, dataset, paths, Processes())
    return model, dataset, paths


def step(base: Path, pairs: Path, folder: Path, batch_size: int = 4) -> dict[str, Tensor]:
    """The sums of a step over all pairs, and its gradients, of a model that is no longer its reference."""
    config = settings(batch_size=batch_size, gradient_accumulation_steps=4 // batch_size)
    model, dataset, paths = prepared(base, pairs, folder)
    config.model = model.config
    learner = Learner(model, config, torch.device("cpu"), Processes())
    keep_reference(learner, dataset, paths, batch_size, lambda _: None)
    perturbed(model)
    loss, margin, accuracy = learner.compute_gradients(StepBatches(dataset.train, config.training).fetch(0))
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"loss": loss, "reward_margin": margin, "reward_accuracy": accuracy, **gradients}


def expected(base: Path, folder: Path) -> dict[str, Tensor]:
    """The same in transformers: its template, its logits, and the formula as it stands in the paper."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reference = load_model(base, "cpu")
    prepare_for_chat(reference)
    export_huggingface(reference, folder / "reference")
    export_huggingface(perturbed(reference), folder / "policy")
    tokenizer = AutoTokenizer.from_pretrained(folder / "reference")
    policy, before = (
        AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32) for name in ("policy", "reference")
    )

    def log_likelihood(model: Any, question: str, answer: str) -> Tensor:
        asked = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": answer}], return_dict=False)
        end = len(whole) - whole[::-1].index(tokenizer.convert_tokens_to_ids("<|im_end|>"))
        assert whole[: len(prompt)] == prompt
        log_probabilities = model(torch.tensor([whole[:end]])).logits[0].log_softmax(-1)
        places = torch.arange(len(prompt), end)
        return log_probabilities[places - 1, torch.tensor(whole)[places]].sum()

    margins = []
    for question, chosen, rejected in zip(QUESTIONS, CHOSEN, REJECTED, strict=True):
        gained = [log_likelihood(policy, question, answer) - log_likelihood(before, question, answer).detach()
                  for answer in (chosen, rejected)]  # fmt: skip
        margins.append(BETA * (gained[0] - gained[1]))
    loss = -torch.stack([torch.log(torch.sigmoid(margin)) for margin in margins]).mean()
    loss.backward()
    seen = torch.stack(margins).detach()
    gradients = {name: parameter.grad for name, parameter in policy.named_parameters() if parameter.grad is not None}
    return {
        "loss": loss.detach(),
        "reward_margin": seen.mean(),
        "reward_accuracy": (seen > 0).float().mean(),
        **gradients,
    }


def assert_alike(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-4, atol=2e-6, msg=lambda text, name=name: f"{name} {text}"
        )


def test_loss_and_gradients_are_those_of_transformers(tmp_path: Path, base: Path, pairs: Path) -> None:
    wanted = expected(base, tmp_path)
    assert abs(wanted["loss"].item() - math.log(2)) > 0.01 and len(wanted) > 10
    assert_alike(step(base, pairs, tmp_path / "run"), wanted)


def test_accumulation_changes_neither_loss_nor_gradients(tmp_path: Path, base: Path, pairs: Path) -> None:
    whole = step(base, pairs, tmp_path / "4", 4)
    for size in (2, 1):
        assert_alike(step(base, pairs, tmp_path / str(size), size), whole)


def test_swapped_answers_have_another_loss(tmp_path: Path, base: Path, pairs: Path) -> None:
    right = step(base, pairs, tmp_path / "right")
    write(pairs, rows_of(REJECTED, CHOSEN))
    swapped = step(base, pairs, tmp_path / "swapped")
    torch.testing.assert_close(swapped["reward_margin"], -right["reward_margin"])
    assert swapped["reward_accuracy"] == 1 - right["reward_accuracy"]
    assert not torch.isclose(swapped["loss"], right["loss"], rtol=1e-3)


def preferred(model: LanguageModel) -> list[float]:
    """By how many nats a model finds each chosen answer likelier than the rejected one."""
    template, _ = prepare_for_chat(model)
    model.eval()

    def log_likelihood(question: str, answer: str) -> float:
        asked = [{"role": "user", "content": question}]
        prompt = template.encode(asked, add_generation_prompt=True)
        ids = template.encode([*asked, {"role": "assistant", "content": answer}])
        with torch.no_grad():
            log_probabilities = model(torch.tensor([ids]))[0][0].log_softmax(-1)
        return sum(float(log_probabilities[place - 1, ids[place]]) for place in range(len(prompt), len(ids)))

    with template:
        return [
            log_likelihood(q, c) - log_likelihood(q, r) for q, c, r in zip(QUESTIONS, CHOSEN, REJECTED, strict=True)
        ]


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("is_swapped", [False, True])
def test_the_tuned_model_prefers_what_was_chosen(
    tmp_path: Path, base: Path, pairs: Path, method: str, is_swapped: bool
) -> None:
    before = preferred(load_model(base, "cpu"))
    if is_swapped:
        write(pairs, rows_of(REJECTED, CHOSEN))
    config = settings(method, learning_rate=0.01 if method == "lora" else 0.003)
    finetune_model(base, pairs, tmp_path / "run", config, callbacks=[])
    after = preferred(load_model(tmp_path / "run", "cpu"))
    gained = [new - old for old, new in zip(before, after, strict=True)]
    assert all(gain < -5 for gain in gained) if is_swapped else all(gain > 5 for gain in gained), gained
    lines = [line for line in read_json_lines(tmp_path / "run" / "metrics.jsonl") if "reward_margin" in line]
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert lines[0]["reward_margin"] == pytest.approx(0, abs=1e-4)
    assert lines[-1]["reward_accuracy"] == 1 and lines[-1]["loss"] < 0.3
    mean = sum(gained) / len(gained) * (-1 if is_swapped else 1)
    assert lines[-1]["reward_margin"] == pytest.approx(BETA * mean, rel=0.2)  # of the step before the last


class _Stop(Callback):
    def on_step(self, metrics: dict[str, Any]) -> None:
        if metrics["step"] == 5:
            raise RuntimeError("pulled the plug")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_stopped_run_goes_on_bit_for_bit(
    tmp_path: Path, base: Path, pairs: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(method, max_steps=12, save_every=4, eval_every=3, batch_size=1)
    config.data.train_split = 0.6
    whole = finetune_model(base, pairs, tmp_path / "whole", config, callbacks=[])
    with pytest.raises(RuntimeError, match="plug"):
        finetune_model(base, pairs, tmp_path / "stopped", config, callbacks=[_Stop()])
    reference = (tmp_path / "stopped" / "reference.safetensors").read_bytes()
    assert reference == (tmp_path / "whole" / "reference.safetensors").read_bytes()
    base.unlink()

    def again(*_: Any) -> float:
        raise AssertionError("the reference is computed once")

    monkeypatch.setattr(trainer, "keep_reference", again)
    resumed = resume_training(tmp_path / "stopped", callbacks=[])
    weights = [load_model(tmp_path / name / "model.pt", "cpu").weights() for name in ("whole", "stopped")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    names = ("loss", "reward_margin", "validation_loss", "validation_reward_margin", "validation_reward_accuracy")
    lines = [[{key: line[key] for key in names if key in line} for line in read_json_lines(tmp_path / name / "metrics.jsonl")]
             for name in ("whole", "stopped")]  # fmt: skip
    assert lines[0] == lines[1]
    assert sum("validation_reward_accuracy" in line for line in lines[0]) == 4
    assert whole.reward_accuracy == resumed.reward_accuracy is not None
    assert whole.perplexity is None and whole.best_validation_loss is not None


def test_before_the_first_step_nothing_is_preferred(tmp_path: Path, base: Path, pairs: Path) -> None:
    config = settings(eval_only=True)
    config.data.train_split = 0.6
    results = finetune_model(base, pairs, tmp_path / "run", config, callbacks=[])
    assert results.best_validation_loss == pytest.approx(math.log(2), abs=1e-6)
    news, line = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert news == {"step": 0, "event": "Computing what 4 pairs are to the model before it learns"}
    assert line["validation_reward_margin"] == pytest.approx(0, abs=1e-5)
    assert json.loads(json.dumps(results.to_dict()))["perplexity"] is None
    assert "of the pairs as preferred" in results._repr_html_()


def test_a_reference_of_something_else_is_refused(tmp_path: Path, base: Path, pairs: Path) -> None:
    config = settings("lora", max_steps=6, save_every=2)
    with pytest.raises(RuntimeError, match="plug"):
        finetune_model(base, pairs, tmp_path / "run", config, callbacks=[_Stop()])
    kept = tmp_path / "run" / "reference.safetensors"
    own = kept.read_bytes()
    other = write(tmp_path / "other.jsonl", rows_of(REJECTED, CHOSEN))
    finetune_model(base, other, tmp_path / "other", settings("lora", max_steps=1), callbacks=[])
    shutil.copy(tmp_path / "other" / "reference.safetensors", kept)
    with pytest.raises(TrainingError, match="belongs to other pairs than this run is trained with"):
        resume_training(tmp_path / "run", callbacks=[])
    save_model(perturbed(load_model(base, "cpu")), tmp_path / "another.pt")
    finetune_model(tmp_path / "another.pt", pairs, tmp_path / "third", settings("lora", max_steps=1), callbacks=[])
    shutil.copy(tmp_path / "third" / "reference.safetensors", kept)
    with pytest.raises(TrainingError, match="belongs to another model than this run is trained with"):
        resume_training(tmp_path / "run", callbacks=[])
    for damage in (own[:-8], b""):
        kept.write_bytes(damage)
        with pytest.raises(TrainingError, match=r"reference.safetensors, .* cannot be read"):
            resume_training(tmp_path / "run", callbacks=[])
    kept.unlink()
    with pytest.raises(TrainingError, match="cannot be read"):
        resume_training(tmp_path / "run", callbacks=[])
    kept.write_bytes(own)
    assert resume_training(tmp_path / "run", callbacks=[]).steps == 6
    finetune_model(base, pairs, tmp_path / "run", settings("lora", max_steps=1), callbacks=[], overwrite=True)
    assert kept.read_bytes() == own


def test_broken_equal_and_long_pairs_are_counted(
    tmp_path: Path, base: Path, pairs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = "again and again " * 40
    more = [
        {"prompt": "Why?", "chosen": "So.", "rejected": "So."}, {"prompt": long, "chosen": "So.", "rejected": "No."},
        {"prompt": "Why?", "chosen": f"{long}yes", "rejected": f"{long}no"}, {"prompt": "Why?", "chosen": long, "rejected": "No."},
    ]  # fmt: skip
    pairs.write_text(pairs.read_text() + "{broken\n" + "".join(json.dumps(row) + "\n" for row in more))
    model = load_model(base, "cpu")
    template, _ = prepare_for_chat(model)
    dataset = PreferenceDataset(pairs, WINDOW, template).prepare(tmp_path / "tokens")
    assert "4 of the 9 preference pairs in" in caplog.text
    assert "pairs.jsonl:5: the line is no JSON" in caplog.text
    assert "pairs.jsonl:6: its two answers are the same\n" in caplog.text
    assert "pairs.jsonl:7: its question alone fills the window of 48 tokens" in caplog.text
    assert "pairs.jsonl:8: its two answers are the same within the window of 48 tokens" in caplog.text
    assert "1 sample of" in caplog.text and "longer than the window" in caplog.text
    assert len(dataset.train) == 5
    assert max(inputs.shape[1] for inputs, _ in dataset.train.in_order(1)) == WINDOW


def test_answers_that_a_template_writes_alike_or_otherwise_are_left_out(
    tmp_path: Path, tiny_config: Config, bpe: Tokenizer, pairs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trimming = CHATML_TOOLS.replace("message.content }}", "message.content | lower }}")
    answers = [{"role": "assistant", "content": text} for text in ("Yes.", "yes.")]
    more = [{"role": "user", "content": "And?"}, *answers[:1]]
    asked = {"role": "user", "content": "Why?"}
    rows = [*rows_of(CHOSEN, REJECTED), {"chosen": [asked, answers[0]], "rejected": [asked, answers[1]]}]
    for template, last, said in (
        (trimming, rows[-1], "its two answers are the same in the form of the chat template"),
        (THINKING, {"chosen": [asked, answers[0], *more], "rejected": [asked, {**answers[0], "content": "No."}, *more]},
         "chosen: the template writes an answer otherwise when more follow"),
    ):  # fmt: skip
        caplog.clear()
        write(pairs, [*rows[:-1], last])
        model = load_model(made(tmp_path / "own.pt", tiny_config, bpe, template), "cpu")
        (tmp_path / "own.pt").unlink()
        PreferenceDataset(pairs, WINDOW, prepare_for_chat(model)[0]).prepare(tmp_path / "tokens")
        assert f"pairs.jsonl:5: {said}" in caplog.text


def test_one_question_is_on_one_side_of_the_split(tmp_path: Path, base: Path, pairs: Path) -> None:
    rows = [{**row, "rejected": f"{row['rejected']} {n}"} for n in range(5) for row in rows_of(CHOSEN, REJECTED)]
    template, _ = prepare_for_chat(load_model(base, "cpu"))
    dataset = PreferenceDataset(write(pairs, rows), WINDOW, template, 0.6).prepare(tmp_path / "tokens")
    assert dataset.validation is not None
    assert len(dataset.train) + len(dataset.validation) == 20 and len(dataset.validation) % 5 == 0
    questions = [{tuple(inputs[0, : int((targets[0] != -100).nonzero()[0])].tolist()) for inputs, targets in part.in_order(1)}
                 for part in (dataset.train, dataset.validation)]  # fmt: skip
    assert not questions[0] & questions[1]


def test_pairs_of_one_question_validate_nothing_and_say_so(
    tmp_path: Path, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = write(tmp_path / "same.jsonl", [{"prompt": "Why?", "chosen": c, "rejected": "No."} for c in CHOSEN])
    template, _ = prepare_for_chat(load_model(base, "cpu"))
    dataset = PreferenceDataset(pairs, WINDOW, template, 0.6).prepare(tmp_path / "tokens")
    assert len(dataset.train) == 4 and dataset.validation is None
    assert "too few different preference pairs" in caplog.text


def test_what_is_not_learned_so_is_refused(tmp_path: Path, base: Path, pairs: Path) -> None:
    talk = write(
        tmp_path / "talk.jsonl", [{"prompt": q, "completion": a} for q, a in zip(QUESTIONS, CHOSEN, strict=True)]
    )
    (tmp_path / "text.txt").write_text("Once upon a time. " * 200)
    plain = tuning_config({"training": {"max_steps": 1}})
    for data, config, kind, said in (
        (talk, settings(), DataError, "talk.jsonl holds conversations, and no pairs"),
        (tmp_path / "text.txt", settings(), DataError, "text.txt holds no preference pairs"),
        (pairs, plain, DataError, "pairs.jsonl holds pairs of answers.*--objective dpo"),
    ):
        with pytest.raises(kind, match=said):
            finetune_model(base, data, tmp_path / "run", config, callbacks=[])
    model, dataset, _ = prepared(base, pairs, tmp_path / "prepared")
    with pytest.raises(ConfigError, match="holds preference pairs, and finetuning.objective is 'likelihood'"):
        train_model(model, dataset, plain, tmp_path / "run", [])
    with pytest.raises(ConfigError, match="holds preference pairs"):  # and their tokens
        train_model(model, TextDataset(tmp_path / "prepared" / "tokens", WINDOW), plain, tmp_path / "run", [])
    with pytest.raises(ConfigError, match="learns from preference pairs, and .* holds none"):
        train_model(model, TextDataset(tmp_path / "text.txt", WINDOW), settings(), tmp_path / "run", [])
    assert not (tmp_path / "run").exists()


def test_rates_and_batch_are_those_of_preferences() -> None:
    for method, rate in (("lora", choose_adapter_rate), ("full", choose_full_rate)):
        config = tuning_config({"finetuning": {"method": method, "objective": "dpo"}, "training": {"num_epochs": 1}})
        settle_tuning(config)
        assert config.training.learning_rate == pytest.approx(rate(config.model) / 50)
        for pairs, size in ((10_000, 16), (200, 4), (3, 1)):
            own = config.copy_of()
            resolve_recipe(own, 1_000_000, 1 << 40, window=128, pairs=pairs)
            assert (own.training.batch_size, own.training.optimizer) == (size, "adamw")


def test_a_pair_takes_the_memory_of_two_sequences() -> None:
    config = tuning_config({"training": {"batch_size": 8}})
    one = estimate_run_memory(config, 1, 256)
    config.finetuning.objective = "dpo"
    two = estimate_run_memory(config, 1, 256)
    assert two.weights == one.weights and 1.9 < two.activations / one.activations <= 2


def test_the_command(tmp_path: Path, base: Path, pairs: Path) -> None:
    given = ("finetune", "model", "-m", base, "--data", pairs)
    told = run(*given, "--objective", "dpo", "--inspect", 1, cwd=tmp_path)
    assert (
        "assistant\n[[A rose.<|im_end|>]]" in told.stdout
        and "[[A nail that lay in the rain.<|im_end|>]]" in told.stdout
    )
    assert "pairs.jsonl:1 (chosen)" in told.stderr and "pairs.jsonl:1 (rejected)" in told.stderr
    told = run(*given, "--objective", "dpo", "-o", "run", "--json", "--set", "training.max_steps=3", "--set",
               "training.eval_every=1", "--set", "data.train_split=0.6", "--set", "finetuning.dpo_beta=0.2", cwd=tmp_path)  # fmt: skip
    found = json.loads(told.stdout)
    assert found["steps"] == 3 and 0 <= found["reward_accuracy"] <= 1
    assert "Computing what 4 pairs are to the model before it learns" in told.stderr
    config = lb.load_config(tmp_path / "run" / "config.json")
    assert (config.finetuning.objective, config.finetuning.dpo_beta) == ("dpo", 0.2)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "held-out pairs as preferred" in page and "Reward margin" in page and "nats per pair" in page
    refused = run(*given, "-o", "other", cwd=tmp_path, status=1)
    assert "--objective dpo" in refused.stderr
    refused = run(*given, "--inspect", 1, cwd=tmp_path, status=1)
    assert "--objective dpo" in refused.stderr
    refused = run(*given, "-o", "other", "--set", "finetuning.dpo_beta=0.2", cwd=tmp_path, status=1)
    assert "finetuning.dpo_beta would not act here: finetuning.objective is not dpo" in refused.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_have_the_losses_of_one(tmp_path: Path, base: Path, pairs: Path, strategy: str) -> None:
    method = "lora" if strategy == "ddp" else "full"
    given = ("training.max_steps=4", "training.batch_size=2", "training.log_every=1", "training.mixed_precision=no",
             "training.learning_rate=0.003", "training.optimizer=adamw", "training.eval_every=2", "data.train_split=0.6",
             "system.num_threads=1", f"system.distributed_strategy={strategy}")  # fmt: skip
    overrides = [word for setting in given for word in ("--set", setting)]
    rows = [{**row, "prompt": f"{row['prompt']} {n}"} for n in range(3) for row in rows_of(CHOSEN, REJECTED)]
    command = ("finetune", "model", "-m", base, "--data", write(pairs, rows), "--objective", "dpo", "--method", method,
               "--quiet", *overrides)  # fmt: skip
    run_program(*command, "-o", "one", cwd=tmp_path)
    run_program(*command, "-o", "two", "--nproc", 2, cwd=tmp_path)
    names = ("loss", "reward_margin", "reward_accuracy", "validation_loss", "validation_reward_margin")
    one, two = ([line[key] for line in read_json_lines(tmp_path / name / "metrics.jsonl") for key in names if key in line]
                for name in ("one", "two"))  # fmt: skip
    assert len(one) == len(two) == 4 * 3 + 2 * 2
    assert two == pytest.approx(one, rel=1e-4, abs=1e-6)


def test_chunks_of_the_logits_have_the_same_gradients(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmbuilder.model import loss as pieces

    model = perturbed(load_model(base, "cpu"))
    tokens = torch.randint(model.config.vocab_size, (4, WINDOW), generator=torch.Generator().manual_seed(1))
    targets = tokens.roll(-1, 1)
    targets[:, :20] = -100
    shares = torch.tensor([1.0, -2.0, 0.5, 3.0])

    def gradients() -> list[Tensor]:
        found = model.log_likelihoods(tokens, targets)
        return [found.detach(), *torch.autograd.grad((found * shares).sum(), list(model.parameters()))]

    whole = gradients()
    logits = model(tokens)[0].detach().log_softmax(-1)
    by_hand = [sum(float(logits[row, at, targets[row, at]]) for at in range(20, WINDOW)) for row in range(4)]
    assert whole[0].tolist() == pytest.approx(by_hand, rel=1e-5)
    monkeypatch.setattr(pieces, "_rows_of_a_piece", lambda _: 37)
    for one, other in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_answers_are_compared_in_float32_where_a_processor_has_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "has_fast_bfloat16", lambda: True)
    monkeypatch.setattr(processor, "bfloat16_pays", lambda width: True)
    chosen = []
    for objective, asked in (("dpo", "auto"), ("likelihood", "auto"), ("dpo", "bf16")):
        config = tuning_config({"finetuning": {"objective": objective}, "training": {"mixed_precision": asked}})
        processor.choose_precision(config, torch.device("cpu"), Processes())
        chosen.append(config.training.mixed_precision)
    assert chosen == ["no", "bf16", "bf16"]
