"""Near-duplicates against pairs whose Jaccard similarity is known by construction."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmbuilder.duplicates.near import NearDuplicateSettings, choose_bands, find_near_duplicates
from llmbuilder.errors import ConfigError

WORDS = [f"word{number}" for number in range(50_000)]


def text_of(random_: random.Random, length: int = 300) -> str:
    return " ".join(random_.choices(WORDS, k=length))


def altered(text: str, random_: random.Random, changes: int) -> str:
    words = text.split()
    for place in random_.sample(range(len(words)), changes):
        words[place] = random_.choice(WORDS)
    return " ".join(words)


def similarity(one: str, other: str, ngram: int = 5) -> float:
    """The definition, written out: shared n-grams of all n-grams."""
    sets = []
    for text in (one, other):
        words = text.lower().split()
        sets.append({tuple(words[i : i + ngram]) for i in range(max(1, len(words) - ngram + 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_recall_and_precision_at_the_threshold(threshold: float) -> None:
    chance = random.Random(7)
    texts: list[str] = []
    for _ in range(1000):
        original = text_of(chance)
        texts += [original, altered(original, chance, chance.randrange(0, 32))]
    expected = {
        number for number in range(0, len(texts), 2) if similarity(texts[number], texts[number + 1]) >= threshold
    }
    assert 200 < len(expected) < 1000  # pairs on both sides of the threshold

    found = find_near_duplicates(texts, NearDuplicateSettings(threshold=threshold))

    pairs = {min(pair) for pair in found.kept.items() if {pair[0] // 2} == {pair[1] // 2}}
    assert len(pairs) == len(found.kept)  # nothing but the constructed pairs
    assert len(pairs & expected) / len(expected) >= 0.98
    assert len(pairs & expected) / len(pairs) >= 0.98


def test_case_and_punctuation_do_not_count_and_the_longest_stays() -> None:
    plain = text_of(random.Random(1)).replace(" ", " ", 1)
    shouted = plain.upper().replace(" ", ", ") + "!"
    found = find_near_duplicates([plain, text_of(random.Random(2)), shouted, plain])
    assert found.kept == {0: 2, 3: 2}
    assert found.clusters == 1


def test_in_a_chain_each_dropped_text_is_itself_like_one_that_stays() -> None:
    chance = random.Random(3)
    chain = [text_of(chance)]
    for step in range(5):  # each six words further from the first
        words = chain[-1].split()
        words[20 * step : 20 * step + 6] = chance.choices(WORDS, k=6)
        chain.append(" ".join(words))
    assert similarity(chain[0], chain[-1]) < 0.8 <= similarity(chain[0], chain[1])
    found = find_near_duplicates(chain, NearDuplicateSettings(threshold=0.8))
    stay = set(range(6)) - set(found.kept)
    assert 1 < len(stay) < 6
    assert set(found.kept.values()) <= stay
    assert all(similarity(chain[number], chain[other]) >= 0.8 for number, other in found.kept.items())
    # Nobody stays who is like another one that stays and comes first: the longest, then the one read first.
    assert all(similarity(chain[one], chain[other]) < 0.8 for one in stay for other in stay if one < other)


@pytest.mark.parametrize("seed", range(4))
def test_the_rule_is_greedy_from_the_longest_on(seed: int) -> None:
    chance = random.Random(seed)
    texts: list[str] = []
    for _ in range(12):  # families in which each text is made of any earlier one of it
        family = [text_of(chance, 120)]
        for _ in range(9):
            family.append(altered(chance.choice(family), chance, chance.randrange(1, 4)))
        texts += family
    chance.shuffle(texts)
    expected: dict[int, bool] = {}
    for number in sorted(range(len(texts)), key=lambda number: (-len(texts[number]), number)):
        stays = (other for other, stayed in expected.items() if stayed)
        expected[number] = not any(similarity(texts[number], texts[other]) >= 0.8 for other in stays)
    found = find_near_duplicates(texts, NearDuplicateSettings(threshold=0.8, permutations=256))
    assert set(found.kept) == {number for number, stays in expected.items() if not stays}
    assert all(similarity(texts[number], texts[other]) >= 0.8 for number, other in found.kept.items())


def test_texts_in_scripts_without_blanks_are_compared() -> None:
    chance = random.Random(9)
    for letters in ("山川草木花鳥風月雨雪天地人心水火", "กขคงจชซดตถทนบปผพฟมยรลวสหอ"):
        text = "".join(chance.choices(letters, k=2000))
        near = text[:700] + "".join(chance.choices(letters, k=20)) + text[700:]
        other = "".join(chance.choices(letters, k=2000))
        mixed = f"An English preface to it. {text} And an English afterword."
        assert find_near_duplicates([text, near, other, mixed]).kept in ({0: 3, 1: 3}, {0: 1, 3: 1})


def test_many_copies_of_one_text_need_few_comparisons() -> None:
    chance = random.Random(4)
    copies = [text_of(chance)] * 500
    found = find_near_duplicates([*copies, text_of(chance)])
    assert found.kept == dict.fromkeys(range(1, 500), 0)
    assert found.compared_pairs < 1000


def test_short_and_empty_texts() -> None:
    found = find_near_duplicates(["one two", "one two", "three", "", "", "One, two."])
    assert found.kept == {0: 5, 1: 5, 4: 3}
    assert find_near_duplicates([]).kept == {}
    assert find_near_duplicates(["alone"]).kept == {}


def test_texts_that_are_read_anew_each_time_give_the_same(tmp_path: Path) -> None:
    chance = random.Random(5)
    texts = [text_of(chance, 60) for _ in range(40)]
    texts += [altered(text, chance, 1) for text in texts[:20]]
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts))

    class Lines:
        def __iter__(self) -> Iterator[str]:
            with open(file) as handle:
                yield from (line.rstrip("\n") for line in handle)

    found = find_near_duplicates(Lines(), work_folder=tmp_path).kept
    assert len(found) == 20
    assert found == find_near_duplicates(texts).kept
    assert list(tmp_path.iterdir()) == [file]


def test_bands_follow_from_the_threshold() -> None:
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 0.99):
        bands, rows = choose_bands(threshold, 256)
        assert bands * rows <= 256
        assert 1 - (1 - threshold**rows) ** bands >= 0.99
        assert 1 - (1 - threshold**rows) ** (bands - 1) < 0.99  # one band less would miss too many
        if rows < 256:
            assert 1 - (1 - threshold ** (rows + 1)) ** (256 // (rows + 1)) < 0.99  # and so would one row more
    assert choose_bands(1.0, 64) == (1, 64)
    assert choose_bands(0.1, 5000)[1] == 2
    with pytest.raises(ConfigError, match="use 44 or more"):
        choose_bands(0.1, 10)
    with pytest.raises(ConfigError, match="between 0.1 and 1"):
        NearDuplicateSettings(threshold=80)
