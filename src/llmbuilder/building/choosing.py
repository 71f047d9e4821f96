"""`--base auto`: from nothing, or from an open model that is on this machine already? Measured on the same documents.

What training from nothing reaches is foreseen, and what a base takes untouched is measured; adapting only lowers that,
as the best evaluation is kept. So a base is taken where it begins below what could be reached without it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmbuilder.building.adapting import AdaptationPlan, base_tokenizer, open_base, plan_adaptation
from llmbuilder.building.bases import require_base
from llmbuilder.building.corpus_text import BuildText
from llmbuilder.building.plan import Plan
from llmbuilder.building.planning import choose_vocabulary, find_tokenizer, make_plan, open_text
from llmbuilder.config.schema import Config
from llmbuilder.errors import ConfigError, LLMBuilderError
from llmbuilder.model import LanguageModel

NOTHING = "from nothing"


@dataclass(frozen=True)
class Candidate:
    """One way to begin: `base` is a model's folder, None for nothing.

    `bits_per_byte` are those that training from nothing is expected to reach, or that a base takes untouched; None,
    with the `problem`, for a way that cannot be gone.
    """

    name: str
    base: str | None
    bits_per_byte: float | None
    problem: str = ""

    def __str__(self) -> str:
        if self.bits_per_byte is None:
            return f"{self.name}: not possible: {self.problem}"
        kind = "expected" if self.base is None else "untouched, which adapting lowers"
        return f"{self.name}: {self.bits_per_byte:.3f} bits per byte of your held-out documents ({kind})"


@dataclass(frozen=True)
class Choice:
    """The way that is taken, with its plan, and those that were compared."""

    taken: Candidate
    plan: Plan | AdaptationPlan
    candidates: list[Candidate]

    def reason(self) -> str:
        """Return in a sentence what is taken, and why."""
        others = [way for way in self.candidates if way is not self.taken and way.bits_per_byte is not None]
        if not others:
            return f"Taken: {self.taken.name}, the only way that can be gone"
        best = min(others, key=_bits)
        return f"Taken: {self.taken.name}, because {_bits(self.taken):.3f} is less than {_bits(best):.3f} ({best.name})"


def bases_at_hand() -> dict[str, Path]:
    """Return the folders of the models in the cache of Hugging Face's hub, by their names; the hub is not asked."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    found: dict[str, Path] = {}
    for place in sorted(cache.glob("models--*")):
        snapshots = sorted((place / "snapshots").glob("*/config.json"), key=lambda file: file.stat().st_mtime)
        if snapshots:
            found[place.name.removeprefix("models--").replace("--", "/")] = snapshots[-1].parent
    return found


def choose_base(
    text: BuildText,
    config: Config,
    method: str,
    explicit: Mapping[str, Mapping[str, Any]],
    begin: float,
    seconds: float,
    announce: Callable[[str], None],
) -> Choice:
    """Plan every way to begin in a build of `seconds` since `begin`, on perf_counter, and take the best.

    Raises ConfigError, with the reason of each, if none can be gone.
    """
    plans: list[tuple[Candidate, Plan | AdaptationPlan]] = []
    candidates: list[Candidate] = []
    for name, base in [(NOTHING, None), *bases_at_hand().items()]:
        started, place = time.perf_counter(), None if base is None else str(base)
        try:
            planned, model = config.copy_of(), None
            if base is not None:
                require_base(base, method)
                model = open_base(base, planned)
            plan = plan_text(text, planned, model, method, explicit, begin, seconds, announce)
            bits = plan.expected_bits_per_byte if isinstance(plan, Plan) else plan.before.held_out
            candidate = Candidate(name, place, bits, "" if bits is not None else "nothing is held out")
        except LLMBuilderError as error:
            candidate = Candidate(name, place, None, str(error))
        else:
            if candidate.bits_per_byte is not None:
                plans.append((candidate, plan))
        candidates.append(candidate)
        announce(str(candidate))
        begin += time.perf_counter() - started  # the next is compared as if it were the only one
    if not plans:
        raise ConfigError("there is no way to begin: " + "; ".join(map(str, candidates)))
    taken, plan = min(plans, key=lambda pair: _bits(pair[0]))
    return Choice(taken, plan, candidates)


def plan_text(
    text: BuildText,
    config: Config,
    model: LanguageModel | None,
    method: str,
    explicit: Mapping[str, Mapping[str, Any]],
    begin: float,
    seconds: float,
    announce: Callable[[str], None],
) -> Plan | AdaptationPlan:
    """Return the plan of a build of `seconds` since `begin`, on perf_counter, from a `model`; None is from nothing.

    The tokens that it takes are gone afterwards. Raises what `make_plan` and `plan_adaptation` do.
    """
    with tempfile.TemporaryDirectory(prefix="llmbuilder-plan-") as folder:
        if model is None:
            choose_vocabulary(config, text.report.characters, explicit)
            tokenizer = find_tokenizer(text, config, announce)
        else:
            tokenizer = base_tokenizer(model, None)
        dataset = open_text(text, config, tokenizer)
        dataset.prepare(Path(folder))
        if model is None:
            return make_plan(config, dataset, explicit, begin, seconds, announce)
        return plan_adaptation(model, config, method, dataset, explicit, begin, seconds, announce)


def _bits(candidate: Candidate) -> float:
    assert candidate.bits_per_byte is not None
    return candidate.bits_per_byte
