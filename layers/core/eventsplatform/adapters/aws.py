"""boto3 clients: one session per execution environment, clients made on first use (importing boto3 costs 140 ms)."""

from __future__ import annotations

import json
import time
from functools import cache, partial
from http import HTTPStatus
from typing import Any

from eventsplatform.adapters.breakers import breaker, count_retry
from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.deadline import require_time
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.observability import logger
from eventsplatform.transactions import require_no_locks

CONNECT_TIMEOUT_SECONDS = 2.0
SECRETS_MAX_AGE_SECONDS = 300
SECRETS_READ_AGAIN_SECONDS = 10

# The row of calls between services, each of whose functions has a breaker of its own.
FUNCTION = "function"

# Errors of a called function that trying again may cure, and Lambda's own when it has no room.
_UNAVAILABLE_ERRORS = frozenset({"DependencyUnavailableError", "Sandbox.Timedout", "Runtime.ExitError"})


@cache
def client(service: str, row: str = "", *, endpoint_url: str | None = None) -> Any:
    """The environment's client of an AWS service, under the policy of the table's row, or of the one so named.

    No attempt is made that could outlast the invocation, and no call while the row's breaker is open: both raise
    DependencyUnavailableError.
    """
    import boto3
    from botocore.config import Config

    row = row or service
    policy = CALL_POLICIES[row]
    config = Config(
        connect_timeout=min(CONNECT_TIMEOUT_SECONDS, policy.timeout),
        read_timeout=policy.timeout,
        retries={"mode": "standard", "total_max_attempts": policy.attempts},
    )
    made = _session(boto3).client(service, endpoint_url=endpoint_url, config=config)
    made.meta.events.register("before-send", lambda **_: require_time(policy.timeout, policy.called))
    made.meta.events.register("request-created", partial(_count_retry, row))
    if policy.opens_after and row != FUNCTION:
        _guard(made, row)
    return made


def _guard(made: Any, row: str) -> None:
    """Have the client's calls pass the row's breaker. What AWS answers is no outage, unless it is a failure of its own.

    A call begins with the first of these events and ends with one of the others
    (https://botocore.amazonaws.com/v1/documentation/api/latest/topics/events.html).
    """
    guard = breaker(row)

    def end(failure: Exception | None) -> None:
        guard.__exit__(type(failure) if failure else None, failure, None)

    def answered(http_response: Any, **_: Any) -> None:
        failed = http_response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        end(DependencyUnavailableError(guard.policy.called) if failed else None)

    def unanswered(exception: Exception, **_: Any) -> None:
        from botocore.exceptions import BotoCoreError

        lost = isinstance(exception, BotoCoreError)
        end(DependencyUnavailableError(guard.policy.called) if lost else exception)

    made.meta.events.register("before-call", lambda **_: guard.__enter__())
    made.meta.events.register("after-call", answered)
    made.meta.events.register("after-call-error", unanswered)


def _count_retry(row: str, request: Any, **_: Any) -> None:
    if request.context.get("retries", {}).get("attempt", 1) > 1:
        count_retry(row)


@cache
def _session(boto3: Any) -> Any:
    session = boto3.Session()
    session.events.register("before-send", lambda request, **_: require_no_locks(request.url.partition("?")[0]))
    session.events.register("needs-retry.lambda.Invoke", _give_up_waiting)
    return session


def _give_up_waiting(caught_exception: Exception | None, **_: Any) -> None:
    """A function that did not answer in time may still run: called again it would only be waited for again."""
    from botocore.exceptions import ReadTimeoutError

    if isinstance(caught_exception, ReadTimeoutError):
        raise caught_exception


class SecretStore:
    """Secrets Manager, read through Powertools' cache so that a warm function asks once in five minutes."""

    def __init__(self) -> None:
        self._last_known: dict[str, dict[str, Any]] = {}
        self._read_again_at: dict[str, float] = {}

    def get_json(self, name: str) -> dict[str, Any]:
        """The secret's object; the last one known while Secrets Manager does not answer.

        Raises DependencyUnavailableError when there is none yet.
        """
        return self._get(name, anew=False)

    def get_json_anew(self, name: str) -> dict[str, Any]:
        """The secret's object past the cache, for what it does not have; at most once in ten seconds.

        Whoever sends what no secret has, again and again, does not get Secrets Manager asked each time.
        """
        now = time.monotonic()
        if now < self._read_again_at.get(name, 0.0):
            return self.get_json(name)
        self._read_again_at[name] = now + SECRETS_READ_AGAIN_SECONDS
        return self._get(name, anew=True)

    def _get(self, name: str, *, anew: bool) -> dict[str, Any]:
        from aws_lambda_powertools.utilities.parameters import SecretsProvider
        from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

        provider = _secrets_provider(SecretsProvider)
        try:
            text = provider.get(name, max_age=SECRETS_MAX_AGE_SECONDS, force_fetch=anew, VersionStage="AWSCURRENT")
            self._last_known[name] = json.loads(text)
        except GetParameterError as error:
            logger.warning("a secret could not be read", extra={"secret_name": name, "error": str(error)})
            if name not in self._last_known:
                raise DependencyUnavailableError("secret store") from error
        return self._last_known[name]


@cache
def _secrets_provider(provider: Any) -> Any:
    return provider(boto3_client=client("secretsmanager"))


class FunctionClient:
    """Calls between services: another service's function, invoked directly."""

    def invoke(self, name: str, payload: dict[str, Any]) -> Any:
        """The function's result.

        Raises FunctionCallError with its error type and message when it failed, DependencyUnavailableError
        when it could not be reached or could not reach what it needs itself, and while its breaker is open.
        """
        with breaker(FUNCTION, name):
            return self._invoke(name, payload)

    def _invoke(self, name: str, payload: dict[str, Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = client("lambda", FUNCTION).invoke(FunctionName=name, Payload=json.dumps(payload).encode())
            result = json.loads(answer["Payload"].read())
        except (BotoCoreError, ClientError) as error:
            logger.warning("a function could not be called", extra={"function": name, "error": str(error)})
            raise DependencyUnavailableError("service behind this one") from error
        if "FunctionError" not in answer:
            return result
        failure = FunctionCallError(name, result.get("errorType", ""), result.get("errorMessage", ""))
        if failure.error_type in _UNAVAILABLE_ERRORS:
            raise DependencyUnavailableError("service behind this one") from failure
        raise failure

    def invoke_async(self, name: str, payload: dict[str, Any]) -> None:
        """Hand over an event, without waiting long: who calls this has already answered or can do without."""
        answer = client("lambda", "event").invoke(
            FunctionName=name, InvocationType="Event", Payload=json.dumps(payload).encode()
        )
        answer["Payload"].read()  # nothing; but unread it keeps the connection from being used again


class FunctionCallError(RuntimeError):
    def __init__(self, function: str, error_type: str, message: str) -> None:
        super().__init__(f"{function}: {error_type}: {message}")
        self.error_type = error_type
