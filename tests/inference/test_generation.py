"""Generation: cached equals uncached, streams equal whole texts, samplers filter as defined."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import llmbuilder as lb
from llmbuilder.config import ModelConfig
from llmbuilder.errors import ConfigError, GenerationError, TokenizerError
from llmbuilder.inference import GenerationConfig, Generator, generate_text, stream_text
from llmbuilder.inference.continuation import Continuation
from llmbuilder.inference.sampling import filter_logits, next_tokens, penalize_repetition
from llmbuilder.model import LanguageModel, build_model, save_model
from llmbuilder.tokenizer import Tokenizer, train_tokenizer
from tests.command_line import run


@pytest.fixture(scope="module", params=["gpt", "llama"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    config = ModelConfig(model_type=request.param, vocab_size=530, num_layers=2, num_heads=2, embedding_dim=32,
                         max_seq_length=48, dropout=0.0)  # fmt: skip
    built = build_model(config)
    torch.manual_seed(0)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built.eval()


PROMPTS = ["The", "A somewhat longer prompt, of many words", "x" * 200]


@pytest.mark.parametrize("sample", [False, True])
def test_cached_equals_uncached_also_beyond_the_window(model: LanguageModel, bpe: Tokenizer, sample: bool) -> None:
    config = GenerationConfig(do_sample=sample, max_new_tokens=70, num_samples=2, seed=3, stop_at_eos=False)
    cached = Generator(model, bpe).generate(PROMPTS, config)
    assert cached == Generator(model, bpe, use_cache=False).generate(PROMPTS, config)
    assert [len(samples) for samples in cached] == [2, 2, 2]
    assert (cached[0][0] != cached[0][1]) is sample


def test_a_batch_gives_what_single_prompts_give(model: LanguageModel, bpe: Tokenizer) -> None:
    config = GenerationConfig(do_sample=False, max_new_tokens=20, stop_at_eos=False)
    together = Generator(model, bpe).generate(PROMPTS[:2], config)
    alone = [Generator(model, bpe).generate([prompt], config)[0] for prompt in PROMPTS[:2]]
    assert together == alone


def test_greedy_follows_the_logits(model: LanguageModel, bpe: Tokenizer) -> None:
    tokens = bpe.encode("The")
    for _ in range(10):
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([tokens]))[0][0, -1, : len(bpe)].argmax()))
    config = GenerationConfig(do_sample=False, max_new_tokens=10, stop_at_eos=False)
    assert generate_text(model, bpe, "The", config=config) == bpe.decode(tokens)


def test_seeds_repeat_and_streams_join(model: LanguageModel, bpe: Tokenizer) -> None:
    whole = generate_text(model, bpe, "The", max_new_tokens=40, seed=5)
    assert whole == generate_text(model, bpe, "The", max_new_tokens=40, seed=5)
    pieces = list(stream_text(model, bpe, "The", max_new_tokens=40, seed=5))
    assert "The" + "".join(pieces) == whole


def test_streams_never_show_half_a_character(bpe: Tokenizer) -> None:
    text = Continuation(bpe, [], ["STOP"])
    pieces = []
    for token in bpe.encode("é🙂日本 S ST end"):
        text.add(token)
        pieces.append(text.take())
    pieces.append(text.finish())
    assert "".join(pieces) == "é🙂日本 S ST end"
    assert not any("\ufffd" in piece for piece in pieces)


def test_shapes_of_the_answer(model: LanguageModel, bpe: Tokenizer) -> None:
    assert isinstance(generate_text(model, bpe, "a", max_new_tokens=3), str)
    several = generate_text(model, bpe, ["a", "b"], max_new_tokens=3, num_samples=2)
    assert [[text[0] for text in texts] for texts in several] == [["a", "a"], ["b", "b"]]
    assert generate_text(model, bpe, "", max_new_tokens=3) is not None


def test_stop_strings_end_the_text_before_them(model: LanguageModel, bpe: Tokenizer) -> None:
    config = {"max_new_tokens": 60, "seed": 1, "stop_at_eos": False}
    whole = generate_text(model, bpe, "The", **config)[3:]
    stop = whole[10:13]
    expected = whole[: whole.index(stop)]
    assert generate_text(model, bpe, "The", stop=[stop], **config) == "The" + expected
    assert "".join(stream_text(model, bpe, "The", stop=[stop], **config)) == expected


def test_generation_ends_at_end_of_text(bpe: Tokenizer, model: LanguageModel) -> None:
    end = bpe.end_of_text_id

    class Ends(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(*hidden.shape[:-1], 530)
            logits[..., end] = 9.0
            return logits

        weight = torch.zeros(1)

    head, model.lm_head = model.lm_head, Ends()  # type: ignore[assignment]
    try:
        assert generate_text(model, bpe, "The", do_sample=False) == "The"
    finally:
        model.lm_head = head


def test_a_temperature_of_zero_is_greedy_also_where_greedy_is_asked_for(trained_run: Path, tmp_path: Path) -> None:
    given = ("generate", "text", "-m", trained_run, "-p", "The", "-n", 8)
    greedy = run(*given, "--greedy", cwd=tmp_path).stdout
    assert run(*given, "--greedy", "--temperature", 0, cwd=tmp_path).stdout == greedy
    assert run(*given, "--temperature", 0, cwd=tmp_path).stdout == greedy
    assert "would not act" in run(*given, "--greedy", "--temperature", 0.7, cwd=tmp_path, status=1).stderr


def test_a_prompt_longer_than_the_context_is_said(
    model: LanguageModel, bpe: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    generate_text(model, bpe, "word " * 100, max_new_tokens=2)
    assert "more than the model's context of 48: only its last 48 are seen" in caplog.text


def test_mismatched_tokenizers_are_refused(model: LanguageModel) -> None:
    large = Tokenizer.from_characters([chr(n) for n in range(0x4E00, 0x4E00 + 600)])
    with pytest.raises(TokenizerError, match="601 tokens but the model knows 530"):
        generate_text(model, large, "一")
    with pytest.raises(TokenizerError, match="holds no tokenizer"):
        generate_text(model, None, "x")


def test_another_tokenizer_than_the_models_own_is_said(
    tmp_path: Path, model: LanguageModel, bpe: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    save_model(model, tmp_path / "model.pt", tokenizer=bpe)
    other = Tokenizer.from_characters("The abc")
    lb.generate_text(tmp_path / "model.pt", other, "The", max_new_tokens=2)
    assert "not the tokenizer the model was trained with" in caplog.text


@pytest.mark.parametrize(
    ("settings_given", "error", "message"),
    [
        ({"temperature": -0.1}, GenerationError, "temperature"),
        ({"top_p": 3.0}, GenerationError, "top_p"),
        ({"max_new_tokens": 0}, GenerationError, "max_new_tokens"),
        ({"temprature": 1.0}, ConfigError, "did you mean generation.temperature"),
        ({"top_k": "many"}, ConfigError, "top_k"),
    ],
)
def test_wrong_settings(
    model: LanguageModel, bpe: Tokenizer, settings_given: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        generate_text(model, bpe, "The", **settings_given)


LOGITS = st.lists(st.floats(-20, 20), min_size=2, max_size=30)


@settings(deadline=None)
@given(LOGITS, st.integers(1, 40), st.floats(0.05, 1.0), st.floats(0.01, 1.0))
def test_filters_keep_what_they_promise(values: list[float], k: int, p: float, min_p: float) -> None:
    logits = torch.tensor([values])
    probabilities = logits.softmax(-1)[0]
    by_k = filter_logits(logits, GenerationConfig(top_k=k))[0] > float("-inf")
    assert int(by_k.sum()) >= min(k, len(values))
    assert logits[0][by_k].min() >= logits[0].sort(descending=True).values[min(k, len(values)) - 1]
    by_p = filter_logits(logits, GenerationConfig(top_k=None, top_p=p))[0] > float("-inf")
    assert probabilities[by_p].sum() >= p - 1e-5
    assert probabilities[by_p].sum() - probabilities[by_p].min() < p + 1e-5, "one token less would not reach it"
    by_min = filter_logits(logits, GenerationConfig(top_k=None, min_p=min_p))[0] > float("-inf")
    assert torch.equal(by_min, probabilities >= min_p * probabilities.max())
    for kept in (by_k, by_p, by_min):
        assert probabilities[kept].max() == probabilities.max(), "a likeliest token always stays"


def test_repetition_penalty_moves_seen_tokens_only() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    assert penalize_repetition(logits, [[0, 1, 0]], 2.0).tolist() == [[1.0, -4.0, 1.0]]
    assert logits.tolist() == [[2.0, -2.0, 1.0]]


def test_rows_draw_independently() -> None:
    logits = torch.zeros(2, 50)
    config = GenerationConfig(top_k=None)
    both = next_tokens(logits, [[], []], config, [torch.Generator().manual_seed(s) for s in (1, 2)])
    single = next_tokens(logits[:1], [[]], config, [torch.Generator().manual_seed(2)])
    assert both[1] == single[0]


def metaspace(texts: list[str]) -> Tokenizer:
    """Llama 2's arrangement: a blank before the first word, which decoding takes away, and bytes for the rest."""
    vocabulary = [f"<0x{byte:02X}>" for byte in range(256)]
    learned = train_tokenizer(texts, algorithm="unigram", vocab_size=300).vocabulary()
    pieces = [("<unk>", 0.0), *((byte, 0.0) for byte in vocabulary), *((token, -5.0) for token in sorted(learned))]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first")
    parts = tokenizers.decoders
    backend.decoder = parts.Sequence(
        [parts.Replace("\u2581", " "), parts.ByteFallback(), parts.Fuse(), parts.Strip(" ", 1, 0)]
    )
    return Tokenizer(backend)


