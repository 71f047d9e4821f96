"""The range that a number of the configuration must lie in, written at its field as part of the type.

Loading does not look at it, because a configuration that breaks a rule must load before it can be examined and fixed;
`validation` does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Range:
    """Limits of a number; without any it must be finite all the same."""

    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a number lies inside; NaN and infinity never do."""
        return (
            _is_finite(value)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        words = (("at least", self.least), ("more than", self.above), ("less than", self.below), ("at most", self.most))
        said = [f"{word} {_written(limit)}" for word, limit in words if limit is not None]
        return " and ".join(said) or "a finite number"

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        names = (("minimum", self.least), ("exclusiveMinimum", self.above), ("exclusiveMaximum", self.below),
                 ("maximum", self.most))  # fmt: skip
        return {**handler(core_schema), **{name: limit for name, limit in names if limit is not None}}


def _is_finite(value: float) -> bool:
    """Whole numbers always are; those too long for a float must not be asked as one."""
    return isinstance(value, int) or math.isfinite(value)


@dataclass(frozen=True)
class ZeroIsOff:
    """Says that 0 means null, as other programs write "no limit"."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        schema = dict(handler(core_schema))
        return {**schema, "anyOf": [*schema["anyOf"], {"const": 0}]}


def _written(limit: float) -> str:
    return f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"


Count = Annotated[int, Range(least=1)]
Amount = Annotated[int, Range(least=0)]
Few = Annotated[int, Range(least=0, most=1000)]  # of what each takes memory or a thread
Seed = Annotated[int, Range(least=0, most=2**63 - 1)]  # what torch and numpy both take, with room above for a row
Threads = Annotated[int, Range(least=1, most=1024)]
Seconds = Annotated[float, Range(above=0, most=1e8)]
Number = Annotated[float, Range()]
NotNegative = Annotated[float, Range(least=0)]
Positive = Annotated[float, Range(above=0)]
Part = Annotated[float, Range(least=0, below=1)]  # of one, none included
Share = Annotated[float, Range(above=0, most=1)]  # of one, all included
Certainty = Annotated[float, Range(least=0, most=1)]
Rate = Annotated[float, Range(above=0, below=1)]
CountOrOff = Annotated[Count | None, ZeroIsOff()]
ShareOrOff = Annotated[Share | None, ZeroIsOff()]
if TYPE_CHECKING:  # a run begins by putting numbers in the place of "auto": code that computes sees numbers only
    AutoCount = int
    AutoRate = float
else:
    AutoCount = Count | Literal["auto"]
    AutoRate = Rate | Literal["auto"]


def range_of(field: FieldInfo) -> Range | None:
    """Return the range of a field's numbers, also of those inside a union, a list or a dictionary; None without any."""
    return next((item for item in field.metadata if isinstance(item, Range)), None) or _range_in(field.annotation)


def _range_in(annotation: Any) -> Range | None:
    found = (item for item in getattr(annotation, "__metadata__", ()) if isinstance(item, Range))
    return next(found, None) or next(filter(None, map(_range_in, get_args(annotation))), None)
