"""Rules that drop documents: named, grouped in presets, every threshold adjustable.

A rule is a quality signal and the range it must lie in. A document is dropped by the first rule it breaks, in the
order of `FILTER_RULES`, so the count of each reason is the same whatever the order of the documents.

The preset `web` judges each language by its own stop words and ranges (`language_rules`). A rule that does not know a
document's language or script is skipped for it, and the verdict says so. Source code, by its format or between fences,
is judged by the rules for code where the preset is for prose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from llmbuilder.config.languages import LANGUAGES, language_code, language_remedy
from llmbuilder.config.schema import DataConfig
from llmbuilder.documents.document import Document
from llmbuilder.errors import ConfigError, suggestion
from llmbuilder.refining.classifiers import load_classifier
from llmbuilder.refining.language_rules import (
    WITHOUT_BLANKS,
    WITHOUT_SENTENCE_MARKS,
    Range,
    ranges_of,
    stop_words_of,
)
from llmbuilder.refining.languages import detect_language
from llmbuilder.refining.quality import TextQuality

_Signal = Callable[[TextQuality], float]


def _named(name: str) -> _Signal:
    return lambda quality: getattr(quality, name)


def _ngrams(method: str, length: int) -> _Signal:
    return lambda quality: getattr(quality, method)(length)


# Gopher's thresholds (Rae et al. 2021, table A1).
_TOP_NGRAMS = {2: 0.20, 3: 0.18, 4: 0.16}
_DUPLICATE_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

SIGNALS: dict[str, _Signal] = {
    "characters": _named("characters"),
    "words": _named("words"),
    "mean_word_length": _named("mean_word_length"),
    "longest_line": _named("longest_line"),
    "mean_line_length": _named("mean_line_length"),
    "alphanumeric_share": _named("alphanumeric_share"),
    "lorem_ipsum": _named("lorem_ipsum"),
    "curly_brackets": _named("curly_brackets"),
    "symbol_share": _named("symbol_share"),
    "bullet_line_share": _named("bullet_line_share"),
    "ellipsis_line_share": _named("ellipsis_line_share"),
    "alphabetic_word_share": _named("alphabetic_word_share"),
    "stop_words": _named("stop_words"),
    "sentences": _named("sentences"),
    "punctuated_line_share": _named("punctuated_line_share"),
    "short_line_share": _named("short_line_share"),
    "duplicate_line_share": _named("duplicate_line_share"),
    "duplicate_line_character_share": _named("duplicate_line_character_share"),
    "duplicate_paragraph_share": _named("duplicate_paragraph_share"),
    "duplicate_paragraph_character_share": _named("duplicate_paragraph_character_share"),
    **{f"top_{n}_gram_share": _ngrams("top_ngram_share", n) for n in _TOP_NGRAMS},
    **{f"duplicate_{n}_gram_share": _ngrams("duplicate_ngram_share", n) for n in _DUPLICATE_NGRAMS},
}

_REPETITION: dict[str, Range] = {
    "duplicate_line_share": (None, 0.30),
    "duplicate_paragraph_share": (None, 0.30),
    "duplicate_line_character_share": (None, 0.20),
    "duplicate_paragraph_character_share": (None, 0.20),
    **{f"top_{n}_gram_share": (None, most) for n, most in _TOP_NGRAMS.items()},
    **{f"duplicate_{n}_gram_share": (None, most) for n, most in _DUPLICATE_NGRAMS.items()},
}
_GOPHER: dict[str, Range] = {
    "words": (50, 100_000),
    "mean_word_length": (3, 10),
    "symbol_share": (None, 0.1),
    "bullet_line_share": (None, 0.9),
    "ellipsis_line_share": (None, 0.3),
    "alphabetic_word_share": (0.8, None),
    "stop_words": (2, None),
}

# `web` is FineWeb's selection: Gopher's rules, C4's without its line rules, FineWeb's own. Books are long, so only what
# no book does is refused. Notes are short and listy, and their owner wrote them: only what holds nothing is refused.
FILTER_PRESETS: dict[str, dict[str, Range]] = {
    "none": {},
    "notes": {"characters": (20, None)},
    "books": {
        "characters": (200, None),
        "mean_word_length": (2, 15),
        "alphabetic_word_share": (0.5, None),
        "duplicate_line_character_share": (None, 0.5),
        "duplicate_10_gram_share": (None, 0.5),
    },
    "code": {  # Codex: lines of at most 1000 characters, 100 on average, a quarter of them letters or digits
        "characters": (50, None),
        "longest_line": (None, 1000),
        "mean_line_length": (None, 100),
        "alphanumeric_share": (0.25, None),
        "duplicate_line_character_share": (None, 0.5),
    },
    "web": {
        **_GOPHER,
        "lorem_ipsum": (None, 0),
        "curly_brackets": (None, 0),
        "sentences": (3, None),
        "punctuated_line_share": (0.12, None),
        "short_line_share": (None, 0.67),
        **{**_REPETITION, "duplicate_line_character_share": (None, 0.1)},
    },
}
FILTER_RULES = (*SIGNALS, "language", "classifier")
_FOR_PROSE = ("web", "books")
_CODE = "code"
_MOSTLY = 0.5  # of the characters between fences make a document one of code
_OF_CODE_ALONE = ("longest_line", "mean_line_length")  # paragraphs beside code are long lines
# FineWeb-2 leaves them out: how long lines are says little where words are longer or shorter than in English, and one
# brace in a page about computing says nothing against its prose.
_ENGLISH_ONLY = ("short_line_share", "curly_brackets")


@dataclass(frozen=True)
class Verdict:
    """Why a document is dropped, or that it is kept (`reason` is None), and what was found out about it."""

    reason: str | None
    language: str | None = None
    language_score: float | None = None
    score: float | None = None
    quality: TextQuality | None = None
    skipped: tuple[str, ...] = ()  # rules that do not know the document's language or script

    @property
    def skipped_for(self) -> dict[str, int]:
        """What a report counts of the rules skipped: each, with the language it does not know."""
        return {f"{rule} ({self.language or 'unknown'})": 1 for rule in self.skipped}


class DocumentFilter:
    """Judges documents by a preset, changed by `thresholds` and `without`.

    `thresholds` maps a signal of `SIGNALS` to (least, most); `without` names rules to leave out; `languages` are the
    ISO 639 codes to keep (default: all), for texts recognised with at least `min_language_score`. `classifier` is a
    function from a text to a score, which must reach `min_score`. Raises ConfigError for an unknown name.
    """

    def __init__(
        self,
        preset: str = "none",
        *,
        thresholds: Mapping[str, Range] | None = None,
        without: Iterable[str] = (),
        languages: Iterable[str] = (),
        min_language_score: float = 0.65,
        classifier: Callable[[str], float] | None = None,
        min_score: float = 0.5,
    ) -> None:
        without = set(without)
        _check_name(preset, FILTER_PRESETS, "filter preset")
        for name in thresholds or {}:
            _check_name(name, SIGNALS, "quality signal")
        for name in without:
            _check_name(name, FILTER_RULES, "filter rule")
        self.preset = preset
        self._given = dict(thresholds or {})
        self._without = without
        self.ranges = self._chosen(FILTER_PRESETS[preset])
        codes = {language_code(code) for code in languages}
        for code in sorted(codes.difference(LANGUAGES)):
            raise ConfigError(f"{code!r} is no code of a language that can be recognised; {language_remedy(code)}")
        self.languages = () if "language" in without else tuple(sorted(codes))
        self.min_language_score = min_language_score
        self.classifier = None if "classifier" in without else classifier
        self.min_score = min_score

    @classmethod
    def from_config(cls, data: DataConfig) -> DocumentFilter | None:
        """Return the filter that a configuration describes, None if it drops nothing."""
        if data.filter == "none" and not (data.filter_limits or data.languages or data.classifier):
            return None
        return cls(
            data.filter,
            thresholds=data.filter_limits,
            without=data.filter_without,
            languages=data.languages,
            min_language_score=data.min_language_score,
            classifier=load_classifier(data.classifier, data.classifier_label) if data.classifier else None,
            min_score=data.min_score,
        )

    def judge(self, document: Document) -> Verdict:
        """Return the verdict on one document."""
        language, certainty = detect_language(document.text)
        quality = TextQuality(document.text, language)
        ranges = self._ranges_for(document, quality)
        skipped = tuple(name for name in ranges if _knows_not(name, quality))
        verdict = partial(Verdict, language=language, language_score=certainty, quality=quality, skipped=skipped)
        for name, (least, most) in ranges.items():
            if name in skipped:
                continue
            value = SIGNALS[name](quality)
            if least is not None and value < least:
                return verdict(f"{name} below {least:g}")
            if most is not None and value > most:
                return verdict(f"{name} above {most:g}")
        if self.languages and (language not in self.languages or certainty < self.min_language_score):
            return verdict(f"language is not {' or '.join(self.languages)}")
        if self.classifier is None:
            return verdict(None)
        score = float(self.classifier(document.text))
        return verdict(f"classifier below {self.min_score:g}" if score < self.min_score else None, score=score)

    def _chosen(self, ranges: Mapping[str, Range]) -> dict[str, Range]:
        """Return ranges as changed by what was given, in the order of `SIGNALS`."""
        changed = {**ranges, **self._given}
        return {name: changed[name] for name in SIGNALS if name in changed and name not in self._without}

    def _ranges_for(self, document: Document, quality: TextQuality) -> dict[str, Range]:
        if self.preset in _FOR_PROSE and document.format == _CODE:
            return self._chosen(FILTER_PRESETS[_CODE])
        if self.preset in _FOR_PROSE and quality.fenced_share > _MOSTLY:
            return self._chosen(_without(FILTER_PRESETS[_CODE], _OF_CODE_ALONE))
        own = ranges_of(quality.language) if self.preset == "web" else None
        if own is None:
            return self.ranges
        return self._chosen({**_without(FILTER_PRESETS["web"], _ENGLISH_ONLY), **own})


def _without(ranges: Mapping[str, Range], names: Iterable[str]) -> dict[str, Range]:
    return {name: limits for name, limits in ranges.items() if name not in names}


def _knows_not(rule: str, quality: TextQuality) -> bool:
    if rule == "stop_words":
        return stop_words_of(quality.language) is None
    if rule in ("sentences", "punctuated_line_share"):
        return quality.language in WITHOUT_SENTENCE_MARKS
    return rule == "mean_word_length" and (quality.characters_a_word > 1 or quality.language in WITHOUT_BLANKS)


def _check_name(name: str, known: Iterable[str], what: str) -> None:
    known = list(known)
    if name not in known:
        raise ConfigError(f"unknown {what} {name!r}{suggestion(name, known)}; there are {', '.join(known)}")
