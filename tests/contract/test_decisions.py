"""Decisions are numbered one after another, and dated."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract.test_security_points import missing_tests
from tests.support.application import ROOT, template_application

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))


def test_every_number_is_given_once() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_number_its_date_and_whether_it_holds(path: Path) -> None:
    title, _, status, *_ = path.read_text().splitlines()

    assert title.startswith(f"# {int(path.name[:4])}. ")
    assert re.match(r"\d{4}-\d\d-\d\d · (accepted|superseded)", status)


def test_the_decision_on_doing_things_once_has_every_consumer_and_tests_that_exist() -> None:
    text = (ROOT / "docs" / "decisions" / "0030-messages-once.md").read_text()
    application = template_application()
    consuming = {application.functions[mapping.function].code for mapping in application.kafka_mappings}

    assert set(re.findall(r"^\| `([a-z_]+/[a-z_]+)` \|", text, re.MULTILINE)) == {
        str(directory.relative_to(ROOT / "functions")) for directory in consuming
    }
    assert missing_tests(text, ROOT) == []
