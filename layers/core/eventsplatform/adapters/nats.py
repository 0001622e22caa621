"""NATS JetStream from a synchronous handler: one connection and one event loop per execution environment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from eventsplatform.adapters.breakers import Breaker, breaker
from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.config import NatsSettings
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.observability import logger
from eventsplatform.transactions import require_no_locks

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

T = TypeVar("T")

CONNECT_TIMEOUT_SECONDS = CALL_POLICIES["nats"].timeout
RETRY_SECONDS = 0.1


class NatsConnection:
    """Runs nats-py on a loop in its own thread, so that pings are answered between invocations' calls."""

    def __init__(self, settings: NatsSettings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._client: Client | None = None
        threading.Thread(target=self._loop.run_forever, name="nats", daemon=True).start()

    def run(self, coroutine: Coroutine[Any, Any, T], *, timeout_seconds: float) -> T:
        """The coroutine's result.

        Raises TimeoutError when it takes longer than `timeout_seconds`, DependencyUnavailableError while the breaker
        of NATS is open.
        """
        require_no_locks("NATS")
        future: Future[T] | None = None
        try:
            with nats_breaker():
                future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
                return future.result(timeout_seconds)
        except TimeoutError:
            if future is not None:
                future.cancel()
            raise
        finally:
            if future is None:
                coroutine.close()

    async def jetstream(self) -> JetStreamContext:
        """A JetStream context on a live connection. Raises DependencyUnavailableError when NATS can't be reached."""
        return (await self.client()).jetstream(timeout=CONNECT_TIMEOUT_SECONDS)

    async def client(self) -> Client:
        """A live connection. Raises DependencyUnavailableError when NATS can't be reached."""
        import nats
        from nats.errors import Error as NatsError

        if self._client is None or not self._client.is_connected:
            await self._close()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    self._client = await nats.connect(
                        self._settings.url,
                        # Even the first connection is tried again and again, two seconds apart, unless told not to.
                        allow_reconnect=False,
                        max_reconnect_attempts=1,
                        reconnect_time_wait=RETRY_SECONDS,
                        error_cb=_log_error,
                        **_credentials(self._settings),
                    )
            except (NatsError, OSError, TimeoutError) as error:
                raise DependencyUnavailableError("message bus") from error
        return self._client

    def publish(self, subject: str, content: bytes, headers: dict[str, str]) -> None:
        """Send a message for whoever listens just now. Raises DependencyUnavailableError unless the server has it."""
        try:
            self.run(self._publish(subject, content, headers), timeout_seconds=3 * CONNECT_TIMEOUT_SECONDS)
        except TimeoutError as error:
            raise DependencyUnavailableError("message bus") from error

    async def _publish(self, subject: str, content: bytes, headers: dict[str, str]) -> None:
        from nats.errors import Error as NatsError

        client = await self.client()
        try:
            await client.publish(subject, content, headers=headers)
            # Without an answer to what was sent with it, nobody could tell whether it has arrived.
            await client.flush(int(CONNECT_TIMEOUT_SECONDS))
        except (NatsError, OSError, TimeoutError) as error:
            raise DependencyUnavailableError("message bus") from error

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await client.close()

    def ping(self) -> None:
        """Raises DependencyUnavailableError when JetStream does not answer."""
        self.run(self._account_info(), timeout_seconds=2 * CONNECT_TIMEOUT_SECONDS)

    async def _account_info(self) -> None:
        from nats.errors import Error as NatsError

        try:
            await (await self.jetstream()).account_info()
        except (NatsError, OSError, TimeoutError) as error:
            raise DependencyUnavailableError("message bus") from error


def nats_breaker() -> Breaker:
    return breaker("nats", is_outage=_is_outage)


def _is_outage(error: BaseException) -> bool:
    from nats.errors import Error as NatsError

    return isinstance(error, (NatsError, OSError, TimeoutError, DependencyUnavailableError))


def _credentials(settings: NatsSettings) -> dict[str, Any]:
    """User and password of the connection, from Secrets Manager; none on one machine."""
    if not settings.credentials_secret:
        return {}
    from eventsplatform.adapters.aws import SecretStore

    secret = SecretStore().get_json(settings.credentials_secret)
    return {"user": secret["username"], "password": secret["password"]}


async def _log_error(error: Exception) -> None:
    logger.warning("nats client error", extra={"error": str(error)})


@cache
def nats_connection() -> NatsConnection:
    return NatsConnection(NatsSettings.from_environment())
