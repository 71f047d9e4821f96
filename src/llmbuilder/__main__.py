"""`python -m llmbuilder`, for torchrun and for environments without the script on their path."""

from llmbuilder.cli.main import run

run()
