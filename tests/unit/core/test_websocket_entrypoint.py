from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import Field

from eventsplatform.adapters import websocket
from eventsplatform.entrypoints import websocket as entrypoint
from eventsplatform.entrypoints.access import signed_in, verified
from eventsplatform.entrypoints.content import JSON_DEPTH
from eventsplatform.entrypoints.websocket import (
    FRAME_BYTES,
    ActionFrame,
    Connection,
    websocket_connect,
    websocket_disconnect,
    websocket_route,
)
from eventsplatform.errors import (
    DependencyUnavailableError,
    ForbiddenError,
    PlatformError,
    RateLimitedError,
    UnauthenticatedError,
)
from eventsplatform.gate.model import LimitClass
from eventsplatform.gate.policies import SOCKET, WRITE
from eventsplatform.gate.service import Admission, Gate
from eventsplatform.identity.caller import Caller
from local.application import Function
from local.openapi import load_function
from tests.support.application import ROOT
from tests.support.lambda_events import Context, caller_context, websocket_event


class OpenGate:
    """Lets everyone through, unless it has a refusal, and knows who has confirmed an address since."""

    def __init__(self) -> None:
        self.admitted: list[tuple[Caller | None, str, LimitClass]] = []
        self.verified_since: set[int] = set()
        self.refusal: PlatformError | None = None

    def admit(self, caller: Caller | None, address: str, limit_class: LimitClass) -> Admission:
        self.admitted.append((caller, address, limit_class))
        if self.refusal is not None:
            raise self.refusal
        return Admission()

    def is_verified(self, caller: Caller) -> bool:
        return caller.user_id in self.verified_since


