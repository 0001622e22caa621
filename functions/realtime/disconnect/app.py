from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.websocket import Connection, websocket_lifecycle
from eventsplatform.realtime.service import Rooms


@websocket_lifecycle
def handler(connection: Connection) -> None:
    """Forget a connection and leave its rooms."""
    provide(Rooms).disconnect(connection.id)