TOKENIZERS = {
    "bpe": lambda texts: train_tokenizer(texts, vocab_size=400),
    "wordpiece": lambda texts: train_tokenizer(texts, algorithm="wordpiece", vocab_size=600),
    "unigram": lambda texts: train_tokenizer(texts, algorithm="unigram", vocab_size=400),
    "metaspace": metaspace,
}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("stop", [[], ["never said"]])
def test_prompt_and_continuation_are_one_text(topics: list[str], kind: str, stop: list[str]) -> None:
    """Cut anywhere: what follows a prompt is what the whole text has more, streamed or not."""
    tokenizer = TOKENIZERS[kind](topics)
    ids = tokenizer.encode("The assert statement  is for debugging; na\u00efve caf\u00e9 \U0001f642 x")
    for cut in range(len(ids)):
        prompt = ids[:cut]
        if tokenizer.decode(prompt).endswith("\ufffd"):
            continue  # no prompt ends within a character
        text = Continuation(tokenizer, prompt, stop)
        pieces = []
        for token in ids[cut:]:
            text.add(token)
            pieces.append(text.take())
        pieces.append(text.finish())
        assert tokenizer.decode(prompt) + "".join(pieces) == tokenizer.decode(ids)
        assert text.whole() == "".join(pieces)


@pytest.mark.parametrize("kind", ["wordpiece", "metaspace"])
def test_generated_text_has_its_blanks(topics: list[str], kind: str) -> None:
    tokenizer = TOKENIZERS[kind](topics)
    torch.manual_seed(0)
    model = build_model(ModelConfig(vocab_size=len(tokenizer), num_layers=1, num_heads=2, embedding_dim=32,
                                    max_seq_length=64)).eval()  # fmt: skip
    # No lone bytes: a whole run of them is decoded as one, good characters of it included.
    rare = [-1e4 if (token or "").startswith("<0x") else 0.0 for token in tokenizer.tokens()]
    model.lm_head.bias = torch.nn.Parameter(torch.tensor(rare))
    settings = GenerationConfig(max_new_tokens=20, seed=1, stop_at_eos=False)
    new = [token for _, token in Generator(model, tokenizer).stream_tokens([tokenizer.encode("The")], settings)]
    expected = tokenizer.decode([*tokenizer.encode("The"), *new])
    assert generate_text(model, tokenizer, "The", config=settings) == expected
    assert "The" + "".join(stream_text(model, tokenizer, "The", config=settings)) == expected


