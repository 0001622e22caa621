from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.websocket import Connection, websocket_connect
from eventsplatform.gate.policies import SOCKET
from eventsplatform.realtime.service import Rooms


@websocket_connect(access=signed_in(), limit=SOCKET)
def handler(connection: Connection) -> None:
    """Remember a new connection and whose it is."""
    provide(Rooms).connect(connection.id, connection.caller)
