"""What a deployed stage shows: no page for developers, and no secret but in Secrets Manager."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from local.gateway.gateway import Gateway
from local.mailbox import Mailbox
from local.metrics import EmfMetrics
from local.openapi import load_function
from local.platform import PlatformSettings, _extras
from tests.support.application import ROOT, template_application
from tests.support.template_rules.templates import Templates

# Where frameworks and people put what helps in developing: the local gateway's own, and the usual ones.
USUAL = ("/dev", "/debug", "/docs", "/redoc", "/swagger", "/openapi", "/metrics", "/admin", "/actuator", "/env", "/app")


def pages_of_one_machine(directory: Path) -> set[str]:
    return set(_extras(PlatformSettings(root=ROOT, state=directory), EmfMetrics(), Mailbox(directory / "mail")))


def test_a_deployed_stage_has_nothing_that_helps_developers_and_others(tmp_path: Path) -> None:
    api = template_application().rest_api
    assert api is not None
    local = {page.rstrip("/") for page in pages_of_one_machine(tmp_path)}
    assert {"/dev/mail", "/docs", "/openapi.json", "/metrics"} <= local

    for route in api.routes:
        assert route.path == "/health" or route.path.startswith("/v1/"), route.path
        assert not any(route.path == page or route.path.startswith(f"{page}/") for page in (*USUAL, *local)), route.path


def test_no_function_has_pages_of_its_framework() -> None:
    api = template_application().rest_api
    assert api is not None

    for name in sorted({route.function for route in api.routes}):
        app: FastAPI = load_function(template_application().functions[name]).function.app
        assert (app.docs_url, app.redoc_url, app.openapi_url, app.debug) == (None, None, None, False), name


def test_such_pages_are_of_the_local_gateway_alone() -> None:
    """The core, which is deployed, does not know the package that has them (.importlinter), nor their paths."""
    assert "local" in Gateway.__module__
    for module in (ROOT / "layers" / "core").rglob("*.py"):
        assert '"/dev/' not in module.read_text(), module


def what_api_gateway_would_log(resources: dict[str, Any]) -> list[str]:
    """Settings by which API Gateway writes down the queries of requests: the address of a calendar is a secret."""
    found = []
    for name, resource in resources.items():
        properties = resource.get("Properties", {})
        found += [
            f"{name}: {setting}" for setting in ("AccessLogSetting", "AccessLogSettings") if setting in properties
        ]
        for method in properties.get("MethodSettings", []):
            found += [f"{name}: DataTraceEnabled"] * bool(method.get("DataTraceEnabled"))
            found += [f"{name}: LoggingLevel"] * (method.get("LoggingLevel") not in (None, "OFF", "ERROR"))
    return found


def test_api_gateway_keeps_no_log_of_what_was_asked_for() -> None:
    sources = Templates.load(ROOT).sources

    assert [each for source in sources.values() for each in what_api_gateway_would_log(source["Resources"])] == []


@pytest.mark.parametrize(
    "properties",
    [
        {"AccessLogSetting": {"Format": "$context.requestId"}},
        {"MethodSettings": [{"LoggingLevel": "INFO"}]},
        {"MethodSettings": [{"LoggingLevel": "ERROR", "DataTraceEnabled": True}]},
    ],
)
def test_a_log_of_requests_would_be_noticed(properties: dict[str, Any]) -> None:
    """The control. A log of accesses may come, with a format that leaves queries out, and with a look at this."""
    assert len(what_api_gateway_would_log({"RestApi": {"Properties": properties}})) == 1


# ---------------------------------------------------------------------------------- secrets in the repository

# How issuers mark what they give out, and keys that somebody wrote down.
SECRETS = {
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{50,}"),
    "a Slack token": re.compile(r"\bxox[abpors]-[\w-]{10,}"),
    "a Google key": re.compile(r"\bAIza[\w-]{35}"),
    "a payment key": re.compile(r"\b[rs]k_live_\w{20,}"),
    "a JSON Web Token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    # But for those of engines on the machine itself, which nobody else reaches.
    "a password in an address": re.compile(
        r"\b(?:postgres(?:ql)?|rediss?|nats|amqps?|https?)://[\w.-]+:(?![$\{])[^\s@/'\"{}<>]+@(?!127\.0\.0\.1|localhost)"
    ),
}

# Made up, to be refused or taken out: where tests show what happens to them.
MADE_UP = {"tests/unit", "tests/contract", "tests/integration", "tests/e2e"}


# Of tools: environments, caches, the local platform's state.
MADE_BY_TOOLS = {".venv", ".local", ".git", ".aws-sam", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__"}


def _files_without_git() -> Iterator[str]:
    for directory, below, files in os.walk(ROOT):
        below[:] = [name for name in below if name not in MADE_BY_TOOLS]
        yield from (str((Path(directory) / name).relative_to(ROOT)) for name in files)


def tracked_files() -> Iterator[Path]:
    """The project's files: those that git lists, or without a clone all that no tool has made."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = listed.stdout.decode().split("\0") if listed.returncode == 0 else _files_without_git()
    for name in names:
        if name and not any(name.startswith(f"{directory}/") for directory in MADE_UP):
            yield ROOT / name


def secrets_in(text: str) -> list[str]:
    return [what for what, pattern in SECRETS.items() if pattern.search(text)]


def test_no_secret_is_kept_with_the_code() -> None:
    found = {}
    for path in tracked_files():
        if path.is_file() and (secrets := secrets_in(path.read_text(errors="replace"))):
            found[str(path.relative_to(ROOT))] = secrets

    assert found == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("key = 'AKIA" + "ABCDEFGHIJKLMNOP'", "an AWS access key"),
        ("-----BEGIN RSA PRIVATE" + " KEY-----", "a private key"),
        ("ghp_" + "a" * 36, "a GitHub token"),
        ("eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJlLi4u", "a JSON Web Token"),
        ("postgresql://admin:" + "hunter2@db/x", "a password in an address"),
    ],
)
def test_a_secret_in_the_code_would_be_found(text: str, what: str) -> None:
    assert secrets_in(text) == [what]
