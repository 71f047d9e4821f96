from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llmbuilder.config import ModelConfig
from llmbuilder.data import TextDataset
from llmbuilder.errors import ConfigError, DataError
from llmbuilder.evaluation import bits_per_byte, evaluate_model, score_tokens
from llmbuilder.evaluation.scoring import sliding_windows
from llmbuilder.evaluation.token_bytes import NO_TEXT, token_bytes
from llmbuilder.model import LanguageModel, build_model, save_model
from llmbuilder.tokenizer import SpecialTokens, Tokenizer, train_tokenizer
from tests.command_line import run


@pytest.fixture
def model() -> LanguageModel:
    config = ModelConfig(vocab_size=512, num_layers=1, num_heads=2, embedding_dim=32, max_seq_length=16, dropout=0.0)
    built = build_model(config).eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built


@pytest.mark.parametrize("length", [2, 16, 17, 50])
@torch.no_grad()
def test_stride_one_scores_each_token_with_its_longest_context(model: LanguageModel, length: int) -> None:
    tokens = np.random.default_rng(0).integers(0, 512, length)
    expected = 0.0
    for position in range(1, length):
        context = torch.from_numpy(tokens[max(0, position - 16) : position])[None]
        expected -= float(F.log_softmax(model(context)[0][0, -1], dim=-1)[tokens[position]])
    assert score_tokens(model, tokens, stride=1) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stride", [3, 8, 16])
def test_every_token_is_scored_once_at_any_stride(model: LanguageModel, stride: int) -> None:
    for parameter in model.parameters():
        parameter.data.zero_()  # every prediction is uniform, so the total counts the tokens
    tokens = np.arange(100)
    assert score_tokens(model, tokens, stride=stride) == pytest.approx(99 * math.log(512), rel=1e-5)


def test_measures_agree_with_each_other(tmp_path: Path, model: LanguageModel, bpe: Tokenizer) -> None:
    (tmp_path / "text.txt").write_text("The quick brown fox jumps. " * 30)
    found = evaluate_model(model, tmp_path / "text.txt", bpe)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert found.tokens == len(bpe.encode("The quick brown fox jumps. " * 30)), "the separator in place of the first"


def test_a_folder_is_read_and_sizes_below_one_are_refused(tmp_path: Path, model: LanguageModel, bpe: Tokenizer) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("The quick brown fox jumps over the lazy dog. " * 30)
    assert evaluate_model(model, tmp_path / "docs", bpe).tokens > 30
    for wrong in ({"stride": -5}, {"stride": 0}, {"batch_size": 0}, {"window": 0}):
        with pytest.raises(ConfigError, match="must be at least 1"):
            evaluate_model(model, tmp_path / "docs", bpe, **wrong)  # type: ignore[arg-type]


def test_documents_apart_are_predicted_as_if_they_were_alone(
    tmp_path: Path, model: LanguageModel, bpe: Tokenizer
) -> None:
    texts = ["The quick brown fox jumps over the lazy dog. " * 3, "Brown foxes.", "Lazy dogs sleep all day. " * 9]
    for name, order in (("one", texts), ("other", texts[::-1])):
        (tmp_path / name).mkdir()
        for number, text in enumerate(order):
            (tmp_path / name / f"{number}.txt").write_text(text.strip())
    ends = bpe.end_of_text_id
    expected = sum(score_tokens(model, np.array([ends, *bpe.encode(text.strip()), ends])) for text in texts)
    found = [evaluate_model(model, tmp_path / name, bpe, apart=True, batch_size=size)
             for name, size in (("one", 1), ("other", 8))]  # fmt: skip
    assert [one.loss * one.tokens for one in found] == [pytest.approx(expected, rel=1e-5)] * 2
    together = [evaluate_model(model, tmp_path / name, bpe) for name in ("one", "other")]
    assert together[0].loss != pytest.approx(together[1].loss, rel=1e-5), "what comes before helps"


def test_documents_that_repeat_others_are_told_of(
    tmp_path: Path, model: LanguageModel, bpe: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(
            "The quick brown fox jumps over the lazy dog. " * 3 + ("!" * (name == "c"))
        )
    evaluate_model(model, tmp_path, bpe)
    assert "1 document is left out, which others repeat" in caplog.text


@torch.no_grad()
def test_a_window_hides_what_lies_before_it(tmp_path: Path, model: LanguageModel, bpe: Tokenizer) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 20
    (tmp_path / "text.txt").write_text(text)
    ids = [*bpe.encode(text), bpe.end_of_text_id]
    expected = 0.0
    for place in range(1, len(ids)):
        seen = torch.tensor([ids[max(0, place - 4) : place]])
        expected -= float(F.log_softmax(model(seen)[0][0, -1], dim=-1)[ids[place]])
    found = evaluate_model(model, tmp_path / "text.txt", bpe, window=4, stride=1)
    assert found.loss * found.tokens == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ConfigError, match=r"stride \(5\) is more than the window \(4\)"):
        evaluate_model(model, tmp_path / "text.txt", bpe, window=4, stride=5)
    with pytest.raises(ConfigError, match=r"window \(17\) is more than the 16 tokens that the model takes"):
        evaluate_model(model, tmp_path / "text.txt", bpe, window=17)


def test_progress_counts_every_token_to_the_last(tmp_path: Path, model: LanguageModel, bpe: Tokenizer) -> None:
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 100)
    told: list[tuple[str, int, int]] = []
    found = evaluate_model(model, tmp_path / "text.txt", bpe, progress=lambda *one: told.append(one))
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == ("score", found.tokens, found.tokens)


