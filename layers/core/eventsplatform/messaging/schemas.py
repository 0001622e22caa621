"""What the data of each type and version of message look like: JSON Schemas, kept in `schemas/` beside this module.

`make schemas` writes them from the models that the data are made of, and `make release-schemas` keeps them as the
released ones, against which tests compare every change (`local.schemas`). Versions change only with what no reader of
the last one could read; such messages go under another version at the same time as under the old one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from eventsplatform.errors import PoisonMessageError
from eventsplatform.messaging.envelope import Message

Schema = dict[str, Any]

DIRECTORY = Path(__file__).with_name("schemas")
_FILE = re.compile(r"(?P<type>[a-z_.]+)\.v(?P<version>[1-9][0-9]*)\.json")

# Bounds are rules of who writes: a reader that refused what is a little longer would have to be changed first.
_KEPT = frozenset(
    {"type", "format", "properties", "required", "items", "enum", "const", "anyOf", "$ref", "description"}
)


def told(model: type[BaseModel], *, without: frozenset[str] = frozenset()) -> Schema:
    """The schema of data that the platform tells: the types, and what is always there. More may be there, too."""
    schema = model.model_json_schema(mode="serialization")
    definitions = {name: _open(definition) for name, definition in schema.pop("$defs", {}).items()}
    opened = _open(schema, without)
    return {**opened, "$defs": definitions} if definitions else opened


def asked(model: type[BaseModel]) -> Schema:
    """The schema of data that the platform is told: with all its rules, and nothing else in it."""
    return model.model_json_schema(mode="validation")


def _open(schema: Schema, without: frozenset[str] = frozenset()) -> Schema:
    kept = {name: content for name, content in schema.items() if name in _KEPT}
    if "properties" in kept:
        members = kept["properties"].items()
        kept["properties"] = {name: _open(member) for name, member in members if name not in without}
        kept["required"] = [name for name in kept.get("required", []) if name not in without]
    if "items" in kept:
        kept["items"] = _open(kept["items"])
    if "anyOf" in kept:
        kept["anyOf"] = [_open(choice) for choice in kept["anyOf"]]
    return kept


def check(message: Message) -> None:
    """Raises PoisonMessageError for data that are not as the message's type and version promise.

    A type that is not known here passes: it may be newer than this consumer, and is not for it.
    """
    versions = _files().get(message.type)
    if versions is None:
        return
    if message.version not in versions:
        raise PoisonMessageError(f"{message.type} has no version {message.version} here")
    validator, invalid = _validator(message.type, message.version)
    try:
        validator.validate(message.data)
    except invalid as error:
        place = "/".join(["data", *map(str, error.instance_path)])
        # What is told of the value is its name alone: it may be somebody's address.
        raise PoisonMessageError(f"{message.type} v{message.version}: {place}: {error.message}") from None


def types() -> frozenset[str]:
    """The types of which this checkout knows a schema."""
    return frozenset(_files())


@cache
def _files() -> Mapping[str, Mapping[int, Path]]:
    """The schemas that there are. A message's type names none by itself: whoever sent it chose it."""
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(DIRECTORY.iterdir()):
        if named := _FILE.fullmatch(path.name):
            found.setdefault(named["type"], {})[int(named["version"])] = path
    return found


@cache
def _validator(message_type: str, version: int) -> tuple[Any, type[Any]]:
    """The validator, and what it raises."""
    from jsonschema_rs import ValidationError, validator_for

    schema = orjson.loads(_files()[message_type][version].read_bytes())
    return validator_for(schema, mask="the value", validate_formats=True), ValidationError
