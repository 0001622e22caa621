from typing import Any

from pydantic import Field

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.websocket import ActionFrame, Connection, websocket_route
from eventsplatform.gate.policies import WRITE
from eventsplatform.realtime.model import Content
from eventsplatform.realtime.service import Rooms


class Publish(ActionFrame):
    room: str = Field(max_length=64)
    data: Content


@websocket_route(Publish, access=verified(), limit=WRITE)
def handler(frame: Publish, connection: Connection) -> dict[str, Any]:
    """Say something to everyone in a room of one's own."""
    said = provide(Rooms).publish(frame.room, frame.data, connection.caller)
    return {"type": "published", "room": said["room"], "epoch": said["epoch"], "offset": said["offset"]}
