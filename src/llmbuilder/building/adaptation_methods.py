"""The ways to adapt a base."""

METHODS = ("auto", "lora", "dora", "full")
