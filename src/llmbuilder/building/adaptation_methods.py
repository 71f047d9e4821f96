"""The ways to adapt a base."""

METHODS = ("auto", "lora", "dora", "qlora", "full")
ADAPTERS = {"lora": "LoRA", "dora": "DoRA", "qlora": "QLoRA"}  # as people write them
