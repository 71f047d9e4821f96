"""The key/value cache: its rows apart, and each several times."""

from __future__ import annotations

import pytest
import torch

from llmbuilder.config import Config
from llmbuilder.model import KeyValueCache, build_model


def test_rows_apart_and_repeated_go_on_as_they_are(tiny_config: Config) -> None:
    model = build_model(tiny_config).eval()
    torch.nn.init.normal_(model.lm_head.weight)
    prompts, more = torch.randint(0, 300, (3, 9)), torch.randint(0, 300, (2, 4))
    with torch.inference_mode():
        cache = KeyValueCache(model.config, 3, 16)
        model.hidden_states(prompts, cache)
        before = cache.row_bytes
        positions = torch.arange(9, 13).expand(2, 4)
        found = model.hidden_states(more, cache.rows(slice(1, 2)).repeated(2), positions)
        again = model.hidden_states(more, cache.rows(slice(1, 2)).repeated(2), positions)
        whole = model.hidden_states(torch.cat([prompts[[1, 1]], more], 1))[:, 9:]
    assert torch.allclose(found, whole, atol=1e-5)
    assert torch.equal(found, again), "copies leave what they are of as it was"
    assert before == 2 * 2 * 2 * 16 * 16 * 4, "keys and values of two layers, two heads, 16 places, 16 wide, float32"
    with pytest.raises(IndexError, match="holds 16 positions"):
        cache.repeated(2).reserve(17)
