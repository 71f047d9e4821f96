"""Which encoding bytes are in that are not UTF-8.

Letter frequencies of some fifty languages propose (chardet); how natural the letters stand side by side decides:
a symbol within a word, a small letter before a capital one, two scripts in a word are what a wrong encoding leaves.
Where two encodings explain the bytes equally well and differently, none is taken.
"""

from __future__ import annotations

import codecs
import functools
import itertools
import re
import unicodedata
from collections import Counter

SAMPLE = 1 << 16  # bytes that are looked at
_ESCAPED = ("iso2022_jp_2", "iso2022_jp_2004", "iso2022_jp_ext", "iso2022_kr")
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_MULTIBYTE = ("gb18030", "euc_jp", "euc_jis_2004", "cp932", "shift_jis_2004", "big5", "big5hkscs", "cp949", "johab")
# One byte a character, the commonest first: of those that fit equally well, the first is meant.
_SINGLE = (
    "cp1252", "iso8859-15", "iso8859-1", "cp1250", "iso8859-2", "cp1251", "koi8-r", "koi8-u", "cp1254", "iso8859-9",
    "cp1253", "iso8859-7", "cp1256", "cp1255", "iso8859-8", "iso8859-6", "cp1257", "cp1258", "cp874", "iso8859-5",
    "cp850", "cp437", "cp852", "cp866", "mac-roman", "mac-cyrillic", "iso8859-13", "iso8859-4", "iso8859-16",
    "iso8859-3", "iso8859-14", "iso8859-10", "cp858", "cp857", "cp862", "cp855", "cp737", "cp775", "cp869",
    "mac-latin2", "mac-greek", "mac-turkish", "mac-iceland", "cp860", "cp861", "cp863", "cp865", "kz1048", "ptcp154",
    "cp1125", "koi8-t", "cp720", "cp864",
)  # fmt: skip
_WESTERN = ("cp1252", "iso8859-15", "iso8859-1")
_MOST_ODD = 0.1  # of the pairs with a letter that is not ASCII
_LESS_ODD = 0.03
_UNKNOWN = 0.15  # what a language that chardet does not know is given
_MOST_FOREIGN = 0.5  # of the letters beyond ASCII: with more it is another language
_RARE = 0.03
_OTHER = 0.8  # of the likeness to a language that counts for an encoding that chardet has not seen it in
_SURE, _AHEAD, _UNSURE_AHEAD = 0.2, 0.01, 0.02  # of chardet's measure of likeness: known languages have more
_QUOTES = frozenset("'\"’‘“”„«»‹›·-–—…()[]/,.;:!?\u00a0\u00ad\u200c\u200d\u200e\u200f")
_IN_WORDS = frozenset("'’·-\u2010\u2011\u00ad\u200c\u200d")
# Letters of a language beyond a to z (Cyrillic: those that are not Russian too) by chardet's name of it.
_ALPHABETS = {
    "cs": "áčďéěíňóřšťúůýž", "cy": "âêîôûŵŷáàäéèëïíóòöúùẃẁẅẏỳÿ", "da": "æøåéáó", "de": "äöüßé", "en": "éèêëïöüñçàâô",
    "eo": "ĉĝĥĵŝŭ", "es": "áéíóúñüçªº", "et": "äöõüšž", "fi": "äöåšž", "fr": "àâæçéèêëîïôœùûüÿ", "ga": "áéíóú",
    "gd": "àèìòùáéó", "hr": "čćđšž", "hu": "áéíóöőúüű", "id": "é", "is": "áðéíóúýþæö", "it": "àèéìíòóùúîç",
    "lt": "ąčęėįšųūž", "lv": "āčēģīķļņōŗšūž", "ms": "é", "mt": "ċġħżàèìòùâî", "nl": "éëïóöüèêáàçíú",
    "no": "æøåéèêóòô", "pl": "ąćęłńóśźż", "pt": "áâãàçéêíóôõúü", "ro": "ăâîșțşţ", "sk": "áäčďéíĺľňóôŕšťúýž",
    "sl": "čšž", "sv": "åäöéàü", "tr": "çğıöşüâîûİ", "be": "іў", "bg": "", "kk": "әғқңөұүһі", "mk": "ѓѕјљњќџѐѝ",
    "ru": "", "sr": "ђјљњћџčćđšž", "tg": "ғӣқӯҳҷ", "uk": "ґєії",
    "": "áàâäãåçéèêëíìîïñóòôöõøúùûüæœß",  # languages that it knows nothing of
}  # fmt: skip
# Marks, digits of other scripts, accents that stand alone; drawn lines are among the symbols.
_NOT_IN_LATIN = ("Mn", "Mc", "Nd", "Sk", "So")
_LOANS = frozenset("áàâäãåçéèêëíìîïñóòôöõøúùûüæœß")  # met in texts of any language in Latin letters
_FEW = 2  # letters beyond ASCII: with fewer only the commonest encodings are believed
_TILDES = 16  # that are looked at; one that begins Chinese in HZ is among the first
_FOUR_BYTES = re.compile(rb"[\x81-\xfe][0-9][\x81-\xfe][0-9]")  # of GB18030
_WIDE_SHARE = 0.25  # of the bytes belong to such letters
_HZ = re.compile(rb"~\{(?:[\x21-\x77][\x21-\x7e])+~\}")


