"""One sentence about what a model can do, from what it wrote beside what people did.

The levels and their thresholds stand in docs/explanation/ability.md with the runs they were set by. In doubt the lower
level is said: a model is never praised for what it does now and then.
"""

from __future__ import annotations

from llmbuilder.building.passages import Comparison

_LETTERS_WORDS = 0.8  # of the share of known words that people's text has: below, it spells words of its own
_LOOPS = 0.3  # of its word groups stood in the same passage before
_PHRASES, _SENTENCES = 0.8, 1.0  # of the share of known groups of three words that people's text has
_SENTENCE_WORDS = 0.97  # of the share of known words
_SENTENCE_BITS = 1.6  # bits per byte
_TOPIC = 0.7  # of the coherence of people's text
_TOPIC_BITS = 1.1  # bits per byte
_LEAST_COHERENCE = 0.02  # of people's text: below, passages of this text have no topic that could be kept
_MOST_COPIED = 0.5  # of what it wrote
_FEWEST_WORDS = 60  # to judge by


def describe_ability(found: Comparison, bits_per_byte: float | None) -> str:
    """Return what the model can do in one sentence; `bits_per_byte` are those of the held-out text, if any is."""
    model, people = found.model, found.people
    if model.words < _FEWEST_WORDS:
        return "It writes too little to say what it can do."
    if model.repetition > max(_LOOPS, 2 * people.repetition):
        return "It repeats itself: the same words come back again and again."
    if found.copied is not None and found.copied > _MOST_COPIED:
        return f"It recites: {found.copied:.0%} of what it writes stands word for word in its documents."
    words = _ratio(model.known_words, people.known_words)
    phrases = _ratio(model.known_phrases, people.known_phrases)
    if words < _LETTERS_WORDS:
        strange = f"{1 - model.known_words:.0%} of its words are in none of its documents"
        return f"It strings letters and pieces of words together: {strange}."
    if phrases < _PHRASES:
        return "It forms words, but they do not make sentences."
    bits = bits_per_byte if bits_per_byte is not None else float("inf")
    if phrases < _SENTENCES or words < _SENTENCE_WORDS or bits > _SENTENCE_BITS:
        return "It forms words and short phrases, but few whole sentences, and they have no meaning together."
    coherence = _ratio(model.coherence, people.coherence) if people.coherence >= _LEAST_COHERENCE else 0.0
    if coherence < _TOPIC or bits > _TOPIC_BITS:
        return "It forms sentences, but does not keep a topic from one to the next."
    return "It forms sentences and keeps a topic over a paragraph."


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
