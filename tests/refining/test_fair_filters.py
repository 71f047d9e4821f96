"""The preset for web text judges every language by its own rules, prose without its marks, and code as code."""

from __future__ import annotations

import random

import pytest

from llmbuilder.data import DataLoader, Document
from llmbuilder.refining.filtering import FILTER_PRESETS, DocumentFilter, Verdict
from llmbuilder.refining.language_rules import ranges_of, stop_words_of
from llmbuilder.refining.languages import detect_language
from llmbuilder.refining.markup import prose_of
from llmbuilder.refining.quality import TextQuality

PROSE = {
    "de": """Der Leuchtturmwärter lebte seit dreißig Jahren auf der Insel und hatte in dieser Zeit gelernt, das Wetter
an der Farbe des Wassers zu erkennen. Im Sommer kamen Besucher, wenn das Meer ruhig war, und stellten immer dieselben
Fragen. Er erzählte ihnen von den Stürmen im Winter, die wochenlang dauern konnten. Nur wenige glaubten ihm. Im Herbst
kam ein Brief aus dem Ministerium, der ankündigte, dass eine Maschine seine Arbeit übernehmen werde.""",
    "ru": """Смотритель маяка жил на острове уже тридцать лет и за это время научился узнавать погоду по цвету воды.
Летом, когда море было спокойным, приезжали гости и задавали ему одни и те же вопросы. Он рассказывал им о зимних бурях,
которые могли продолжаться неделями. Немногие ему верили. Осенью из министерства пришло письмо, в котором говорилось,
что его работу теперь будет делать машина, а за ним самим до конца ноября пришлют лодку. Он прочитал письмо дважды.""",
    "id": """Penjaga mercusuar itu telah tinggal di pulau selama tiga puluh tahun, dan selama itu ia belajar membaca
cuaca dari warna air. Pada musim panas, ketika laut tenang, para pengunjung datang dan mengajukan pertanyaan yang sama
kepadanya. Ia bercerita tentang badai musim dingin yang dapat berlangsung berminggu-minggu. Hanya sedikit orang yang
percaya. Pada musim gugur datang sepucuk surat dari kementerian yang mengumumkan bahwa sebuah mesin akan bekerja.""",
    "ar": """عاش حارس المنارة على الجزيرة ثلاثين سنة، وتعلم في هذه المدة أن يعرف الطقس من لون الماء. كان الزوار يأتون في
الصيف عندما يكون البحر هادئا، وكانوا يسألونه عن الأشياء نفسها في كل مرة. كان يحكي لهم عن عواصف الشتاء التي يمكن أن تستمر
أسابيع طويلة. لم يصدقه إلا القليل منهم. في الخريف وصلت رسالة من الوزارة تقول إن آلة سوف تقوم بعمله من الآن، وإن قاربا سوف
يأتي إليه قبل نهاية الشهر.""",
    "zh": """灯塔看守人在岛上住了三十年，在这段时间里，他学会了从海水的颜色看出天气。夏天海面平静的时候，游客来到岛上，总是问他同样
的问题。他给他们讲冬天的风暴，有时候会持续好几个星期。很少有人相信他的话。他们带着灯塔和海鸥的照片回到了大陆。秋天，部里寄来了一封
信，信中说一台机器将接替他的工作，十一月底以前会有一条船来接他和他的行李。他把这封信读了两遍，然后走上楼去点灯。""",
    "th": """คนเฝ้าประภาคารอาศัยอยู่บนเกาะมาสามสิบปีแล้ว และในช่วงเวลานั้นเขาได้เรียนรู้ที่จะดูสภาพอากาศจากสีของน้ำ ในฤดูร้อน
เมื่อทะเลสงบ มีนักท่องเที่ยวมาเยี่ยมและถามคำถามเดิมกับเขาเสมอ เขาเล่าให้ฟังถึงพายุในฤดูหนาวที่อาจเกิดขึ้นนานหลายสัปดาห์ มีน้อยคน
ที่เชื่อเขา ในฤดูใบไม้ร่วงจดหมายฉบับหนึ่งจากกระทรวงมาถึง แจ้งว่าเครื่องจักรจะทำหน้าที่ของเขาต่อไป และเรือจะมารับเขาพร้อมกับข้าวของ""",
}


def judged(text: str, form: str = "txt", **options) -> Verdict:
    return DocumentFilter("web", **options).judge(Document(text, "a", form))


@pytest.mark.parametrize("language", PROSE)
def test_good_prose_of_any_language_stays_and_junk_in_it_goes(language: str) -> None:
    text = PROSE[language]
    assert judged(text).reason is None
    assert judged(text).language == language
    lines = text.split("\n")[:3]
    assert judged("\n".join(lines * 8)).reason is not None
    if language not in ("zh", "th"):  # where words have no blanks, a list of them is not told from a sentence
        words = sorted({word.strip(".,،") for word in text.split() if len(word) > 5})
        assert judged("\n".join(random.Random(1).choices(words, k=120))).reason is not None


