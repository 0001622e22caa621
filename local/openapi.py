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

from local.application import Application, Function, RestRoute

TITLE = "Events Platform"
VERSION = "1"
BEARER = "AccessToken"


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
    declared: dict[tuple[str, str], RestRoute] = {}
    for route in application.rest_api.routes:
        declared[route.path, route.method.lower()] = route
    for name in dict.fromkeys(route.function for route in application.rest_api.routes):
        for served in served_routes(application.functions[name]):
            served.tags = [application.functions[name].code.parent.name]
            served.operation_id = application.functions[name].code.name
            whole.router.routes.append(served)
    document = get_openapi(title=TITLE, version=VERSION, routes=whole.routes)
    _document_problems(document)
    schemes = document["components"].setdefault("securitySchemes", {})
    schemes[BEARER] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if declared[path, method].authorizer:
                operation["security"] = [{BEARER: []}]
    return document


def _document_problems(document: dict[str, Any]) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs")
    schemas["Problem"] = problem
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    answer = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for methods in document["paths"].values():
        for operation in methods.values():
            if "422" in operation["responses"]:
                operation["responses"]["422"] = {"description": "Some values are not valid", **answer}
            operation["responses"]["default"] = {"description": "Any other error", **answer}


def template_directory() -> Path:
    """The checkout this package is part of."""
    return Path(__file__).resolve().parent.parent
