"""Personal data and secrets: what must go, what must stay, and that counts never tell the values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbuilder.errors import ConfigError
from llmbuilder.refining.redaction import KINDS, redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jane.doe+list@mail.example.co.uk.", "write to <EMAIL>."),
        ("call +49 30 1234567 or (030) 1234 5678", "call <PHONE> or <PHONE>"),
        ("tel. 030/123 4567 or 030 1234567", "tel. <PHONE> or <PHONE>"),
        ("555-123-4567 and +1-202-555-0143", "<PHONE> and <PHONE>"),
        ("IBAN DE89 3704 0044 0532 0130 00, please", "IBAN <IBAN>, please"),
        ("GB29NWBK60161331926819", "<IBAN>"),
        ("card 4111 1111 1111 1111.", "card <CARD>."),
        ("5500-0000-0000-0004", "<CARD>"),
        ("from 93.184.216.34, port 53", "from <IP>, port 53"),
        ("2001:4860:4860::8888", "<IP>"),
        ("AKIAIOSFODNN7EXAMPLE", "<SECRET>"),
        ("token ghp_" + "a1B2" * 9, "token <SECRET>"),
        ('password = "correct-horse-battery"', 'password = "<SECRET>"'),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\nafter", "<SECRET>\nafter"),
    ],
)
def test_redacted(text: str, expected: str) -> None:
    found, counts = redact(text)
    assert found == expected
    assert sum(counts.values()) == expected.count("<")
    assert set(counts) <= set(KINDS)


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # Luhn's sum is wrong
        "DE89 3704 0044 0532 0130 01",  # the check digits are wrong
        "127.0.0.1 and 192.168.1.20 and 10.0.0.1",  # nobody's address
        "version 1.2.3.4.5 of 2024-11-23",
        "Standards-Version: 4.6.2.1",
        "ISBN 978-3-16-148410-0",
        "pi is 3.14159265358979323846",
        "a @ b, @decorator, user@localhost",
        "12:30:45 and C::D and std::vector",
        "in 1914-1918, pages 120-145, 1 000 000 people",
        "password: see the handbook",
        "0000 0000 0000 0000",
    ],
)
def test_kept(text: str) -> None:
    assert redact(text) == (text, {})


def test_kinds_can_be_chosen() -> None:
    text = "jane@example.org, 93.184.216.34"
    assert redact(text, ["ip"]) == ("jane@example.org, <IP>", {"ip": 1})
    with pytest.raises(ConfigError, match="'fax'; there are secret, email"):
        redact(text, ["fax"])


@given(st.text(alphabet="0123456789 -+().:@abcDEF_", max_size=200))
@settings(max_examples=300, deadline=None)
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once, _ = redact(text)
    assert redact(once, ["email", "iban", "card", "ip"])[0] == once
