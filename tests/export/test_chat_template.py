"""One rendering everywhere: what llama.cpp makes of an exported model's template is what was trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from llmbuilder.config import Config
from llmbuilder.conversations.chatml import chatml_for
from llmbuilder.conversations.template import ChatTemplate
from llmbuilder.export import export_gguf
from llmbuilder.model import build_model
from llmbuilder.tokenizer import Tokenizer
from llmbuilder.tokenizer.growing import ending_with
from tests.conversations.templates import CHATML_TOOLS, CLOSED, MARKED, marked_tokenizer

pytest.importorskip("xllamacpp")
TOOLS = [{"type": "function", "function": {"name": "look", "description": "It looks.",
                                           "parameters": {"type": "object", "properties": {}}}}]  # fmt: skip
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": " Be\tbrief. "}, {"role": "user", "content": "Hi  there\n"},
    {"role": "assistant", "content": "Hello\n\n you "}, {"role": "user", "content": "日本, é\n"},
]  # fmt: skip
# llama.cpp ends a process on what it does not like, so it has one of its own.
PROGRAM = """
import json, sys, urllib.request, xllamacpp
settings = xllamacpp.CommonParams()
settings.model.path, settings.n_ctx, settings.n_parallel, settings.warmup = sys.argv[1], 64, 1, False
settings.use_jinja = True
server = xllamacpp.Server(settings)
def ask(path, body):
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))
answers = []
for body in json.loads(sys.argv[2]):
    prompt = ask("/apply-template", body)["prompt"]
    answers.append([prompt, ask("/tokenize", {"content": prompt, "add_special": False, "parse_special": True})["tokens"]])
print("ANSWERS" + json.dumps(answers), flush=True)
"""


@pytest.mark.parametrize("name", ["own", "tools", "closed", "marked"])
def test_the_same_tokens_in_llamacpp(tmp_path: Path, tiny_config: Config, bpe: Tokenizer, name: str) -> None:
    tokenizer = ending_with(marked_tokenizer(bpe), "<|im_end|>")
    sources = {"own": chatml_for(tokenizer), "tools": CHATML_TOOLS, "closed": CLOSED, "marked": MARKED}
    tiny_config.model.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    model = build_model(tiny_config)
    model.tokenizer, model.metadata = tokenizer, {"chat_template": sources[name]}
    export_gguf(model, tmp_path / "model.gguf", "f32")
    asked: list[tuple[list[dict[str, Any]], Any]] = [(TALK[1:2], None), (TALK, None)]
    asked += [(TALK, TOOLS)] if name == "tools" else []
    bodies = [{"messages": messages, **({"tools": tools} if tools else {})} for messages, tools in asked]
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "model.gguf"), json.dumps(bodies)],
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert "ANSWERS" in done.stdout, done.stderr[-3000:]
    found = json.loads(done.stdout.partition("ANSWERS")[2].splitlines()[0])
    with ChatTemplate(sources[name], tokenizer) as template:
        for (messages, tools), (prompt, tokens) in zip(asked, found, strict=True):
            assert prompt == template.render(messages, tools, add_generation_prompt=True)
            assert tokens == template.encode(messages, tools, add_generation_prompt=True)
