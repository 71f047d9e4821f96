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
        ("write to müller@exämple.de or user@xn--exmple-cua.com,", "write to <EMAIL> or <EMAIL>,"),
        ("иван@почта.рф, info@例子.中国", "<EMAIL>, <EMAIL>"),
        ("联系user@example.com谢谢", "联系<EMAIL>谢谢"),
        ("SSN 536-22-1234.", "SSN <SSN>."),
        ("Paris 01 23 45 67 89, 01.42.68.53.00", "Paris <PHONE>, <PHONE>"),
        ("London 020 7946 0958, (020) 7946 0958, 07700 900123", "London <PHONE>, <PHONE>, <PHONE>"),
        ("(555) 123-4567", "<PHONE>"),
        ("Roma 06 1234 5678, Berlin 0171 123 4567", "Roma <PHONE>, Berlin <PHONE>"),
        ("Madrid 91 123 45 67, 612 34 56 78", "Madrid <PHONE>, <PHONE>"),
        (
            "Tel.: 912 345 678; fax 212.555.0199; Telefon 0 30/12 34 56-78",
            "Tel.: <PHONE>; fax <PHONE>; Telefon <PHONE>",
        ),
        ("password = 'hunter22'", "password = '<SECRET>'"),
        ('{"db_password": "abcdef1"}', '{"db_password": "<SECRET>"}'),
        ("PASSWORD=hunterhunter\nDB_PASSWORD=s3cr3t!x", "PASSWORD=<SECRET>\nDB_PASSWORD=<SECRET>"),
        ("pwd: abc12345, passwd=Tr0ub4dor", "pwd: <SECRET>, passwd=<SECRET>"),
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
        "000-12-3456, 666-12-3456, 912-12-3456, 123-00-4567, 123-45-0000",  # never given out
        "01.02.2023, 01-02-2023 10:20, 12.05.2021, 2024-01-15T09:30:00",
        "numbers 01 02 03 04 05 06 07 and 0.01 23 45 67 89",
        "912 345 678 EUR, 1 234 567, 10 000 000 000",
        "order 0123 4567 8901, no. 4711-0815",
        "ISBN 0-306-40615-2, ISBN 978 3 16 148410 0",
        "tel 2, phone 3, mobile 2019 report, Phone: see page 12",
        "0201 00000000 0 and 0801 00000000",  # addresses in memory
        "password = os.environ['DB_PASSWORD'] or get_password(user2)",
        "PASSWORD=$1 PASSWORD=${SECRET} PASSWORD=<yours> PWD=/home/user1 pwd=/home/user1",
        "def login(user, password=None, token=''): the password is required",
    ],
)
def test_kept(text: str) -> None:
    assert redact(text) == (text, {})


MIXED = """Release 2.10.3 (build 20231105.4) of 5 November 2023 closes tickets 10234, 10567 and 2023-00412.
ISBN 978-0-306-40615-7 costs 1 299,00 EUR or $1,450.00; order no. 2023-11-0042, parcel 00340434161094042557.
The mast stands at 48.85837, 2.294481 (N 48 51 30, E 2 17 40), 330.5 m high, built 1887-1889, opened 31.03.1889.
    for i in range(0, 1000000): x[i] = 3.14159 * y[i] / 0x7fff_ffff  # RFC 2822, section 3.4.1
    chmod 0755 run.sh && ssh -p 2222 user@localhost; export PATH=/usr/bin:$PATH; password=getpass.getpass()
Scores: 21 34 55 89; temperatures 12 14 09 11 13; 555-1234 in films; 8 800 of 12 000 votes; 24/7, 9-5, 1-800.
Grid ref. TQ 30 80; lot 4711-0815-42; SHA 9f86d081884c7d65; time 12:30:45.123; ratio 16:9; Table 3.2.1.4."""


def test_nothing_of_a_mixed_text_is_taken_for_personal_data() -> None:
    assert redact(MIXED) == (MIXED, {})


@given(st.text(alphabet="0123456789 -./()+:aeT@=\n'", max_size=300))
@settings(max_examples=200, deadline=None)
def test_what_is_redacted_is_counted(text: str) -> None:
    found, counts = redact(text)
    assert sum(found.count(f"<{kind.upper()}>") for kind in KINDS) == sum(counts.values())


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
