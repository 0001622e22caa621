"""Every endpoint under requests made from its OpenAPI document: sound ones, and ones that break it in each way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.openapi import build_openapi
from tests.support.application import ROOT, template_application
from tests.support.platform import RunningPlatform

EXAMPLES = 8


def fuzz(document: Path, base_url: str, **tokens: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        *("--config-file", str(ROOT / "tests" / "e2e" / "schemathesis.toml")),
        *("run", str(document), "--url", base_url),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--workers", "2"),
        *("--seed", "1", "--no-color"),
    ]
    environment = {**os.environ, **tokens}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=document.parent, env=environment)


@pytest.mark.timeout(660)
def test_no_request_makes_an_endpoint_fail_or_answer_what_is_not_documented(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    caller, other = platform.sign_up(), platform.sign_up()
    platform.create_event(caller)
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(build_openapi(template_application())))

    done = fuzz(
        document,
        platform.endpoints["gateway"],
        ACCESS_TOKEN=caller.access_token,
        OTHER_ACCESS_TOKEN=other.access_token,
    )

    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]


def test_an_answer_that_is_not_documented_is_found(platform: RunningPlatform, tmp_path: Path) -> None:
    """The control: the same run over a document that leaves out one status."""
    document = build_openapi(template_application())
    operation = document["paths"]["/v1/events/{event_id}"]["get"]
    del operation["responses"]["404"]
    document["paths"] = {"/v1/events/{event_id}": {"get": operation}}
    narrowed = tmp_path / "openapi.json"
    narrowed.write_text(json.dumps(document))
    token = platform.sign_up().access_token

    done = fuzz(narrowed, platform.endpoints["gateway"], ACCESS_TOKEN=token, OTHER_ACCESS_TOKEN=token)

    assert done.returncode == 1, done.stdout
    assert "Undocumented status code" in done.stdout
