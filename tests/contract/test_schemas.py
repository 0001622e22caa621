"""The schemas of messages: written from the models, kept to by what is told, and such that the last release goes on."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any, get_args

import pytest

from eventsplatform.catalog import messages as catalog
from eventsplatform.errors import PoisonMessageError
from eventsplatform.messaging import schemas
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import TOPICS
from eventsplatform.registrations import messages as registrations
from eventsplatform.registrations.admission import messages as admission
from local.schemas import RELEASED, build, incompatibilities, read
from tests.support.application import ROOT
from tests.support.lambda_events import event_data, message

Schema = dict[str, Any]
LIST = ROOT / "docs" / "api" / "messages.md"

TOLD = "events.created.v1.json"
ASKED = "inbound.things.create.v1.json"


def test_the_schemas_are_those_of_the_models() -> None:
    assert read(schemas.DIRECTORY) == build(), "run `make schemas`"


def test_the_last_release_goes_on() -> None:
    assert incompatibilities(read(RELEASED), read(schemas.DIRECTORY)) == []


def test_every_type_that_services_name_has_a_schema() -> None:
    named = {f"events.{what}" for what in get_args(catalog.Happening)}
    for module in (registrations, admission):
        named |= {f"registrations.{what}" for what in get_args(module.Happening)}

    assert named <= schemas.types()
    assert {name.partition(".")[0] for name in schemas.types()} <= {*TOPICS, "inbound", "commands"}


def test_every_type_is_in_the_list_for_readers() -> None:
    assert set(re.findall(r"\(messages/([a-z_.]+)\.v\d+\.json\)", LIST.read_text())) == schemas.types()


EVENTS = sorted((ROOT / "events").glob("*/*/*.json"))


def test_messages_in_sample_events_are_of_their_schemas() -> None:
    checked = 0
    for path in EVENTS:
        for records in json.loads(path.read_text()).get("records", {}).values():
            for record in records:
                schemas.check(Message.from_json(base64.b64decode(record["value"])))
                checked += 1
    assert checked > 10


@pytest.mark.parametrize(
    "changes",
    [
        {"title": None},
        {"title": 7},
        {"capacity": "100"},
        {"status": "postponed"},
        {"tags": "jazz"},
        {"location": {"lat": 52.5, "lon": 13.4}},
        {"organizer": {"id": "7", "name": "Ada"}},
        {"team": [{"user_id": 8}]},
        {"starts_at": "tomorrow"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_data_of_another_form_are_poison(changes: dict[str, Any]) -> None:
    schemas.check(message(data=event_data()))

    with pytest.raises(PoisonMessageError, match=r"^events\.created v1: data"):
        schemas.check(message(data=event_data(**changes)))


def test_a_poison_message_is_not_quoted_with_what_is_in_it() -> None:
    with pytest.raises(PoisonMessageError) as refused:
        schemas.check(message(data=event_data(organizer={"id": "ada@example.org", "name": 7})))

    assert "ada@example.org" not in str(refused.value)


def test_what_is_told_besides_is_left_to_those_who_know_it() -> None:
    schemas.check(message(data=event_data(accessibility={"step_free": True}, location={"name": "Berlin", "floor": 2})))


@pytest.mark.parametrize("name", ["../../../messaging/schemas/events.created", "events.created.v1.json", "*", ""])
def test_a_senders_type_names_no_file(name: str) -> None:
    schemas.check(message(type=name, data={}))


# What is compatible ------------------------------------------------------------------------------


def thing() -> Schema:
    return {
        "$id": "urn:events-platform:message:things.created:v1",
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "name": {"type": "string", "maxLength": 100, "minLength": 3},
            "kind": {"enum": ["small", "large"], "type": "string"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "size": {"type": "integer", "minimum": 0, "maximum": 10},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
        },
        "required": ["id", "name", "kind"],
        "$defs": {"Part": {"type": "object", "properties": {"number": {"type": "number"}}, "required": ["number"]}},
    }


def changed(change: Callable[[Schema], Any]) -> Schema:
    schema = deepcopy(thing())
    change(schema)
    return schema


def put(schema: Schema, *path: str, value: Any) -> None:
    for name in path[:-1]:
        schema = schema[name]
    schema[path[-1]] = value


def rename(schema: Schema, before: str, after: str) -> None:
    schema["properties"][after] = schema["properties"].pop(before)


def found(name: str, after: Schema) -> list[str]:
    return [line.removeprefix(name) for line in incompatibilities({name: thing()}, {name: after})]


CASES: dict[str, tuple[Callable[[Schema], Any], list[str], list[str]]] = {
    "nothing": (lambda s: None, [], []),
    "an optional member is added": (lambda s: put(s, "properties", "colour", value={"type": "string"}), [], []),
    "an optional member is added within": (
        lambda s: put(s, "$defs", "Part", "properties", "colour", value={"type": "string"}),
        [],
        [],
    ),
    "a required member is added": (
        lambda s: (put(s, "properties", "colour", value={"type": "string"}), s["required"].append("colour")),
        ["/colour: newly required"],
        ["/colour: newly required"],
    ),
    "an optional member is required": (
        lambda s: s["required"].append("size"),
        ["/size: newly required"],
        ["/size: newly required"],
    ),
    "a required member is optional": (
        lambda s: s["required"].remove("name"),
        ["/name: no longer always there"],
        [],
    ),
    "a member is removed": (
        lambda s: s["properties"].pop("size"),
        ["/size: removed"],
        ["/size: removed"],
    ),
    "a member within is removed": (
        lambda s: put(s, "$defs", "Part", value={"type": "object", "properties": {}}),
        ["/parts/items/number: removed", "/parts/items/number: no longer always there"],
        ["/parts/items/number: removed"],
    ),
    "a member is renamed": (
        lambda s: rename(s, "size", "extent"),
        ["/size: removed"],
        ["/size: removed"],
    ),
    "a type is another": (
        lambda s: put(s, "properties", "id", value={"type": "string"}),
        ["/id: narrowed by 'integer'", "/id: widened by 'string'"],
        ["/id: narrowed by 'integer'"],
    ),
    "a type is narrowed": (
        lambda s: put(s, "$defs", "Part", "properties", "number", value={"type": "integer"}),
        ["/parts/items/number: narrowed by 'number'"],
        ["/parts/items/number: narrowed by 'number'"],
    ),
    "a type is widened": (
        lambda s: put(s, "properties", "id", value={"type": "number"}),
        ["/id: widened by 'number'"],
        [],
    ),
    "null is no longer taken": (
        lambda s: put(s, "properties", "note", value={"type": "string"}),
        ["/note: narrowed by 'null'"],
        ["/note: narrowed by 'null'"],
    ),
    "null is taken, too": (
        lambda s: put(s, "properties", "size", value={"anyOf": [s["properties"]["size"], {"type": "null"}]}),
        ["/size: widened by 'null'"],
        [],
    ),
    "a value is no longer listed": (
        lambda s: put(s, "properties", "kind", "enum", value=["small"]),
        ["/kind: narrowed by ['small', 'large']"],
        ["/kind: narrowed by ['small', 'large']"],
    ),
    "another value is listed": (
        lambda s: put(s, "properties", "kind", "enum", value=["small", "large", "huge"]),
        ["/kind: widened by ['small', 'large', 'huge']"],
        [],
    ),
    "a value may be any": (
        lambda s: s["properties"]["kind"].pop("enum"),
        ["/kind: widened by 'string'"],
        [],
    ),
    "values are listed": (
        lambda s: put(s, "properties", "name", value={"type": "string", "enum": ["Ada"]}),
        ["/name: narrowed by 'string'", "/name: maxLength widened", "/name: minLength widened"],
        ["/name: narrowed by 'string'"],
    ),
    "less is taken": (
        lambda s: put(s, "properties", "name", "maxLength", value=50),
        ["/name: maxLength narrowed"],
        ["/name: maxLength narrowed"],
    ),
    "more must be there": (
        lambda s: put(s, "properties", "name", "minLength", value=4),
        ["/name: minLength narrowed"],
        ["/name: minLength narrowed"],
    ),
    "more is taken": (
        lambda s: put(s, "properties", "size", "maximum", value=20),
        ["/size: maximum widened"],
        [],
    ),
    "a pattern is asked for": (
        lambda s: put(s, "properties", "name", "pattern", value="^A"),
        ["/name: pattern narrowed"],
        ["/name: pattern narrowed"],
    ),
    "a bound is gone": (lambda s: s["properties"]["size"].pop("minimum"), ["/size: minimum widened"], []),
    "nothing else may be there": (
        lambda s: put(s, "additionalProperties", value=False),
        [": additionalProperties narrowed"],
        [": additionalProperties narrowed"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_told_may_only_gain_members_that_need_not_be_there(case: str) -> None:
    """Consumers of the last release read it, and those of the next one read what is stored."""
    change, broken, _ = CASES[case]

    assert sorted(found(TOLD, changed(change))) == sorted(broken)


@pytest.mark.parametrize("case", CASES)
def test_what_partners_send_must_be_taken_on_and_more_may_be(case: str) -> None:
    change, _, broken = CASES[case]

    assert sorted(found(ASKED, changed(change))) == sorted(broken)


def test_a_member_that_is_removed_is_refused_where_nothing_else_may_be_there() -> None:
    closed = changed(lambda s: put(s, "additionalProperties", value=False))
    without = deepcopy(closed)
    del without["properties"]["size"]

    lines = incompatibilities({ASKED: closed}, {ASKED: without})

    assert f"{ASKED}/size: refused" in lines


def test_a_type_that_is_gone_is_missed_and_a_new_one_is_not() -> None:
    assert incompatibilities({TOLD: thing()}, {}) == [f"{TOLD}: is gone"]
    assert incompatibilities({}, {TOLD: thing()}) == []


def test_an_incompatible_schema_is_not_released(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from local import schemas as local_schemas

    released, present = tmp_path / "released", tmp_path / "present"
    local_schemas.write({TOLD: thing()}, released)
    local_schemas.write({TOLD: changed(lambda s: s["required"].append("size"))}, present)
    monkeypatch.setattr(local_schemas, "RELEASED", released)
    monkeypatch.setattr(local_schemas, "DIRECTORY", present)

    with pytest.raises(ValueError, match="newly required"):
        local_schemas.release()
    assert read(released) == {TOLD: thing()}

    local_schemas.write({TOLD: changed(lambda s: put(s, "properties", "colour", value={"type": "string"}))}, present)
    local_schemas.release()
    assert read(released) == read(present)
