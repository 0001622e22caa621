from typing import Any

from pydantic import Field

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.websocket import ActionFrame, Connection, websocket_route
from eventsplatform.gate.policies import SOCKET
from eventsplatform.realtime.model import Position
from eventsplatform.realtime.service import Rooms


class Join(ActionFrame):
    room: str = Field(max_length=64)
    since: Position | None = None


@websocket_route(Join, access=signed_in(), limit=SOCKET)
def handler(frame: Join, connection: Connection) -> dict[str, Any]:
    """Enter a room and, with `since`, catch up on what was missed."""
    return provide(Rooms).join(frame.room, connection.id, connection.caller, frame.since).as_frame()
