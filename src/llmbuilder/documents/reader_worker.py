"""Reads documents in a process of its own, so that one that crashes, hangs or explodes costs only itself.

Usage: python -m llmbuilder.documents.reader_worker MEMORY_BYTES
Each line of standard input is a JSON object with `path` and `ocr`; each line of standard output the answer: `document`,
or `error`. It ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from llmbuilder.documents.readers import read_document
from llmbuilder.errors import DataError
from llmbuilder.workers import begin_work


def main() -> None:
    """Answer requests until the input ends."""
    begin_work()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library that prints must not spoil the answers
        for line in sys.stdin:
            request = json.loads(line)
            answers.write(json.dumps(_answer(Path(request.pop("path")), request)) + "\n")
            answers.flush()


def _answer(path: Path, options: dict[str, str | None]) -> dict[str, object]:
    try:
        return {"document": vars(read_document(path, **options))}
    except DataError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": f"{path}: it needs more memory than a document may take"}
    except Exception as error:  # noqa: BLE001 - parsers of foreign bytes can raise anything
        return {"error": f"{path}: its reader failed: {type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
