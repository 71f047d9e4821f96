"""Compound files (MS-CFB), the container of old office files, as their streams alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import olefile
import pytest


def hold_streams(monkeypatch: pytest.MonkeyPatch, streams: Mapping[str, bytes]) -> None:
    """Let whatever opens a compound file find these streams in it."""

    class Container:
        def __init__(self, path: Path) -> None:
            pass

        def __enter__(self) -> Container:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def openstream(self, name: str) -> io.BytesIO:
            return io.BytesIO(streams[name])

    monkeypatch.setattr(olefile, "OleFileIO", Container)
