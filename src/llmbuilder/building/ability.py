"""One sentence about what a model can do, from what it wrote beside what people did.

The levels and their thresholds stand in docs/explanation/ability.md with the runs they were set by. In doubt the lower
level is said: a model is never praised for what it does now and then.
"""

from __future__ import annotations

from llmbuilder.building.passages import Comparison

_LOOPS = 0.3  # of its groups of four words stood in the same passage before
_MOST_COPIED = 0.5  # of what it wrote
_WORDS, _WORDS_BITS = 0.8, 2.6  # known words as a share of people's; bits per byte
_PHRASES, _PHRASES_KNOWN, _PHRASES_BITS = 0.6, 0.9, 2.3  # known groups of three words as a share of people's
_SENTENCES, _SENTENCES_WORDS, _SENTENCES_BITS = 0.7, 0.97, 1.6
_TOPIC, _TOPIC_BITS = 0.4, 1.1  # coherence as a share of people's
_LEAST_COHERENCE = 0.02  # of people's text: below, passages of this text have no topic that could be kept
_FEWEST_WORDS = 60  # to judge by


def describe_ability(found: Comparison, bits_per_byte: float | None) -> str:
    """Return what the model can do in one sentence; `bits_per_byte` are those of the held-out text, if any is."""
    model, people = found.model, found.people
    if model.words < _FEWEST_WORDS:
        return "It writes too little to say what it can do."
    if fault := describe_fault(found):
        return fault
    # Without held-out text nothing shows that more was learned than words: no more is said.
    bits = bits_per_byte if bits_per_byte is not None else _PHRASES_BITS
    words = _ratio(model.known_words, people.known_words)
    phrases = _ratio(model.known_phrases, people.known_phrases)
    strange = f"about {1 - model.known_words:.0%} of its words look made up"
    if words < _WORDS or bits > _WORDS_BITS:
        return f"It strings letters and pieces of words together: {strange}."
    if phrases < _PHRASES or model.known_words < _PHRASES_KNOWN or bits > _PHRASES_BITS:
        return f"It forms words, but no sentences; {strange}."
    if phrases < _SENTENCES or words < _SENTENCES_WORDS or bits > _SENTENCES_BITS:
        return f"It forms words and short phrases, but whole sentences make no sense; {strange}."
    coherence = _ratio(model.coherence, people.coherence) if people.coherence >= _LEAST_COHERENCE else 0.0
    if coherence < _TOPIC or bits > _TOPIC_BITS:
        return "It forms sentences, but does not keep a topic from one to the next."
    return "It forms sentences and keeps a topic over a paragraph."


def describe_fault(found: Comparison) -> str:
    """Return what is wrong with what the model writes, "" if it neither repeats itself nor recites.

    That is all there is to say of a model that knew more than its documents: words that they lack are not made up.
    """
    if found.model.repetition > max(_LOOPS, 2 * found.people.repetition):
        return "It repeats itself: the same words come back again and again."
    if found.copied is not None and found.copied > _MOST_COPIED:
        return f"It recites: {found.copied:.0%} of what it writes stands word for word in its documents."
    return ""


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