def may_be_escaped(text: str) -> bool:
    """Whether ASCII text may hold escape sequences that switch to other letters; takes no time worth mentioning."""
    place = text.find("~")
    for _ in range(_TILDES):
        if place < 0 or text.startswith("~{", place):
            break
        place = text.find("~", place + 1)
    return text.startswith("~{", place) or "\x1b" in text


def detect_escaped(content: bytes) -> str | None:
    """Return the encoding of ASCII bytes in which escape sequences switch to other letters, None if there are none."""
    if b"\x1b" in content:
        return next((name for name in _ESCAPED if _is_reading(content, name)), None)
    return "hz" if _HZ.search(content) and _is_reading(content, "hz") else None


def _is_reading(content: bytes, encoding: str) -> bool:
    """Whether bytes are valid in an escape-based encoding, and no escape is left over."""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return "\x1b" not in text and not text.isascii()


def detect_wide(content: bytes) -> str | None:
    """Return which of UTF-16 and UTF-32 bytes without a mark are in, None if they are in none."""
    found = []
    for name in _WIDE:
        unit = 4 if "32" in name else 2
        if len(content) % unit:
            continue
        text = _decoded(content[: SAMPLE // unit * unit], name, whole=len(content) <= SAMPLE)
        if text is not None and (share := _plain_share(text)) > 0.95:
            found.append((share, name))
    return max(found)[1] if found else None


def _plain_share(text: str) -> float:
    """Return the share of characters that belong to the text's commonest scripts, none of them unassigned."""
    kinds: Counter[str] = Counter()
    for character, count in Counter(text).items():
        kind = _kind(character)
        if kind == "none":
            return 0.0
        kinds[kind.removesuffix("+").removesuffix("-")] += count
    letters = Counter({kind: n for kind, n in kinds.items() if kind not in ("space", "mark", "sign", "digit", "quote")})
    known = sum(n for _, n in letters.most_common(3)) + kinds.total() - letters.total()
    has_spaces = kinds["space"] > 0 or "CJK" in letters or "HIRAGANA" in letters
    return known / max(1, kinds.total()) if letters and has_spaces else 0.0


@functools.lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    """Return a letter's script with its case (+ capital, - small), or what else a character is."""
    if character in " \t\r\n\f":
        return "space"
    category = unicodedata.category(character)
    if category in ("Cc", "Cn", "Co", "Cs"):
        return "none"
    if "\uff61" <= character <= "\uff65":  # of half width, hardly ever met
        return "sign"
    if character in _QUOTES or category in ("Zs", "Cf", "Pd", "Pi", "Pf", "Ps", "Pe"):
        return "quote"
    if category == "Po" and not "\x80" <= character < "\u0300" and not "\u2000" <= character < "\u2070":
        return "quote"
    if category[0] == "M":
        return "mark"
    if category in ("Nd", "No", "Nl"):
        return "digit" if character.isdecimal() else "sign"
    if category[0] == "L" and character not in "ªº":
        script = unicodedata.name(character, "?").split(" ")[0].split("-")[0]
        script = {"KATAKANA": "CJK", "HIRAGANA": "CJK", "FULLWIDTH": "CJK", "HALFWIDTH": "HALF"}.get(script, script)
        return script + {"Lu": "+", "Ll": "-"}.get(category, "")
    return "sign"


@functools.lru_cache(maxsize=65536)
def _oddity(before: str, after: str) -> float:
    """Return how unnatural two neighbours are, 0 to 1."""
    if before.isascii() and after.isascii():
        return 0.0
    a, b = _kind(before), _kind(after)
    if "none" in (a, b):
        return 1.0
    is_letter = [kind not in ("space", "quote", "digit", "sign", "mark") for kind in (a, b)]
    if all(is_letter):
        if a.rstrip("+-") != b.rstrip("+-"):
            return 0.0 if "CJK" in (a, b) else 1.0
        return 1.0 if a.endswith("-") and b.endswith("+") else 0.0
    if "sign" in (a, b) and (any(is_letter) or (a == b and before != after)):
        return 0.5
    if b == "mark" and not is_letter[0] and a != "mark":
        return 0.5
    return 0.0


def _foreign(character: str, language: str) -> float:
    """Return how little a letter belongs to a language, 0 to 1."""
    if character.isascii() or language not in _ALPHABETS or character.lower() in _ALPHABETS[language]:
        return 0.0
    if not character.isalpha():
        return 1.0 if character == "\u00ad" or unicodedata.category(character) in _NOT_IN_LATIN else 0.0
    if "а" <= character.lower() <= "я" or character.lower() == "ё":
        return 0.0
    return 0.3 if character.lower() in _LOANS else 1.0


def _is_quote_within(before: str, character: str, after: str) -> bool:
    """Whether a quotation mark or the like stands in a word, as only apostrophes, points and hyphens do."""
    return (
        _kind(character) == "quote" and character not in _IN_WORDS and before.isalpha() and after.isalpha()
    )  # fmt: skip


class _Bytes:
    """A sample of bytes, with how often each two of them stand side by side."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.pairs = Counter((a, b) for a, b in zip(b" " + content, content + b" ", strict=True) if a > 127 or b > 127)
        self.counts = Counter(byte for byte in content if byte > 127)
        self.high = self.counts.total()
        self.used = sorted({byte for pair in self.pairs for byte in pair})
        self.between = Counter((a, b, c) for a, b, c in zip(content, content[1:], content[2:], strict=False) if b > 127)

    def oddness(self, encoding: str) -> float | None:
        """Return the share of unnatural neighbours in a single-byte encoding, None if it lacks some of the bytes."""
        table = _table(encoding)
        if any(table[byte] == "" for byte in self.used):
            return None
        odd = sum(count * _oddity(table[a], table[b]) for (a, b), count in self.pairs.items())
        odd += sum(count for (a, b, c), count in self.between.items() if _is_quote_within(table[a], table[b], table[c]))
        return odd / max(1, self.high)

    def foreign(self, encoding: str, language: str) -> float:
        """Return the share of letters beyond ASCII that the language has not, in an encoding."""
        table = _table(encoding)
        return sum(n * _foreign(table[byte], language) for byte, n in self.counts.items()) / max(1, self.high)

    def signature(self, encoding: str) -> str:
        """Return what the bytes stand for; equal for encodings that read the sample the same way."""
        return "\0".join(_table(encoding)[byte] for byte in self.used)


@functools.lru_cache(maxsize=128)
def _table(encoding: str) -> list[str]:
    return [bytes([byte]).decode(encoding, "ignore") for byte in range(256)]


def _decoded(content: bytes, encoding: str, *, whole: bool) -> str | None:
    """Return bytes as text, None if they are not valid; a sample may end within a character."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(content, final=whole)
    except UnicodeDecodeError:
        return None


def _text_oddness(text: str) -> float:
    pairs = Counter(itertools.pairwise(text))
    between = Counter(three for three in zip(text, text[1:], text[2:], strict=False) if not three[1].isascii())
    other = sum(not character.isascii() for character in text)
    odd = sum(count * _oddity(a, b) for (a, b), count in pairs.items())
    return (odd + sum(count for three, count in between.items() if _is_quote_within(*three))) / max(1, other)


def detect_encoding(content: bytes, *, whole: bool = True) -> str | None:
    """Return the encoding of bytes that are neither UTF-8 nor marked, None if it cannot be told.

    `whole` is False for a sample that may begin or end within a character.
    """
    import chardet

    seen = _Bytes(content)
    found = chardet.detect_all(content, ignore_threshold=True, compat_names=False)
    proposed = [(_name(one["encoding"]), one["confidence"], one["language"] or "") for one in found if one["encoding"]]
    odd = {name: oddness for name in _SINGLE if (oddness := seen.oddness(name)) is not None}
    if (name := _multibyte(content, proposed, min(odd.values(), default=1.0), whole)) is not None:
        return name
    likely = {name: oddness for name, oddness in odd.items() if oddness <= _MOST_ODD}
    return _clear_winner(seen, {name: _score(seen, name, proposed) - 2 * likely[name] for name in likely})


def _name(name: str) -> str:
    name = codecs.lookup(name).name
    return _PYTHON_NAMES.get(name, name)


def _score(seen: _Bytes, encoding: str, proposed: list[tuple[str, float, str]]) -> float:
    """Return how well an encoding explains bytes: by what it was proposed for, or as another one's language."""
    scores = [_UNKNOWN - seen.foreign(encoding, "")]
    for language in {language for _, _, language in proposed[:20]}:
        foreign = seen.foreign(encoding, language)
        if foreign > _MOST_FOREIGN:
            continue
        own = [confidence for name, confidence, found in proposed if found == language and name == encoding]
        known = own or [_OTHER * max(confidence for _, confidence, found in proposed if found == language)]
        scores.append(known[0] - foreign)
    return max(scores) - (_RARE if _SINGLE.index(encoding) >= _SINGLE.index("iso8859-13") else 0.0)


_PYTHON_NAMES = {codecs.lookup(name).name: name for name in _SINGLE}


def _multibyte(content: bytes, proposed: list[tuple[str, float, str]], least_odd: float, whole: bool) -> str | None:
    """Return the encoding of several bytes a letter that the bytes are in, if they are."""
    is_wide = len(_FOUR_BYTES.findall(content)) * 4 > _WIDE_SHARE * len(content)
    if is_wide and _decoded(content, "gb18030", whole=whole):
        return "gb18030"
    best = proposed[0][0] if proposed else None
    if best is not None and best not in _SINGLE and (text := _decoded(content, best, whole=whole)) is not None:
        return best if _text_oddness(text) <= _MOST_ODD else None
    for name in _MULTIBYTE:
        text = _decoded(content, name, whole=whole)
        if text is None or _text_oddness(text) > min(_LESS_ODD, least_odd / 3):
            continue
        kinds = Counter(_kind(character).rstrip("+-") for character in text if not character.isascii())
        letters = sum(n for kind, n in kinds.items() if kind not in ("sign", "quote", "mark", "digit"))
        if letters > 0.8 * kinds.total() and (kinds["CJK"] + kinds["HANGUL"] + kinds["HALF"]) < 0.05 * kinds.total():
            return name
    return None


def _clear_winner(seen: _Bytes, scores: dict[str, float]) -> str | None:
    """Return the best encoding, None if another that reads the bytes differently is as good."""
    if not scores:
        return None
    best = max(scores.values())
    gap = _AHEAD if best >= _SURE else _UNSURE_AHEAD
    rivals = [name for name in _SINGLE if scores.get(name, -1.0) >= best - gap]
    if seen.high < _FEW and rivals[0] not in _WESTERN:
        return None
    is_clear = best >= _SURE or len({seen.signature(name) for name in rivals}) == 1
    return rivals[0] if best > 0 and (is_clear or rivals[0] in _WESTERN) else None
