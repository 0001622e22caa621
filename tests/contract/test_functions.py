"""Every function of the template: it loads with what Lambda gives it, and takes the events that are kept for it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import textwrap
import time
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from eventsplatform.adapters import aws, websocket
from eventsplatform.adapters.aws import FunctionCallError, FunctionClient
from eventsplatform.adapters.websocket import WebSocketGateway
from eventsplatform.clock import rfc3339, utc_now
from eventsplatform.config import WebSocketSettings
from local.application import Function
from local.platform import aws_client
from local.workers.variables import module_path
from tests.contract.test_imports import imported_by
from tests.support.application import ROOT, template_application
from tests.support.platform import Account, RunningPlatform, platform_running
from tests.support.rotation import begin_rotation

FUNCTIONS = {
    function.code.relative_to(ROOT / "functions"): function for function in template_application().functions.values()
}
SAMPLES = sorted((ROOT / "events").rglob("*.json"))

# What Lambda's Python runtime has of its own: https://docs.aws.amazon.com/lambda/latest/dg/lambda-python.html
RUNTIME = {"boto3"}


def name_of(sample: Path) -> str:
    return str(sample.relative_to(ROOT / "events").with_suffix(""))


def test_every_function_has_a_sample_event_and_every_sample_a_function() -> None:
    sampled = {sample.parent.relative_to(ROOT / "events") for sample in SAMPLES}

    assert sampled == set(FUNCTIONS)


def test_every_function_directory_is_in_the_template() -> None:
    directories = {module.parent.relative_to(ROOT / "functions") for module in (ROOT / "functions").rglob("app.py")}

    assert directories == set(FUNCTIONS)


def test_a_function_is_named_after_its_directory() -> None:
    for directory, function in FUNCTIONS.items():
        assert function.name == "".join(part.capitalize() for part in directory.name.split("_")) + "Function"


# With what Lambda gives it ----------------------------------------------------------------------

LOAD = textwrap.dedent(
    """
    import importlib.abc, importlib.util, json, re, sys
    from importlib.metadata import packages_distributions

    path, deployed, functions = json.loads(sys.argv[1])
    sys.path[:] = path + [entry for entry in sys.path if entry]
    owners = packages_distributions()

    class OnlyWhatIsDeployed(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            names = {re.sub("[-_.]+", "-", owner).lower() for owner in owners.get(name.partition(".")[0], [])}
            if names and not names & set(deployed):
                raise ModuleNotFoundError(f"No module named {name!r}: it is not deployed", name=name)

    sys.meta_path.insert(0, OnlyWhatIsDeployed())
    for name, file, handler in functions:
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert callable(getattr(module, handler)), name
    """
)


def load(functions: list[Function]) -> subprocess.CompletedProcess[str]:
    """Load functions in a process that has their layers and of the installed packages those that are deployed.

    Each function's own directory is left out, for all of them have an `app`.
    """
    layers = {str(directory) for function in functions for directory in module_path(function)[1:]}
    path = [*sorted(layers), sysconfig.get_path("purelib")]
    modules = [(f.name, str(f.code / "app.py"), f.handler.rpartition(".")[2]) for f in functions]
    argument = json.dumps([path, sorted(deployed_distributions()), modules])
    # Isolated and without `site`, so that the checkout's editable installation is not there either.
    command = [sys.executable, "-I", "-S", "-c", LOAD, argument]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/")


def test_every_function_loads_with_its_layers_alone() -> None:
    loaded = load(list(FUNCTIONS.values()))

    assert loaded.returncode == 0, loaded.stderr


@pytest.mark.parametrize("undeployed", ["httpx", "local.engines", "moto"])
def test_a_function_that_imports_what_is_not_deployed_is_caught(tmp_path: Path, undeployed: str) -> None:
    """The control: all of these are installed here, for the local platform."""
    (tmp_path / "app.py").write_text(f"import {undeployed}\nhandler = print\n")
    function = Function("CheatingFunction", "app.handler", tmp_path, layers=next(iter(FUNCTIONS.values())).layers)

    loaded = load([function])

    assert "ModuleNotFoundError" in loaded.stderr


def test_the_core_imports_only_what_is_deployed() -> None:
    """Wherever an import stands: most adapters import their client on first use."""
    owners = packages_distributions()
    core = ROOT / "layers" / "core" / "eventsplatform"
    imported = {name.partition(".")[0] for module in core.rglob("*.py") for name in imported_by(module)}
    foreign = imported - sys.stdlib_module_names - {"eventsplatform"}

    undeployed = [
        name for name in foreign if not {canonicalize_name(o) for o in owners[name]} & deployed_distributions()
    ]

    assert undeployed == []


@cache
def deployed_distributions() -> set[str]:
    """The project's runtime dependencies and all that they need, as the dependencies layer has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    waiting = [Requirement(text) for text in [*project["dependencies"], *RUNTIME]]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name in found and not requirement.extras:
            continue
        found.add(name)
        try:
            needed = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for text in needed:
            each = Requirement(text)
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                waiting.append(Requirement(text.partition(";")[0]))
    return found


# On the whole platform --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform of its own: the samples tell of events that no database has, which others would stumble over."""
    with platform_running(tmp_path_factory.mktemp("samples")) as running:
        yield running


@pytest.fixture(scope="module")
def values(platform: RunningPlatform) -> dict[str, str]:
    """What the placeholders of sample events stand for."""
    ada, other, leaver, appointee = (platform.sign_up() for _ in range(4))
    starts_at = utc_now() + timedelta(days=30)
    return {
        "user_id": str(ada.id),
        "email": ada.email,
        "access_token": ada.access_token,
        "session_id": ada.claims["sid"],
        "other_id": str(other.id),
        "appointee_email": appointee.email,
        "leaver_id": str(leaver.id),
        "leaver_access_token": leaver.access_token,
        "leaver_session_id": leaver.claims["sid"],
        "event_id": str(platform.create_event(ada)["id"]),
        "rotation_token": begin_rotation(platform.endpoints["aws"], "JwtKeys"),
        "ticket_rotation_token": begin_rotation(platform.endpoints["aws"], "TicketKeys"),
        "starts_at": rfc3339(starts_at),
        "ends_at": rfc3339(starts_at + timedelta(hours=3)),
    }


class Fresh:
    """What placeholders stand for that a function uses up: made when a sample asks for it, for that sample alone."""

    def __init__(self, platform: RunningPlatform, values: dict[str, str]) -> None:
        self._platform = platform
        self._values = values

    def __getitem__(self, name: str) -> str:
        if name.startswith("fresh_"):
            return self._of_someone_new[name]
        if name.startswith(("door_", "entered_")):
            return self._at_the_door[name]
        if name in self._values:
            return self._values[name]
        return getattr(self, f"_{name}")()

    @cached_property
    def _of_someone_new(self) -> dict[str, str]:
        grace = self._platform.sign_up("Grace Hopper")
        return {
            "fresh_user_id": str(grace.id),
            "fresh_email": grace.email,
            "fresh_session_id": grace.claims["sid"],
            "fresh_token_id": grace.claims["jti"],
            "fresh_refresh_token": grace.refresh_token,
        }

    @cached_property
    def _at_the_door(self) -> dict[str, str]:
        """An event of Ada's that she has a ticket for, and one that she has come to."""
        ada, values = self._ada(), {}
        for name in ("door", "entered"):
            event_id = self._platform.create_event(ada)["id"]
            registration_id = self._platform.register(ada, event_id)["id"]
            values |= {f"{name}_event_id": str(event_id), f"{name}_registration_id": str(registration_id)}
        path = f"/v1/registrations/{values['door_registration_id']}/ticket"
        values["door_token"] = self._platform.http.get(path, headers=ada.headers).json()["token"]
        self._platform.post(f"/v1/events/{event_id}/check-ins", 200, account=ada, registration_id=registration_id)
        return values

    def _draft_id(self) -> str:
        return str(self._platform.create_event(self._ada(), published=False)["id"])

    def _series_event_id(self) -> str:
        """The first of a published series."""
        ada = self._ada()
        event_id = self._platform.create_event(ada, published=False)["id"]
        self._platform.repeat_event(ada, event_id)
        path = f"/v1/events/{event_id}/publish?scope=all"
        assert self._platform.http.post(path, headers=ada.headers).status_code == 200
        return str(event_id)

    def _subscriber_id(self) -> str:
        """Ada, whose calendar can be subscribed to."""
        self._calendar_token()
        return self._values["user_id"]

    def _calendar_token(self) -> str:
        return self._platform.calendar_feed(self._ada())["token"]

    def _ada(self) -> Account:
        return Account(int(self._values["user_id"]), self._values["email"], self._values["access_token"])

    def _registered_event_id(self) -> str:
        ada = self._ada()
        event = self._platform.create_event(ada)
        self._platform.register(ada, event["id"])
        return str(event["id"])

    def _offered_event_id(self) -> str:
        """Of an event whose only place Ada waited for and is offered."""
        ada, first = self._ada(), self._platform.sign_up()
        path = f"/v1/events/{self._platform.create_event(ada, capacity=1)['id']}/registrations"
        for account in (first, ada):
            assert self._platform.http.post(path, headers=account.headers).status_code == 201
        assert self._platform.http.delete(f"{path}/me", headers=first.headers).status_code == 204
        return path.split("/")[3]

    def _webhook_id(self) -> str:
        return self._webhook

    @cached_property
    def _webhook(self) -> str:
        """One for each sample, which names it several times: nobody may have many."""
        path, wanted = "/v1/webhooks", {"url": "https://hooks.example.org/", "event_types": ["registrations.*"]}
        answer = self._platform.http.post(path, headers=self._ada().headers, json=wanted)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def _now(self) -> str:
        return rfc3339(utc_now())

    def _new_email(self) -> str:
        return f"new-{time.time_ns()}@example.org"

    def _verification_token(self) -> str:
        email = self._new_email()
        self._platform.ask_for_account(email)
        return self._platform.mailed_token(email, "verify")

    def _reset_token(self) -> str:
        grace = self._platform.sign_up("Grace Hopper")
        self._platform.post("/v1/auth/password/forgot", 202, email=grace.email)
        return self._platform.mailed_token(grace.email, "reset-password")


def invoke(platform: RunningPlatform, function: Function, event: str) -> dict[str, Any]:
    """Through Lambda's API: the answer, with `FunctionError` when the function raised."""
    client = aws_client("lambda", platform.endpoints["aws"])
    answer = client.invoke(FunctionName=function.name, Payload=event.encode())
    return {"result": json.loads(answer["Payload"].read()), "error": answer.get("FunctionError")}


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_a_function_takes_its_sample_event(platform: RunningPlatform, values: dict[str, str], sample: Path) -> None:
    function = FUNCTIONS[sample.parent.relative_to(ROOT / "events")]
    known = Fresh(platform, values)
    event = re.sub(r"\$\{(\w+)\}", lambda placeholder: known[placeholder[1]], sample.read_text())
    expected = "refused" if sample.name.startswith("refused-") else "taken"

    answer = invoke(platform, function, event)

    assert outcome(json.loads(event), answer) == expected, answer


def test_a_called_function_tells_its_caller_which_error_it_was(
    platform: RunningPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "client", lambda service, _: aws_client(service, platform.endpoints["aws"]))

    with pytest.raises(FunctionCallError) as failed:
        FunctionClient().invoke("DescribeEventFunction", {"event_id": 2**53})

    assert failed.value.error_type == "NotFoundError"


def test_a_push_to_a_connection_that_is_gone_says_so(
    platform: RunningPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = platform.endpoints["gateway"]
    monkeypatch.setattr(websocket, "client", lambda service, **_: aws_client(service, gateway))

    assert not WebSocketGateway(WebSocketSettings(gateway)).post("L0SM9cOFvHcCIhw=", b"{}")


def outcome(event: dict[str, Any], answer: dict[str, Any]) -> str:
    """`taken` or `refused`; anything else is said in the words of the failed assertion."""
    result = answer["result"]
    if "httpMethod" in event and event.get("type") != "REQUEST":
        assert answer["error"] is None, result
        assert set(result) >= {"statusCode", "headers", "body", "isBase64Encoded"}
        assert result["statusCode"] < 500, result["body"]
        return "taken" if result["statusCode"] < 400 else "refused"
    if "connectionId" in event.get("requestContext", {}) and event.get("type") != "REQUEST":
        assert answer["error"] is None, result
        assert result["statusCode"] == 200
        reply = json.loads(result.get("body") or "{}")
        assert reply.get("code") != "internal_error"
        return "refused" if reply.get("type") == "error" else "taken"
    if "records" in event:
        assert answer["error"] is None, result
        return "taken" if result == {"batchItemFailures": []} else f"failed: {result}"
    if answer["error"] is None:
        # An authorizer refuses with a policy that says so, as well as with an error.
        statements = (result or {}).get("policyDocument", {}).get("Statement", [])
        return "refused" if any(statement["Effect"] == "Deny" for statement in statements) else "taken"
    assert result["errorType"] in {"Unauthorized", "NotFoundError", "RotationError"}, result
    return "refused"


def test_every_sample_of_a_rest_function_is_a_request_to_its_route() -> None:
    api = template_application().rest_api
    assert api is not None
    routes = {route.function: route for route in api.routes}
    for sample in SAMPLES:
        event = json.loads(sample.read_text())
        route = routes.get(FUNCTIONS[sample.parent.relative_to(ROOT / "events")].name)
        if route is not None:
            assert (event["httpMethod"], event["resource"]) == (route.method, route.path), name_of(sample)
            pattern = re.sub(r"\{\w+\}", "[^/]+", route.path)
            assert re.fullmatch(pattern, event["path"]), name_of(sample)
            assert bool(route.authorizer) == ("authorizer" in event["requestContext"]), name_of(sample)
