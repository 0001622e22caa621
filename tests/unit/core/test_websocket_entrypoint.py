from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import Field

from eventsplatform.entrypoints.websocket import ActionFrame, Connection, websocket_lifecycle, websocket_route
from eventsplatform.errors import DependencyUnavailableError, ForbiddenError
from local.application import Function
from local.openapi import load_function
from tests.support.application import ROOT
from tests.support.lambda_events import Context, caller_context, websocket_event


class Say(ActionFrame):
    text: str = Field(max_length=10)


@websocket_route(Say)
def say(frame: Say, connection: Connection) -> dict[str, Any]:
    if frame.text == "forbidden":
        raise ForbiddenError("Not here.")
    if frame.text == "broken":
        raise RuntimeError("password=hunter2")
    return {"type": "said", "text": frame.text, "by": connection.caller.user_id, "on": connection.id}


def reply_to(body: Any, **event: Any) -> dict[str, Any]:
    answer = say(websocket_event(body, **event), Context())
    assert answer["statusCode"] == 200
    reply: dict[str, Any] = json.loads(answer["body"])
    return reply


def test_a_frame_gets_its_reply() -> None:
    reply = reply_to({"action": "say", "text": "hello"}, connection_id="c-1", authorizer=caller_context(7))

    assert reply == {"type": "said", "text": "hello", "by": 7, "on": "c-1"}


@pytest.mark.parametrize("frame_id", ["a", 7, "7"])
def test_a_reply_echoes_the_id_of_its_frame(frame_id: Any) -> None:
    assert reply_to({"action": "say", "text": "hello", "id": frame_id})["id"] == frame_id
    assert reply_to({"action": "say", "text": "forbidden", "id": frame_id})["id"] == frame_id
    assert reply_to({"action": "say", "id": frame_id})["id"] == frame_id


@pytest.mark.parametrize("body", ["", "{", "text", "[1]", "null", '"x"', '{"a":NaN}', '"\\ud800"', None])
def test_a_frame_that_is_no_json_object_is_an_error_frame(body: str | None) -> None:
    reply = reply_to(body)

    assert (reply["type"], reply["code"]) == ("error", "malformed_request")


@pytest.mark.parametrize(
    ("frame", "pointer"),
    [
        ({"action": "say"}, "/text"),
        ({"action": "say", "text": 5}, "/text"),
        ({"action": "say", "text": "x" * 11}, "/text"),
        ({"action": "say", "text": "x", "colour": "red"}, "/colour"),
        ({"action": "say", "text": "x", "id": {"a": 1}}, "/id"),
        ({"text": "x"}, "/action"),
    ],
)
def test_a_frame_that_breaks_a_rule_is_an_error_frame_that_points_at_it(frame: dict[str, Any], pointer: str) -> None:
    reply = reply_to(frame)

    assert (reply["type"], reply["code"]) == ("error", "invalid_input")
    assert pointer in reply["detail"]


def test_a_platform_error_is_an_error_frame() -> None:
    assert reply_to({"action": "say", "text": "forbidden"}) == {
        "type": "error",
        "code": "forbidden",
        "detail": "Not here.",
    }


def test_an_unexpected_exception_is_an_error_frame_without_internals_and_logged(
    logged: Callable[[], list[dict[str, Any]]],
) -> None:
    reply = reply_to({"action": "say", "text": "broken"}, connection_id="c-9")

    assert reply["code"] == "internal_error"
    assert "hunter2" not in json.dumps(reply)
    (line,) = [line for line in logged() if line["level"] == "ERROR"]
    assert "RuntimeError: password=<redacted>" in line["exception"]
    assert line["connection_id"] == "c-9"


def test_messages_are_counted_by_route_and_outcome(metrics: Callable[[], list[dict[str, Any]]]) -> None:
    reply_to({"action": "say", "text": "hello"}, route="say")
    reply_to("{", route="say")

    counted = [(line["route"], line["status"]) for line in metrics() if "websocket_messages_total" in line]
    assert counted == [("say", "ok"), ("say", "error")]


def test_a_connection_is_accepted_with_whose_it_is() -> None:
    seen: list[Connection] = []
    event = websocket_event(route="$connect", connection_id="c-1", authorizer=caller_context(7), headers={"Host": "h"})

    assert websocket_lifecycle(seen.append)(event, Context()) == {"statusCode": 200}

    assert (seen[0].id, seen[0].caller.user_id) == ("c-1", 7)


def test_a_connection_is_refused_with_the_status_of_the_error() -> None:
    def refuse(_connection: Connection) -> None:
        raise DependencyUnavailableError("cache")

    assert websocket_lifecycle(refuse)(websocket_event(route="$connect"), Context()) == {"statusCode": 503}


def test_an_action_that_does_not_exist_is_named_whatever_else_the_frame_has() -> None:
    function = Function("RejectActionFunction", "app.handler", ROOT / "functions" / "realtime" / "reject_action")
    event = websocket_event({"action": "dance", "room": "event:1", "id": 3}, route="$default")

    answer = load_function(function).handler(event, Context())

    reply = json.loads(answer["body"])
    assert (reply["code"], reply["id"]) == ("invalid_input", 3)
    assert "'dance' is no action" in reply["detail"]
