from typing import Any

from pydantic import Field

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.websocket import ActionFrame, Connection, websocket_route
from eventsplatform.gate.policies import SOCKET
from eventsplatform.realtime.service import Rooms


class Presence(ActionFrame):
    room: str = Field(max_length=64)


@websocket_route(Presence, access=signed_in(), limit=SOCKET)
def handler(frame: Presence, connection: Connection) -> dict[str, Any]:
    """How many connections are in a room."""
    return {
        "type": "presence",
        "room": frame.room,
        "presence": provide(Rooms).presence(frame.room, connection.caller),
    }