def test_marks_are_not_judged() -> None:
    plain = PROSE["de"].replace("\n", " ")
    sentences = plain.split(". ")
    marked = (
        f"# Der Leuchtturm\n\n## Ein **neuer** Anfang\n\n{plain}\n\n"
        + "\n".join(
            f"- [{sentence}](https://example.org/{{id}}?a={number})" for number, sentence in enumerate(sentences)
        )
        + "\n\n| Jahr | Stürme |\n| --- | --- |\n"
        + "\n".join(f"| {1990 + number} | viele Stürme im Winter {number} |" for number in range(5))
        + '\n\n```python\nanswer = {"a": {}}  # ####\n```\n<br/> und so weiter.\n'
    )
    prose, fenced = prose_of(marked)
    assert not set("#|[]{}`<>*") & set(prose)
    assert 0 < fenced < 0.1
    assert "Stürme im Winter 3" in prose and "Der Leuchtturm\n" in prose
    assert prose_of("a - b * c_d (1) #5 2 < 3") == ("a - b * c_d (1) #5 2 < 3", 0.0)
    quality = TextQuality(f"# {plain}\n\n* * *\n\n> - {plain}")
    assert quality.words == 2 * len(plain.split())
    assert quality.symbol_share == 0


def test_characters_count_where_words_have_no_blanks() -> None:
    chinese, thai = TextQuality(PROSE["zh"]), TextQuality(PROSE["th"])
    assert (chinese.characters_a_word, thai.characters_a_word) == (2, 4)
    assert 80 < chinese.words < 130
    assert 60 < thai.words < 140
    assert chinese.alphabetic_word_share > 0.8 and thai.alphabetic_word_share > 0.9
    assert chinese.sentences == PROSE["zh"].count("。")
    assert chinese.duplicate_ngram_share(5) == 0
    assert TextQuality(PROSE["zh"] * 2).duplicate_ngram_share(5) > 0.9
    mixed = TextQuality("The kernel (内核) is configured by a file that most people never read. " * 3)
    assert mixed.characters_a_word == 1


def test_rules_that_do_not_know_a_language_are_skipped_and_counted() -> None:
    invented = " ".join(random.Random(2).choices(["blarvik", "sontu", "qevra", "mimbolat", "treg", "ulvanniks"], k=9))
    assert detect_language(invented)[0] is None
    verdict = judged(invented, thresholds={"words": (5, None)})
    assert verdict.skipped == ("stop_words",)
    assert verdict.skipped_for == {"stop_words (unknown)": 1}
    assert judged(PROSE["th"]).skipped == ("mean_word_length", "sentences", "punctuated_line_share")
    assert judged(PROSE["de"]).skipped == ()
    loader = DataLoader(document_filter=DocumentFilter("web"))
    list(loader.process([Document(PROSE["th"], "one"), Document(PROSE["zh"], "two"), Document(PROSE["de"], "three")]))
    assert loader.report.documents == 3
    assert loader.report.to_dict()["rules_skipped"] == {
        "mean_word_length (th)": 1, "sentences (th)": 1, "punctuated_line_share (th)": 1, "mean_word_length (zh)": 1
    }  # fmt: skip


def test_what_was_given_goes_before_a_languages_own_range() -> None:
    assert ranges_of("de")["mean_word_length"][1] > FILTER_PRESETS["web"]["mean_word_length"][1]
    assert judged(PROSE["de"], thresholds={"mean_word_length": (None, 4)}).reason == "mean_word_length above 4"
    assert judged(PROSE["ru"], thresholds={"stop_words": (40, None)}).reason == "stop_words below 40"


def test_code_is_judged_as_code() -> None:
    code = "\n".join(f"def f_{n}(x_{n}):\n    return {{'key_{n}': x_{n} * {n}}}" for n in range(40))
    assert judged(code).reason is not None
    assert judged(code, "code").reason is None
    assert judged(f"How it works\n\n```python\n{code}\n```\n", "markdown").reason is None
    assert judged("x = " + "[1,2]," * 500, "code").reason == "longest_line above 1000"


def test_stop_words_inside_words_and_elided_ones() -> None:
    french = stop_words_of("fr")
    assert french.count("", ["L’eau", "d'ici", "et", "la", "mer"]) == 4
    assert stop_words_of("zh").count("我的家在北京", []) == 2
    assert stop_words_of("xx") is None and stop_words_of(None) is None


def test_of_a_huge_text_pieces_are_judged() -> None:
    text = (PROSE["de"] + "\n\n") * 9000
    quality = TextQuality(text, "de")
    assert quality.characters == len(text) > 3_000_000
    assert quality.words == pytest.approx(len(text.split()), rel=0.01)
    assert len(quality.prose) < 2_100_000


def test_a_brace_counts_against_english_pages_only_as_fineweb_2_has_no_such_rule() -> None:
    aside = " Die Variable heißt ${HOME}. "
    assert judged(PROSE["de"] + aside).reason is None
    assert judged(PROSE["ru"] + " Переменная называется ${HOME}. ").reason is None