def test_a_long_text_is_decoded_in_windows(bpe: Tokenizer, topics: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ids = bpe.encode(topics[0])
    text = Continuation(bpe, ids[:50], ["never said"])
    decoded, decode = [], Tokenizer.decode
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: decoded.append(len(list(ids))) or decode(self, ids))
    for token in ids[50:]:
        text.add(token)
    assert bpe.decode(ids[:50]) + text.whole() == topics[0]
    assert sum(decoded[1:]) < 8 * len(ids)


@pytest.mark.parametrize("stops", [["bc", "b"], ["b", "bc"], ["c d", "bc"]])
def test_the_first_stop_string_ends_the_text(bpe: Tokenizer, stops: list[str]) -> None:
    text = Continuation(bpe, [], stops)
    for token in bpe.encode("a bc d"):
        text.add(token)
    assert text.whole() == "a "
    assert text.stopped


def test_none_switches_a_filter_off_and_the_environment_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmbuilder.inference.generation import generation_settings

    assert generation_settings(None, {}).top_k == 50
    assert generation_settings(None, {"top_k": None}).top_k is None
    monkeypatch.setenv("LLMBUILDER_GENERATION__TOP_K", "7")
    monkeypatch.setenv("LLMBUILDER_GENERATION__TOP_P", "0.5")
    assert generation_settings(None, {"top_p": None}).model_dump(include={"top_k", "top_p"}) == {
        "top_k": 7, "top_p": None,
    }  # fmt: skip
    assert generation_settings(GenerationConfig(top_k=3), {}).top_k == 3, "a configuration that is given wins"
    monkeypatch.setenv("LLMBUILDER_GENERATION__TOP_K", "null")
    assert generation_settings(None, {}).top_k is None


