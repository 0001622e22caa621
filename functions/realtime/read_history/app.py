from typing import Any

from pydantic import Field

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.websocket import ActionFrame, Connection, websocket_route
from eventsplatform.gate.policies import SOCKET
from eventsplatform.realtime.service import Rooms


class ReadHistory(ActionFrame):
    room: str = Field(max_length=64)
    limit: int = Field(default=20, ge=1, le=100)


@websocket_route(ReadHistory, access=signed_in(), limit=SOCKET)
def handler(frame: ReadHistory, connection: Connection) -> dict[str, Any]:
    """A room's latest frames, without entering it."""
    return provide(Rooms).history(frame.room, connection.caller, frame.limit).as_frame()
