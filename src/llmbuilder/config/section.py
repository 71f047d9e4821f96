"""`Section`: a group of settings that remembers the configuration it belongs to.

A function given `config.training` so still honours `config.system`. Copies and pickles of a section keep that way back;
those of a whole configuration are independent of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from llmbuilder.config.ranges import ZeroIsOff

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

_Whole = TypeVar("_Whole", bound=BaseModel)


class Section(BaseModel):
    """A group of settings; unknown names are refused, assignment is checked for type."""

    # A slot, not a pydantic field or private attribute: the way back to the whole must not take part in
    # equality or dumps.
    __slots__ = ("_whole",)

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _read_off(cls, value: Any, info: ValidationInfo) -> Any:
        """Take `none` for null wherever null may stand, and 0 where it means the same."""
        field = cls.model_fields[str(info.field_name)]
        is_word = isinstance(value, str) and value.strip().lower() == "none"
        if is_word and type(None) in get_args(field.annotation):
            return None
        is_zero = isinstance(value, int | float) and not isinstance(value, bool) and value == 0
        return None if is_zero and any(isinstance(item, ZeroIsOff) for item in field.metadata) else value

    def __copy__(self) -> Self:
        copy = super().__copy__()
        set_whole(copy, whole_of(self))
        return copy

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        copy = super().__deepcopy__(memo)
        set_whole(copy, whole_of(self))
        return copy

    def __reduce__(self) -> tuple[Callable[..., Section], tuple[Any, ...]]:
        whole = whole_of(self)
        if whole is None:
            return type(self).model_validate, (self.model_dump(),)
        name = next(name for name, section in whole.sections().items() if type(section) is type(self))
        return (_as_it_was, (whole, name, self.model_dump()))


def _as_it_was(whole: Any, name: str, values: Mapping[str, Any]) -> Section:
    section = type(getattr(whole, name)).model_validate(values)
    set_whole(section, whole)
    return section


def whole_of(section: Section) -> Any:
    """Return what `set_whole` said, or None for a section that stands alone."""
    return getattr(section, "_whole", None)


def set_whole(section: Section, whole: Any) -> None:
    """Let a section know the configuration it belongs to."""
    object.__setattr__(section, "_whole", whole)


def with_places(whole: _Whole, places: Mapping[str, tuple[str, Any]]) -> _Whole:
    """Let a configuration know where its values come from: by "section.key", words and the value that came; return it.

    Like the way back to the whole, it takes no part in equality or dumps.
    """
    object.__setattr__(whole, "_places", places)
    return whole


def places_of(whole: BaseModel) -> Mapping[str, tuple[str, Any]]:
    """Return what `with_places` said."""
    return getattr(whole, "_places", {})


def place_of(whole: BaseModel, name: str) -> str | None:
    """Return where the value of "section.key" comes from; None for a default, and for what was changed since."""
    place, value = places_of(whole).get(name, (None, None))
    section, _, key = name.partition(".")
    return place if getattr(getattr(whole, section, None), key, None) == value else None
