"""Office's formulas (OMML, ECMA-376 part 1, 22.1) as LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from xml.etree.ElementTree import Element

from llmbuilder.documents.office_files.package import attribute, child, kind_of

_OPERATORS = {
    "∑": r"\sum", "∏": r"\prod", "∐": r"\coprod", "∫": r"\int", "∬": r"\iint", "∭": r"\iiint", "∮": r"\oint",
    "⋃": r"\bigcup", "⋂": r"\bigcap", "⋁": r"\bigvee", "⋀": r"\bigwedge",
}  # fmt: skip
_ACCENTS = {
    "\u0302": r"\hat", "\u0303": r"\tilde", "\u0304": r"\bar", "\u0305": r"\overline", "\u0307": r"\dot",
    "\u0308": r"\ddot", "\u030c": r"\check", "\u0306": r"\breve", "\u20d7": r"\vec", "\u0301": r"\acute",
    "\u0300": r"\grave",
}  # fmt: skip
_FUNCTIONS = frozenset((
    "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "arcsin", "arccos",
    "arctan", "log", "ln", "lg", "exp", "lim", "max", "min", "sup", "inf", "det", "dim", "gcd", "ker",
    "arg", "deg", "hom", "Pr", "liminf", "limsup",
))  # fmt: skip
_ESCAPED = {"{": r"\{", "}": r"\}", "%": r"\%", "#": r"\#", "&": r"\&", "_": r"\_", "$": r"\$", "\\": r"\backslash "}
_PROPERTIES = ("Pr",)  # m:rPr, m:ctrlPr, m:fPr: how a thing looks


def to_latex(formula: Element) -> str:
    """Return the LaTeX of an m:oMath or m:oMathPara element, without dollar signs."""
    if kind_of(formula) == "m:oMathPara":
        return r" \\ ".join(filter(None, (to_latex(one) for one in formula if kind_of(one) == "m:oMath")))
    return _all(formula).strip()


def _all(parent: Element | None) -> str:
    return "".join(_one(element) for element in parent) if parent is not None else ""


def _one(element: Element) -> str:
    kind = kind_of(element)
    if kind in _WRITERS:
        return _WRITERS[kind](element)
    if kind in ("w:del", "w:moveFrom") or kind.endswith(_PROPERTIES):
        return ""
    return _all(element)


def _part(element: Element, name: str) -> str:
    return _all(child(element, name)).strip()


def _group(text: str) -> str:
    return f"{{{text}}}"


def _property(element: Element, properties: str, name: str) -> str | None:
    found = child(element, properties, name)
    return attribute(found, "m:val") if found is not None else None


def _text(element: Element) -> str:
    return "".join(_ESCAPED.get(character, character) for character in element.text or "")


def _run(element: Element) -> str:
    text = "".join(_text(one) if kind_of(one) in ("m:t", "w:t") else "" for one in element)
    is_plain = child(element, "m:rPr", "m:nor") is not None and any(character.isalpha() for character in text)
    return rf"\text{{{text}}}" if is_plain else text


def _fraction(element: Element) -> str:
    above, below = _part(element, "m:num"), _part(element, "m:den")
    form = _property(element, "m:fPr", "m:type")
    if form == "noBar":
        return rf"\binom{{{above}}}{{{below}}}"
    return f"{{{above}}}/{{{below}}}" if form == "lin" else rf"\frac{{{above}}}{{{below}}}"


def _scripts(element: Element) -> str:
    lower, upper = child(element, "m:sub"), child(element, "m:sup")
    text = _base(_part(element, "m:e"))
    text += f"_{_group(_all(lower).strip())}" if lower is not None else ""
    return text + (f"^{_group(_all(upper).strip())}" if upper is not None else "")


def _base(text: str) -> str:
    return text if len(text) <= 1 else _group(text)


def _scripts_before(element: Element) -> str:
    return f"{{}}_{_group(_part(element, 'm:sub'))}^{_group(_part(element, 'm:sup'))}{_base(_part(element, 'm:e'))}"


def _radical(element: Element) -> str:
    degree = _part(element, "m:deg")
    return rf"\sqrt{f'[{degree}]' if degree else ''}{{{_part(element, 'm:e')}}}"


def _operator(element: Element) -> str:
    sign = _property(element, "m:naryPr", "m:chr") or "∫"
    lower, upper = _part(element, "m:sub"), _part(element, "m:sup")
    limits = (f"_{_group(lower)}" if lower else "") + (f"^{_group(upper)}" if upper else "")
    return f"{_OPERATORS.get(sign, sign)}{limits} {_part(element, 'm:e')}"


def _delimited(element: Element) -> str:
    begin, end = (_property(element, "m:dPr", name) for name in ("m:begChr", "m:endChr"))
    between = _property(element, "m:dPr", "m:sepChr") or "|"
    inside = f" {between} ".join(_all(one).strip() for one in element if kind_of(one) == "m:e")
    return (
        f"{_bracket('(' if begin is None else begin, 'left')}{inside}{_bracket(')' if end is None else end, 'right')}"
    )


def _bracket(sign: str, side: str) -> str:
    return rf"\{side}{_ESCAPED.get(sign, sign) or '.'}" + (" " if side == "left" else "") if sign else rf"\{side}. "


def _function(element: Element) -> str:
    name = _part(element, "m:fName")
    return f"{name} {_part(element, 'm:e')}" if name.startswith("\\") else f"{_named(name)} {_part(element, 'm:e')}"


def _named(name: str) -> str:
    return f"\\{name}" if name in _FUNCTIONS else name


def _limit(element: Element) -> str:
    sign = "_" if kind_of(element) == "m:limLow" else "^"
    return f"{_named(_part(element, 'm:e'))}{sign}{_group(_part(element, 'm:lim'))}"


def _accent(element: Element) -> str:
    sign = _property(element, "m:accPr", "m:chr") or "\u0302"
    return f"{_ACCENTS.get(sign, chr(92) + 'hat')}{_group(_part(element, 'm:e'))}"


def _bar(element: Element) -> str:
    name = r"\overline" if _property(element, "m:barPr", "m:pos") == "top" else r"\underline"
    return name + _group(_part(element, "m:e"))


def _brace(element: Element) -> str:
    position, sign = (_property(element, "m:groupChrPr", name) for name in ("m:pos", "m:chr"))
    names = {"⏞": r"\overbrace", "⏟": r"\underbrace"}
    return names.get(sign or "⏟", r"\overline" if position == "top" else r"\underline") + _group(_part(element, "m:e"))


def _matrix(element: Element) -> str:
    rows = (" & ".join(_all(cell).strip() for cell in row) for row in element if kind_of(row) == "m:mr")
    return rf"\begin{{matrix}} {_lines(rows)} \end{{matrix}}"


def _equations(element: Element) -> str:
    rows = (_all(row).strip() for row in element if kind_of(row) == "m:e")
    return rf"\begin{{array}}{{l}} {_lines(rows)} \end{{array}}"


def _lines(rows: Iterable[str]) -> str:
    return r" \\ ".join(rows)


_WRITERS: dict[str, Callable[[Element], str]] = {
    "m:r": _run, "m:t": _text, "m:f": _fraction, "m:sSub": _scripts, "m:sSup": _scripts, "m:sSubSup": _scripts,
    "m:sPre": _scripts_before, "m:rad": _radical, "m:nary": _operator, "m:d": _delimited, "m:func": _function,
    "m:limLow": _limit, "m:limUpp": _limit, "m:acc": _accent, "m:bar": _bar, "m:groupChr": _brace, "m:m": _matrix,
    "m:eqArr": _equations,
}  # fmt: skip
