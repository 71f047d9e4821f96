"""Replacing personal data and secrets by placeholders, with counts but never the values.

Numbers are only taken for what their check digits prove: payment cards by Luhn's formula (ISO/IEC 7812), IBANs by
ISO 7064 mod 97. Telephone numbers have none; they need a country code, an area code set apart, the groups in which a
country writes them, or a word before them that says so. United States social security numbers need their hyphens and
a number that is given out.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Collection

from llmbuilder.errors import ConfigError

# Letters of a local part: those of scripts with blanks between words, so that what stands before an address in Chinese
# or Japanese is not taken for a part of it. A name of a country outside ASCII must be one that there is.
_LOCAL = r"[0-9A-Za-z_\u00c0-\u0dff\u1e00-\u1fff.+%-]"
_LABEL = r"[^\W_](?:[^\W_]|-(?!\.)){0,62}"
_COUNTRIES = (
    "рф|рус|укр|бел|мкд|срб|бг|ею|қаз|мон|ελ|ευ|հայ|გე|ישראל|السعودية|امارات|ایران|مصر|المغرب|تونس|الجزائر|الاردن|قطر|"
    "عمان|سورية|فلسطين|پاکستان|भारत|ভারত|বাংলা|ਭਾਰਤ|ભારત|இந்தியா|இலங்கை|ලංකා|భారత్|ไทย|ລາວ|한국|中国|中國|香港|澳門|台湾|台灣|新加坡|"
    "公司|网络|みんな"
)
_EMAIL = re.compile(
    rf"(?<!{_LOCAL}){_LOCAL}{{1,64}}@(?:{_LABEL}\.){{1,8}}(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}|{_COUNTRIES})"
    r"(?![A-Za-z0-9_])"
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(
    r"(?<![\w.-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{5})(?![\w-]|\.\d)"
)
_CARD_LENGTHS = {"2": (16,), "3": (14, 15, 16), "4": (13, 16, 19), "5": (16,), "6": (16, 17, 18, 19)}
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|:(?=:)){2,7}(?::?[0-9A-Fa-f]{1,4})?(?![\w:]|\.\d)")
_LIKE_A_VERSION = 32
_PHONE = re.compile(
    r"(?<![\w+.-])(?:"
    r"\+\d{1,3}(?:[ .()/-]{0,2}\d){6,12}"  # with a country code
    r"|\(\d{2,5}\)[ -]?\d{2,4}(?:[ -]\d{2,5}){1,3}"  # (030) 1234 5678
    r"|\d{3}[-.]\d{3}[-.]\d{4}"  # 555-123-4567
    r"|0\d{2,4}(?:[/-]\d{3,4}[- ]?\d{3,5}| \d{5,8})"  # 030/123 4567, 030 1234567
    r")(?![\w-]|\.\d)"
)
# Groups of digits as they are written in some countries, which numbers of other kinds do not have.
_GROUPED = re.compile(
    r"(?<![\w.+/-])(?<!\d )(?:"
    r"0[1-9](?P<mark>[ .-])\d{2}(?:(?P=mark)\d{2}){3}"  # France: 01 23 45 67 89
    r"|0[1-9]\d{0,3} \d{3,4} \d{3,4}"  # United Kingdom, Germany, Italy: 020 7946 0958, 06 1234 5678
    r"|0[1-9]\d{2,3} \d{6}"
    r"|[679]\d{2}(?: \d{2}){3}|[89]\d \d{3} \d{2} \d{2}"  # Spain: 612 34 56 78, 91 123 45 67
    r")(?![\w/-]|[ .]\d)"
)
_CALLED = re.compile(
    r"(?i)(?P<name>\b(?:tel|telephone|telefon|téléphone|teléfono|telefono|telefone|phone|mobile|mobil|móvil|cell|fax)\b"
    r"[.:]{0,2}(?: no\.?| nr\.?)?[ \t]{0,3})(?P<number>\(?\d[\d ./()-]{6,16}\d)(?![\w-])"
)
_SOCIAL_SECURITY = re.compile(r"(?<![\w.-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-]|\.\d)")
_SECRETS = re.compile(
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"  # JSON web tokens
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_\w{60,}\b"
    r"|\bglpat-[\w-]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bhf_[A-Za-z0-9]{30,}\b"
    r"|\bAIza[\w-]{35}(?![\w-])|\bsk-(?:[a-z]+-)*[\w-]{20,}|\b[rs]k_live_[A-Za-z0-9]{20,}\b|\bnpm_[A-Za-z0-9]{36}\b",
    re.DOTALL,
)
_NAMES = (
    r"(?:api[_-]?key|secret[_-]?key|access[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret|password|passwd"
    r"|passphrase|pwd)"
)
_ASSIGNED = re.compile(
    rf"(?i)(?P<name>(?<![^\W_]){_NAMES}\b[\"']?\s*(?::=|=>|[:=])\s*(?P<quote>[\"']))(?P<value>[^\s\"']{{6,}})(?=(?P=quote))"
)
# Without quotation marks: settings of an environment, and what a person could not read as a word.
_IN_ENVIRONMENT = re.compile(
    r"(?P<name>\b(?:[A-Z0-9]+_)*(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|SECRET_KEY|ACCESS_KEY)=)"
    r"(?P<value>[^\s\"'$<{(*%/~][^\s\"']{5,})"
)
_UNQUOTED = re.compile(
    rf"(?i)(?P<name>(?<![^\W_]){_NAMES}[ \t]*[:=][ \t]*)"
    r"(?P<value>(?=\S{0,99}\d)(?=\S{0,99}[^\W\d_])[^\s\"'$<>{}()*%/~,;]{6,})(?=[\s,;.]|\Z)"
)


def _luhn(digits: str) -> bool:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0 and len(set(digits)) > 1


def _is_card(found: str) -> bool:
    digits = re.sub(r"\D", "", found)
    return len(digits) in _CARD_LENGTHS.get(digits[0], ()) and _luhn(digits)


def _is_iban(found: str) -> bool:
    plain = found.replace(" ", "")
    turned = "".join(str(int(character, 36)) for character in plain[4:] + plain[:4])
    return 15 <= len(plain) <= 34 and int(turned) % 97 == 1


def _is_public_address(found: str) -> bool:
    """Loopback, private and documentation addresses identify nobody; numbers such as 4.6.2.1 are versions."""
    if "." in found and all(int(part) < _LIKE_A_VERSION for part in found.split(".")):
        return False
    try:
        return ipaddress.ip_address(found).is_global
    except ValueError:
        return False


def _is_phone(found: str) -> bool:
    """Whether it has as many digits as numbers have, which do not end in as many zeros as addresses in memory."""
    return 8 <= sum(map(str.isdigit, found)) <= 15 and not found.endswith("000000")


def _is_grouped_phone(found: str) -> bool:
    return 9 <= sum(map(str.isdigit, found)) <= 11


# In this order: what is more specific goes first.
_PATTERNS: dict[str, list[tuple[re.Pattern[str], Callable[[str], bool]]]] = {
    "secret": [(_SECRETS, lambda found: True)],
    "email": [(_EMAIL, lambda found: True)],
    "iban": [(_IBAN, _is_iban)],
    "card": [(_CARD, _is_card)],
    "ssn": [(_SOCIAL_SECURITY, lambda found: True)],
    "ip": [(_IPV4, _is_public_address), (_IPV6, _is_public_address)],
    "phone": [(_PHONE, _is_phone), (_GROUPED, _is_grouped_phone)],
}
# What a name before it says of a value; the name stays.
_AFTER_NAMES = {"secret": (_ASSIGNED, _IN_ENVIRONMENT, _UNQUOTED), "phone": (_CALLED,)}
KINDS = tuple(_PATTERNS)


def check_kinds(kinds: Collection[str]) -> None:
    """Raise ConfigError for an unknown kind."""
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ConfigError(f"unknown kind of personal data {unknown[0]!r}; there are {', '.join(KINDS)}")


def redact(text: str, kinds: Collection[str] = KINDS) -> tuple[str, Counter[str]]:
    """Return the text with a placeholder such as `<EMAIL>` for each finding, and how many of each kind there were.

    `kinds` are among secret, email, iban, card, ssn, ip and phone. Raises ConfigError for an unknown kind.
    """
    check_kinds(kinds)
    counts: Counter[str] = Counter()
    for kind in (kind for kind in KINDS if kind in kinds):
        for pattern, proven in _PATTERNS[kind]:
            text = pattern.sub(_replacement(kind, proven, counts), text)
        for pattern in _AFTER_NAMES.get(kind, ()):
            text, times = pattern.subn(rf"\g<name><{kind.upper()}>", text)
            counts.update({kind: times} if times else {})
    return text, counts


def _replacement(kind: str, proven: Callable[[str], bool], counts: Counter[str]) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        if not proven(match.group()):
            return match.group()
        counts[kind] += 1
        return f"<{kind.upper()}>"

    return replace