class ClosedSockets:
    """What was said to connections through the management API, and which were closed."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.closed: list[str] = []

    def post(self, connection_id: str, data: bytes) -> bool:
        assert connection_id not in self.closed
        self.told.append((connection_id, json.loads(data)))
        return True

    def close(self, connection_id: str) -> bool:
        self.closed.append(connection_id)
        return True


@pytest.fixture(autouse=True)
def gate(monkeypatch: pytest.MonkeyPatch) -> OpenGate:
    opened = OpenGate()
    monkeypatch.setattr(entrypoint, "provide", {Gate: opened}.__getitem__)
    return opened


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> ClosedSockets:
    closed = ClosedSockets()
    monkeypatch.setattr(websocket, "websocket_gateway", lambda: closed)
    return closed


class Say(ActionFrame):
    text: str = Field(max_length=10)


@websocket_route(Say, access=signed_in(), limit=SOCKET)
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


# Who may ----------------------------------------------------------------------------------------


def test_every_frame_passes_the_gate_before_it_is_read(gate: OpenGate) -> None:
    reply_to({"action": "say", "text": "hello"}, authorizer=caller_context(7))
    reply_to("{", authorizer=caller_context(8))

    assert [(who.user_id, address, limit) for who, address, limit in gate.admitted if who] == [
        (7, "203.0.113.7", SOCKET),
        (8, "203.0.113.7", SOCKET),
    ]


def test_a_frame_too_many_is_an_error_frame_that_says_when_to_try_again(gate: OpenGate, sockets: ClosedSockets) -> None:
    gate.refusal = RateLimitedError("The limit 'socket' is used up.", retry_after_seconds=3)

    reply = reply_to({"action": "say", "text": "hello", "id": 5})

    assert reply == {
        "type": "error",
        "code": "rate_limited",
        "detail": "The limit 'socket' is used up.",
        "retry_after": 3,
        "id": 5,
    }
    assert sockets.closed == []


def test_a_frame_of_an_ended_session_is_answered_and_its_connection_closed(
    gate: OpenGate, sockets: ClosedSockets
) -> None:
    gate.refusal = UnauthenticatedError("This session has ended; sign in again.")

    answer = say(websocket_event({"action": "say", "text": "hello", "id": 5}, connection_id="c-1"), Context())

    assert answer == {"statusCode": 200}, "what is returned would come after the end"
    assert sockets.told == [
        (
            "c-1",
            {
                "type": "error",
                "code": "unauthenticated",
                "detail": "This session has ended; sign in again.",
                "id": 5,
            },
        )
    ]
    assert sockets.closed == ["c-1"]


def test_a_frame_that_the_access_rule_refuses_is_not_run(gate: OpenGate, sockets: ClosedSockets) -> None:
    ran: list[Any] = []
    route = websocket_route(ActionFrame, access=verified("events:update"), limit=WRITE)(
        lambda frame, _: ran.append(frame) or {"type": "done"}
    )

    def code(**context: str) -> str:
        answer = route(websocket_event({"action": "x"}, authorizer={**caller_context(7), **context}), Context())
        return str(json.loads(answer["body"]).get("code", "done"))

    assert code(verified="false") == "forbidden"
    assert code(permissions="events:read") == "forbidden"
    assert (ran, sockets.closed) == ([], [])
    assert code() == "done"
    gate.verified_since.add(7)
    assert code(verified="false") == "done", "confirmed since the token was issued"


def test_a_route_tells_what_it_needs() -> None:
    assert (say.access, say.limit) == (signed_in(), SOCKET)


# Bounds -----------------------------------------------------------------------------------------


def test_a_frame_of_32_kb_is_read_and_one_byte_more_is_not() -> None:
    def frame(size: int) -> str:
        start = '{"action":"say","text":"hi","id":"'
        return start + "x" * (size - len(start) - 2) + '"}'

    assert reply_to(frame(FRAME_BYTES))["type"] == "said"
    assert reply_to(frame(FRAME_BYTES + 1))["code"] == "request_too_large"


def test_json_that_is_nested_too_deep_is_not_read() -> None:
    def frame(depth: int) -> str:
        return '{"action":"say","text":' + "[" * depth + "]" * depth + "}"

    assert reply_to(frame(JSON_DEPTH - 1))["code"] == "invalid_input"
    assert reply_to(frame(JSON_DEPTH))["code"] == "malformed_request"
    assert reply_to("[" * 30_000)["code"] == "malformed_request"


# Coming and going -------------------------------------------------------------------------------


def test_a_connection_is_accepted_with_whose_it_is(gate: OpenGate) -> None:
    seen: list[Connection] = []
    event = websocket_event(route="$connect", connection_id="c-1", authorizer=caller_context(7), headers={"Host": "h"})

    assert websocket_connect(access=signed_in(), limit=SOCKET)(seen.append)(event, Context()) == {"statusCode": 200}

    assert (seen[0].id, seen[0].caller.user_id) == ("c-1", 7)
    assert len(gate.admitted) == 1


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (UnauthenticatedError("This session has ended; sign in again."), 401),
        (RateLimitedError("Too many.", retry_after_seconds=1), 429),
        (DependencyUnavailableError("cache"), 503),
    ],
)
def test_a_connection_is_refused_with_the_status_of_the_error(
    gate: OpenGate, refusal: PlatformError, status: int
) -> None:
    seen: list[Connection] = []
    connect = websocket_connect(access=signed_in(), limit=SOCKET)(seen.append)
    gate.refusal = refusal

    assert connect(websocket_event(route="$connect"), Context()) == {"statusCode": status}
    assert seen == []


def test_a_connection_goes_whatever_its_session(gate: OpenGate) -> None:
    gone: list[str] = []
    gate.refusal = UnauthenticatedError("This session has ended; sign in again.")

    answer = websocket_disconnect(gone.append)(websocket_event(route="$disconnect", connection_id="c-1"), Context())

    assert (answer, gone) == ({"statusCode": 200}, ["c-1"])


def test_an_action_that_does_not_exist_is_named_whatever_else_the_frame_has() -> None:
    function = Function("RejectActionFunction", "app.handler", ROOT / "functions" / "realtime" / "reject_action")
    event = websocket_event({"action": "dance", "room": "event:1", "id": 3}, route="$default")

    answer = load_function(function).handler(event, Context())

    reply = json.loads(answer["body"])
    assert (reply["code"], reply["id"]) == ("invalid_input", 3)
    assert "'dance' is no action" in reply["detail"]
