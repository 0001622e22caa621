"""The APIs as the template declares them, as the functions serve them, and as they are documented."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import validate

from eventsplatform.gate.policies import LIMIT_CLASSES
from local.application import RestApi, WebSocketApi
from local.openapi import build_openapi, load_function, served_routes
from tests.support.application import ROOT, template_application

DOCUMENT = ROOT / "docs" / "api" / "openapi.json"


@pytest.fixture(scope="module")
def rest_api() -> RestApi:
    api = template_application().rest_api
    assert api is not None
    return api


@pytest.fixture(scope="module")
def websocket_api() -> WebSocketApi:
    api = template_application().websocket_api
    assert api is not None
    return api


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return build_openapi(template_application())


def test_every_route_of_the_template_is_served_by_its_function_and_the_other_way_round(rest_api: RestApi) -> None:
    functions = template_application().functions
    declared = {(route.function, route.method, route.path) for route in rest_api.routes}
    served = {
        (name, method, route.path)
        for name in {route.function for route in rest_api.routes}
        for route in served_routes(functions[name])
        for method in route.methods or ()
    }

    assert served == declared


def test_every_function_that_serves_rest_is_behind_a_route(rest_api: RestApi) -> None:
    functions = template_application().functions.values()
    serving = {function.name for function in functions if "HttpFunction(" in (function.code / "app.py").read_text()}

    assert serving == {route.function for route in rest_api.routes}


def test_a_route_has_an_authorizer_exactly_where_its_endpoint_wants_a_caller(rest_api: RestApi) -> None:
    """Without one, nobody could be told to the endpoint; with one, API Gateway would turn away the anonymous."""
    for route in rest_api.routes:
        access = load_function(template_application().functions[route.function]).function.access

        assert bool(route.authorizer) == access.signed_in, route


def test_every_websocket_route_has_a_function_of_its_kind(websocket_api: WebSocketApi) -> None:
    kinds = {"$connect": "@websocket_connect", "$disconnect": "@websocket_disconnect"}
    for route, name in websocket_api.routes.items():
        source = (template_application().functions[name].code / "app.py").read_text()
        kind = kinds.get(route, "@websocket_route")

        assert kind in source, route
        assert (route in websocket_api.two_way_routes) == (kind == "@websocket_route"), "a reply needs a route response"


def test_every_websocket_action_needs_a_caller_and_has_a_limit(websocket_api: WebSocketApi) -> None:
    for route in websocket_api.routes.keys() - {"$disconnect"}:
        handler = load_function(template_application().functions[websocket_api.routes[route]]).handler

        assert handler.access.signed_in, route
        assert handler.limit in LIMIT_CLASSES, route


def test_an_unknown_action_is_told_all_that_exist(websocket_api: WebSocketApi) -> None:
    actions = sorted(route for route in websocket_api.routes if not route.startswith("$"))
    module = load_function(template_application().functions[websocket_api.routes["$default"]])
    source = (template_application().functions[websocket_api.routes["$default"]].code / "app.py").read_text()

    assert module.handler is not None
    assert f"allowed: {', '.join(actions)}" in source


def test_the_document_is_openapi(document: dict[str, Any]) -> None:
    validate(document)


def test_the_document_is_up_to_date(document: dict[str, Any]) -> None:
    kept = json.loads(DOCUMENT.read_text())

    assert kept == document, "the API has changed; if it was meant to, run: make openapi"


def test_every_operation_documents_each_of_its_errors_as_a_problem(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            errors = {status: answer for status, answer in operation["responses"].items() if status >= "4"}
            assert {"400", "429", "5XX"} <= set(errors), where
            assert "default" not in operation["responses"], f"{where}: each status is documented by itself"
            for status, answer in errors.items():
                if (path, status) != ("/health", "503"):
                    assert list(answer["content"]) == ["application/problem+json"], f"{where} {status}"
            assert operation["description"], where


def test_an_operation_documents_what_its_rule_and_its_parameters_can_refuse(document: dict[str, Any]) -> None:
    publish = document["paths"]["/v1/events/{event_id}/publish"]["post"]
    search = document["paths"]["/v1/search/events"]["get"]

    assert {"401", "403", "404", "409"} <= set(publish["responses"])
    assert not {"403", "404", "409"} & set(search["responses"])
    assert [parameter["name"] for parameter in publish["parameters"]] == ["event_id", "scope", "Idempotency-Key"]


def test_operations_are_named_once_and_after_their_functions(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]

    assert len(names) == len(set(names))
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) for name in names)


def test_only_endpoints_for_callers_ask_for_a_token(document: dict[str, Any], rest_api: RestApi) -> None:
    secured = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation.get("security")
    }

    assert secured == {(route.method, route.path) for route in rest_api.routes if route.authorizer}
