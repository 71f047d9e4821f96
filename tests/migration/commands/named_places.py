"""`NamedPlaces`: a project of which only names are known; programs are what they are called."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import PurePosixPath
from typing import Any

from llmbuilder.migration.commands.places import PreparedDataset, Role, ScriptFacts

_ROLES: dict[str, Role] = {
    "train": "train", "sample": "sample", "generate": "sample", "inference": "sample", "prepare_data": "prepare",
    "prepare": "prepare", "eval": "evaluate", "evaluate": "evaluate",
}  # fmt: skip


class NamedPlaces:
    """Places where everything has the name that the migration of a small project gives it."""

    def script(self, path: str) -> ScriptFacts | None:
        role = _ROLES.get(PurePosixPath(path).stem)
        return ScriptFacts(role, "argparse") if role is not None else None

    def config(self, legacy_path: str) -> str | None:
        path = PurePosixPath(legacy_path)
        return "config.json" if path.name == "config.json" else f"configs/{path.stem}.json"

    def default_config(self, script: str) -> str:
        return "config.json"

    def config_values(self, legacy_path: str | None, script: str) -> Mapping[str, Any]:
        return {}

    def scripts_called(self, name: str) -> list[str]:
        return []

    def own_values(self, legacy_path: str) -> Mapping[str, Any]:
        return {}

    def data(self, name_or_path: str) -> str | None:
        return name_or_path if name_or_path.startswith("data/") else f"data/{PurePosixPath(name_or_path).name}"

    def run(self, out_dir: str) -> str:
        return out_dir or "run/"

    def default_run(self, config: str) -> str:
        return "run/"

    def named_run(self, name: str) -> str:
        return f"run/{name}"

    def own_run(self, run: str, training: Hashable) -> str:
        return run

    def replaces(self, out_dir: str) -> bool:
        return False

    def model(self, path: str) -> str | None:
        return f"model/{PurePosixPath(path).stem}.pt"

    def sampled_model(self, out_dir: str) -> str:
        return "model/ckpt.pt"

    def tokenizer(self, out_dir_or_dataset: str) -> str | None:
        return "tokenizer/"

    def vocabulary(self, dataset: str) -> int | None:
        return None

    def prepared(self, script: str) -> PreparedDataset | None:
        return None
