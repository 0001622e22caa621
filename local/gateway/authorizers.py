"""Lambda authorizers: the events they get, the policies they return, and the cache between."""

from __future__ import annotations

import functools
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from local.application import Authorizer
from local.gateway.errors import (
    ACCESS_DENIED,
    AUTHORIZER_CONFIGURATION_ERROR,
    AUTHORIZER_FAILURE,
    UNAUTHORIZED,
    GatewayError,
)
from local.gateway.integration import Lambda
from local.gateway.request import Request

_CACHE_ENTRIES = 1000
_EXPLICIT_DENY = "User is not authorized to access this resource with an explicit deny"


@dataclass(frozen=True)
class _Statement:
    allow: bool
    resources: tuple[re.Pattern[str], ...]


@dataclass(frozen=True)
class Decision:
    """An authorizer's output: it decides about many methods, so the policy is what is cached."""

    statements: tuple[_Statement, ...]
    context: dict[str, Any]

    def check(self, method_arn: str) -> None:
        """Raise GatewayError unless the policy allows the method; a deny wins over any allow."""
        effects = {
            statement.allow
            for statement in self.statements
            if any(pattern.fullmatch(method_arn) for pattern in statement.resources)
        }
        if False in effects:
            raise GatewayError(ACCESS_DENIED, _EXPLICIT_DENY)
        if not effects:
            raise GatewayError(ACCESS_DENIED)


class Authorizers:
    """Runs authorizers and remembers what they said for as long as each allows."""

    def __init__(self, lambda_: Lambda) -> None:
        self._lambda = lambda_
        self._cache: OrderedDict[tuple[str, ...], tuple[float, Decision]] = OrderedDict()

    async def authorize(
        self, authorizer: Authorizer, request: Request, method_arn: str, event: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The `requestContext.authorizer` of an allowed request.

        `event` is what a REQUEST authorizer gets besides `type` and `methodArn`. Raises GatewayError:
        UNAUTHORIZED, ACCESS_DENIED, AUTHORIZER_CONFIGURATION_ERROR or AUTHORIZER_FAILURE.
        """
        identity = _identity(authorizer, request)
        key = (authorizer.name, *identity)
        decision = self._cached(key)
        latency = 0
        if decision is None:
            started = time.perf_counter()
            decision = await self._ask(authorizer, identity, request, method_arn, event)
            latency = round((time.perf_counter() - started) * 1000)
            if authorizer.ttl_seconds > 0 and identity:
                self._remember(key, decision, authorizer.ttl_seconds)
        decision.check(method_arn)
        return {**decision.context, "integrationLatency": latency}

    def forget(self) -> None:
        """Empty the cache: the template, and so an authorizer, may have changed."""
        self._cache.clear()

    async def _ask(
        self,
        authorizer: Authorizer,
        identity: tuple[str, ...],
        request: Request,
        method_arn: str,
        event: Mapping[str, Any],
    ) -> Decision:
        if authorizer.type == "TOKEN":
            event = {"type": "TOKEN", "methodArn": method_arn, "authorizationToken": identity[0]}
        else:
            event = {"type": "REQUEST", "methodArn": method_arn, **event}
        try:
            invocation = await self._lambda.call(authorizer.function, event, request.trace_id)
        except GatewayError as error:
            raise GatewayError(AUTHORIZER_FAILURE, reason=str(error)) from error
        if not invocation.ok:
            if _error_message(invocation.payload) == "Unauthorized":
                raise GatewayError(UNAUTHORIZED)
            reason = f"authorizer {authorizer.function} failed: {invocation.payload[:500]!r}"
            raise GatewayError(AUTHORIZER_CONFIGURATION_ERROR, reason=reason)
        try:
            return read_decision(orjson.loads(invocation.payload))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"authorizer {authorizer.function} returned what is no policy: {error!r}"
            raise GatewayError(AUTHORIZER_CONFIGURATION_ERROR, reason=reason) from error

    def _cached(self, key: tuple[str, ...]) -> Decision | None:
        entry = self._cache.get(key)
        if entry is None:
            return None
        expires, decision = entry
        if expires < time.monotonic():
            del self._cache[key]
            return None
        self._cache.move_to_end(key)
        return decision

    def _remember(self, key: tuple[str, ...], decision: Decision, ttl_seconds: float) -> None:
        self._cache[key] = (time.monotonic() + ttl_seconds, decision)
        if len(self._cache) > _CACHE_ENTRIES:
            self._cache.popitem(last=False)


def _identity(authorizer: Authorizer, request: Request) -> tuple[str, ...]:
    """The values of the identity sources; one missing or empty is a 401 without asking the function."""
    query = request.query or {}
    values = [request.header(name) for name in authorizer.identity_headers]
    values += [query.get(name) for name in authorizer.identity_query]
    present = tuple(value for value in values if value)
    if len(present) < len(values):
        raise GatewayError(UNAUTHORIZED)
    expression = authorizer.validation_expression
    if expression is not None and not re.fullmatch(expression, present[0]):
        raise GatewayError(UNAUTHORIZED)
    return present


def _error_message(payload: bytes) -> object:
    try:
        error = orjson.loads(payload)
    except ValueError:
        return None
    return error.get("errorMessage") if isinstance(error, dict) else None


def read_decision(output: Any) -> Decision:
    """The output format of a Lambda authorizer; raises ValueError and the like when it is not that.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html
    """
    principal = output["principalId"]
    if not isinstance(principal, str):
        raise ValueError("principalId must be a string")
    context = {"principalId": principal}
    for name, value in (output.get("context") or {}).items():
        if isinstance(value, dict | list):
            raise ValueError(f"context.{name} must be a string, number or boolean")
        if value is not None:
            context[name] = value if isinstance(value, str) else orjson.dumps(value).decode()
    statements = output["policyDocument"]["Statement"]
    read = (_read_statement(statement) for statement in _as_list(statements))
    return Decision(tuple(statement for statement in read if statement is not None), context)


def _read_statement(statement: Mapping[str, Any]) -> _Statement | None:
    if "Condition" in statement or "NotAction" in statement or "NotResource" in statement:
        raise ValueError("Condition, NotAction and NotResource are not supported on one machine")
    if statement["Effect"] not in ("Allow", "Deny"):
        raise ValueError("Effect must be Allow or Deny")
    resources = tuple(_pattern(resource) for resource in _as_list(statement["Resource"]))
    if not any(_pattern(action.lower()).fullmatch("execute-api:invoke") for action in _as_list(statement["Action"])):
        return None
    return _Statement(statement["Effect"] == "Allow", resources)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@functools.lru_cache(maxsize=1000)
def _pattern(wildcards: str) -> re.Pattern[str]:
    """An IAM pattern: `*` is any text, slashes and colons included, and `?` any one character."""
    return re.compile("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in wildcards), re.DOTALL)
