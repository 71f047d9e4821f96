"""A project's places by simple rules: what the translation of commands is tested against."""

from __future__ import annotations

import ast
import contextlib
import posixpath
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmbuilder.migration.commands import PreparedDataset, ScriptFacts
from llmbuilder.migration.commands.places import Role
from llmbuilder.migration.commands.runs import RunNames

# nanoGPT's programs as far as a translation asks for them.
TRAIN = {
    "out_dir": "out", "eval_interval": 2000, "log_interval": 1, "eval_iters": 200, "eval_only": False,
    "always_save_checkpoint": True, "init_from": "scratch", "wandb_log": False, "wandb_project": "owt",
    "wandb_run_name": "gpt2", "dataset": "openwebtext", "gradient_accumulation_steps": 40, "batch_size": 12,
    "block_size": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768, "dropout": 0.0, "bias": False,
    "learning_rate": 6e-4, "max_iters": 600000, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "grad_clip": 1.0,
    "decay_lr": True, "warmup_iters": 2000, "lr_decay_iters": 600000, "min_lr": 6e-5, "backend": "nccl",
    "device": "cuda", "compile": True,
}  # fmt: skip
SAMPLE = {
    "init_from": "resume", "out_dir": "out", "start": "\n", "num_samples": 10, "max_new_tokens": 500,
    "temperature": 0.8, "top_k": 200, "seed": 1337, "device": "cuda", "compile": False,
}  # fmt: skip
CHARS = {"out_dir": "out-chars", "dataset": "chars", "batch_size": 64, "block_size": 256, "max_iters": 5000}
FINETUNE = {"out_dir": "out-tuned", "dataset": "tale", "init_from": "gpt2-xl", "decay_lr": False, "max_iters": 20}
EVALUATE = {"batch_size": 8, "eval_iters": 500, "eval_only": True, "init_from": "gpt2"}


@dataclass
class ProjectPlaces:
    """A nanoGPT project with two datasets, three configurations, and one trained run."""

    scripts: dict[str, ScriptFacts] = field(
        default_factory=lambda: {
            "train.py": ScriptFacts("train", defaults=TRAIN),
            "sample.py": ScriptFacts("sample", defaults=SAMPLE),
            "bench.py": ScriptFacts("other"),
            "data/chars/prepare.py": ScriptFacts("prepare"),
            "data/tale/prepare.py": ScriptFacts("prepare"),
            "data/web/prepare.py": ScriptFacts("prepare"),
        }
    )
    configs: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "config/train_chars.py": CHARS, "config/finetune.py": FINETUNE, "config/eval_gpt2.py": EVALUATE,
        }
    )  # fmt: skip
    datasets: tuple[str, ...] = ("chars", "tale", "data.txt")
    trained: tuple[str, ...] = ("out-chars",)
    tokenizers: dict[str, str] = field(default_factory=lambda: {"tale": "tokenizer/tale"})
    vocabularies: dict[str, int] = field(default_factory=lambda: {"tale": 50304})

    runs: RunNames = field(default_factory=RunNames)

    def script(self, path: str) -> ScriptFacts | None:
        return self.scripts.get(path)

    def config(self, legacy_path: str) -> str | None:
        if legacy_path == "config.json":
            return "config.json"
        stem = posixpath.splitext(posixpath.basename(legacy_path))[0]
        return f"configs/{stem}.json" if legacy_path in self.configs else None

    def default_config(self, script: str) -> str:
        return f"configs/{posixpath.splitext(script)[0]}-defaults.json"

    def config_values(self, legacy_path: str | None, script: str) -> Mapping[str, Any]:
        facts = self.scripts.get(script)
        return {**(facts.defaults if facts else {}), **self.configs.get(legacy_path or "", {})}

    def scripts_called(self, name: str) -> list[str]:
        return [path for path in self.scripts if posixpath.basename(path) == name]

    def own_values(self, legacy_path: str) -> Mapping[str, Any]:
        return self.configs.get(legacy_path, {})

    def data(self, name_or_path: str) -> str | None:
        name = posixpath.basename(name_or_path)
        return f"data/{name}" if name in self.datasets else None

    def run(self, out_dir: str) -> str:
        return f"run/{posixpath.basename(out_dir)}"

    def default_run(self, config: str) -> str:
        return "run/" if config == "config.json" else f"run/{posixpath.splitext(posixpath.basename(config))[0]}"

    def named_run(self, name: str) -> str:
        return f"run/{name}"

    def own_run(self, run: str, training: Hashable) -> str:
        return self.runs.name(run, training)

    def replaces(self, out_dir: str) -> bool:
        return out_dir in self.trained

    def model(self, path: str) -> str | None:
        folder = posixpath.dirname(path)
        return f"model/{folder}.pt" if folder in self.trained else None

    def sampled_model(self, out_dir: str) -> str:
        return self.run(out_dir)

    def tokenizer(self, out_dir_or_dataset: str) -> str | None:
        return self.tokenizers.get(out_dir_or_dataset)

    def vocabulary(self, dataset: str) -> int | None:
        return self.vocabularies.get(dataset)

    def prepared(self, script: str) -> PreparedDataset | None:
        name = script.split("/")[1] if script.startswith("data/") else ""
        return {
            "chars": PreparedDataset("chars", "data/chars", "data/chars/input.txt", has_tokens=True),
            "tale": PreparedDataset("tale", "data/tale.txt", "data/tale/input.txt"),
            "web": PreparedDataset("web", "data/web"),
        }.get(name)


def facts_of(source: str, role: Role) -> ScriptFacts:
    """Return the facts about a program's text: its plain constants, or its arguments if it has a parser."""
    tree = ast.parse(source)
    defaults: dict[str, Any] = {}
    options: dict[str, str] = {}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func).endswith("add_argument")
            and node.args
        ):
            flags = [str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)] or ["?"]
            keywords = {k.arg: k.value for k in node.keywords}
            dest = max(flags, key=len).lstrip("-").replace("-", "_")
            if isinstance(keywords.get("dest"), ast.Constant):
                dest = str(keywords["dest"].value)  # type: ignore[attr-defined]
            options |= dict.fromkeys(flags, dest)
            with contextlib.suppress(ValueError, KeyError):
                defaults[dest] = ast.literal_eval(keywords["default"])
            action = ast.unparse(keywords["action"]) if "action" in keywords else ""
            if "store" in action or "Boolean" in action:
                defaults.setdefault(dest, "store_false" in action)
    if options:
        return ScriptFacts(role, "argparse", defaults, options)
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            defaults[ast.unparse(statement.targets[0])] = statement.value.value
    return ScriptFacts(role, "configurator", defaults)
