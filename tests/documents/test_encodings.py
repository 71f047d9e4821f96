"""Texts in other encodings come out as they were written, or are refused; valid UTF-8 is what it says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbuilder.documents.text import decode_text
from llmbuilder.errors import DataError

SENTENCES = {
    "German": "Die Wächter auf dem großen Leuchtturm zählten früher täglich die Schiffe, die über das Meer kamen.",
    "French": "Le gardien du phare a compté les bateaux avant la tempête, puis il a été très fatigué près du château.",
    "Spanish": "El niño pequeño contó los barcos que salían de la bahía; después volvió a su casa en la montaña.",
    "Polish": "Strażnik latarni morskiej liczył statki, zanim nadeszła burza, a później poszedł spać do łóżka.",
    "Czech": "Strážce majáku počítal lodě, než přišla bouře, a potom šel spát do své malé světnice u řeky.",
    "Hungarian": "A világítótorony őre megszámolta a hajókat a vihar előtt, majd fáradtan lefeküdt a szűk szobában.",
    "Turkish": "Deniz fenerinin bekçisi fırtınadan önce gemileri saydı, sonra yorgun bir şekilde küçük odasında uyudu.",
    "Russian": "Смотритель маяка считал корабли перед бурей, а потом усталый лёг спать в своей маленькой комнате.",
    "Ukrainian": "Доглядач маяка рахував кораблі перед бурею, а потім, втомлений, ліг спати у своїй маленькій кімнаті.",
    "Greek": "Ο φύλακας του φάρου μέτρησε τα πλοία πριν από την καταιγίδα και μετά κοιμήθηκε κουρασμένος.",
    "Hebrew": "שומר המגדלור ספר את האוניות לפני הסערה ואחר כך הלך לישון עייף בחדרו הקטן ליד הים.",
    "Arabic": "عد حارس المنارة السفن قبل العاصفة ثم ذهب متعبا إلى النوم في غرفته الصغيرة قرب البحر.",
    "Thai": "ผู้ดูแลประภาคารนับเรือก่อนพายุจะมา แล้วเขาก็เข้านอนด้วยความเหนื่อยล้าในห้องเล็ก ๆ ริมทะเล",
    "Japanese": "灯台の番人は嵐の前に船を数えました。それから疲れて海のそばの小さな部屋で眠りました。",
    "Chinese": "灯塔的看守人在暴风雨来临之前数了船只，然后他疲惫地在海边的小房间里睡着了。",
    "Traditional Chinese": "燈塔的看守人在暴風雨來臨之前數了船隻，然後他疲憊地在海邊的小房間裡睡著了。",
    "Korean": "등대지기는 폭풍이 오기 전에 배를 세었고 그 다음에 바닷가의 작은 방에서 피곤하게 잠들었습니다.",
}
ENCODINGS = {
    "German": ("cp1252", "iso8859-15", "cp850", "mac-roman", "utf-16-le", "utf-32-be"),
    "French": ("cp1252", "iso8859-1", "cp850", "mac-roman", "utf-16-be"),
    "Spanish": ("cp1252", "iso8859-1", "cp850", "mac-roman"),
    "Polish": ("cp1250", "iso8859-2", "cp852", "mac-latin2", "utf-16-le"),
    "Czech": ("cp1250", "iso8859-2", "cp852", "mac-latin2"),
    "Hungarian": ("cp1250", "iso8859-2", "cp852"),
    "Turkish": ("cp1254", "iso8859-9", "cp857"),
    "Russian": ("cp1251", "koi8-r", "iso8859-5", "cp866", "mac-cyrillic", "gb18030", "euc_jp"),
    "Ukrainian": ("cp1251", "koi8-u", "iso8859-5", "mac-cyrillic"),
    "Greek": ("cp1253", "iso8859-7", "cp737", "utf-16-le"),
    "Hebrew": ("cp1255", "iso8859-8", "cp862"),
    "Arabic": ("cp1256", "iso8859-6", "utf-16-le"),
    "Thai": ("cp874", "tis-620"),
    "Japanese": ("shift_jis", "euc_jp", "iso2022_jp", "utf-16-le", "utf-16-be"),
    "Chinese": ("gb18030", "gbk", "gb2312", "hz", "utf-16-le"),
    "Traditional Chinese": ("big5", "utf-16-be"),
    "Korean": ("euc_kr", "cp949", "iso2022_kr", "johab", "utf-16-le"),
}


@pytest.mark.parametrize(
    ("language", "encoding"), [(language, encoding) for language, names in ENCODINGS.items() for encoding in names]
)
def test_texts_come_out_as_they_were_written(language: str, encoding: str) -> None:
    text = f"{SENTENCES[language]}\n" * 4
    assert decode_text(text.encode(encoding), "text") == text


@pytest.mark.parametrize("language", [name for name, encodings in ENCODINGS.items() if "cp1250" in encodings])
def test_central_european_letters_are_not_taken_for_those_of_the_neighbouring_code_page(language: str) -> None:
    text = f"{SENTENCES[language]}\n" * 2
    found = {encoding: decode_text(text.encode(encoding), "text") for encoding in ("cp1250", "iso8859-2", "cp852")}
    assert set(found.values()) == {text}


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1))
def test_utf8_is_never_taken_for_something_else(text: str) -> None:
    if not text.isascii():
        assert decode_text(text.encode(), "text") == text


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([(language, encoding) for language, names in ENCODINGS.items() for encoding in names]),
    st.integers(0, 200),
    st.integers(60, 400),
)
def test_any_piece_of_a_text_comes_out_or_is_refused(case: tuple[str, str], begin: int, size: int) -> None:
    language, encoding = case
    text = (f"{SENTENCES[language]}\n" * 8)[begin : begin + size]
    try:
        found = decode_text(text.encode(encoding), "text")
    except DataError:
        return
    assert sum(a != b for a, b in zip(found, text, strict=False)) <= 0.02 * len(text)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=200, max_size=2000))
def test_noise_is_refused(content: bytes) -> None:
    noise = bytes(byte if byte != 0x1B else 0xFF for byte in content) + bytes(range(128, 256))
    with pytest.raises(DataError):
        decode_text(noise, "noise")


def test_ascii_with_a_tilde_and_a_terminal_colour_is_ascii() -> None:
    for text in ("a ~{b}~ c", "\x1b[31mred\x1b[0m is a colour"):
        assert decode_text(text.encode(), "text") == text


def test_bytes_before_the_first_letter_that_tells_do_not_matter() -> None:
    text = "x" * 1_000_000 + "\n" + SENTENCES["Polish"] * 3 + "\n" + "y" * 1_000_000
    assert decode_text(text.encode("iso8859-2"), "text") == text


def test_one_damaged_character_does_not_cost_a_text_in_utf8() -> None:
    text = SENTENCES["Greek"] * 5
    assert decode_text(text.encode() + b"\xce", "text") == text + "\ufffd"


def test_few_letters_far_apart_tell_the_encoding() -> None:
    words = SENTENCES["Czech"].split()
    text = "".join(f"{word}\n{'plain ' * 4000}\n" for word in words)
    assert decode_text(text.encode("iso8859-2"), "text") == text
