from typing import Any

from pydantic import Field

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.websocket import ActionFrame, Connection, websocket_route
from eventsplatform.gate.policies import SOCKET
from eventsplatform.realtime.model import left_frame
from eventsplatform.realtime.service import Rooms


class Leave(ActionFrame):
    room: str = Field(max_length=64)


@websocket_route(Leave, access=signed_in(), limit=SOCKET)
def handler(frame: Leave, connection: Connection) -> dict[str, Any]:
    """Leave a room."""
    return left_frame(provide(Rooms).leave(frame.room, connection.id))
