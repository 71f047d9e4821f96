"""The datasets of a legacy project: token files, the character table, the text they were made from, the program."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from llmbuilder.errors import TokenizerError
from llmbuilder.migration.names import Names
from llmbuilder.migration.programs import Program
from llmbuilder.tokenizer import Tokenizer

TABLE = "meta.pkl"
TOKEN_FILES = ("train.bin", "val.bin")
_DATA_SUFFIXES = {".txt", ".bin", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".npy", ".md", ".html", ".xml"}
_NOT_TEXT = re.compile(
    r"(?:^|.*[-_.])(requirements|readme|licen[cs]e|changelog|notice|authors|cmakelists|robots|logs?|args|losses|environment"
    r"|metrics|summary|stdout|stderr|history|freeze|todo)(?:[-_.\d]|$)", re.I,
)  # fmt: skip
NOT_DATA_FOLDERS = {"test", "tests", "testing", "fixtures", "doc", "docs", "node_modules", "site-packages"}
_DATA_FOLDERS = {"data", "dataset", "datasets", "corpus", "corpora", "raw", "text", "texts", "input", "inputs"}


@dataclass
class Dataset:
    """Data that a training reads: a folder of it, or a text that lies by itself."""

    name: str  # as configurations call it: "shakespeare_char", "data.txt"
    place: PurePosixPath  # folder or file, in the legacy project
    new: str  # folder or file, in the new project
    files: list[PurePosixPath] = field(default_factory=list)  # all of it that goes along
    is_folder: bool = True
    is_prompt: bool = False  # a text to sample from, not to train on
    program: Program | None = None  # the one that prepares it
    tokenizer: Tokenizer | None = None
    tokenizer_new: str | None = None  # where the tokenizer lies in the new project

    @property
    def has_tokens(self) -> bool:
        return self.place / "train.bin" in self.files

    @property
    def texts(self) -> list[PurePosixPath]:
        """Its plain texts: what token files and the character table were made from."""
        return [file for file in self.files if file.suffix == ".txt"]

    @property
    def has_data(self) -> bool:
        return any(file.name != TABLE for file in self.files)

    @property
    def path(self) -> str:
        """What `data.path` has to say: the folder of token files, the one text, or the folder of documents."""
        others = [file for file in self.files if file.name != TABLE]
        if not self.has_tokens and len(others) == 1 and others == self.texts:
            return self.new_file(others[0])
        return self.new

    @property
    def encoding(self) -> str | None:
        """How its tokens are made: "characters", tiktoken's name of an encoding, or None for unknown."""
        if self.tokenizer is not None or (self.program is not None and self.program.makes_characters):
            return "characters"
        return next(iter(sorted(self.program.encodings)), None) if self.program is not None else None

    def new_file(self, file: PurePosixPath) -> str:
        """Return where a file of this dataset lies in the new project."""
        return self.new if file == self.place else f"{self.new}/{file.relative_to(self.place).as_posix()}"


def find_datasets(
    files: Sequence[PurePosixPath], programs: Mapping[PurePosixPath, Program], mentioned: Iterable[str]
) -> list[Dataset]:
    """Return the datasets of a project, those with token files first.

    A folder is one if token files, a character table, or a program that prepares data beside its text lie in it; so is
    a text at the top, one in a folder that is called like data, and one that configurations, commands or programs name
    (`mentioned`). Texts of tests and documentation are none.
    """
    names = Names()
    datasets: dict[PurePosixPath, Dataset] = {}
    for folder in sorted(set(_dataset_folders(files, programs))):
        below = _below_data(folder, "tokens")
        new = names.whole(PurePosixPath("data", below), owner=folder)
        datasets[folder] = Dataset(below.as_posix(), folder, new)
    named = set(mentioned)
    for file in files:
        home = next((folder for folder in file.parents if folder in datasets), None)
        if home is not None and (home != PurePosixPath() or file.parent == home):
            if file.name == TABLE or file.name in TOKEN_FILES or (
                file.suffix.lower() in _DATA_SUFFIXES and not _NOT_TEXT.match(file.name)
                and (home != PurePosixPath() or file.suffix in (".txt", ".bin"))
            ):  # fmt: skip
                datasets[home].files.append(file)
        elif file.suffix == ".txt" and _is_data(file, named):
            new = names.whole(PurePosixPath("data", _below_data(file, file.name)), owner=file)
            datasets[file] = Dataset(file.as_posix(), file, new, [file], is_folder=False)
    for dataset in datasets.values():
        dataset.program = _preparing(dataset, programs)
    return sorted(datasets.values(), key=lambda d: (not d.has_tokens, not d.is_folder, d.place.as_posix()))


