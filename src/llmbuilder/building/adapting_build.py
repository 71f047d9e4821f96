"""A build that begins from a model: the stages of every build, with a base's tokenizer, weights and first numbers."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from llmbuilder.building.ability import describe_fault
from llmbuilder.building.adapting import (
    ADAPTING_SECONDS,
    ASKING_SHARE,
    base_tokenizer,
    open_base,
    plan_adaptation,
)
from llmbuilder.building.answers import Asked, ask_adapted, ask_base
from llmbuilder.building.before_after import Measure, measure_scores, warnings_of
from llmbuilder.building.general_text import find_general_text
from llmbuilder.building.passages import Comparison
from llmbuilder.building.result import Adaptation, BuildResult, Sample
from llmbuilder.building.stages import Build
from llmbuilder.config.loading import apply_settings, read_config
from llmbuilder.config.recipe import SAMPLING
from llmbuilder.config.schema import Config
from llmbuilder.config.validation import require_valid
from llmbuilder.data import TextDataset
from llmbuilder.model import LanguageModel
from llmbuilder.training import TrainingResults
from llmbuilder.training.running import train


class AdaptingBuild(Build):
    """One build at work that adapts a base (see `Build`)."""

    default_seconds = ADAPTING_SECONDS

    def run(self) -> BuildResult:
        """Do what is left to do, and return the result; a base that cannot be used is found before the documents."""
        if not self.journal.has("plan"):
            _ = self.base
        return super().run()

    @cached_property
    def base(self) -> LanguageModel:
        """The model that is adapted, as it came."""
        place = self.journal.request["base"]
        self.announce(f"Opening the base {place}")
        return open_base(place, self.config)

    def _make_tokenizer(self) -> dict[str, Any]:
        tokenizer = base_tokenizer(self.base, self.journal.request["base"])
        tokenizer.save_pretrained(self._own_tokenizer)
        return {"fingerprint": tokenizer.fingerprint, "size": len(tokenizer)}

    def _plan(self) -> dict[str, Any]:
        seconds = self.default_seconds if self.seconds is None else self.seconds
        plan = plan_adaptation(
            self.base, self.config, self.journal.request["method"], self.dataset, self.explicit, self.begin, seconds,
            self.announce,
        )  # fmt: skip
        config, summary = plan.config, plan.summary()
        self.announce(f"Plan: {summary}")
        if config.generation.do_sample:
            config.generation = config.generation.model_copy(update=SAMPLING)
            apply_settings(config, {"generation": self.explicit.get("generation", {})})
        samples = self._write_after_beginnings(self.base, self.dataset, config.generation)
        self.announce("Asking the base about the documents")
        asked = ask_base(self.base, self.tokenizer, self.dataset, ASKING_SHARE * seconds, config.system.seed)
        self._keep_in_time(config, plan.seconds_after + asked.seconds_alone)
        require_valid(config, ["training", "finetuning"], "adapt this base", unchecked=["training.warmup_steps"])
        config.training.output_dir = None
        config.training.init_from = self.journal.request["base"]
        return {
            "config": config.to_dict(),
            "summary": summary,
            "expected": asdict(plan.expectation()),
            "window": plan.window,
            "measure": plan.measure.to_dict(),
            "general_text": plan.general_text,
            "before": asdict(plan.before),
            "learned": plan.learned,
            "samples": [asdict(sample) for sample in samples],
            "asked": asdict(asked),
        }

    def _begin_training(self, config: Config, dataset: TextDataset) -> TrainingResults:
        dataset.set_configured_windows(self.journal.left_by("plan")["window"], config.data)
        model = self.base
        del self.base  # what it was is in the run, and two of it are too many
        return train(
            model, dataset, config, self.folder, self.callbacks,
            overwrite=not self._has_run, continue_run=self._has_run, has_weights=True,
        )  # fmt: skip

    def _evaluate(self, results: TrainingResults) -> dict[str, Any]:
        return {**super()._evaluate(results), "adaptation": asdict(self._adaptation)}

    def _bits_per_byte(self, results: TrainingResults) -> float | None:
        """Return the bits per byte of the windows that the base was scored on."""
        return self._adaptation.held_out_after

    def _describe_ability(self, writing: Comparison, bits: float | None) -> str:
        return describe_fault(writing)

    @cached_property
    def _adaptation(self) -> Adaptation:
        plan, tuning, tokens = self.journal.left_by("plan"), self.planned.finetuning, self.run_tokens
        general = find_general_text(tokens, self.tokenizer) if plan["general_text"] else None
        after = measure_scores(self.model, tokens, self.tokenizer, Measure(**plan["measure"], general=general))
        asked = Asked.from_dict(plan["asked"]) if "asked" in plan else None
        found = Adaptation(
            base=self.journal.request["base"],
            method=tuning.method,
            rank=None if tuning.method == "full" else tuning.rank,
            learned=plan["learned"],
            held_out_before=plan["before"]["held_out"],
            held_out_after=after.held_out,
            general_text=plan["general_text"],
            general_before=plan["before"]["general"],
            general_after=after.general,
            answers=ask_adapted(self.model, self.tokenizer, asked) if asked is not None else None,
            passes=self._passes(tokens),
        )
        return replace(found, warnings=warnings_of(found))

    def _passes(self, tokens: TextDataset) -> float:
        """Return how often the training part was read."""
        training = read_config(self.paths.config).training
        assert not isinstance(training.batch_size, str)
        a_step = training.batch_size * training.gradient_accumulation_steps * tokens.block_size
        return self.journal.left_by("training")["steps"] * a_step / max(1, tokens.info.tokens)

    def _samples(self) -> list[Sample]:
        base = {sample["prompt"]: sample["continuation"] for sample in self.journal.left_by("plan")["samples"]}
        return [replace(sample, base=base.get(sample.prompt)) for sample in super()._samples()]
