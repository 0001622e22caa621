from typing import Any

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.websocket import ActionFrame, Connection, websocket_route
from eventsplatform.gate.policies import SOCKET
from eventsplatform.realtime.service import Rooms


@websocket_route(ActionFrame, access=signed_in(), limit=SOCKET)
def handler(_frame: ActionFrame, connection: Connection) -> dict[str, Any]:
    """Answer, which also keeps an idle connection open."""
    provide(Rooms).keep(connection.id, connection.caller)
    return {"type": "pong"}
