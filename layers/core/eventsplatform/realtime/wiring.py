"""Rooms, connected to Redis and API Gateway's management API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsplatform.config import read_setting
from eventsplatform.errors import NotFoundError
from eventsplatform.realtime.rooms import RedisRooms
from eventsplatform.realtime.service import Rooms


class LazyPushes:
    """Only the fan-out pushes; the routes that answer their own client need no management API."""

    def post(self, connection_id: str, data: bytes) -> bool:
        from eventsplatform.adapters.websocket import websocket_gateway

        return websocket_gateway().post(connection_id, data)


def _organizer_of(event_id: int) -> int:
    """Asked of the catalog; an event that does not exist has the organiser 0, who is nobody."""
    from eventsplatform.adapters.aws import FunctionCallError, FunctionClient

    try:
        event = FunctionClient().invoke(read_setting("DESCRIBE_EVENT_FUNCTION", str), {"event_id": event_id})
    except FunctionCallError as error:
        if error.error_type == NotFoundError.__name__:
            return 0
        raise
    return int(event["organizer"]["id"])


FACTORIES: dict[type, Callable[[], Any]] = {Rooms: lambda: Rooms(RedisRooms(), LazyPushes(), _organizer_of)}
