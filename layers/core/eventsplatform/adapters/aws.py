"""boto3 clients: one session per execution environment, clients made on first use (importing boto3 costs 140 ms)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5


@cache
def client(service: str, *, endpoint_url: str | None = None) -> Any:
    """The environment's client of an AWS service, with bounded time-outs and botocore's standard retries."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
    return _session(boto3).client(service, endpoint_url=endpoint_url, config=config)


@cache
def _session(boto3: Any) -> Any:
    return boto3.Session()


class SecretStore:
    """Secrets Manager, read through Powertools' cache so that a warm function asks once in five minutes."""

    def __init__(self, max_age_seconds: int = 300) -> None:
        self._max_age_seconds = max_age_seconds

    def get_json(self, name: str) -> dict[str, Any]:
        from aws_lambda_powertools.utilities.parameters import SecretsProvider

        provider = _secrets_provider(SecretsProvider)
        text = provider.get(name, max_age=self._max_age_seconds)
        return dict(json.loads(text))


@cache
def _secrets_provider(provider: Any) -> Any:
    return provider(boto3_client=client("secretsmanager"))


class FunctionClient:
    """Calls between services: another service's function, invoked directly."""

    def invoke(self, name: str, payload: dict[str, Any]) -> Any:
        """The function's result. Raises FunctionCallError with its error type and message when it failed."""
        answer = client("lambda").invoke(FunctionName=name, Payload=json.dumps(payload).encode())
        result = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise FunctionCallError(name, result.get("errorType", ""), result.get("errorMessage", ""))
        return result

    def invoke_async(self, name: str, payload: dict[str, Any]) -> None:
        client("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(payload).encode())


class FunctionCallError(RuntimeError):
    def __init__(self, function: str, error_type: str, message: str) -> None:
        super().__init__(f"{function}: {error_type}: {message}")
        self.error_type = error_type
