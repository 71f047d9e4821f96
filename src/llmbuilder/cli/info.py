"""`llmbuilder info`: this machine and installation."""

from __future__ import annotations

from llmbuilder.cli.output import Json, Quiet, print_json, print_pairs


def info(quiet: bool = Quiet, as_json: bool = Json) -> None:
    """Show versions, devices, memory and optional parts."""
    import importlib.util

    from llmbuilder.machine import describe_machine

    extras = {
        "verify": "xllamacpp",
        "parquet": "pyarrow",
        "corpus": "daft",
        "semantic": "model2vec",
        "ray": "ray",
        "wandb": "wandb",
        "tensorboard": "tensorboard",
        "trackio": "trackio",
    }
    facts = describe_machine()
    facts["extras"] = [name for name, module in extras.items() if importlib.util.find_spec(module)]
    print_json(facts) if as_json else print_pairs(facts)
