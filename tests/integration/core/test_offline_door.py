"""What docs/api/tickets.md shows for devices at a door: it runs, with a bundle and nothing else of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from eventsplatform.registrations.admission.model import DoorQuery
from tests.support.application import ROOT
from tests.support.callers import caller
from tests.support.database import Services, services
from tests.support.doors import by_list

RECIPE = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api" / "tickets.md").read_text(), flags=re.DOTALL)
ORGANIZER, ADA, GRACE, ALAN, EDSGER = 81, 91, 92, 93, 94


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@pytest.fixture
def door_of() -> Any:
    names: dict[str, Any] = {}
    (code,) = RECIPE
    exec(code, names)
    return names["Door"]


def bundle(running: Services, event_id: int, since: int) -> dict[str, Any]:
    """As a device gets it: JSON."""
    answer = running.check_ins.bundle(event_id, DoorQuery(since=since), caller(ORGANIZER))
    content: dict[str, Any] = json.loads(answer.model_dump_json())
    return content


def test_the_recipe_tells_good_tickets_from_all_others(running: Services, door_of: Any) -> None:
    # Given tickets of an event: a good one, one that was issued again, one of a cancelled registration, one used
    event_id, elsewhere = running.published_event(ORGANIZER), running.published_event(ORGANIZER)
    ids = {person: running.registrations.register(event_id, caller(person)).id for person in (ADA, GRACE, ALAN, EDSGER)}
    tokens = {person: running.tickets.of(id_, caller(person)).token for person, id_ in ids.items()}
    other = running.tickets.of(running.registrations.register(elsewhere, caller(ADA)).id, caller(ADA)).token
    renewed = running.tickets.reissue(ids[GRACE], caller(GRACE)).token
    running.registrations.cancel(event_id, caller(ALAN))
    running.check_ins.check_in(event_id, by_list(ids[EDSGER]), caller(ORGANIZER))

    # When a device has learnt the bundle
    door = door_of(event_id)
    door.learn(bundle(running, event_id, 0))

    # Then it tells them apart
    assert door.check(tokens[ADA]) is None
    assert door.check(renewed) is None
    assert door.check(tokens[GRACE]) == "This ticket is no good any more."
    assert door.check(tokens[ALAN]) == "This ticket is no good any more."
    assert door.check(tokens[EDSGER]).startswith("Checked in already, at 20")
    assert door.check(other) == "This is a ticket for another event."
    header, content, signature = tokens[ADA].split(".")
    for forged in ("let me in", "", f"{header}.{content}.", f"{header}.{content}.{signature[::-1]}", renewed[:-4]):
        assert door.check(forged) == "This is no ticket."


def test_a_device_that_asks_again_learns_what_is_new_and_keeps_the_rest(running: Services, door_of: Any) -> None:
    event_id = running.published_event(ORGANIZER)
    ids = {person: running.registrations.register(event_id, caller(person)).id for person in (ADA, GRACE)}
    tokens = {person: running.tickets.of(id_, caller(person)).token for person, id_ in ids.items()}
    running.check_ins.check_in(event_id, by_list(ids[ADA]), caller(ORGANIZER))
    door = door_of(event_id)
    door.learn(bundle(running, event_id, door.since))

    running.registrations.cancel(event_id, caller(GRACE))
    assert door.check(tokens[GRACE]) is None, "it has not heard of it yet"
    door.learn(bundle(running, event_id, door.since))
    assert door.check(tokens[GRACE]) is not None
    assert door.check(tokens[ADA]) is not None

    running.check_ins.undo(event_id, ids[ADA], caller(ORGANIZER))
    door.learn(bundle(running, event_id, door.since))
    assert door.check(tokens[ADA]) is None
