"""WebSocket routes: a frame in, a reply frame out, errors as frames; no FastAPI (it costs cold start).

A route's return value is sent to the client by API Gateway (the route declares a route response), so a
reply needs no call to the management API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from eventsplatform.entrypoints.failures import failing_without_secrets
from eventsplatform.errors import FieldError, InvalidInputError, MalformedRequestError, PlatformError
from eventsplatform.identity.caller import Caller
from eventsplatform.observability import begin_invocation, emit_metric, header, logger

Frame = TypeVar("Frame", bound="ActionFrame")


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


def websocket_route(frame_type: type[Frame]) -> Callable[[Callable[[Frame, Connection], dict[str, Any]]], Any]:
    """Make a Lambda handler of `(frame, connection) -> reply`; the reply echoes the frame's id."""

    def decorate(route: Callable[[Frame, Connection], dict[str, Any]]) -> Any:
        def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
            request = event["requestContext"]
            _begin(event, context)
            frame_id: Any = None
            try:
                content = _parse(event.get("body"))
                frame_id = content.get("id")
                frame = _validate(frame_type, content)
                reply = route(frame, Connection(id=request["connectionId"], caller=_caller(request)))
            except PlatformError as error:
                reply = {"type": "error", "code": error.code, "detail": error.detail}
            except Exception:
                logger.exception("unexpected error")
                reply = {"type": "error", "code": PlatformError.code, "detail": "Something went wrong on our side."}
            emit_metric(
                "websocket_messages_total",
                1,
                route=request["routeKey"],
                status="error" if reply.get("type") == "error" else "ok",
            )
            if frame_id is not None:
                reply["id"] = frame_id
            return {"statusCode": 200, "body": orjson.dumps(reply).decode()}

        return handler

    return decorate


def websocket_lifecycle(route: Callable[[Connection], None]) -> Any:
    """Make a Lambda handler for `$connect` or `$disconnect`. On `$connect` an error refuses the connection."""

    @failing_without_secrets
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        request = event["requestContext"]
        _begin(event, context)
        try:
            route(Connection(id=request["connectionId"], caller=_caller(request)))
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


def _caller(request: dict[str, Any]) -> Caller:
    return Caller.from_context(request["authorizer"])


def _parse(body: str | None) -> dict[str, Any]:
    try:
        content = orjson.loads(body or "")
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError(f"The frame is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise MalformedRequestError("The frame is not a JSON object.")
    return content


def _validate(frame_type: type[Frame], content: dict[str, Any]) -> Frame:
    try:
        return frame_type.model_validate(content)
    except ValidationError as error:
        raise InvalidInputError(
            [FieldError("/" + "/".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        ) from error