TEXTS = ["Grüße aus Łódź — 東京から。", "Ünïcödé 🦊🦊 jumps", "plain words, and many more of them"]


def renamed(tokenizer: Tokenizer, name: str, *, special: bool) -> Tokenizer:
    """Return a tokenizer with another end of text, marked as special or not."""
    described = json.loads(tokenizer.to_json())
    for token in described["added_tokens"]:
        token["content"], token["special"] = name, special
    content = json.dumps(described).replace('"<|endoftext|>"', json.dumps(name))
    return Tokenizer.from_json(content, SpecialTokens.ending_with(name))


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("end", ["<|endoftext|>", "</s>"])
def test_bits_per_byte_are_those_of_the_text_scored(
    tmp_path: Path, model: LanguageModel, bpe: Tokenizer, end: str, special: bool
) -> None:
    """Every prediction is uniform, so that each token of text costs log2(512) bits; separators cost and count none."""
    for parameter in model.parameters():
        parameter.data.zero_()
    tokenizer = renamed(bpe, end, special=special)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    encoded = [tokenizer.encode(text) for text in TEXTS]
    first = len(tokenizer.decode(encoded[0][:1]).encode("utf-8"))
    tokens = sum(map(len, encoded)) - 1
    size = sum(len(text.encode("utf-8")) for text in TEXTS) - first
    found = evaluate_model(model, tmp_path / "texts.jsonl", tokenizer)
    assert (found.tokens, found.bytes_of_text) == (tokens + len(TEXTS), size)
    assert found.bits_per_byte == pytest.approx(9 * tokens / size, rel=1e-6)

    windows = TextDataset(TEXTS, 8, tokenizer=tokenizer).prepare(tmp_path / "tokens").train
    for batches in (1, 2):
        scored = np.concatenate([targets.flatten().numpy() for _, targets in windows.in_order(2, batches)])
        assert len(scored) == batches * 2 * 8
        text = scored[scored != tokenizer.end_of_text_id]
        sizes = token_bytes(tokenizer)[text].sum()
        found_bits = bits_per_byte(model, windows, tokenizer, batch_size=2, batches=batches)
        assert found_bits == pytest.approx(9 * len(text) / sizes, rel=1e-6)


@pytest.mark.parametrize("algorithm", ["bpe", "char", "unigram", "wordpiece"])
def test_the_bytes_of_tokens_are_those_of_their_text(topics: list[str], algorithm: str) -> None:
    texts = [*topics[:20], *TEXTS]
    tokenizer = train_tokenizer(texts, vocab_size=600, algorithm=algorithm)  # type: ignore[arg-type]
    sizes = token_bytes(tokenizer)
    assert sizes[tokenizer.end_of_text_id] == NO_TEXT
    for text in TEXTS:
        found = sizes[tokenizer.encode(text)]
        if algorithm in ("bpe", "char"):
            assert found.sum() == len(text.encode("utf-8"))
        else:
            ids = [id for id, size in zip(tokenizer.encode(text), found, strict=True) if size != NO_TEXT]
            assert abs(sizes[ids].sum() - len(tokenizer.decode(ids).encode("utf-8"))) <= 1


def test_a_corpus_is_never_held_whole(model: LanguageModel) -> None:
    drawn = []

    def pieces() -> Iterator[np.ndarray]:
        for number in range(1000):
            drawn.append(number)
            yield np.full(10, number % 512, dtype=np.uint32)

    windows = sliding_windows(pieces(), 16, None)
    first = next(windows)
    assert len(drawn) == 2
    assert sum(int((targets != -100).sum()) for _, targets in [first, *windows]) == 9999


def test_a_trained_model_beats_an_untrained_one(tmp_path: Path, trained_run: Path, topics: list[str]) -> None:
    (tmp_path / "text.txt").write_text(topics[10])
    found = evaluate_model(trained_run, tmp_path / "text.txt")
    assert found.loss < 4.5
    assert found.bits_per_byte < 3.5


def test_no_text_is_an_error(tmp_path: Path, model: LanguageModel, bpe: Tokenizer) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no text"):
        evaluate_model(model, tmp_path / "empty.txt", bpe)
    with pytest.raises(DataError, match="at least 2 tokens"):
        score_tokens(model, np.array([1]))


def test_models_are_compared_on_the_same_texts(tmp_path: Path, model: LanguageModel, bpe: Tokenizer) -> None:
    save_model(model, tmp_path / "one.pt", tokenizer=bpe)
    with torch.no_grad():
        model.embedding.weight.mul_(0.5)
    save_model(model, tmp_path / "other.pt", tokenizer=bpe)
    texts = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for number, text in enumerate(texts):
        text.write_text(f"The cat sat on the mat number {number}. " * 20)
    names = ["one.pt", "other.pt", "one.pt"]
    command = ["model", "compare", *names, "--data", "a.txt", "--data", "b.txt"]
    rows = json.loads(run(*command, "--json", cwd=tmp_path).stdout)
    assert [row["data"] for row in rows] == ["a.txt", "b.txt"]
    for row, text in zip(rows, texts, strict=True):
        alone = [evaluate_model(tmp_path / name, text).bits_per_byte for name in names]
        assert [found["bits_per_byte"] for found in row["evaluations"]] == alone
        assert alone[0] == alone[2] != alone[1]
    shown = run(*command, cwd=tmp_path).stdout
    change = rows[0]["evaluations"][1]["bits_per_byte"] / rows[0]["evaluations"][0]["bits_per_byte"] - 1
    assert f"({change:+.1%})" in shown and "(+0.0%)" in shown
