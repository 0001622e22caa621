"""Events as API Gateway and Amazon MSK send them to functions, and the context that Lambda adds."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eventsplatform.messaging.envelope import Message


@dataclass(frozen=True)
class Context:
    """What functions use of a Lambda context."""

    aws_request_id: str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    function_name: str = "Function"
    remaining_ms: int = 60_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


def rest_event(
    method: str,
    path: str,
    *,
    resource: str | None = None,
    body: Any = None,
    query: Mapping[str, Sequence[str]] | None = None,
    headers: Mapping[str, str] | None = None,
    authorizer: Mapping[str, Any] | None = None,
    is_base64: bool = False,
) -> dict[str, Any]:
    """A REST proxy event. A `body` that is no text is sent as JSON."""
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    sent = {"Host": "api.example.org", **({"Content-Type": "application/json"} if body is not None else {})}
    sent |= headers or {}
    return {
        "resource": resource or path,
        "path": path,
        "httpMethod": method,
        "headers": sent,
        "multiValueHeaders": {name: [value] for name, value in sent.items()},
        "queryStringParameters": {name: values[-1] for name, values in query.items()} if query else None,
        "multiValueQueryStringParameters": {name: list(values) for name, values in query.items()} if query else None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": resource or path,
            "httpMethod": method,
            "path": f"/dev{path}",
            "protocol": "HTTP/1.1",
            "domainName": "api.example.org",
            "stage": "dev",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "identity": {"sourceIp": "203.0.113.7", "userAgent": "test"},
            **({"authorizer": dict(authorizer)} if authorizer else {}),
        },
        "body": text,
        "isBase64Encoded": is_base64,
    }


def websocket_event(
    body: Any = None,
    *,
    route: str = "join",
    connection_id: str = "L0SM9cOFvHcCIhw=",
    authorizer: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A WebSocket event. A `body` that is no text is sent as JSON."""
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    return {
        **({"headers": dict(headers)} if headers else {}),
        "requestContext": {
            "routeKey": route,
            "eventType": {"$connect": "CONNECT", "$disconnect": "DISCONNECT"}.get(route, "MESSAGE"),
            "connectionId": connection_id,
            "requestId": "KpVPjGmEvHcF-0Q=",
            "stage": "dev",
            "identity": {"sourceIp": "203.0.113.7", "userAgent": "test"},
            "authorizer": dict(authorizer or caller_context()),
        },
        **({} if text is None else {"body": text}),
        "isBase64Encoded": False,
    }


def caller_context(user_id: int = 1, permissions: str = "events:create events:read events:update") -> dict[str, str]:
    """The authorizer context of a signed-in user."""
    return {
        "principalId": str(user_id),
        "sub": str(user_id),
        "email": f"user{user_id}@example.org",
        "role": "user",
        "permissions": permissions,
        "jti": "token",
        "sid": "00000000-0000-4000-8000-000000000001",
        "gen": "1",
        "verified": "true",
        "exp": "4102444800",
    }


def kafka_event(partitions: Mapping[str, Sequence[bytes | Message | None]], *, first_offset: int = 0) -> dict[str, Any]:
    """An MSK event of these values by partition (`topic-0`); None is a tombstone."""
    return {
        "eventSource": "aws:kafka",
        "eventSourceArn": "arn:aws:kafka:us-east-1:000000000000:cluster/local/1",
        "bootstrapServers": "b-1.example.org:9098",
        "records": {
            partition: [
                {
                    "topic": partition.rpartition("-")[0],
                    "partition": int(partition.rpartition("-")[2]),
                    "offset": first_offset + number,
                    "timestamp": 1_700_000_000_000,
                    "timestampType": "CREATE_TIME",
                    "key": base64.b64encode(b"42").decode(),
                    **_value(value),
                    "headers": [],
                }
                for number, value in enumerate(values)
            ]
            for partition, values in partitions.items()
        },
    }


def _value(value: bytes | Message | None) -> dict[str, str]:
    if value is None:
        return {}
    return {"value": base64.b64encode(value.to_json() if isinstance(value, Message) else value).decode()}


def event_data(number: int = 1, **changes: Any) -> dict[str, Any]:
    """What is told of event `number`."""
    data = {
        "id": number,
        "title": f"Event {number}",
        "description": "",
        "starts_at": "2030-05-01T18:00:00Z",
        "ends_at": "2030-05-01T20:00:00Z",
        "timezone": "Europe/Berlin",
        "location": {"name": "Berlin", "lat": 52.52, "lon": 13.405},
        "capacity": 100,
        "category": "music",
        "tags": ["jazz"],
        "price": {"amount": "12.50", "currency": "EUR"},
        "status": "draft",
        "cancellation_reason": None,
        "organizer": {"id": 7, "name": "Ada Lovelace"},
        "team": [],
        "version": 1,
        "created_at": "2026-05-01T10:00:00Z",
        "updated_at": "2026-05-01T10:00:00Z",
    }
    return {**data, **changes}


def message(number: int = 1, type: str = "events.created", **changes: Any) -> Message:
    """A platform message about entity `number`."""
    values: dict[str, Any] = {
        "id": f"event-{number}-1",
        "source": "/events-platform/events",
        "type": type,
        "subject": str(number),
        "time": "2026-05-01T10:00:00Z",
        "partitionkey": str(number),
        "data": event_data(number),
        "sequence": 1,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    return Message(**{**values, **changes})
