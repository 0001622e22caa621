"""The OpenAPI document of the whole REST API, put together from the functions that serve it.

Every function documents its own endpoint through FastAPI; the template says which of them need an access
token. `python -m local openapi` prints the document; `docs/api/openapi.json` is its released state.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from eventsplatform.entrypoints.http import WRITES, HttpFunction
from local.application import Application, Function, RestRoute

TITLE = "Events Platform"
VERSION = "1"
BEARER = "AccessToken"


REFUSALS = {
    "400": "The request could not be read",
    "401": "The access token is missing, not valid, or of a session that has ended",
    "403": "The caller may not do this",
    "404": "There is no such thing, or it is none of the caller's business",
    "406": "None of the forms that Accept asks for is offered",
    "409": "The present state refuses it, or a request with this Idempotency-Key is still running",
    "412": "It has changed since the version that If-Match names",
    "413": "The request is too large",
    "415": "The content is not JSON",
    "422": "Some values are not valid",
    "429": "Too many requests; Retry-After says when to come again",
    "5XX": "A failure of ours",
}

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Names the request: a repeat within 24 hours gets the first one's answer and has no further effect.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}


class ProblemError(BaseModel):
    pointer: str = Field(description="A JSON Pointer (RFC 6901) into the body; /query/… and /path/… for parameters.")
    detail: str


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[ProblemError] | None = None


def load_function(function: Function) -> ModuleType:
    """A function's module, under a name of its own: every one of them is called `app`."""
    path = function.code / f"{function.handler.partition('.')[0]}.py"
    spec = importlib.util.spec_from_file_location(f"functions_{function.name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def served_routes(function: Function) -> Iterator[APIRoute]:
    """The endpoints that a function's FastAPI application serves."""
    module = load_function(function)
    for route in module.function.app.routes:
        if isinstance(route, APIRoute):
            yield route


def build_openapi(application: Application) -> dict[str, Any]:
    """OpenAPI 3.1 of every route that the template declares."""
    if application.rest_api is None:
        raise ValueError("the template declares no REST API")
    whole = FastAPI()
    refusals: dict[tuple[str, str], dict[str, str]] = {}
    declared: dict[tuple[str, str], RestRoute] = {}
    for route in application.rest_api.routes:
        declared[route.path, route.method.lower()] = route
    for name in dict.fromkeys(route.function for route in application.rest_api.routes):
        for served in served_routes(application.functions[name]):
            served.tags = [application.functions[name].code.parent.name]
            served.operation_id = application.functions[name].code.name
            whole.router.routes.append(served)
            for method in served.methods or ():
                refusals[served.path, method.lower()] = _refusals(load_function(application.functions[name]), served)
    document = get_openapi(title=TITLE, version=VERSION, routes=whole.routes)
    _document_problems(document, refusals)
    schemes = document["components"].setdefault("securitySchemes", {})
    schemes[BEARER] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if declared[path, method].authorizer:
                operation["security"] = [{BEARER: []}]
    return document


def _refusals(module: ModuleType, route: APIRoute) -> dict[str, str]:
    """The errors that an endpoint may answer with, by status, and when; those of its own `responses`, too."""
    function: HttpFunction = module.function
    writes = bool(WRITES & (route.methods or set()))
    headers = {field.alias.lower() for field in route.dependant.header_params}
    possible = {
        "400": True,
        "401": function.limit is not None,
        "403": function.access.permission is not None or function.access.verified,
        "404": bool(route.dependant.path_params),
        "406": bool(function.forms),
        "409": writes,
        "412": "if-match" in headers,
        "413": writes,
        "415": writes,
        "422": bool(route.dependant.path_params or route.dependant.query_params or headers or writes),
        "429": True,
        "5XX": True,
    }
    own = {str(status): answer for status, answer in route.responses.items() if int(status) >= 400}
    return {
        **{status: REFUSALS[status] for status, is_possible in possible.items() if is_possible},
        **{status: answer["description"] for status, answer in own.items() if "content" not in answer},
    }


def _document_problems(document: dict[str, Any], refusals: dict[tuple[str, str], dict[str, str]]) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs")
    schemas["Problem"] = problem
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    content = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, description in refusals[path, method].items():
                operation["responses"][status] = {"description": description, **content}
            for status, answer in operation["responses"].items():
                if status >= "4" and "content" not in answer:
                    answer |= content  # an error that the endpoint documents itself
            if method.upper() in WRITES:
                operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)


def template_directory() -> Path:
    """The checkout this package is part of."""
    return Path(__file__).resolve().parent.parent
