from __future__ import annotations

from http import HTTPStatus

import pytest

from eventsplatform.errors import (
    ConflictError,
    DependencyUnavailableError,
    FieldError,
    InvalidInputError,
    NotFoundError,
    PlatformError,
    UnauthenticatedError,
    from_http_status,
)


def test_a_problem_has_the_members_that_rfc_9457_and_the_api_promise() -> None:
    problem = NotFoundError("There is no event 7.").as_problem(instance="/v1/events/7", request_id="r-1")

    assert problem == {
        "type": "urn:events-platform:problem:not_found",
        "title": "Not found",
        "status": 404,
        "detail": "There is no event 7.",
        "instance": "/v1/events/7",
        "request_id": "r-1",
    }


def test_invalid_input_lists_every_rejected_value() -> None:
    error = InvalidInputError([FieldError("/title", "too short"), FieldError("", "not an object")])

    problem = error.as_problem(instance="/", request_id="r")

    assert problem["errors"] == [
        {"pointer": "/title", "detail": "too short"},
        {"pointer": "", "detail": "not an object"},
    ]
    assert problem["detail"] == "/title: too short; /: not an object"


def test_every_error_has_a_code_and_a_title_of_its_own() -> None:
    errors = _subclasses(PlatformError)

    assert len({error.code for error in errors}) == len(errors)
    assert len({error.title for error in errors}) == len(errors)


def _subclasses(error: type[PlatformError]) -> list[type[PlatformError]]:
    return [error, *(each for subclass in error.__subclasses__() for each in _subclasses(subclass))]


def test_an_unauthenticated_answer_names_the_scheme() -> None:
    assert UnauthenticatedError("Sign in.").headers["WWW-Authenticate"].startswith("Bearer ")


def test_an_unavailable_dependency_says_when_to_try_again() -> None:
    error = DependencyUnavailableError("database", retry_after_seconds=5)

    assert error.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert error.headers == {"Retry-After": "5"}
    assert "database" in error.detail


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 415])
def test_a_framework_status_becomes_the_platform_error_of_that_status(status: int) -> None:
    assert int(from_http_status(status, "detail").status) == status


def test_a_status_that_nobody_raises_is_an_internal_error() -> None:
    assert from_http_status(418, "teapot").status is HTTPStatus.INTERNAL_SERVER_ERROR


def test_extension_members_stand_beside_the_standard_ones() -> None:
    problem = ConflictError("Taken.", retry_with="another").as_problem(instance="/", request_id="r")

    assert problem["retry_with"] == "another"