def test_generate_text_takes_none_and_the_environment(
    model: LanguageModel, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"max_new_tokens": 30, "seed": 1, "temperature": 5.0}
    everything = generate_text(model, bpe, "The", config=GenerationConfig(top_k=None), **given)
    assert (
        generate_text(model, bpe, "The", top_k=None, **given) == everything != generate_text(model, bpe, "The", **given)
    )
    monkeypatch.setenv("LLMBUILDER_GENERATION__TOP_K", "null")
    assert generate_text(model, bpe, "The", **given) == everything


def test_the_command_switches_filters_off_and_acts_on_what_it_is_told(
    tmp_path: Path, model: LanguageModel, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model, tmp_path / "m.pt", tokenizer=bpe)
    command = ("generate", "text", "-m", "m.pt", "-n", 30, "--seed", 1, "--temperature", 5)
    given = {"max_new_tokens": 30, "seed": 1, "temperature": 5.0}
    everything = generate_text(model, bpe, "The", top_k=None, **given)
    for off in ("none", "0"):
        said = run(*command, "-p", "The", "--top-k", off, cwd=tmp_path).stdout
        assert said.removesuffix("\n") == everything
    assert "neither a number nor none" in run(*command, "--top-k", "many", cwd=tmp_path, status=2).stderr
    assert "leave out --prompt" in run(*command, "-i", "-p", "The", cwd=tmp_path, status=2).stderr
    monkeypatch.setattr("sys.stdin", io.StringIO("The\n"))
    assert "--- sample 2 ---" in run(*command, "-i", "--num-samples", 2, cwd=tmp_path).stdout
    monkeypatch.setenv("LLMBUILDER_GENERATION__TOP_K", "null")
    assert run(*command, "-p", "The", cwd=tmp_path).stdout.removesuffix("\n") == everything


def test_the_command_reads_its_prompt_from_a_file(tmp_path: Path, model: LanguageModel, bpe: Tokenizer) -> None:
    save_model(model, tmp_path / "m.pt", tokenizer=bpe)
    command = ("generate", "text", "-m", "m.pt", "-n", 8, "--seed", 1)
    (tmp_path / "prompt.txt").write_text("The first line,\nand é\n", "utf-8")
    said = run(*command, "--prompt-file", "prompt.txt", cwd=tmp_path).stdout
    assert said == run(*command, "--prompt", "The first line,\nand é\n", cwd=tmp_path).stdout
    assert said.startswith("The first line,\nand é\n")
    assert "leave out one" in run(*command, "--prompt-file", "prompt.txt", "-p", "x", cwd=tmp_path, status=2).stderr
    assert "--prompt-file" in run(*command, "--prompt-file", "prompt.txt", "-i", cwd=tmp_path, status=2).stderr
    assert "no prompt file absent.txt" in run(*command, "--prompt-file", "absent.txt", cwd=tmp_path, status=1).stderr
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    assert "no UTF-8 text" in run(*command, "--prompt-file", "latin.txt", cwd=tmp_path, status=1).stderr


def test_a_newline_is_a_prompt_like_any_other(tmp_path: Path, model: LanguageModel, bpe: Tokenizer) -> None:
    save_model(model, tmp_path / "m.pt", tokenizer=bpe)
    command = ("generate", "text", "-m", "m.pt", "-n", 8, "--seed", 1)
    said = run(*command, "--prompt", "\n", cwd=tmp_path).stdout
    assert said.removesuffix("\n") == generate_text(model, bpe, "\n", max_new_tokens=8, seed=1)
    assert said.startswith("\n") and said != run(*command, "--prompt", "", cwd=tmp_path).stdout
