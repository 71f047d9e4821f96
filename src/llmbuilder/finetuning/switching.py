"""Several adapters of one model, of which one at a time lies beside its matrices, or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmbuilder.errors import ConfigError
from llmbuilder.finetuning.peft_files import load_adapter
from llmbuilder.model import LanguageModel
from llmbuilder.model.adapters import has_adapters, remove_adapters

NONE = "none"


class Adapters:
    """Adapters by the names of their folders; the first one lies beside the model's matrices at the beginning.

    Raises CheckpointError for a folder whose adapters do not belong to the model.
    """

    def __init__(self, model: LanguageModel, folders: Sequence[Path]) -> None:
        self._model = model
        self._folders = {str(folder): folder for folder in folders}
        for folder in folders[1:]:  # what does not belong is said before one is needed
            load_adapter(model, folder)
            remove_adapters(model)
        self.current = NONE
        self.use(str(folders[0]))

    @property
    def names(self) -> list[str]:
        """The names that can be used, that for none among them."""
        return [*self._folders, NONE]

    def use(self, name: str) -> None:
        """Lay the adapters of this name beside the matrices, in place of those there; the end of one name will do.

        Raises ConfigError for a name that none or several have.
        """
        found = [known for known in self.names if known == name] or [
            known for known in self.names if Path(known).parts[-len(Path(name).parts) :] == Path(name).parts
        ]
        if len(found) != 1:
            problem = "several adapters are called" if found else "no adapter is called"
            raise ConfigError(f"{problem} {name!r}: there are {', '.join(self.names)}")
        if has_adapters(self._model):
            remove_adapters(self._model)
        if found[0] != NONE:
            load_adapter(self._model, self._folders[found[0]])
        self._model.eval()
        self.current = found[0]
