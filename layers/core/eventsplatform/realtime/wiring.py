"""Rooms, connections and tickets, connected to Redis, identity and API Gateway's management API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsplatform.clock import utc_now
from eventsplatform.config import read_setting
from eventsplatform.errors import NotFoundError
from eventsplatform.gate.revocations import Revocations
from eventsplatform.gate.wiring import IdentityFunction
from eventsplatform.realtime.connections import Connections
from eventsplatform.realtime.model import team_in
from eventsplatform.realtime.rooms import RedisRooms
from eventsplatform.realtime.service import Rooms
from eventsplatform.realtime.ticket_store import RedisTickets
from eventsplatform.realtime.tickets import Tickets


class LazySockets:
    """Only few functions write to sockets or close them; the routes that answer their own client do not."""

    def post(self, connection_id: str, data: bytes) -> bool:
        from eventsplatform.adapters.websocket import websocket_gateway

        return websocket_gateway().post(connection_id, data)

    def close(self, connection_id: str) -> bool:
        from eventsplatform.adapters.websocket import websocket_gateway

        return websocket_gateway().close(connection_id)


def _team_of(event_id: int) -> dict[int, str]:
    """Asked of the catalog."""
    from eventsplatform.adapters.aws import FunctionCallError, FunctionClient

    try:
        event = FunctionClient().invoke(read_setting("DESCRIBE_EVENT_FUNCTION", str), {"event_id": event_id})
    except FunctionCallError as error:
        if error.error_type == NotFoundError.__name__:
            return {}
        raise
    return team_in(event)


def _connections() -> Connections:
    from eventsplatform.adapters.aws import FunctionClient
    from eventsplatform.adapters.redis import redis_client

    truth = IdentityFunction(FunctionClient())
    return Connections(RedisRooms(), LazySockets(), Revocations(redis_client()), truth, utc_now)


FACTORIES: dict[type, Callable[[], Any]] = {
    Connections: _connections,
    Rooms: lambda: Rooms(RedisRooms(), LazySockets(), _team_of),
    Tickets: lambda: Tickets(RedisTickets()),
}
