"""WebSocket routes: a frame in, a reply frame out, errors as frames; no FastAPI (it costs cold start).

A route's return value is sent to the client by API Gateway (the route declares a route response), so a
reply needs no call to the management API. What each route needs stands with it, as it does with REST functions:
the access rule and the limit class. Every frame passes the gate, for a connection outlives what it was opened with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from eventsplatform.entrypoints.access import Access
from eventsplatform.entrypoints.content import check_depth
from eventsplatform.entrypoints.failures import failing_without_secrets
from eventsplatform.entrypoints.providers import provide
from eventsplatform.errors import (
    FieldError,
    InvalidInputError,
    MalformedRequestError,
    PayloadTooLargeError,
    PlatformError,
    RateLimitedError,
    UnauthenticatedError,
)
from eventsplatform.gate.model import LimitClass
from eventsplatform.gate.service import Gate
from eventsplatform.identity.caller import Caller
from eventsplatform.observability import begin_invocation, emit_metric, header, logger

Frame = TypeVar("Frame", bound="ActionFrame")

# API Gateway's limit for a frame. A message may have several, which nothing that clients say here needs.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
FRAME_BYTES = 32 * 1024


class ActionFrame(BaseModel):
    """What every frame of a client has: an action and, if it wants to match the reply, an id of its own."""

    model_config = ConfigDict(extra="forbid")

    action: str
    id: str | int | None = None


class Connection(BaseModel):
    """The socket a frame came in on, and whose it is."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    id: str
    caller: Caller


@dataclass(frozen=True)
class WebSocketRoute(Generic[Frame]):
    """The Lambda handler of one action. `access` and `limit` are read by what checks all routes."""

    frame_type: type[Frame]
    access: Access
    limit: LimitClass
    run: Callable[[Frame, Connection], dict[str, Any]]

    def __call__(self, event: dict[str, Any], context: Any) -> Any:
        return failing_without_secrets(self._answer)(event, context)

    def _answer(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        request = event["requestContext"]
        _begin(event, context)
        content = _read(event.get("body"))
        ended = False
        try:
            caller = _admit(request, self.access, self.limit)
            if isinstance(content, PlatformError):
                raise content
            reply = self.run(_validate(self.frame_type, content), Connection(id=request["connectionId"], caller=caller))
        except PlatformError as error:
            reply = _error_frame(error)
            ended = isinstance(error, UnauthenticatedError)
        except Exception:
            logger.exception("unexpected error")
            reply = {"type": "error", "code": PlatformError.code, "detail": "Something went wrong on our side."}
        emit_metric(
            "websocket_messages_total",
            1,
            route=request["routeKey"],
            status="error" if reply.get("type") == "error" else "ok",
        )
        if isinstance(content, dict) and content.get("id") is not None:
            reply["id"] = content["id"]
        body = orjson.dumps(reply)
        if ended:
            # What this function returned would come after the end.
            _dismiss(request["connectionId"], body)
            return {"statusCode": 200}
        return {"statusCode": 200, "body": body.decode()}


def websocket_route(
    frame_type: type[Frame], *, access: Access, limit: LimitClass
) -> Callable[[Callable[[Frame, Connection], dict[str, Any]]], WebSocketRoute[Frame]]:
    """Make a Lambda handler of `(frame, connection) -> reply`; the reply echoes the frame's id.

    A frame of a session that has ended, or of a token that has expired, is answered with an error frame and closes
    its connection.
    """

    def decorate(run: Callable[[Frame, Connection], dict[str, Any]]) -> WebSocketRoute[Frame]:
        return WebSocketRoute(frame_type, access, limit, run)

    return decorate


@dataclass(frozen=True)
class ConnectRoute:
    """The Lambda handler of `$connect`."""

    access: Access
    limit: LimitClass
    run: Callable[[Connection], None]

    def __call__(self, event: dict[str, Any], context: Any) -> Any:
        return failing_without_secrets(self._answer)(event, context)

    def _answer(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        request = event["requestContext"]
        _begin(event, context)
        try:
            caller = _admit(request, self.access, self.limit)
            self.run(Connection(id=request["connectionId"], caller=caller))
        except PlatformError as error:
            return {"statusCode": int(error.status)}
        return {"statusCode": 200}


def websocket_connect(*, access: Access, limit: LimitClass) -> Callable[[Callable[[Connection], None]], ConnectRoute]:
    """Make a Lambda handler for `$connect`, on which an error refuses the connection with its status."""

    def decorate(run: Callable[[Connection], None]) -> ConnectRoute:
        return ConnectRoute(access, limit, run)

    return decorate


def websocket_disconnect(run: Callable[[str], None]) -> Any:
    """Make a Lambda handler for `$disconnect`, of `(connection id)`: the client has gone, whatever its session."""

    @failing_without_secrets
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        _begin(event, context)
        try:
            run(event["requestContext"]["connectionId"])
        except PlatformError as error:
            return {"statusCode": int(error.status)}
        return {"statusCode": 200}

    return handler


def _begin(event: dict[str, Any], context: Any) -> None:
    request = event["requestContext"]
    begin_invocation(
        traceparent=header(event.get("headers"), "traceparent"),
        request_id=request["requestId"],
        function_request_id=context.aws_request_id,
        connection_id=request["connectionId"],
    )


def _admit(request: dict[str, Any], access: Access, limit: LimitClass) -> Caller:
    """Whom the authorizer let connect, if that still holds. Raises a PlatformError."""
    caller = Caller.from_context(request["authorizer"])
    gate = provide(Gate)
    gate.admit(caller, request["identity"]["sourceIp"], limit)
    access.check(caller, gate.is_verified)
    return caller


def _dismiss(connection_id: str, farewell: bytes) -> None:
    from eventsplatform.adapters.websocket import websocket_gateway

    gateway = websocket_gateway()
    gateway.post(connection_id, farewell)
    gateway.close(connection_id)


def _read(body: str | None) -> dict[str, Any] | PlatformError:
    """The frame's content, or what is wrong with it: it is said after the frame has been counted."""
    try:
        content = (body or "").encode()
        if len(content) > FRAME_BYTES:
            return PayloadTooLargeError(f"The frame has {len(content)} bytes; allowed: {FRAME_BYTES}.")
        check_depth(content)
        frame = orjson.loads(content)
    except (UnicodeEncodeError, orjson.JSONDecodeError) as error:
        return MalformedRequestError(f"The frame is not JSON: {error}.")
    except MalformedRequestError as error:
        return error
    return frame if isinstance(frame, dict) else MalformedRequestError("The frame is not a JSON object.")


def _validate(frame_type: type[Frame], content: dict[str, Any]) -> Frame:
    try:
        return frame_type.model_validate(content)
    except ValidationError as error:
        raise InvalidInputError(
            [FieldError("/" + "/".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        ) from error


def _error_frame(error: PlatformError) -> dict[str, Any]:
    frame: dict[str, Any] = {"type": "error", "code": error.code, "detail": error.detail}
    if isinstance(error, RateLimitedError):
        frame["retry_after"] = error.retry_after_seconds
    return frame
