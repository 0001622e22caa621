"""The schemas of messages: written from the models, and compared with those of the last release.

`layers/core/eventsplatform/messaging/schemas/` holds those of this checkout, which functions check messages against.
`docs/api/messages/` holds the released ones: what the consumers that are deployed, and those of others, were written
for, and what the messages that are stored conform to.

A change is compatible when both can go on. What the platform tells is read by consumers of the last release, and
consumers of the next one read what is stored, so the two schemas must take the same; a member may be added that need
not be there. What the platform is told (`inbound.…`) comes from partners who know the last release, so the next one
must take all that the last one took, and may take more.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import eventsplatform
from eventsplatform.messaging.envelope import data_schema
from eventsplatform.messaging.schemas import DIRECTORY, Schema

ROOT = Path(__file__).resolve().parent.parent
RELEASED = ROOT / "docs" / "api" / "messages"
DIALECT = "http://json-schema.org/draft-07/schema#"
VERSION = 1

# Each allows less the smaller it is, or the greater.
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_SAME = ("pattern", "format", "multipleOf", "uniqueItems")


def build() -> dict[str, Schema]:
    """The schema of every message of the services, by its file's name."""
    built: dict[str, Schema] = {}
    core = Path(eventsplatform.__file__).parent
    for path in sorted(core.rglob("messages.py")):
        module = ".".join(("eventsplatform", *path.relative_to(core).parent.parts, "messages"))
        for message_type, schema in import_module(module).schemas().items():
            named = {"$schema": DIALECT, "$id": data_schema(message_type, VERSION), **schema}
            built[f"{message_type}.v{VERSION}.json"] = named
    return built


def read(directory: Path) -> dict[str, Schema]:
    return {path.name: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}


def write(schemas: Mapping[str, Schema], directory: Path) -> None:
    """Replaces what is there, but for versions that are no longer written anew."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas.items():
        (directory / name).write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


def release() -> None:
    """Make the schemas of this checkout the released ones. Raises ValueError, saying why, for incompatible ones."""
    if broken := incompatibilities(read(RELEASED), read(DIRECTORY)):
        raise ValueError("\n".join(broken))
    shutil.copytree(DIRECTORY, RELEASED, dirs_exist_ok=True)


def incompatibilities(released: Mapping[str, Schema], present: Mapping[str, Schema]) -> list[str]:
    """What keeps consumers or partners of the last release from going on, one line each."""
    found: list[str] = []
    for name, before in released.items():
        after = present.get(name)
        if after is None:
            found.append(f"{name}: is gone")
            continue
        found += [f"{name}{difference}" for difference in _taken_away(before, after)]
        if not name.startswith("inbound."):
            found += [f"{name}{difference}" for difference in _refused(after, before, "widened")]
    return found


def _taken_away(before: Schema, after: Schema) -> Iterator[str]:
    yield from _refused(before, after, "narrowed")
    yield from _removed(before, after, before, after, "")


def _removed(before: Schema, after: Schema, old: Schema, new: Schema, path: str) -> Iterator[str]:
    """Members that are known no longer: where others may be there too, nothing is refused, and yet they are missed."""
    old, new = _resolved(before, old), _resolved(after, new)
    known = new.get("properties", {})
    for name, member in old.get("properties", {}).items():
        if name not in known:
            yield f"{path}/{name}: removed"
        else:
            yield from _removed(before, after, member, known[name], f"{path}/{name}")
    if "items" in old and "items" in new:
        yield from _removed(before, after, old["items"], new["items"], f"{path}/items")


def _refused(before: Schema, after: Schema, how: str) -> Iterator[str]:
    """Where `after` refuses what `before` takes."""
    yield from _Comparison(before, after, how).differences(before, after, "")


class _Comparison:
    def __init__(self, taking: Schema, refusing: Schema, how: str) -> None:
        self._taking = taking
        self._refusing = refusing
        self._how = how

    def differences(self, taking: Schema, refusing: Schema, path: str) -> Iterator[str]:
        taking, refusing = _resolved(self._taking, taking), _resolved(self._refusing, refusing)
        choices = taking.get("anyOf")
        if choices is not None:
            for choice in choices:
                if not self._takes(choice, refusing):
                    yield self._difference(path, choice)
        elif "anyOf" in refusing:
            if not any(self._takes(taking, choice) for choice in refusing["anyOf"]):
                yield self._difference(path, taking)
        else:
            yield from self._own_differences(taking, refusing, path)

    def _takes(self, taking: Schema, refusing: Schema) -> bool:
        return next(self.differences(taking, refusing, ""), None) is None

    def _own_differences(self, taking: Schema, refusing: Schema, path: str) -> Iterator[str]:
        if not _types(taking) <= _types(refusing) or not _values(taking, refusing):
            yield self._difference(path, taking)
            return
        for keyword in (*_UPPER_BOUNDS, *_LOWER_BOUNDS, *_SAME):
            if not _bound_holds(keyword, taking.get(keyword), refusing.get(keyword)):
                yield f"{path}: {keyword} {self._how}"
        for name in refusing.get("required", []):
            if name not in taking.get("required", []):
                yield f"{path}/{name}: " + ("newly required" if self._how == "narrowed" else "no longer always there")
        theirs, ours = taking.get("properties", {}), refusing.get("properties", {})
        for name, member in theirs.items():
            if name in ours:
                yield from self.differences(member, ours[name], f"{path}/{name}")
            elif refusing.get("additionalProperties") is False:
                yield f"{path}/{name}: refused"
        if refusing.get("additionalProperties") is False and taking.get("additionalProperties") is not False:
            yield f"{path}: additionalProperties {self._how}"
        if "items" in refusing:
            yield from self.differences(taking.get("items", {}), refusing["items"], f"{path}/items")

    def _difference(self, path: str, schema: Schema) -> str:
        what = schema.get("enum") or schema.get("const") or schema.get("type") or "anything"
        return f"{path}: {self._how} by {what!r}"


def _resolved(document: Schema, schema: Schema) -> Schema:
    """The schema itself where it stands elsewhere: `{"$ref": "#/$defs/Location"}`."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    resolved: Schema = found
    return resolved


def _types(schema: Schema) -> frozenset[str]:
    names = schema.get("type", ["object", "array", "string", "number", "integer", "boolean", "null"])
    listed = frozenset([names] if isinstance(names, str) else names)
    return listed | {"integer"} if "number" in listed else listed


def _values(taking: Schema, refusing: Schema) -> bool:
    """Whether all values that are listed there are listed here; a list takes less than none."""
    here = _listed(refusing)
    there = _listed(taking)
    return here is None or (there is not None and there <= here)


def _listed(schema: Schema) -> frozenset[Any] | None:
    if "const" in schema:
        return frozenset([schema["const"]])
    return frozenset(schema["enum"]) if "enum" in schema else None


def _bound_holds(keyword: str, taking: Any, refusing: Any) -> bool:
    if refusing is None or taking == refusing:
        return True
    if taking is None or keyword in _SAME:
        return False
    return bool(taking <= refusing if keyword in _UPPER_BOUNDS else taking >= refusing)
