"""An office file as what it is: a zip archive of XML parts that name each other by relationships.

Elements are looked at by a short name ("w:p"), the same for both sets of namespaces that Office writes (ECMA-376
transitional and ISO 29500 strict) and for OpenDocument's.
"""

from __future__ import annotations

import functools
import io
import posixpath
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from llmbuilder.documents.file_types import OLE
from llmbuilder.errors import DataError, LockedError

_LARGEST_PART = 1 << 30  # bytes, unpacked
# A file with a password is no zip archive: it is a stream of this name in an older kind of container (MS-OFFCRYPTO).
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_OOXML, _STRICT = "http://schemas.openxmlformats.org/", "http://purl.oclc.org/ooxml/"
_BOTH = {
    "w": "wordprocessingml/2006/main wordprocessingml/main", "a": "drawingml/2006/main drawingml/main",
    "p": "presentationml/2006/main presentationml/main", "s": "spreadsheetml/2006/main spreadsheetml/main",
    "m": "officeDocument/2006/math officeDocument/math", "c": "drawingml/2006/chart drawingml/chart",
    "r": "officeDocument/2006/relationships officeDocument/relationships",
    "dgm": "drawingml/2006/diagram drawingml/diagram", "xdr": "drawingml/2006/spreadsheetDrawing "
    "drawingml/spreadsheetDrawing", "wp": "drawingml/2006/wordprocessingDrawing drawingml/wordprocessingDrawing",
}  # fmt: skip
_OPEN_DOCUMENT = "urn:oasis:names:tc:opendocument:xmlns:"
_PREFIXES = {
    f"{_OOXML}markup-compatibility/2006": "mc",
    "http://schemas.microsoft.com/office/word/2010/wordprocessingShape": "wps",
    "http://schemas.microsoft.com/office/powerpoint/2018/8/main": "p188",
    "urn:schemas-microsoft-com:vml": "v",
    "http://www.w3.org/1998/Math/MathML": "math",
    "http://www.w3.org/1999/xlink": "xlink",
    **{f"{_OPEN_DOCUMENT}{name}:1.0": name for name in ("office", "text", "table", "presentation", "style")},
    f"{_OPEN_DOCUMENT}drawing:1.0": "draw",
    f"{_OPEN_DOCUMENT}svg-compatible:1.0": "svg",
}
for _prefix, _names in _BOTH.items():
    _old, _new = _names.split()
    _PREFIXES |= {_OOXML + _old: _prefix, _STRICT + _new: _prefix}
_URIS: dict[str, list[str]] = {}
for _uri, _prefix in _PREFIXES.items():
    _URIS.setdefault(_prefix, []).append(_uri)


@functools.lru_cache(maxsize=4096)
def _short(tag: str) -> str:
    uri, _, name = tag[1:].partition("}") if tag.startswith("{") else ("", "", tag)
    prefix = _PREFIXES.get(uri, "?" if uri else "")
    return f"{prefix}:{name}" if prefix else name


def kind_of(element: Element) -> str:
    """Return an element's short name, such as "w:p"; "?:name" in a namespace that is not known here."""
    return _short(element.tag)


@functools.lru_cache(maxsize=1024)
def _names_of(short: str) -> tuple[str, ...]:
    prefix, _, name = short.rpartition(":")
    return tuple(f"{{{uri}}}{name}" for uri in _URIS[prefix]) if prefix else (name,)


def attribute(element: Element | None, name: str) -> str | None:
    """Return an attribute by its short name ("w:val"), or None."""
    if element is None:
        return None
    return next((value for full in _names_of(name) if (value := element.get(full)) is not None), None)


def child(element: Element | None, *path: str) -> Element | None:
    """Return the first child of that short name, and its first child of the next one, or None."""
    for name in path:
        if element is None:
            return None
        full = _names_of(name)
        element = next((one for one in element if one.tag in full), None)
    return element


class Package:
    """The parts of an office file. Raises DataError for a file that is no zip archive or holds a damaged part."""

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        """Open a file, or the `content` of one that lies in the file of that path."""
        self.path = path
        with open(path, "rb") if content is None else io.BytesIO(content) as handle:
            is_encrypted = handle.read(len(OLE)) == OLE and _ENCRYPTED in handle.read()
        if is_encrypted:
            raise LockedError(f"{path}: it is encrypted: a copy without a password can be read")
        try:
            self._archive = zipfile.ZipFile(path if content is None else io.BytesIO(content))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise DataError(f"{path}: it is damaged: {error}") from error
        self._names = {name.casefold(): name for name in self._archive.namelist()}

    def __enter__(self) -> Package:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def names(self) -> list[str]:
        """Return the names of all parts."""
        return self._archive.namelist()

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a part, None if there is none of that name."""
        full = self._names.get(name.replace("\\", "/").lstrip("/").casefold())
        if full is None:
            return None
        try:
            if self._archive.getinfo(full).file_size > _LARGEST_PART:
                raise DataError(f"{self.path}: its part {full} unpacks to more than {_LARGEST_PART:,} bytes")
            return self._archive.read(full)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
            raise DataError(f"{self.path}: its part {full} is damaged: {error}") from error

    def xml(self, name: str | None) -> Element | None:
        """Return the root of a part, None if there is none of that name. Raises DataError if it is no XML."""
        content = self.read(name) if name is not None else None
        if content is None:
            return None
        try:
            return ElementTree.fromstring(content)
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            raise DataError(f"{self.path}: its part {name} is damaged: {error}") from error

    def relations(self, part: str) -> list[tuple[str, str, str]]:
        """Return (id, kind, target part) of what a part refers to inside the file; "" is the file itself."""
        folder, name = posixpath.split(part)
        root = self.xml(posixpath.join(folder, "_rels", f"{name}.rels"))
        found = []
        for relation in root if root is not None else ():
            if relation.get("TargetMode") == "External" or (target := relation.get("Target")) is None:
                continue
            whole = posixpath.normpath(posixpath.join("/", folder, unquote(target))).lstrip("/")
            found.append((relation.get("Id") or "", (relation.get("Type") or "").rpartition("/")[2], whole))
        return found

    def related(self, part: str, kind: str) -> list[str]:
        """Return the parts of a kind, such as "footnotes", that a part refers to."""
        return [target for _, found, target in self.relations(part) if found == kind]

    def targets(self, part: str) -> dict[str, str]:
        """Return the parts inside the file that a part refers to, by the id it refers with."""
        return {id: target for id, _, target in self.relations(part)}

    def required(self, name: str) -> Element:
        """Return the root of a part. Raises DataError if there is none, or if it is damaged."""
        root = self.xml(name)
        if root is None:
            raise DataError(f"{self.path}: it is damaged: it has no part {name}")
        return root

    def main_part(self, usual: str) -> str:
        """Return the part that is the document itself; `usual` is where it mostly lies."""
        return next(iter(self.related("", "officeDocument")), usual)
