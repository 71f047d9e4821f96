"""Adapting a model that knows something already: adapters and their files."""

from llmbuilder.finetuning.peft_files import load_adapted, load_adapter, save_adapter

__all__ = ["load_adapted", "load_adapter", "save_adapter"]
