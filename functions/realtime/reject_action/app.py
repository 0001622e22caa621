from typing import Any

from eventsplatform.entrypoints.websocket import ActionFrame, Connection, websocket_route
from eventsplatform.errors import FieldError, InvalidInputError


@websocket_route(ActionFrame)
def handler(frame: ActionFrame, _connection: Connection) -> dict[str, Any]:
    """Tell the client that no route has this action."""
    raise InvalidInputError([FieldError("/action", f"{frame.action[:60]!r} is no action; allowed: join, ping")])
