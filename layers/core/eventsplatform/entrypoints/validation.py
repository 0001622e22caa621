"""What pydantic refuses, as the platform says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eventsplatform.errors import FieldError, InvalidInputError


def invalid_input(problems: Iterable[Any]) -> InvalidInputError:
    """Each problem at its place; never with the value itself."""
    return InvalidInputError([FieldError(pointer(problem["loc"]), detail(problem)) for problem in problems])


def pointer(path: Sequence[int | str]) -> str:
    """A JSON Pointer (RFC 6901): `("location", "lat")` → `/location/lat`."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def detail(problem: Mapping[str, Any]) -> str:
    """Pydantic's message, without its prefix where a validator of ours, or of an address, has worded it."""
    context = problem.get("ctx", {})
    return str(context.get("error") or context.get("reason") or problem["msg"])
