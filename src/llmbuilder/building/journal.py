"""`build.json`: what a build was asked for, which of its stages are done, and what each has left.

With it the same command goes on where an earlier one ended, however that was.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmbuilder.errors import ConfigError, DataError, LLMBuilderError
from llmbuilder.files import write_json

JOURNAL = "build.json"
# In their order, with the words for what is at work.
STAGES = {
    "documents": "reading documents",
    "tokenizer": "making the tokenizer ready",
    "plan": "planning",
    "training": "training",
    "evaluation": "evaluating",
    "samples": "writing samples",
    "export": "exporting",
    "check": "checking the export in llama.cpp",
    "summary": "writing the summary",
}
_FORMAT_VERSION = 1


def is_build(folder: str | Path) -> bool:
    """Whether a folder holds a build, finished or not."""
    return (Path(folder) / JOURNAL).is_file()


class Journal:
    """The stages of one build; written after each, so that none is lost and none is done twice."""

    def __init__(
        self,
        folder: Path,
        request: Mapping[str, Any],
        done: Mapping[str, Any] | None = None,
        replaces: str | None = None,
    ) -> None:
        self.folder = folder
        self.request = dict(request)
        self.replaces = replaces  # the name of the run that the build's own takes the place of
        self._done: dict[str, Any] = dict(done or {})
        self._tried: dict[str, float] = {}  # seconds of stages that were stopped
        self._begin = time.perf_counter()
        self.at_work = "documents"

    @classmethod
    def read(cls, folder: Path) -> Journal | None:
        """Return the journal of the build in `folder`; None if there is none. Raises DataError if it is damaged."""
        path = folder / JOURNAL
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["format_version"] > _FORMAT_VERSION:
                raise DataError(f"{path} was written by a newer LLMBuilder: upgrade to go on with this build")
            found = cls(folder, content["request"], content["stages"], content["replaces"])
            found._tried = dict(content["tried"])
            return found
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}): pass overwrite=True to build again in its place") from error

    @property
    def is_written(self) -> bool:
        """Whether there is something on the disk to go on from."""
        return is_build(self.folder)

    @property
    def is_finished(self) -> bool:
        """Whether every stage is done."""
        return all(stage in self._done for stage in STAGES)

    @property
    def seconds(self) -> float:
        """The seconds that the stages took, in whatever process; what a kill has ended is not known."""
        return sum(stage["seconds"] for stage in self._done.values()) + sum(self._tried.values())

    def has(self, stage: str) -> bool:
        """Whether a stage is done."""
        return stage in self._done

    def forget(self, first: str) -> None:
        """Let a stage and all after it be done again."""
        later = list(STAGES)[list(STAGES).index(first) :]
        self._done = {stage: left for stage, left in self._done.items() if stage not in later}

    @property
    def changed(self) -> list[str]:
        """The settings of training that were changed while it went on, as they were given."""
        return list(self.request.get("changed", []))

    @contextlib.contextmanager
    def changing(self, overrides: Sequence[str]) -> Iterator[None]:
        """Note settings that training goes on with inside, unless they turn out not to fit."""
        before = self.changed
        names = {text.partition("=")[0] for text in overrides}
        self.request["changed"] = [*(text for text in before if text.partition("=")[0] not in names), *overrides]
        try:
            yield
        except ConfigError:
            self.request["changed"] = before
            raise

    def left_by(self, stage: str) -> Any:
        """Return what a stage that is done has left, as plain values."""
        return self._done[stage]["left"]

    def carry_out(self, stage: str, work: Callable[[], Any], *, is_there: Callable[[Any], bool] | None = None) -> Any:
        """Return what `work` leaves, as plain JSON values; if the stage is done already, what it left then.

        `is_there` says whether what the stage left still is: where it is not, the stage is done again.
        """
        if stage in self._done and (is_there is None or is_there(self.left_by(stage))):
            return self.left_by(stage)
        self.at_work = stage
        begin = self._begin if stage == "documents" else time.perf_counter()
        try:
            left = json.loads(json.dumps(work()))
        except BaseException:
            self._tried[stage] = self._tried.get(stage, 0.0) + time.perf_counter() - begin
            with contextlib.suppress(LLMBuilderError):  # what ended the stage is what there is to say
                if self.is_written:
                    self.write()
            raise
        self._done[stage] = {"seconds": time.perf_counter() - begin + self._tried.pop(stage, 0.0), "left": left}
        self.write()
        return left

    def write(self) -> None:
        """Write build.json."""
        content = {"format_version": _FORMAT_VERSION, "request": self.request, "stages": self._done}
        content |= {"replaces": self.replaces, "tried": self._tried}
        write_json(self.folder / JOURNAL, content)
