from __future__ import annotations

from pathlib import Path

import pytest

from eventsplatform.messaging.routes_file import ROUTES_FILE
from local.__main__ import main


def test_the_routes_are_printed_with_where_they_lead(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["routes"]) == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["platform", "evp.events.v1", "PLATFORM:", "{message.type>}.{message.subject}", "-"] in lines


def test_a_file_that_cannot_be_used_is_refused_with_its_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(ROUTES_FILE.read_text().replace("topic: evp.inbound.v1", "topic: evp.outbound.v1"))

    assert main(["routes", str(broken)]) == 1
    assert main(["routes", str(tmp_path / "missing.yaml")]) == 1

    printed = capsys.readouterr().err
    assert "broken.yaml:" in printed
    assert "no topic 'evp.outbound.v1'" in printed
