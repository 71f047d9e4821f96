"""What a call of a legacy program is: found by `finding`, translated by `translating`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from llmbuilder.migration.commands.words import Word


@dataclass(frozen=True)
class Launcher:
    """How a program was started: the processes, and the arguments of what started them.

    `processes` is per node. `arguments` are those of a launcher that runs on several nodes, as written
    (`--nnodes=2`, `--master_addr=...`); `left` those that no other launcher has.
    """

    name: str = "python"
    processes: Word | None = None
    nodes: Word | None = None
    rank: Word | None = None
    master_address: Word | None = None
    master_port: Word | None = None
    arguments: tuple[Word, ...] = ()
    left: tuple[Word, ...] = ()

    @property
    def is_multi_node(self) -> bool:
        """Whether processes of other machines take part."""
        return self.nodes is not None and self.nodes != "1"


@dataclass(frozen=True)
class Loop:
    """A loop around a call: its variable and the values that it takes, empty where only the shell knows them."""

    variable: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """A call of a Python program in a file of a legacy project.

    `script` is the program's path from the project's root, as far as the text tells; `cwd` the folder it starts in.
    `prefix` are the words kept in front of the new command (nohup, srun -n 2); `dropped` those that are not (uv run).
    `span` is where the old command stands in the file's text, counted in characters, redirections left out; None where
    it does not stand there as it is read, as in a notebook's JSON. `is_example`: it stands in a comment.
    """

    file: PurePosixPath
    line: int
    old: str
    script: str
    arguments: tuple[Word, ...] = ()
    launcher: Launcher = Launcher()
    environment: tuple[tuple[str, Word], ...] = ()
    prefix: tuple[Word, ...] = ()
    dropped: tuple[Word, ...] = ()
    cwd: str = "."
    is_example: bool = False
    loops: tuple[Loop, ...] = ()
    span: tuple[int, int] | None = None


@dataclass
class TranslatedCommand:
    """A new command line, the arguments that have no counterpart, and what a reader should know.

    `command` is empty where nothing stands for the old one, and begins with `#` where nothing need be run.
    """

    command: str
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
