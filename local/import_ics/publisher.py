"""Sending events to the API as a signed-in user, with patience for a busy server and none for a wrong request."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from local.import_ics.entries import Entry

ATTEMPTS = 5
LONGEST_WAIT_SECONDS = 30.0
# The gateway itself gives up after 29 s.
TIMEOUT = httpx.Timeout(35, connect=5)

_BUSY = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
# Nothing was sent, so that trying again cannot do anything twice.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


class ApiUnavailableError(RuntimeError):
    """Nothing answers at the API's address."""


class SignInError(RuntimeError):
    """The API does not let this user in."""


class NotPublishedError(RuntimeError):
    """The API did not publish an event; the message is its reason."""


class Publisher:
    """Publishes as one user. The client has the API's address as its base URL and `TIMEOUT` for its timeouts."""

    def __init__(
        self, client: httpx.Client, *, email: str, password: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._sleep = sleep
        self._credentials = {"email": email, "password": password}
        self._authorization = ""

    def sign_in(self) -> None:
        """Raises SignInError when refused, ApiUnavailableError when nothing answers."""
        response = self._patiently("/v1/auth/login", self._credentials, {})
        if not response.is_success:
            raise SignInError(_problem(response))
        try:
            self._authorization = f"Bearer {response.json()['access_token']}"
        except (ValueError, KeyError, TypeError) as error:
            raise SignInError("the address answers, but not as this API does") from error

    def publish(self, entry: Entry) -> int:
        """Create and publish an event; returns its id.

        Raises NotPublishedError when the API refuses or its answer is lost, ApiUnavailableError when nothing answers.
        """
        body = entry.event.model_dump(mode="json", exclude_unset=True)
        created = self._post("/v1/events", body, entry.idempotency_key("create"))
        event_id: int = created["id"]
        try:
            self._post(f"/v1/events/{event_id}/publish", None, entry.idempotency_key("publish"))
        except NotPublishedError as error:
            raise NotPublishedError(f"{error} It stays a draft, event {event_id}.") from error
        return event_id

    def _post(self, path: str, body: Any, idempotency_key: str) -> Any:
        """The JSON answer. Signs in again, once, when the access token has expired."""
        headers = {"Authorization": self._authorization, "Idempotency-Key": idempotency_key}
        response = self._patiently(path, body, headers)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self.sign_in()
            response = self._patiently(path, body, {**headers, "Authorization": self._authorization})
        if not response.is_success:
            raise NotPublishedError(_problem(response))
        return response.json()

    def _patiently(self, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
        """The last answer after as many attempts as a busy or restarting server may need."""
        retrying = Retrying(
            retry=retry_if_exception_type(_NOT_SENT) | retry_if_result(lambda response: response.status_code in _BUSY),
            stop=stop_after_attempt(ATTEMPTS),
            wait=_wait,
            sleep=self._sleep,
            reraise=True,
            retry_error_callback=lambda attempts: attempts.outcome.result() if attempts.outcome else None,
        )
        try:
            response: httpx.Response = retrying(self._client.post, path, json=body, headers=headers)
        except _NOT_SENT as error:
            raise ApiUnavailableError(f"nothing answers at {self._client.base_url}") from error
        except httpx.HTTPError as error:
            raise NotPublishedError(
                f"The answer was lost ({type(error).__name__}); it may have been published all the same."
            ) from error
        return response


def _wait(attempts: RetryCallState) -> float:
    """As long as the server asks for, within reason, or else twice as long every time."""
    outcome = attempts.outcome
    asked = outcome.result().headers.get("Retry-After", "") if outcome and not outcome.failed else ""
    if asked.isdecimal():
        return min(float(asked), LONGEST_WAIT_SECONDS)
    return _backoff(attempts)


_backoff = wait_exponential(multiplier=0.25, max=LONGEST_WAIT_SECONDS) + wait_random(0, 0.25)


def _problem(response: httpx.Response) -> str:
    """What a problem document (RFC 9457) says, or else the status."""
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    return str(detail) if detail else f"The API answered {response.status_code} {response.reason_phrase}."
