"""API Gateway's management API: how a function writes to a WebSocket it does not hold."""

from __future__ import annotations

from functools import cache
from typing import Any

from eventsplatform.adapters.aws import client
from eventsplatform.config import WebSocketSettings
from eventsplatform.observability import logger


class WebSocketGateway:
    """PostToConnection and DeleteConnection."""

    def __init__(self, settings: WebSocketSettings) -> None:
        self._settings = settings

    def post(self, connection_id: str, data: bytes) -> bool:
        """False when the connection is gone (410) and its traces should be removed.

        Any other failure (throttling, a slow consumer) drops this frame: the client sees the gap in the
        room's offsets and recovers by joining again.
        """
        gateway = self._client
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            gateway.post_to_connection(ConnectionId=connection_id, Data=data)
        except gateway.exceptions.GoneException:
            return False
        except (ClientError, BotoCoreError) as error:
            logger.warning("a frame was dropped", extra={"connection_id": connection_id, "error": str(error)})
        return True

    def close(self, connection_id: str) -> bool:
        """False when it may still be open."""
        gateway = self._client
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            gateway.delete_connection(ConnectionId=connection_id)
        except gateway.exceptions.GoneException:
            return True
        except (ClientError, BotoCoreError) as error:
            logger.warning(
                "a connection could not be closed", extra={"connection_id": connection_id, "error": str(error)}
            )
            return False
        return True

    @property
    def _client(self) -> Any:
        return client("apigatewaymanagementapi", endpoint_url=self._settings.callback_url)


@cache
def websocket_gateway() -> WebSocketGateway:
    return WebSocketGateway(WebSocketSettings.from_environment())
