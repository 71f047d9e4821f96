"""Whether texts in old encodings come out as they were written, are refused, or come out garbled.

python benchmarks/encodings.py FOLDER [--bytes 200 1000] [--peers charset-normalizer chardet cchardet resiliparse]

FOLDER holds texts in UTF-8, one file a language, such as the Universal Declaration of Human Rights. Each is written in
every encoding that holds all of its letters (quotation marks, dashes and the like that an encoding lacks become plain
ones) and read from the bytes alone: the whole text, and with `--bytes` pieces of about that size out of its middle.
Right is what equals the text, whatever the codec is called. Texts that are plain ASCII in an encoding do not count.
"""

from __future__ import annotations

import argparse
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from llmbuilder.documents.text import decode_text
from llmbuilder.errors import DataError

ENCODINGS = (
    "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be",
    "iso8859-1", "iso8859-2", "iso8859-3", "iso8859-4", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9",
    "iso8859-10", "iso8859-13", "iso8859-14", "iso8859-15", "iso8859-16",
    "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874",
    "cp437", "cp737", "cp775", "cp850", "cp852", "cp855", "cp857", "cp862", "cp866", "koi8-r", "koi8-u",
    "mac-roman", "mac-latin2", "mac-cyrillic", "mac-greek", "mac-turkish",
    "shift_jis", "euc_jp", "iso2022_jp", "gb18030", "gb2312", "hz", "big5", "euc_kr", "iso2022_kr", "johab",
)  # fmt: skip
_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "–": "-", "—": "-",
                        "…": "...", "\u00a0": " ", "\u202f": " ", "№": "No", "°": ".", "`": "'", "´": "'", "ʼ": "'",
                        "\u200c": "", "\u200e": "", "\u200f": ""})  # fmt: skip


def by_llmbuilder(content: bytes) -> str | None:
    try:
        return decode_text(content, "text")
    except DataError:
        return None


def by_charset_normalizer(content: bytes) -> str | None:
    import charset_normalizer

    best = charset_normalizer.from_bytes(content).best()
    return None if best is None else str(best)


def _decoded(content: bytes, encoding: str | None) -> str | None:
    try:
        return content.decode(encoding) if encoding else None
    except (UnicodeDecodeError, LookupError):
        return None


def by_chardet(content: bytes) -> str | None:
    import chardet

    return _decoded(content, chardet.detect(content)["encoding"])


def by_cchardet(content: bytes) -> str | None:
    import cchardet

    return _decoded(content, cchardet.detect(content)["encoding"])


def by_resiliparse(content: bytes) -> str | None:
    from resiliparse.parse.encoding import detect_encoding

    return _decoded(content, detect_encoding(content))


READERS: dict[str, Callable[[bytes], str | None]] = {
    "llmbuilder": by_llmbuilder, "charset-normalizer": by_charset_normalizer, "chardet": by_chardet,
    "cchardet": by_cchardet, "resiliparse": by_resiliparse,
}  # fmt: skip


def encoded(text: str, encoding: str) -> tuple[str, bytes] | None:
    """Return the text as an encoding can hold it, and its bytes; None if it lacks some letter or needs none."""
    for version in (text, text.translate(_PLAIN)):
        try:
            content = version.encode(encoding)
        except UnicodeEncodeError:
            continue
        return None if content.isascii() and version.isascii() else (version, content)
    return None


def pieces(text: str, size: int | None) -> str:
    """Return the whole text, or about as many characters as take `size` bytes, from its middle on, in whole words."""
    if size is None:
        return text
    begin = text.find("\n", len(text) // 2) + 1
    found = text[begin : begin + size]
    return found.rpartition(" ")[0] if " " in found else found[: size // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bytes", type=int, nargs="*", default=[])
    parser.add_argument("--peers", nargs="*", default=[], choices=[name for name in READERS if name != "llmbuilder"])
    parser.add_argument("--wrong", action="store_true", help="list what ours gets wrong")
    given = parser.parse_args()
    texts = {path.stem: unicodedata.normalize("NFC", path.read_text("utf-8")) for path in given.folder.glob("*.txt")}
    print("| size | by | texts | right | refused | garbled | ms a text |\n| --- | --- | --- | --- | --- | --- | --- |")
    for size in (None, *given.bytes):
        cases = [
            (language, encoding, case)
            for language, text in sorted(texts.items())
            for encoding in ENCODINGS
            if (case := encoded(pieces(text, size), encoding)) is not None
        ]
        for name in ("llmbuilder", *given.peers):
            counts: Counter[str] = Counter()
            wrong: dict[str, list[str]] = defaultdict(list)
            begun = time.process_time()
            for language, encoding, (text, content) in cases:
                found = READERS[name](content)
                outcome = "refused" if found is None else "right" if found == text else "garbled"
                counts[outcome] += 1
                if outcome != "right":
                    wrong[encoding].append(f"{language}{'?' if found is None else ''}")
            milliseconds = 1000 * (time.process_time() - begun) / max(1, len(cases))
            shares = " | ".join(f"{counts[one] / len(cases):.4f}" for one in ("right", "refused", "garbled"))
            print(f"| {size or 'whole'} | {name} | {len(cases)} | {shares} | {milliseconds:.1f} |", flush=True)
            if given.wrong and name == "llmbuilder":
                for encoding, languages in wrong.items():
                    print(f"  {encoding}: {' '.join(languages)}")


if __name__ == "__main__":
    main()
