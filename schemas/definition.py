"""The base of every model that a person writes: unknown keys are errors, and errors say what was meant.

`Definition` is the base of streams, filters and destination options. All mistakes of a definition are found at once: a
check across several fields (`Definition.mistakes_across`) also runs where single fields are wrong.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

_FORMS = {
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "model_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "string_type": "must be a text; write numbers and dates in quotes",
}
MISSING, UNKNOWN_KEY = "missing_key", "unknown_key"
"""Kinds of mistakes that lie at a key: one that is not there, one that should not be there."""
_KINDS = {"missing": MISSING, "extra_forbidden": UNKNOWN_KEY}


class Definition(BaseModel):
    """A model of what a person writes. Immutable; unknown keys are errors that suggest the key that was meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """What was given; defaults are left out."""
        return [(name, value) for name, value in super().__repr_args__() if name in self.model_fields_set]

    @classmethod
    def mistakes_across(cls, given: Mapping[str, Any]) -> list[InitErrorDetails]:
        """Mistakes that concern several fields together. Subclasses override it; it must bear any input.

        Args:
          given: the definition as written, not validated.

        Returns:
          one error per mistake (`mistake` makes them); empty if there is none.
        """
        del given
        return []

    @model_validator(mode="wrap")
    @classmethod
    def _find_all_mistakes(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        mistakes: list[InitErrorDetails] = []
        made: Self | None = None
        try:
            made = validate(given)
        except ValidationError as error:
            mistakes = [_reworded(cls, each) for each in error.errors(include_url=False)]
        if isinstance(given, Mapping):
            mistakes += cls.mistakes_across(given)
        if mistakes or made is None:
            raise ValidationError.from_exception_data(cls.__name__, mistakes, hide_input=True)
        return made


def mistake(location: tuple[str | int, ...], message: str, kind: str = "definition") -> InitErrorDetails:
    """A mistake at a location below the definition that finds it, as pydantic takes it."""
    return InitErrorDetails(type=PydanticCustomError(kind, message), loc=location, input=None)


def none_of(given: object, expected: Iterable[str], spellings: Mapping[str, str] | None = None) -> PydanticCustomError:
    """The error for a value outside a closed list, with the value that was probably meant.

    Args:
      given: the value as written.
      expected: the accepted values; the message lists them where they are few.
      spellings: other accepted spellings and the values that they stand for.
    """
    listed = list(expected)
    hint = did_you_mean(str(given), {**(spellings or {}), **{word: word for word in listed}})
    known = ", ".join(listed) if len(listed) <= 15 else f"the {len(listed)} known words"
    return PydanticCustomError("none_of", f"{quoted(given)} is none of {known}{hint}")


def did_you_mean(given: str, candidates: Iterable[str] | Mapping[str, str]) -> str:
    """``" (did you mean X?)"`` for the candidate nearest to the text, regardless of case; empty if none is near.

    Of a mapping the keys are compared and the values suggested.
    """
    meant = candidates if isinstance(candidates, Mapping) else {each: each for each in candidates}
    by_folded = {spelling.casefold(): word for spelling, word in meant.items()}
    near = difflib.get_close_matches(given.casefold(), by_folded, n=1, cutoff=0.6)
    return f" (did you mean {by_folded[near[0]]}?)" if near else ""


def quoted(value: object) -> str:
    """A value as it appears in a message: texts in quotes, shortened to 80 characters."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _reworded(model: type[BaseModel], error: Any) -> InitErrorDetails:
    """An error of pydantic in our words; those of deeper models were reworded by them and stay as they are."""
    location, message, kind = error["loc"], error["msg"], error["type"]
    context = error.get("ctx", {})
    if kind == "missing":
        message = f"{quoted(str(location[-1]))} is missing"
    elif kind == "extra_forbidden":
        message = f"{quoted(str(location[-1]))} is not a key here"
        if len(location) == 1:
            keys = [field.alias or name for name, field in model.model_fields.items()]
            message += did_you_mean(str(location[0]), keys) or f" (keys are {', '.join(keys)})"
    elif kind == "union_tag_invalid":
        kind, location = "none_of", (*location, "type")
        message = none_of(context["tag"], re.findall("'([^']+)'", context["expected_tags"])).message()
    elif kind == "union_tag_not_found":
        kind, location, message = "missing", (*location, "type"), "'type' is missing"
    elif kind in _FORMS:
        message = _FORMS[kind]
    message = message.removeprefix("Value error, ").replace("Input should be", "must be", 1)
    return mistake(location, message, _KINDS.get(kind, kind))
