from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.websocket import Connection, websocket_lifecycle
from eventsplatform.realtime.service import Rooms


@websocket_lifecycle
def handler(connection: Connection) -> None:
    """Remember a new connection and whose it is."""
    provide(Rooms).connect(connection.id, connection.caller)
