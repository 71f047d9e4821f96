"""Training: `train_model`, resuming, callbacks."""

from llmbuilder.training.display.callbacks import Callback
from llmbuilder.training.results import StoppedRun, TrainingResults
from llmbuilder.training.running import resume_training, train_model
from llmbuilder.training.tuning import finetune_model

__all__ = ["Callback", "StoppedRun", "TrainingResults", "finetune_model", "resume_training", "train_model"]
