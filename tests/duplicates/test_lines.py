"""Lines that many documents share."""

from __future__ import annotations

from llmbuilder.duplicates.lines import count_lines, frequent_lines, remove_lines

LICENCE = "Permission is hereby granted, free of charge."


def test_lines_in_many_documents_are_removed_and_short_ones_stay() -> None:
    texts = [f"{LICENCE.upper() if n % 2 else LICENCE}\n}}\nThis line is only in {n}." for n in range(6)]
    tables = [count_lines(texts[:2]), count_lines(texts[2:])]
    repeated = frequent_lines(tables, 6)
    assert len(repeated) == 1
    assert remove_lines(texts[3], repeated) == ("}\nThis line is only in 3.", 1)
    assert remove_lines("Nothing of it is here.", repeated) == ("Nothing of it is here.", 0)
    assert not len(frequent_lines(tables, 7))


def test_a_line_counts_once_for_a_document() -> None:
    table = count_lines([f"{LICENCE}\n{LICENCE}\n"])
    assert table.shape == (2, 1)
    assert table[1, 0] == 1
