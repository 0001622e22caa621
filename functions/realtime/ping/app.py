from typing import Any

from eventsplatform.entrypoints.websocket import ActionFrame, Connection, websocket_route


@websocket_route(ActionFrame)
def handler(_frame: ActionFrame, _connection: Connection) -> dict[str, Any]:
    """Answer, which also keeps an idle connection open."""
    return {"type": "pong"}
