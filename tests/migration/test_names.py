"""Names in the new project: from the old ones, each once."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbuilder.migration.experiments import Naming
from llmbuilder.migration.names import Names

parts = st.text(alphabet=st.sampled_from("aAbBéßẞ -_.1"), min_size=1, max_size=4).filter(lambda s: s.strip(" ."))
paths = st.lists(parts, min_size=1, max_size=4).map(lambda items: PurePosixPath(*items))


def folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


@given(st.lists(paths, max_size=12))
def test_no_two_paths_share_a_name_where_case_and_form_do_not_count(found: list[PurePosixPath]) -> None:
    names = Names()
    given_names = {path: names.short(path, owner=path) for path in found}
    assert len({folded(name) for name in given_names.values()}) == len(given_names)
    assert all(names.short(path, owner=path) == name for path, name in given_names.items()), "a name stays"


@given(st.lists(paths, max_size=12))
def test_whole_paths_stay_what_they_are_unless_another_has_them(found: list[PurePosixPath]) -> None:
    names = Names()
    taken = {path: names.whole(path, owner=path) for path in dict.fromkeys(found)}
    assert len({folded(name) for name in taken.values()}) == len(taken)
    first = next(iter(taken), None)
    assert first is None or taken[first] == str(first)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["out-alpha/ckpt.pt", "out-beta/ckpt.pt"], ["out-alpha", "out-beta"]),
        (["a/out/ckpt.pt", "b/out/ckpt.pt"], ["out", "b-out"]),
        (["log/model_00100.pt", "log/model_00200.pt"], ["log-model_00100", "log-model_00200"]),
        (["out/ckpt.pt", "out/best.pt"], ["out-ckpt", "out-best"]),
        (["model.pt", "model/ckpt.pt"], ["model", "model-2"]),
        (["out/ckpt.pt", "Out/ckpt.pt"], ["out", "Out-2"]),
        (["my runs/größe/ckpt.pt"], ["größe"]),
    ],
)
def test_checkpoints_are_called_what_tells_them_apart(files: list[str], expected: list[str]) -> None:
    paths = [PurePosixPath(file) for file in files]
    naming = Naming(paths)
    assert [naming.of_checkpoint(path) for path in paths] == expected


def test_an_out_dir_is_called_what_its_checkpoint_is() -> None:
    naming = Naming([PurePosixPath("out-alpha/ckpt.pt")])
    assert naming.of_checkpoint(PurePosixPath("out-alpha/ckpt.pt")) == "out-alpha"
    assert naming.of_out_dir("./out-alpha/") == "out-alpha"
    assert naming.of_out_dir("elsewhere/out-alpha") == "elsewhere-out-alpha"
