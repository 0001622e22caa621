from typing import Any

from pydantic import ConfigDict

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.websocket import ActionFrame, Connection, websocket_route
from eventsplatform.errors import FieldError, InvalidInputError
from eventsplatform.gate.policies import SOCKET


class UnknownAction(ActionFrame):
    model_config = ConfigDict(extra="ignore")


@websocket_route(UnknownAction, access=signed_in(), limit=SOCKET)
def handler(frame: UnknownAction, _connection: Connection) -> dict[str, Any]:
    """Tell the client that no route has this action."""
    allowed = "allowed: history, join, leave, ping, presence, publish"
    raise InvalidInputError([FieldError("/action", f"{frame.action[:60]!r} is no action; {allowed}")])
