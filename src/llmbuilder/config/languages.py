"""The languages that can be told apart, by ISO 639 codes, and which of them is meant by another word."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator

# Each with its code, its longer codes (ISO 639-2 and 639-3) and its English name.
_TABLE = """
aa/aar Afar; ab/abk Abkhazian; af/afr Afrikaans; ak/aka Akan; am/amh Amharic; an/arg Aragonese; ar/ara Arabic;
arz Egyptian Arabic; as/asm Assamese; ast Asturian; av/ava Avaric; ay/aym Aymara; az/aze Azerbaijani;
azb South Azerbaijani; ba/bak Bashkir; bar Bavarian; bcl Bikol; be/bel Belarusian; bg/bul Bulgarian; bho Bhojpuri;
bi/bis Bislama; bn/ben Bengali; bo/bod/tib Tibetan; bpy Bishnupriya; br/bre Breton; bs/bos Bosnian;
bxr Russia Buriat; ca/cat Catalan; cbk Chavacano; ce/che Chechen; ceb Cebuano; chr Cherokee; ckb Sorani;
co/cos Corsican; crs Seselwa; cs/ces/cze Czech; cv/chv Chuvash; cy/cym/wel Welsh; da/dan Danish;
de/deu/ger German; diq Zazaki; dsb Lower Sorbian; dty Dotyali; dv/div Divehi; dz/dzo Dzongkha; egl Emilian;
el/ell/gre Greek; en/eng English; eo/epo Esperanto; es/spa Spanish; et/est Estonian; eu/eus/baq Basque;
fa/fas/per Persian; fi/fin Finnish; fj/fij Fijian; fo/fao Faroese; fr/fra/fre French; frr North Frisian;
fy/fry Frisian; ga/gle Irish; gd/gla Scottish Gaelic; gl/glg Galician; gn/grn Guarani; gom Konkani; gsw Alemannic;
gu/guj Gujarati; gv/glv Manx; ha/hau Hausa; haw Hawaiian; he/heb Hebrew; hi/hin Hindi; hif Fiji Hindi; hmn Hmong;
hr/hrv Croatian; hsb Upper Sorbian; ht/hat Haitian Creole; hu/hun Hungarian; hy/hye/arm Armenian;
ia/ina Interlingua; id/ind Indonesian; ie/ile Interlingue; ig/ibo Igbo; ik/ipk Inupiaq; ilo Iloko; io/ido Ido;
is/isl/ice Icelandic; it/ita Italian; iu/iku Inuktitut; ja/jpn Japanese; jbo Lojban; jv/jav Javanese;
ka/kat/geo Georgian; kha Khasi; kk/kaz Kazakh; kl/kal Greenlandic; km/khm Khmer; kn/kan Kannada; ko/kor Korean;
krc Karachay-Balkar; ks/kas Kashmiri; ku/kur Kurdish; kv/kom Komi; kw/cor Cornish; ky/kir Kyrgyz; la/lat Latin;
lb/ltz Luxembourgish; lez Lezghian; lg/lug Ganda; li/lim Limburgish; lif Limbu; lmo Lombard; ln/lin Lingala;
lo/lao Lao; lrc Northern Luri; lt/lit Lithuanian; lv/lav Latvian; mai Maithili; mfe Morisyen; mg/mlg Malagasy;
mhr Eastern Mari; mi/mri/mao Maori; min Minangkabau; mk/mkd/mac Macedonian; ml/mal Malayalam; mn/mon Mongolian;
mr/mar Marathi; mrj Western Mari; ms/msa/may Malay; mt/mlt Maltese; mwl Mirandese; my/mya/bur Burmese; myv Erzya;
mzn Mazanderani; na/nau Nauru; nah Nahuatl; nap Neapolitan; nds Low German; ne/nep Nepali; new Newari;
nl/nld/dut Dutch; nn/nno Norwegian Nynorsk; no/nor Norwegian; nr/nbl Ndebele; nso Pedi; ny/nya Nyanja;
oc/oci Occitan; om/orm Oromo; or/ori Oriya; os/oss Ossetian; pa/pan Punjabi; pam Pampanga; pfl Pfaelzisch;
pl/pol Polish; pms Piemontese; pnb Western Punjabi; ps/pus Pashto; pt/por Portuguese; qu/que Quechua;
rm/roh Romansh; rn/run Rundi; ro/ron/rum Romanian; ru/rus Russian; rue Rusyn; rw/kin Kinyarwanda; sa/san Sanskrit;
sah Yakut; sc/srd Sardinian; scn Sicilian; sco Scots; sd/snd Sindhi; sg/sag Sango; sh/hbs Serbo-Croatian;
si/sin Sinhala; sk/slk/slo Slovak; sl/slv Slovenian; sm/smo Samoan; sn/sna Shona; so/som Somali;
sq/sqi/alb Albanian; sr/srp Serbian; ss/ssw Swati; st/sot Sotho; su/sun Sundanese; sv/swe Swedish; sw/swa Swahili;
syr Syriac; ta/tam Tamil; te/tel Telugu; tg/tgk Tajik; th/tha Thai; ti/tir Tigrinya; tk/tuk Turkmen;
tl/tgl Tagalog; tn/tsn Tswana; to/ton Tonga; tr/tur Turkish; ts/tso Tsonga; tt/tat Tatar; tyv Tuvinian;
ug/uig Uyghur; uk/ukr Ukrainian; ur/urd Urdu; uz/uzb Uzbek; ve/ven Venda; vec Venetian; vep Veps;
vi/vie Vietnamese; vls Vlaams; vo/vol Volapük; wa/wln Walloon; war Waray; wo/wol Wolof; wuu Wu Chinese;
xal Kalmyk; xh/xho Xhosa; xmf Mingrelian; yi/yid Yiddish; yo/yor Yoruba; yue Yue Chinese; za/zha Zhuang;
zh/zho/chi Chinese; zu/zul Zulu
"""
# Codes that were replaced, those of countries taken for languages, and names that languages give themselves.
_MEANT = """
id in indonesia bahasa; he iw; yi ji; jv jw; ro mo română limba; no nb nob norsk bokmål;
tl fil filipino; bho bh; egl eml; zh cmn cn mandarin 中文 汉语 漢語; ja jp 日本語; ko kr 한국어; cs cz čeština;
uk ua українська; el gr ελληνικά; da dk dansk; ar arb العربية; fa pes farsi فارسی; en us gb; de deutsch;
fr français francais; es español espanol castellano; it italiano; pt português portugues;
nl nederlands flemish; sv svenska; fi suomi; pl polski; hu magyar; tr türkçe turkce; ru русский;
bg български; sr srpski српски; hr hrvatski; sk slovenčina; vi việt; th ไทย; hi हिन्दी; bn বাংলা bangla;
km cambodian; my myanmar; fy westfrisian; si singhalese; or odia; ku kurmanji; sw kiswahili; ga gaelic;
gsw alsatian
"""
_NEAR = 0.8  # how alike a misspelt name must be


def _rows(table: str) -> Iterator[list[str]]:
    return (row.split() for row in table.split(";"))


LANGUAGES = {codes.split("/")[0]: " ".join(name) for codes, *name in _rows(_TABLE)}
_BY_CODE = {code: codes.split("/")[0] for codes, *_ in _rows(_TABLE) for code in codes.split("/")}
_BY_NAME = {name.lower(): code for code, name in LANGUAGES.items()}
_BY_OTHER = {word: code for code, *words in _rows(_MEANT) for word in words}


def language_code(written: str) -> str:
    """Return a code as `LANGUAGES` writes it, in small letters; what is none stays, without blanks around it."""
    return written.strip().lower()


LanguageCode = Annotated[str, AfterValidator(language_code)]


def meant_language(written: str) -> str | None:
    """Return the code of the language that somebody means by another code, a locale such as zh-CN, or a name."""
    word = language_code(written)
    main = re.split(r"[-_.@]", word)[0]
    for known in (_BY_CODE, _BY_NAME, _BY_OTHER):
        for candidate in (word, main):
            if candidate in known:
                return known[candidate]
    near = difflib.get_close_matches(word, _BY_NAME, n=1, cutoff=_NEAR)
    return _BY_NAME[near[0]] if near else None


def language_remedy(written: str) -> str:
    """Return what to write instead of a code that is none."""
    meant = meant_language(written)
    if meant is None:
        return "codes are those of ISO 639, of two letters where there are such, as in en, de, zh"
    return f"{LANGUAGES[meant]} is {meant!r}"
