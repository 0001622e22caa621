"""The part of Lambda's API that the platform needs: invoking functions and looking them up.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from local.application import Function, function_arn
from local.triggers import AsyncInvocations
from local.triggers.asynchronous import MAXIMUM_PAYLOAD_BYTES
from local.triggers.invoking import Invoker
from local.workers import (
    MAXIMUM_REQUEST_BYTES,
    FunctionNotFoundError,
    PayloadTooLargeError,
    TooManyRequestsError,
    WorkersStoppedError,
)

# A name, a partial ARN (`123456789012:function:name`) or an ARN, each with or without a qualifier.
_FUNCTION = re.compile(
    r"(?:(?:arn:aws:lambda:[a-z0-9-]+:)?\d{12}:function:)?(?P<name>[A-Za-z0-9_-]+)(?::(?P<qualifier>[$\w-]+))?"
)


@dataclass(frozen=True)
class LambdaError(Exception):
    """An answer in the form of Lambda's errors."""

    status: int
    type: str
    message: str
    reason: str | None = None

    def response(self) -> Response:
        body = {"Type": "User" if self.status < 500 else "Service", "Message": self.message, "message": self.message}
        if self.reason:
            body["Reason"] = self.reason
        return JSONResponse(body, self.status, {"x-amzn-errortype": self.type, "x-amzn-requestid": str(uuid.uuid4())})


class LambdaApi:
    def __init__(self, functions: Mapping[str, Function], invoker: Invoker, asynchronous: AsyncInvocations) -> None:
        self.functions = functions
        self._invoker = invoker
        self._asynchronous = asynchronous

    async def invoke(self, request: Request) -> Response:
        try:
            function = self._function(request)
            match request.headers.get("x-amz-invocation-type", "RequestResponse"):
                case "RequestResponse":
                    return await self._invoke_and_wait(function, request)
                case "Event":
                    return await self._invoke_later(function, request)
                case "DryRun":
                    return Response(status_code=204, headers={"x-amzn-requestid": str(uuid.uuid4())})
                case other:
                    raise LambdaError(400, "InvalidParameterValueException", f"Invalid invocation type: {other}")
        except LambdaError as error:
            return error.response()
        except ClientDisconnect:
            # Whoever asked has died while it did: there is nobody to read an answer, and nothing to be done.
            return Response(status_code=400)

    async def get_function(self, request: Request) -> Response:
        try:
            function = self._function(request)
        except LambdaError as error:
            return error.response()
        return JSONResponse({"Configuration": _configuration(function), "Code": {}, "Tags": {}})

    async def list_functions(self, _request: Request) -> Response:
        return JSONResponse({"Functions": [_configuration(function) for function in self.functions.values()]})

    async def _invoke_and_wait(self, function: Function, request: Request) -> Response:
        payload = await _payload(request, MAXIMUM_REQUEST_BYTES)
        trace_id, client_context = request.headers.get("x-amzn-trace-id"), _client_context(request)
        try:
            invocation = await self._invoker.invoke(
                function.name, payload, trace_id=trace_id, client_context=client_context
            )
        except FunctionNotFoundError as error:
            raise _not_found(function.name) from error
        except PayloadTooLargeError as error:
            raise _too_large(MAXIMUM_REQUEST_BYTES) from error
        except TooManyRequestsError as error:
            reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
            raise LambdaError(429, "TooManyRequestsException", "Rate Exceeded.", reason) from error
        except WorkersStoppedError as error:
            raise LambdaError(500, "ServiceException", "The platform is stopping.") from error
        headers = {"x-amzn-requestid": invocation.request_id, "x-amz-executed-version": invocation.executed_version}
        if invocation.function_error:
            headers["x-amz-function-error"] = invocation.function_error
        if request.headers.get("x-amz-log-type") == "Tail":
            headers["x-amz-log-result"] = base64.b64encode(invocation.log_tail).decode()
        return Response(invocation.payload, headers=headers, media_type="application/json")

    async def _invoke_later(self, function: Function, request: Request) -> Response:
        payload = await _payload(request, MAXIMUM_PAYLOAD_BYTES)
        trace_id, client_context = request.headers.get("x-amzn-trace-id"), _client_context(request)
        try:
            request_id = self._asynchronous.submit(
                function.name, payload, trace_id=trace_id, client_context=client_context
            )
        except FunctionNotFoundError as error:
            raise _not_found(function.name) from error
        return Response(status_code=202, headers={"x-amzn-requestid": request_id})

    def _function(self, request: Request) -> Function:
        """The function that the path names. Raises LambdaError."""
        given = request.path_params["name"]
        reference = _FUNCTION.fullmatch(given)
        if reference is None:
            raise LambdaError(400, "ValidationException", f"Value '{given}' at 'functionName' is not a function's name")
        qualifier = request.query_params.get("Qualifier") or reference["qualifier"] or "$LATEST"
        function = self.functions.get(reference["name"])
        if function is None or qualifier != "$LATEST":
            raise _not_found(reference["name"], qualifier)
        return function


async def _payload(request: Request, limit: int) -> bytes:
    """The event: the body, which must be JSON; an empty one stands for `{}`. Raises LambdaError."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    try:
        json.loads(body or b"{}")
    except ValueError as error:
        message = f"Could not parse request body into json: {error}"
        raise LambdaError(400, "InvalidRequestContentException", message) from error
    return bytes(body) or b"{}"


def _client_context(request: Request) -> str | None:
    """The header's JSON, on one line. Raises LambdaError."""
    encoded = request.headers.get("x-amz-client-context")
    if encoded is None:
        return None
    try:
        return json.dumps(json.loads(base64.b64decode(encoded, validate=True)))
    except (binascii.Error, ValueError) as error:
        message = "Client context must be a valid Base64-encoded JSON object."
        raise LambdaError(400, "InvalidRequestContentException", message) from error


def _not_found(name: str, qualifier: str = "$LATEST") -> LambdaError:
    arn = function_arn(name) if qualifier == "$LATEST" else f"{function_arn(name)}:{qualifier}"
    return LambdaError(404, "ResourceNotFoundException", f"Function not found: {arn}")


def _too_large(limit: int) -> LambdaError:
    message = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
    return LambdaError(413, "RequestTooLargeException", message)


def _configuration(function: Function) -> dict[str, Any]:
    return {
        "FunctionName": function.name,
        "FunctionArn": function.arn,
        "Handler": function.handler,
        "Timeout": int(function.timeout_seconds),
        "MemorySize": function.memory_mb,
        "Version": "$LATEST",
        "PackageType": "Zip",
        "State": "Active",
        "LastUpdateStatus": "Successful",
    }
