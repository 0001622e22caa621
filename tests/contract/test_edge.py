"""What API Gateway and CloudWatch do before and beside the functions, against what the functions say themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from eventsplatform.gate import wiring
from eventsplatform.gate.model import LimitClass
from eventsplatform.gate.policies import READ
from local.application import RestApi, RestRoute
from local.openapi import build_openapi, load_function
from tests.support.application import ROOT as PROJECT
from tests.support.application import template_application
from tests.support.template_rules.templates import ROOT, Templates

ADVICE = "name JsonObject as the event's RequestModel"


@pytest.fixture(scope="module")
def rest_api() -> RestApi:
    api = template_application().rest_api
    assert api is not None
    return api


@pytest.fixture(scope="module")
def templates() -> Templates:
    return Templates.load(PROJECT)


def bodies_of_the_unknown(api: RestApi) -> Iterator[str]:
    """The endpoints that anyone may send a body to, by method and path."""
    document = build_openapi(template_application())
    for route in api.routes:
        operation = document["paths"][route.path][route.method.lower()]
        if route.authorizer is None and "requestBody" in operation:
            yield f"{route.method} {route.path}"


def test_what_anyone_may_send_is_checked_before_a_function_starts_for_it(rest_api: RestApi) -> None:
    """For its form alone: API Gateway writes what breaks a rule into its log, a password of the wrong length, say."""
    models = {f"{route.method} {route.path}": route.body_model for route in rest_api.routes if route.body_model}

    assert models == {endpoint: {"type": "object"} for endpoint in bodies_of_the_unknown(rest_api)}, ADVICE


# What a bot would use, or what costs much: each has a limit of its own, below that on reading.
LIMITS = {
    "POST /v1/auth/register": "mail",
    "POST /v1/auth/verify/resend": "mail",
    "POST /v1/auth/password/forgot": "mail",
    "POST /v1/auth/login": "sign_in",
    "POST /v1/auth/refresh": "sign_in",
    "POST /v1/auth/verify": "sign_in",
    "POST /v1/auth/password/change": "sign_in",
    "POST /v1/auth/password/reset": "sign_in",
    "DELETE /v1/users/me": "sign_in",
    "GET /v1/users/me/export": "export",
    "GET /v1/search/events": "search",
    "POST /v1/events/{event_id}/series": "series",
    "GET /v1/users/me/calendar.ics": "feed",
    "POST /v1/webhooks": "delivery",
    "POST /v1/webhooks/{webhook_id}/secret": "delivery",
    "POST /v1/webhooks/{webhook_id}/deliveries": "delivery",
    "POST /v1/events/{event_id}/registrations": "registration",
    "POST /v1/events/{event_id}/registrations/me/accept": "registration",
}
# What costs much in one form alone.
LIMITS_OF_FORMS = {("GET /v1/events/{event_id}/registrations", "text/csv"): "export"}
UNLIMITED = {"GET /health": "it must answer while the engine that keeps the limits does not; API Gateway throttles it"}


def limits_of(api: RestApi) -> dict[str, LimitClass | None]:
    functions = template_application().functions
    return {
        f"{route.method} {route.path}": load_function(functions[route.function]).function.limit for route in api.routes
    }


def test_what_is_costly_or_sensitive_has_a_limit_of_its_own(rest_api: RestApi) -> None:
    found = limits_of(rest_api)

    assert {endpoint for endpoint, limit in found.items() if limit is None} == set(UNLIMITED)
    assert {endpoint: limit.name for endpoint, limit in found.items() if limit and endpoint in LIMITS} == LIMITS
    for endpoint, limit in found.items():
        if limit is not None and "/v1/admin/" in endpoint:
            assert limit.name == "admin", endpoint


def test_a_form_that_is_costly_has_a_limit_of_its_own(rest_api: RestApi) -> None:
    functions = template_application().functions
    found = {
        (f"{route.method} {route.path}", form): limit.name
        for route in rest_api.routes
        for function in [load_function(functions[route.function]).function]
        for form, limit in function.forms.items()
        if limit is not function.limit
    }

    assert found == LIMITS_OF_FORMS


def test_no_write_counts_as_reading(rest_api: RestApi) -> None:
    for endpoint, limit in limits_of(rest_api).items():
        assert endpoint.startswith("GET ") or (limit is not None and limit.user < READ.user), endpoint


# Of all clients together in a second, at most: what a limit class says of one client says nothing of a thousand.
MOST_PER_SECOND = {"sign_in": 100, "mail": 20, "export": 20, "search": 500, "none": 20}


def throttles(templates: Templates) -> dict[str, Mapping[str, Any]]:
    """By method and path, as API Gateway spells them in a stage's settings: `~1` stands for a slash."""
    settings = templates.sources[ROOT]["Resources"]["RestApi"]["Properties"]["MethodSettings"]
    return {f"{each['HttpMethod']} {each['ResourcePath'].replace('~1', '/')}": each for each in settings}


def spelt(route: RestRoute) -> str:
    """The stage's settings begin a path with two slashes: its own, and the first of the resource."""
    return f"{route.method} /{route.path}"


def test_what_is_costly_is_throttled_for_all_together(rest_api: RestApi, templates: Templates) -> None:
    found = throttles(templates)
    limits = limits_of(rest_api)

    for route in rest_api.routes:
        limit = limits[f"{route.method} {route.path}"]
        most = MOST_PER_SECOND.get(limit.name if limit else "none")
        if most is not None:
            settings = found.get(spelt(route), found["* /*"])
            assert settings["ThrottlingRateLimit"] <= most, f"MethodSettings: {spelt(route)}"


def test_every_throttle_is_of_a_route_that_there_is_and_below_the_stages(
    rest_api: RestApi, templates: Templates
) -> None:
    found = throttles(templates)
    everything = found.pop("* /*")

    assert set(found) <= {spelt(route) for route in rest_api.routes}
    for name, settings in found.items():
        assert settings["ThrottlingRateLimit"] < everything["ThrottlingRateLimit"], name
        assert settings["ThrottlingBurstLimit"] <= everything["ThrottlingBurstLimit"], name
        # A method's settings replace the stage's, and what they leave out is off.
        assert {key: settings[key] for key in ("MetricsEnabled", "LoggingLevel")} == {
            key: everything[key] for key in ("MetricsEnabled", "LoggingLevel")
        }, name


def test_the_alarm_watches_the_metric_that_is_written(templates: Templates, capsys: pytest.CaptureFixture[str]) -> None:
    alarm = templates.sources["stacks/observability.yaml"]["Resources"]["LimitsAreNotKept"]["Properties"]

    wiring._report_unavailable(READ)

    (written,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    directive = written["_aws"]["CloudWatchMetrics"][0]
    assert alarm["Namespace"] == directive["Namespace"]
    assert alarm["MetricName"] in {metric["Name"] for metric in directive["Metrics"]}
    watched = {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]}
    assert [list(watched)] == directive["Dimensions"]
    variables = templates.sources[ROOT]["Globals"]["Function"]["Environment"]["Variables"]
    assert watched == {"service": variables["POWERTOOLS_SERVICE_NAME"]}
