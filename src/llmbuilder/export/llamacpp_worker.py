"""Runs llama.cpp in a process of its own: it ends the process on malformed files, and has its own thread pools.

Usage: python -m llmbuilder.export.llamacpp_worker REQUEST ANSWER LOG_PROBABILITIES
REQUEST is a JSON file with `model`, `adapter` (a file to lay beside it, or null), `context` (tokens to have room for),
`threads`, `tokenize` (texts; `begun`: as prompts), `detokenize` and `predict` (token lists), `greedy` ({tokens, count})
and `anchor` (a token that is a whole character). Tokens, texts and continuations go to the JSON file ANSWER, the
log-probabilities of the token after each list to the NumPy file LOG_PROBABILITIES.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

_BATCH = 512  # tokens computed at a time: buffers grow with it, and with the vocabulary


class _LlamaCpp:
    """llama.cpp's server on a loopback port."""

    def __init__(self, path: str, context: int, threads: int, adapter: str | None) -> None:
        import xllamacpp

        settings = xllamacpp.CommonParams()
        settings.model.path = path
        if adapter is not None:
            settings.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0)]
        settings.n_ctx = context
        settings.n_batch = settings.n_ubatch = min(context, _BATCH)
        settings.n_parallel = 1
        settings.warmup = False
        settings.fit_params = False
        settings.ctx_shift = False
        settings.swa_full = True  # a prefix that is used again needs what its window has left behind
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        # Keys and values in float32: what is compared is the file, not the engine's cache format.
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._server = xllamacpp.Server(settings)  # kept: the port closes with it
        self._address = self._server.listening_address
        self.vocab_size = int(self._get("/v1/models")["data"][0]["meta"]["n_vocab"])

    def _get(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def tokenize(self, text: str, *, begun: bool) -> list[int]:
        body = {"content": text, "add_special": begun, "parse_special": False}
        return self._get("/tokenize", body)["tokens"]

    def detokenize(self, tokens: list[int]) -> str:
        return self._get("/detokenize", {"tokens": tokens})["content"]

    def greedy(self, tokens: list[int], count: int) -> list[int]:
        body = {"prompt": tokens, "n_predict": count, "samplers": ["top_k"], "top_k": 1, "ignore_eos": False,
                "logit_bias": [], "return_tokens": True, "cache_prompt": False}  # fmt: skip
        return self._get("/completion", body)["tokens"]

    def log_probabilities(self, tokens: list[int], anchor: int) -> np.ndarray:
        """Return the log-probability of every token that could follow, shape (vocabulary,).

        The bias makes the server emit `anchor`, a whole character: it reports nothing for half of one. It does
        not touch the probabilities, which are taken before sampling.
        """
        body = {"prompt": tokens, "n_predict": 1, "n_probs": self.vocab_size, "cache_prompt": True,
                "logit_bias": [[anchor, 1e4]]}  # fmt: skip
        found = self._get("/completion", body)["completion_probabilities"][0]["top_logprobs"]
        values = np.full(self.vocab_size, -np.inf)
        values[[item["id"] for item in found]] = [item["logprob"] for item in found]
        return values


def main() -> None:
    """Answer one request."""
    request = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    engine = _LlamaCpp(request["model"], request["context"], request["threads"], request.get("adapter"))
    answer = {
        "vocab_size": engine.vocab_size,
        "tokens": [engine.tokenize(text, begun=bool(request.get("begun"))) for text in request["tokenize"]],
        "texts": [engine.detokenize(tokens) for tokens in request.get("detokenize", [])],
        "greedy": [engine.greedy(item["tokens"], item["count"]) for item in request["greedy"]],
    }
    Path(sys.argv[2]).write_text(json.dumps(answer), "utf-8")
    predictions = [engine.log_probabilities(tokens, request["anchor"]) for tokens in request["predict"]]
    np.save(sys.argv[3], np.array(predictions))


if __name__ == "__main__":
    main()
