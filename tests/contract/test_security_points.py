"""docs/security.md names, for each point, tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from local.openapi import build_openapi
from tests.support.application import ROOT, template_application

POINTS = range(1, 41)
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")


def rows(text: str) -> dict[int, str]:
    """What the document says of each point: a point may have several rows."""
    found: dict[int, str] = {}
    for line in text.splitlines():
        if number := re.match(r"\| (\d+) \|", line):
            found[int(number[1])] = found.get(int(number[1]), "") + line
    return found


def missing_tests(text: str, root: Path) -> list[str]:
    """References to a file, or to a test in a file, that is not there."""
    missing = []
    for file, test in REFERENCE.findall(text):
        path = root / file
        if not path.exists() or (test and not re.search(rf"def {test}\b", path.read_text())):
            missing.append(f"{file}::{test}")
    return missing


DOCUMENT = (ROOT / "docs" / "security.md").read_text()


def test_every_point_is_answered() -> None:
    assert list(rows(DOCUMENT)) == list(POINTS)


@pytest.mark.parametrize("point", POINTS)
def test_every_point_names_a_test(point: int) -> None:
    assert REFERENCE.search(rows(DOCUMENT)[point])


def test_every_test_that_is_named_exists() -> None:
    assert missing_tests(DOCUMENT, ROOT) == []


def test_what_is_said_to_be_absent_is_absent() -> None:
    """What comes with it has to be answered for."""
    document = build_openapi(template_application())
    answered = str([operation["responses"] for methods in document["paths"].values() for operation in methods.values()])
    there = {
        28: "text/csv" in answered or "text/calendar" in answered,
        29: (ROOT / "web").exists(),
        33: any("check-in" in path or "ticket" in path.replace("realtime/tickets", "") for path in document["paths"]),
    }

    for point, is_there in there.items():
        says_absent = "test_what_is_said_to_be_absent_is_absent" in rows(DOCUMENT)[point]
        assert says_absent != is_there, f"point {point}"


def test_a_test_that_does_not_exist_is_found() -> None:
    named = "`tests/contract/test_security_points.py::test_nobody_wrote`, `tests/nowhere.py`"

    assert len(missing_tests(named, ROOT)) == 2
