from typing import Any

from pydantic import ConfigDict

from eventsplatform.entrypoints.websocket import ActionFrame, Connection, websocket_route
from eventsplatform.errors import FieldError, InvalidInputError


class UnknownAction(ActionFrame):
    model_config = ConfigDict(extra="ignore")


@websocket_route(UnknownAction)
def handler(frame: UnknownAction, _connection: Connection) -> dict[str, Any]:
    """Tell the client that no route has this action."""
    raise InvalidInputError([FieldError("/action", f"{frame.action[:60]!r} is no action; allowed: join, ping")])