def _dataset_folders(
    files: Sequence[PurePosixPath], programs: Mapping[PurePosixPath, Program]
) -> Iterator[PurePosixPath]:
    for file in files:
        prepares = file in programs and programs[file].role == "prepare"
        is_below_data = file.parts[:1] == ("data",) and len(file.parts) > 2
        if file.name in (*TOKEN_FILES, TABLE) or (prepares and is_below_data):
            yield file.parent


def _below_data(place: PurePosixPath, otherwise: str) -> PurePosixPath:
    """Return a path as nanoGPT's `dataset` says it: without the `data/` in front."""
    parts = place.parts[1:] if place.parts[:1] == ("data",) else place.parts
    return PurePosixPath(*parts) if parts else PurePosixPath(otherwise)


def _is_data(file: PurePosixPath, mentioned: set[str]) -> bool:
    folders = [part.lower() for part in file.parent.parts]
    if _NOT_TEXT.match(file.name) or NOT_DATA_FOLDERS & set(folders):
        return False
    names_it = {file.as_posix(), file.name, f"./{file.as_posix()}"} & mentioned
    return not folders or bool(_DATA_FOLDERS & set(folders)) or bool(names_it)


def _preparing(dataset: Dataset, programs: Mapping[PurePosixPath, Program]) -> Program | None:
    inside = [p for path, p in programs.items() if path.parent == dataset.place and dataset.is_folder]
    preparing = [program for program in inside if program.role == "prepare"]
    return next(iter(preparing), None)


def read_tables(root: Path, datasets: Sequence[Dataset]) -> dict[PurePosixPath, str]:
    """Give each dataset the tokenizer of its own character table; return why a table could not be read."""
    refused: dict[PurePosixPath, str] = {}
    for dataset in datasets:
        table = dataset.place / TABLE
        if table not in dataset.files:
            continue
        try:
            dataset.tokenizer = Tokenizer.from_pretrained(root / table)
        except TokenizerError as error:
            refused[table] = str(error)
    return refused


def name_tokenizers(datasets: Sequence[Dataset]) -> None:
    """Give each tokenizer its folder: `tokenizer` if it is the only one, else `tokenizers/DATASET`."""
    with_own = [dataset for dataset in datasets if dataset.tokenizer is not None]
    names = Names()
    for dataset in with_own:
        name = names.whole(PurePosixPath("tokenizers", dataset.new.removeprefix("data/")), owner=dataset.place)
        dataset.tokenizer_new = "tokenizer" if len(with_own) == 1 else name


def find_dataset(datasets: Sequence[Dataset], reference: str | None) -> Dataset | None:
    """Return the dataset that a configuration or a command means: nanoGPT's name of one, or a path."""
    if not reference:
        return None
    path = PurePosixPath(posixpath.normpath(reference.replace("\\", "/")))
    for wanted in (PurePosixPath("data", path), path):
        for dataset in datasets:
            if dataset.place == wanted or (dataset.is_folder and wanted in dataset.files):
                return dataset
    named = [dataset for dataset in datasets if dataset.place.name == path.name]
    inside = [dataset for dataset in datasets if path in dataset.place.parents and path != PurePosixPath()]
    return next((found[0] for found in (named, inside) if len(found) == 1), None)
