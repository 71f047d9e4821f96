"""The tokens of a run: what it cannot go on without lies in its own folder, or where the user keeps it."""

from __future__ import annotations

from llmbuilder.data.dataset import TextDataset
from llmbuilder.files import remove_path
from llmbuilder.training.storage.paths import RunPaths


def prepare_tokens(dataset: TextDataset, paths: RunPaths) -> None:
    """Tokenize the text if nobody has, beside the tokens of an earlier run, which are needed until it is removed."""
    if not dataset.is_prepared:
        try:
            dataset.prepare(paths.unfinished_tokens)
        except Exception:
            remove_path(paths.unfinished_tokens)
            raise
    elif paths.keep_earlier and dataset.train.path.parent.resolve() == paths.tokens.resolve():
        dataset.move_to(paths.unfinished_tokens)  # the folder they lie in may get another name


def take_tokens(dataset: TextDataset, paths: RunPaths) -> None:
    """Give the run tokens of its own in place of those that others may remove.

    Those are what was just made, what the dataset keeps for as long as it lives, and what belongs to another run.
    A prepared corpus and a folder of the user's stay where they are.
    """
    folder = dataset.train.path.parent
    if folder.resolve() == paths.tokens.resolve():
        return
    of_other_run = folder.name == paths.tokens.name and (folder.parent / paths.record.name).is_file()
    if dataset.has_temporary_tokens or of_other_run or folder == paths.unfinished_tokens:
        dataset.move_to(paths.tokens)
    remove_path(paths.unfinished_tokens)
