"""The error types of the platform and how each is answered over HTTP, WebSocket and NATS.

Domain code raises these; status codes stand in this file alone. Over HTTP they become
`application/problem+json` (RFC 9457), over a WebSocket `{"type":"error","code","detail"}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar


@dataclass(frozen=True)
class FieldError:
    """One rejected value: `pointer` is a JSON Pointer (RFC 6901) into the request body or parameters."""

    pointer: str
    detail: str

    def as_dict(self) -> dict[str, str]:
        return {"pointer": self.pointer, "detail": self.detail}


class PlatformError(Exception):
    """An error the caller can be told about. `detail` is written for that caller: no internals in it."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None, **extensions: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.extensions = extensions

    def as_problem(self, *, instance: str, request_id: str) -> dict[str, Any]:
        """The RFC 9457 body: type, title, status, detail, instance, request_id and any extension members."""
        return {
            "type": f"urn:events-platform:problem:{self.code}",
            "title": self.title,
            "status": int(self.status),
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
            **self.extensions,
        }

    @property
    def is_final(self) -> bool:
        """Whether the same request would be refused again: not when it came too soon or met a failure of ours."""
        return self.status < HTTPStatus.INTERNAL_SERVER_ERROR and self.status != HTTPStatus.TOO_MANY_REQUESTS

    def as_record(self) -> dict[str, Any]:
        """All that `error_from_record` needs, as JSON."""
        return {"code": self.code, "detail": self.detail, "headers": self.headers, "extensions": self.extensions}


def error_from_record(record: Mapping[str, Any]) -> PlatformError:
    """The error that `PlatformError.as_record` was called on."""
    error_type = _with_code(PlatformError, record["code"]) or PlatformError
    error = error_type.__new__(error_type)
    PlatformError.__init__(error, record["detail"], headers=record["headers"], **record["extensions"])
    return error


def _with_code(error_type: type[PlatformError], code: str) -> type[PlatformError] | None:
    if error_type.code == code:
        return error_type
    found = (_with_code(each, code) for each in error_type.__subclasses__())
    return next((each for each in found if each), None)


class MalformedRequestError(PlatformError):
    code = "malformed_request"
    title = "The request could not be read"
    status = HTTPStatus.BAD_REQUEST


class UnauthenticatedError(PlatformError):
    """RFC 6750 §3: a 401 names the scheme that would be accepted."""

    code = "unauthenticated"
    title = "Authentication is required"
    status = HTTPStatus.UNAUTHORIZED

    def __init__(self, detail: str, **extensions: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="events-platform"'}, **extensions)


class ForbiddenError(PlatformError):
    code = "forbidden"
    title = "Not allowed"
    status = HTTPStatus.FORBIDDEN


class NotFoundError(PlatformError):
    code = "not_found"
    title = "Not found"
    status = HTTPStatus.NOT_FOUND


class MethodNotAllowedError(PlatformError):
    code = "method_not_allowed"
    title = "Method not allowed"
    status = HTTPStatus.METHOD_NOT_ALLOWED


class NotAcceptableError(PlatformError):
    code = "not_acceptable"
    title = "There is no such form of it"
    status = HTTPStatus.NOT_ACCEPTABLE


class ConflictError(PlatformError):
    """The request is sound but the present state refuses it (a second registration, a cancelled event)."""

    code = "conflict"
    title = "The current state does not allow this"
    status = HTTPStatus.CONFLICT


class PreconditionFailedError(PlatformError):
    code = "precondition_failed"
    title = "The resource has changed"
    status = HTTPStatus.PRECONDITION_FAILED


class UnsupportedMediaTypeError(PlatformError):
    code = "unsupported_media_type"
    title = "Unsupported content type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class InvalidInputError(PlatformError):
    """One or more values break a rule; every one of them is listed."""

    code = "invalid_input"
    title = "Some values are not valid"
    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, errors: Sequence[FieldError], detail: str | None = None) -> None:
        self.errors = tuple(errors)
        summary = detail or "; ".join(f"{error.pointer or '/'}: {error.detail}" for error in self.errors)
        super().__init__(summary, errors=[error.as_dict() for error in self.errors])


class PayloadTooLargeError(PlatformError):
    code = "request_too_large"
    title = "The request is too large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class RateLimitedError(PlatformError):
    """RFC 6585 §4: says when to try again. `headers` may add the IETF RateLimit fields."""

    code = "rate_limited"
    title = "Too many requests"
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(
        self, detail: str, *, retry_after_seconds: int, headers: Mapping[str, str] | None = None, **extensions: Any
    ) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds), **(headers or {})}, **extensions)
        self.retry_after_seconds = retry_after_seconds


class DependencyUnavailableError(PlatformError):
    """An engine the request cannot do without is down or too slow. Nothing was changed; trying again is safe.

    `was_called` is False when it was not even asked, which says nothing new about it.
    """

    code = "dependency_unavailable"
    title = "Temporarily unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(
        self, dependency: str, *, retry_after_seconds: int = 2, detail: str = "", was_called: bool = True
    ) -> None:
        super().__init__(
            detail or f"The {dependency} is not answering at the moment; nothing was changed, try again shortly.",
            headers={"Retry-After": str(retry_after_seconds)},
        )
        self.dependency = dependency
        self.was_called = was_called


class OutcomeUnknownError(DependencyUnavailableError):
    """The connection broke before a COMMIT was confirmed. The same Idempotency-Key makes trying again safe."""

    code = "outcome_unknown"
    title = "It is not known whether this was carried out"

    def __init__(self, dependency: str) -> None:
        super().__init__(
            dependency,
            detail=f"The {dependency} did not confirm in time, so the change may or may not have been made; "
            "repeat the request with the same Idempotency-Key to find out.",
        )


class PoisonMessageError(PlatformError):
    """A message that can never be processed (schema, size): it goes to the dead-letter topic, not round again."""

    code = "poison_message"
    title = "The message cannot be processed"


_BY_STATUS: dict[int, type[PlatformError]] = {
    int(error.status): error
    for error in (
        MalformedRequestError,
        UnauthenticatedError,
        ForbiddenError,
        NotFoundError,
        MethodNotAllowedError,
        NotAcceptableError,
        ConflictError,
        UnsupportedMediaTypeError,
    )
}


def from_http_status(status: int, detail: str) -> PlatformError:
    """The platform's error for a status a framework chose (404 for an unknown path, 405 for a method)."""
    return _BY_STATUS.get(status, PlatformError)(detail)
