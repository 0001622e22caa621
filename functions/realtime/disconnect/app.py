from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.websocket import websocket_disconnect
from eventsplatform.realtime.service import Rooms


@websocket_disconnect
def handler(connection_id: str) -> None:
    """Forget a connection and leave its rooms."""
    provide(Rooms).disconnect(connection_id)
