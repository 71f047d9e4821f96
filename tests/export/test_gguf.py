"""GGUF files, each opened in a real llama.cpp."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import tokenizers
import torch

from llmbuilder.config import ModelConfig
from llmbuilder.errors import ExportError
from llmbuilder.export import QUANTIZATIONS, export_gguf, export_huggingface, verify_gguf
from llmbuilder.export.verification import ask_llamacpp
from llmbuilder.inference import Generator
from llmbuilder.machine import cpu_count
from llmbuilder.model import build_model, load_model, save_model
from llmbuilder.tokenizer import SpecialTokens, Tokenizer, train_tokenizer
from tests.gguf_files import SHAPES, randomized
from tests.tokenizer.foreign import learned, random_texts, with_holes

# Accents, code, emoji, runs of white space, digits, contractions, other scripts, a spelled special token.
PROBES = [
    "Naïve café, déjà vu – “quoted” text, Ångström; don't, we'll, I'm.",
    "def f(x):\n    return x ** 2  # comment\n\n\tif x:\n\t\tpass",
    "emoji 🙂👩‍👩‍👧 and 日本語 and Ελληνικά and עברית",
    "  spaces   and\n\n\nnewlines \t tabs   ",
    "12345 3.14159 1,000,000 <|endoftext|> literal",
]


@pytest.mark.parametrize("name", SHAPES)
def test_float32_equals_ours_in_llamacpp(tmp_path: Path, name: str, bpe: Tokenizer) -> None:
    model = randomized(name, len(bpe) + 20)  # padding of the vocabulary is cut off
    export_gguf(model, tmp_path / "model.gguf", "f32", tokenizer=bpe)
    found = verify_gguf(tmp_path / "model.gguf", model, PROBES, tokenizer=bpe)
    assert found.equal_tokenizations == found.texts == len(PROBES)
    assert found.equal_tokens == found.greedy_tokens
    # llama.cpp looks GELU up in a float16 table, which settles near ties; the Llama family has no such step.
    has_gelu = name.startswith(("gpt2", "gemma3"))
    assert found.top_token_agreement >= (0.99 if has_gelu else 1.0)
    assert found.max_difference < (1e-2 if has_gelu else 1e-4)
    assert found.mean_kl_divergence < 1e-5


def test_trained_model_continues_alike_and_survives_q8_0(tmp_path: Path, trained_run: Path) -> None:
    model = load_model(trained_run, "cpu")
    export_gguf(trained_run, tmp_path / "f32.gguf", "f32")
    exact = verify_gguf(tmp_path / "f32.gguf", model, [*PROBES, "The assert statement", "class Meta:\n"])
    assert exact.greedy_tokens > 64 * 4
    assert exact.equal_tokens == exact.greedy_tokens
    assert exact.equal_tokenizations == exact.texts
    export_gguf(trained_run, tmp_path / "q8_0.gguf", "q8_0")
    coarse = verify_gguf(tmp_path / "q8_0.gguf", model, PROBES)
    assert 0 < coarse.mean_kl_divergence < 0.01


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_every_type_opens_and_predicts_alike(tmp_path: Path, trained_run: Path, quantization: str) -> None:
    result = export_gguf(trained_run, tmp_path / "m.gguf", quantization)
    found = verify_gguf(tmp_path / "m.gguf", load_model(trained_run, "cpu"), PROBES[:2], greedy_tokens=8)
    limits = {"f32": 1e-5, "f16": 1e-4, "bf16": 1e-3, "q8_0": 0.01}
    assert found.mean_kl_divergence < limits.get(quantization, 0.5)
    assert result.bytes == (tmp_path / "m.gguf").stat().st_size
    assert sum(result.tensors.values()) == len(gguf.GGUFReader(tmp_path / "m.gguf").tensors)


def test_sizes_follow_the_type(tmp_path: Path, trained_run: Path) -> None:
    sizes = [export_gguf(trained_run, tmp_path / f"{q}.gguf", q).bytes for q in ("f32", "f16", "q8_0", "q4_0")]
    assert sizes == sorted(sizes, reverse=True)


def test_rows_that_cannot_be_quantized_are_listed(tmp_path: Path, bpe: Tokenizer) -> None:
    model = randomized("llama-grouped", len(bpe), width=48)
    result = export_gguf(model, tmp_path / "m.gguf", "q4_0", tokenizer=bpe)
    assert "no multiple of 32" in result.fallbacks["blk.0.attn_q.weight"]
    assert "blk.0.ffn_down.weight" not in result.fallbacks, "its rows of 128 are"
    assert verify_gguf(tmp_path / "m.gguf", model, PROBES[:1], tokenizer=bpe, greedy_tokens=4).positions > 0


@pytest.mark.parametrize("end_of_text", ["<|endoftext|>", None])
def test_character_tokenizers_export(tmp_path: Path, end_of_text: str | None) -> None:
    text = "Hello é日🙂 \\ \\n\n\t' \" <|endoftext|> | and more"
    tokenizer = Tokenizer.from_characters(sorted(set(text)), end_of_text=end_of_text)
    model = randomized("qwen3-untied", len(tokenizer))
    export_gguf(model, tmp_path / "m.gguf", "f32", tokenizer=tokenizer)
    found = verify_gguf(tmp_path / "m.gguf", model, [text, "Hello"], tokenizer=tokenizer)
    assert found.equal_tokenizations == 2
    assert found.equal_tokens == found.greedy_tokens > 0


def test_gpt2_vocabulary_exports(tmp_path: Path, topics: list[str]) -> None:
    from tests.tokenizer.test_tokenizer import gpt2_files

    tokenizer = Tokenizer.from_pretrained(gpt2_files())
    model = randomized("gpt2", 50304, width=32)
    export_gguf(model, tmp_path / "m.gguf", "f16", tokenizer=tokenizer)
    answer, _ = ask_llamacpp({"model": str(tmp_path / "m.gguf"), "context": 160, "threads": cpu_count(), "greedy": [],
                              "predict": [], "anchor": 0, "tokenize": [*PROBES, *topics[:10]]})  # fmt: skip
    assert answer["vocab_size"] == 50257
    assert answer["tokens"] == tokenizer.encode_batch([*PROBES, *topics[:10]])


@pytest.mark.parametrize("algorithm", ["unigram", "wordpiece"])
def test_tokenizers_without_a_form_are_refused(tmp_path: Path, topics: list[str], algorithm: str) -> None:
    tokenizer = train_tokenizer(topics, algorithm=algorithm, vocab_size=500)
    with pytest.raises(ExportError, match=f"a {algorithm} tokenizer has no form in GGUF"):
        export_gguf(randomized("gpt2", 512), tmp_path / "m.gguf", tokenizer=tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_exact_gelu_is_approximated_and_said_so(tmp_path: Path, bpe: Tokenizer) -> None:
    model = build_model(
        ModelConfig(vocab_size=512, num_layers=2, num_heads=2, embedding_dim=32, max_seq_length=64, activation="gelu")
    )
    note = export_gguf(model, tmp_path / "m.gguf", "f32", tokenizer=bpe).notes[0]
    assert "exact GELU" in note
    assert "logits change by at most" in note


def test_refusals(tmp_path: Path, trained_run: Path, bpe: Tokenizer) -> None:
    with pytest.raises(ExportError, match="unknown quantization 'q3'"):
        export_gguf(trained_run, tmp_path / "m.gguf", "q3")
    (tmp_path / "m.gguf").write_text("precious")
    with pytest.raises(ExportError, match=r"already exists.*overwrite=True"):
        export_gguf(trained_run, tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_text() == "precious"
    with pytest.raises(ExportError, match="holds no tokenizer"):
        export_gguf(randomized("gpt2", 512), tmp_path / "n.gguf")
    with pytest.raises(ExportError, match="512 tokens, the model knows 100"):
        export_gguf(randomized("gpt2", 100), tmp_path / "n.gguf", tokenizer=bpe)


def test_a_file_that_llamacpp_cannot_open_is_reported(tmp_path: Path, trained_run: Path) -> None:
    export_gguf(trained_run, tmp_path / "m.gguf")
    content = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportError, match="llama.cpp cannot use"):
        verify_gguf(tmp_path / "m.gguf", load_model(trained_run, "cpu"), ["text"])


def test_hugging_face_export_generates_alike(tmp_path: Path, trained_run: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import llmbuilder as lb

    export_huggingface(trained_run, tmp_path / "hf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    inputs = tokenizer("The assert statement", return_tensors="pt")
    output = theirs.generate(inputs["input_ids"], max_new_tokens=40, do_sample=False)
    ours = lb.generate_text(trained_run, prompt="The assert statement", max_new_tokens=40, do_sample=False)
    assert tokenizer.decode(output[0], skip_special_tokens=True) == ours
    with pytest.raises(ExportError, match="already exists"):
        export_huggingface(trained_run, tmp_path / "hf")
    with pytest.raises(ExportError, match="names a file"):
        export_huggingface(trained_run, tmp_path / "x.pt")


def test_safetensors_exports_too(tmp_path: Path, trained_run: Path) -> None:
    save_model(load_model(trained_run), tmp_path / "m.safetensors")
    assert export_gguf(tmp_path / "m.safetensors", tmp_path / "m.gguf").architecture == "qwen3"


@pytest.mark.parametrize("pretokenizer", ["gpt2", "llama3", "qwen2"])
def test_random_text_is_tokenized_alike(tmp_path: Path, topics: list[str], pretokenizer: str) -> None:
    bpe = train_tokenizer(topics, vocab_size=700, pretokenizer=pretokenizer, special_tokens=["<|im_start|>"])
    texts = [*random_texts(), *PROBES, *topics[:5], "It's THEY'LL 12345678 1,234.5\n\n\n  x = [1,2]\r\n\tend  "]
    export_gguf(randomized("qwen3-untied", len(bpe)), tmp_path / "m.gguf", "f32", tokenizer=bpe)
    answer, _ = ask_llamacpp({"model": str(tmp_path / "m.gguf"), "context": 64, "threads": cpu_count(), "greedy": [],
                              "predict": [], "anchor": 0, "tokenize": texts})  # fmt: skip
    assert answer["tokens"] == bpe.encode_batch(texts)


def foreign_vocabulary(topics: list[str]) -> Tokenizer:
    """A vocabulary with holes, special tokens and added words."""
    backend = with_holes(topics)
    backend.add_tokens(["LLMBuilder", "<think>"])
    return Tokenizer(backend)


def test_every_id_keeps_its_row(tmp_path: Path, topics: list[str]) -> None:
    tokenizer = foreign_vocabulary(topics)
    model = randomized("qwen3-untied", len(tokenizer) + 9)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.holes()] = 0  # as training leaves what never comes
    export_gguf(model, tmp_path / "m.gguf", "f32", tokenizer=tokenizer)
    found = verify_gguf(tmp_path / "m.gguf", model, [*PROBES, "ask LLMBuilder <think>now"], tokenizer=tokenizer)
    assert found.equal_tokenizations == found.texts
    assert found.equal_tokens == found.greedy_tokens > 0
    assert found.max_difference < 1e-4
    stored = gguf.GGUFReader(tmp_path / "m.gguf").fields["tokenizer.ggml.tokens"].contents()
    assert [stored[number] for number in (99, 100, 300, 420)] == [
        tokenizer.tokens()[99], "[PAD100]", "[PAD300]", "<|endoftext|>",
    ]  # fmt: skip


def swap_tokens(content: bytes, one: str, other: str) -> bytes:
    """Exchange two entries of equal length in the list of tokens of a GGUF file."""
    entries = [len(token.encode()).to_bytes(8, "little") + token.encode() for token in (one, other)]
    start = content.index(b"tokenizer.ggml.tokens")
    first, second = (content.index(entry, start) for entry in entries)
    swapped = bytearray(content)
    swapped[first : first + len(entries[0])], swapped[second : second + len(entries[1])] = entries[1], entries[0]
    return bytes(swapped)


@pytest.mark.parametrize(("one", "other"), [("Ġt", "Ġa"), ("ķ", "ĸ"), ("LLMBuilder", "TTTBuilder")])
def test_a_file_with_two_tokens_swapped_is_refused(tmp_path: Path, topics: list[str], one: str, other: str) -> None:
    """Ordinary tokens, halves of characters, added words; none of them is in the text."""
    backend = with_holes(topics)
    backend.add_tokens(["LLMBuilder", "TTTBuilder"])
    tokenizer = Tokenizer(backend)
    model = randomized("qwen3-untied", len(tokenizer))
    export_gguf(model, tmp_path / "m.gguf", "f32", tokenizer=tokenizer)
    content = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(swap_tokens(content, one, other))
    with pytest.raises(ExportError, match="llama.cpp reads other tokens|are other tokens in the file"):
        verify_gguf(tmp_path / "m.gguf", model, ["zzz"], tokenizer=tokenizer, greedy_tokens=1)


@pytest.mark.parametrize("quantization", ["f32", "q4_0"])
def test_a_file_with_two_rows_swapped_is_refused(tmp_path: Path, bpe: Tokenizer, quantization: str) -> None:
    model = randomized("qwen3-untied", len(bpe))
    export_gguf(model, tmp_path / "m.gguf", quantization, tokenizer=bpe)
    verify_gguf(tmp_path / "m.gguf", model, ["zzz"], tokenizer=bpe, greedy_tokens=1)
    rows = gguf.GGUFReader(tmp_path / "m.gguf", "r+")
    table = next(tensor.data for tensor in rows.tensors if tensor.name == "token_embd.weight")
    table[[400, 401]] = table[[401, 400]]
    table.flush()
    with pytest.raises(ExportError, match="2 of the 512 rows of token_embd.weight .* id 400"):
        verify_gguf(tmp_path / "m.gguf", model, ["zzz"], tokenizer=bpe, greedy_tokens=1)


def test_words_that_take_blanks_along_have_no_form(tmp_path: Path, topics: list[str]) -> None:
    backend = learned(topics)
    backend.add_tokens([tokenizers.AddedToken("<mask>", lstrip=True)])
    with pytest.raises(ExportError, match="has no form in GGUF"):
        export_gguf(randomized("gpt2", 700), tmp_path / "m.gguf", tokenizer=Tokenizer(backend))


@pytest.mark.parametrize("adds_begin", [False, True])
def test_special_tokens_are_told_to_llamacpp(tmp_path: Path, topics: list[str], adds_begin: bool) -> None:
    backend = learned(topics, special=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>"])
    special = SpecialTokens(begin="<|im_start|>", end="<|im_end|>", padding="<pad>", adds_begin=adds_begin)
    tokenizer = Tokenizer(backend, special)
    model = randomized("qwen3-untied", len(tokenizer))
    save_model(model, tmp_path / "model.pt", tokenizer=tokenizer)
    export_gguf(tmp_path / "model.pt", tmp_path / "m.gguf", "f32")
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    names = ("bos_token_id", "eos_token_id", "padding_token_id", "add_bos_token")
    assert [fields[f"tokenizer.ggml.{name}"].contents() for name in names] == [1, 2, 3, adds_begin]
    answer, _ = ask_llamacpp({"model": str(tmp_path / "m.gguf"), "context": 64, "threads": cpu_count(), "greedy": [],
                              "predict": [], "anchor": 0, "tokenize": ["The cat"], "begun": True})  # fmt: skip
    assert answer["tokens"] == [Generator(model, tokenizer).encode_prompt("The cat")]


def test_a_vocabulary_without_an_end_is_said(tmp_path: Path, topics: list[str]) -> None:
    tokenizer = Tokenizer(learned(topics, 400))
    note = export_gguf(randomized("gpt2", 400), tmp_path / "m.gguf", tokenizer=tokenizer).notes[0]
    assert f"no end-of-text token: llama.cpp takes id 11, {tokenizer.tokens()[11]!r}" in note


def test_a_text_too_short_for_merges_exports_and_is_read_again(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["hi there"], vocab_size=300)
    assert tokenizer.merges() == []
    model = randomized("qwen3-untied", len(tokenizer))
    export_gguf(model, tmp_path / "m.gguf", "f32", tokenizer=tokenizer)
    found = verify_gguf(tmp_path / "m.gguf", model, ["hi there", "Naïve"], tokenizer=tokenizer, greedy_tokens=8)
    assert (found.equal_tokenizations, found.equal_tokens) == (2, found.greedy_tokens)
    again = load_model(tmp_path / "m.gguf", "cpu").tokenizer
    assert again is not None
    assert again.encode("hi there") == tokenizer.encode("hi there")
