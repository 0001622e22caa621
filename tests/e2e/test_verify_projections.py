"""`python -m local verify-projections`: what it finds, what it names, and what it leaves alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.e2e.traffic import traffic
from tests.support.platform import PASSWORD, ROOT, Account, RunningPlatform

AT_ONCE = 0.1


@dataclass(frozen=True)
class Scene:
    """An event with one place: Ben has it, Cem waits for it."""

    organiser: Account
    event: int
    registered: int
    waiting: int


@pytest.fixture(scope="module")
def scene(platform: RunningPlatform) -> Scene:
    ada, ben, cem = (platform.sign_up(name) for name in ("Ada", "Ben", "Cem"))
    event = platform.create_event(ada, title="Jazz by the canal", capacity=1)["id"]
    registered, waiting = platform.register(ben, event)["id"], platform.register(cem, event)["id"]
    assert platform.differences(event=event) == []
    return Scene(ada, event, registered, waiting)


def command(platform: RunningPlatform, *options: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "local", "verify-projections", "--state", str(platform.state), *options]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


# ---------------------------------------------------------------------------------- nothing to find


def test_a_platform_that_has_been_used_has_no_differences(platform: RunningPlatform) -> None:
    # Given all that can happen to events, registrations and people
    ada, ben, cem, dua = (platform.sign_up(name) for name in ("Ada", "Ben", "Cem", "Dua"))
    http = platform.http
    event, called_off, deleted = (
        platform.create_event(ada, capacity=1, published=published)["id"] for published in (True, True, False)
    )
    assert http.patch(f"/v1/events/{event}", headers=ada.headers, json={"title": "Swing"}).is_success
    assert http.put(f"/v1/events/{event}/team/{dua.id}", headers=ada.headers, json={"role": "manager"}).is_success
    for person in (ben, cem, dua):
        platform.register(person, event)
        platform.register(person, called_off)
    for path in (f"events/{event}/registrations/me", f"events/{deleted}"):
        assert http.delete(f"/v1/{path}", headers=(ben if "me" in path else ada).headers).is_success
    assert http.post(f"/v1/events/{event}/registrations/me/accept", headers=cem.headers).is_success
    for registration in (platform.register(person, platform.create_event(ada)["id"]) for person in (ben, cem)):
        door = f"/v1/events/{registration['event_id']}/check-ins"
        platform.post(door, 200, account=ada, registration_id=registration["id"])
    assert http.delete(f"{door}/{registration['id']}", headers=ada.headers).is_success
    assert http.post(f"/v1/events/{called_off}/cancel", headers=ada.headers, json={"reason": "Rain"}).is_success
    # And someone with an event, a draft, a place and a place in line is forgotten
    own = platform.create_event(dua)["id"]
    platform.create_event(dua, published=False)
    platform.register(ada, own)
    assert http.request("DELETE", "/v1/users/me", headers=dua.headers, json={"password": PASSWORD}).is_success

    # When everything is compared
    run = command(platform)

    # Then it agrees, redacted rows and all
    assert (run.returncode, run.stderr) == (0, "")
    assert re.fullmatch(r"[\d,]+ rows compared in [\d.]+ s: no differences\.\n", run.stdout)


def test_what_is_on_its_way_is_no_difference(platform: RunningPlatform) -> None:
    people = [platform.sign_up(name) for name in ("Ada", "Ben", "Cem")]
    with traffic(platform, people):
        assert platform.differences() == []


# ---------------------------------------------------------------------------------- what is found and named

Plant = Callable[[RunningPlatform, Scene], AbstractContextManager[None]]


def updated(table: str, what: str, values: str, back: str) -> Plant:
    """Rows with other values than anything was told of; `{event}` and the like are the scene's."""

    @contextmanager
    def planted(platform: RunningPlatform, scene: Scene) -> Iterator[None]:
        where = what.format(**vars(scene))
        assert platform.sql(f"UPDATE {table} SET {values} WHERE {where} RETURNING 1")
        yield
        platform.sql(f"UPDATE {table} SET {back} WHERE {where} RETURNING 1")

    return planted


def deleted(table: str, what: str) -> Plant:
    @contextmanager
    def planted(platform: RunningPlatform, scene: Scene) -> Iterator[None]:
        where = what.format(**vars(scene))
        gone = platform.sql(
            f"WITH gone AS (DELETE FROM {table} WHERE {where} RETURNING *) SELECT to_jsonb(gone) AS row FROM gone"
        )
        assert gone
        yield
        for each in gone:
            platform.sql(
                f"INSERT INTO {table} OVERRIDING SYSTEM VALUE "
                f"SELECT * FROM jsonb_populate_record(NULL::{table}, %s::jsonb) RETURNING 1",
                [json.dumps(each["row"])],
            )

    return planted


@contextmanager
def a_registration_nobody_told_of(platform: RunningPlatform, scene: Scene) -> Iterator[None]:
    (added,) = platform.sql(
        """
        INSERT INTO registrations.event_registrations (event_id, user_id, status) VALUES (%s, 4711, 'cancelled')
        RETURNING id
        """,
        [scene.event],
    )
    yield
    platform.sql("DELETE FROM registrations.event_registrations WHERE id = %s RETURNING 1", [added["id"]])


@contextmanager
def a_check_in_nobody_told_of(platform: RunningPlatform, scene: Scene) -> Iterator[None]:
    (added,) = platform.sql(
        """
        INSERT INTO registrations.check_ins
               (registration_id, event_id, user_id, scan_id, checked_in_at, checked_in_by, number)
        VALUES (%s, %s, 4711, gen_random_uuid(), now(), 4712, 1)
        RETURNING id
        """,
        [scene.registered, scene.event],
    )
    yield
    platform.sql("DELETE FROM registrations.check_ins WHERE id = %s RETURNING 1", [added["id"]])


@contextmanager
def a_wrong_count_of_who_has_come(platform: RunningPlatform, scene: Scene) -> Iterator[None]:
    platform.sql(
        "INSERT INTO registrations.doors (event_id, checked_in, number) VALUES (%s, 3, 3) RETURNING 1", [scene.event]
    )
    yield
    platform.sql("DELETE FROM registrations.doors WHERE event_id = %s RETURNING 1", [scene.event])


@contextmanager
def a_version_told_again_in_another_month(platform: RunningPlatform, scene: Scene) -> Iterator[None]:
    (added,) = platform.sql(
        """
        INSERT INTO messaging.outbox (shard, aggregate_type, aggregate_id, version, type, partition_key, payload,
                                      actor_id, traceparent, occurred_at, published_at)
        SELECT shard, aggregate_type, aggregate_id, version, type, partition_key, payload,
               actor_id, traceparent, occurred_at + interval '1 month', now()
          FROM messaging.outbox
         WHERE aggregate_type = 'event' AND aggregate_id = %s AND version = 2
        RETURNING id
        """,
        [scene.event],
    )
    yield
    platform.sql("DELETE FROM messaging.outbox WHERE id = %s RETURNING 1", [added["id"]])


def document(**changes: Any) -> Plant:
    """The event's document with changes; without any, none."""

    @contextmanager
    def planted(platform: RunningPlatform, scene: Scene) -> Iterator[None]:
        with httpx.Client(base_url=f"{platform.endpoints['opensearch']}/events/_doc", trust_env=False) as index:
            kept = index.get(f"/{scene.event}").raise_for_status().json()
            # The version stays that of the event, or what is told of it later would be older than this.
            version = {"version": kept["_version"], "version_type": "external_gte"}
            if changes:
                index.put(f"/{scene.event}", params=version, json=kept["_source"] | changes).raise_for_status()
            else:
                index.delete(f"/{scene.event}", params=version).raise_for_status()
            yield
            index.put(f"/{scene.event}", params=version, json=kept["_source"]).raise_for_status()

    return planted


@contextmanager
def a_document_of_no_event(platform: RunningPlatform, _: Scene) -> Iterator[None]:
    with httpx.Client(base_url=f"{platform.endpoints['opensearch']}/events/_doc", trust_env=False) as index:
        index.put("/999999999", json={"id": 999_999_999, "title": "A secret party"}).raise_for_status()
        yield
        index.delete("/999999999").raise_for_status()


EVENT, REGISTERED, WAITING = "id = {event}", "id = {registered}", "id = {waiting}"
TOLD_OF_EVENT = "aggregate_type = 'event' AND aggregate_id = {event}"
TOLD_OF_REGISTRATION = "aggregate_type = 'registration' AND aggregate_id = {registered}"

PLANTED: dict[str, tuple[Plant, str]] = {
    "a changed event": (
        updated("catalog.events", EVENT, "title = 'Forged'", "title = 'Jazz by the canal'"),
        "event {event}: catalog.events, title: expected 'Jazz by the canal', found 'Forged'",
    ),
    "a changed registration": (
        updated("registrations.event_registrations", REGISTERED, "user_id = -user_id", "user_id = -user_id"),
        "registration {registered}: registrations.event_registrations, user_id: expected ",
    ),
    "the last change of an event lost from the outbox": (
        deleted("messaging.outbox", f"{TOLD_OF_EVENT} AND version = 2"),
        "event {event}: catalog.events, version: expected 1, found 2",
    ),
    "an earlier change lost from the outbox": (
        deleted("messaging.outbox", f"{TOLD_OF_EVENT} AND version = 1"),
        "event {event}: messaging.outbox, versions: expected '1 to 2', found '1 to 2 without 1'",
    ),
    "a version that two months have": (
        a_version_told_again_in_another_month,
        "event {event}: messaging.outbox, versions: expected '1 to 2', found '1 to 2 with 2 more than once'",
    ),
    "all that was told of a registration lost": (
        deleted("messaging.outbox", TOLD_OF_REGISTRATION),
        "registration {registered}: registrations.event_registrations: expected nothing, found {{",
    ),
    "a registration nobody told of": (
        a_registration_nobody_told_of,
        ": registrations.event_registrations: expected nothing, found {{'event_id': {event}, 'user_id': 4711",
    ),
    "a registration that is gone": (
        deleted("registrations.event_registrations", WAITING),
        "registration {waiting}: registrations.event_registrations: expected {{",
    ),
    "a guard that is gone": (
        deleted("registrations.holders", "registration_id = {registered}"),
        "registration {registered}: registrations.holders: expected {{'event_id': {event}",
    ),
    "someone who has fallen out of the line": (
        deleted("registrations.waitlist", "registration_id = {waiting}"),
        "registration {waiting}: registrations.waitlist: expected {{'event_id': {event}",
    ),
    "a check-in that nobody was told of": (
        a_check_in_nobody_told_of,
        "registration {registered}: registrations.check_ins: expected nothing, found {{'event_id': {event}",
    ),
    "a wrong count of who has come": (
        a_wrong_count_of_who_has_come,
        "event {event}: registrations.doors: expected nothing, found {{'checked_in': 3}}",
    ),
    "a wrong count of a part of the line": (
        updated("registrations.line_blocks", "event_id = {event}", "people = 5", "people = 1"),
        "event {event}, block 0: registrations.line_blocks, people: expected 1, found 5",
    ),
    "a wrong counter of places": (
        updated(
            "registrations.places", "event_id = {event} AND capacity = 1", "taken = taken - 1", "taken = taken + 1"
        ),
        ": registrations.places: expected {{'taken': 1}}, found nothing",
    ),
    "a wrong counter of the line": (
        updated("registrations.places", "event_id = {event} AND part = 0", "waiting = waiting + 1", "waiting = 1"),
        "event {event}: registrations.places, waiting: expected 1, found 2",
    ),
    "more places open than there are": (
        updated(
            "registrations.places", "event_id = {event} AND part = 5", "capacity = capacity + 9", "capacity = taken"
        ),
        "event {event}: registrations.places, open: expected 1, found 10",
    ),
    "a wrong counter of a part in the catalog": (
        updated("catalog.event_counts", "event_id = {event} AND part = 0", "waitlisted = 3", "waitlisted = 1"),
        "event {event}, part 0: catalog.event_counts, waitlisted: expected 1, found 3",
    ),
    "a wrong counter in the catalog": (
        updated("catalog.events", EVENT, "registered = 0", "registered = 1"),
        "event {event}: catalog.events, available: expected 0, found 1",
    ),
    "another capacity in registrations": (
        updated("registrations.events", "event_id = {event}", "capacity = 7", "capacity = 1"),
        "event {event}: registrations.events, capacity: expected 1, found 7",
    ),
    "a stale document": (
        document(title="Jazz in the cellar"),
        "event {event}: search index, title: expected 'Jazz by the canal', found 'Jazz in the cellar'",
    ),
    "a document that is gone": (document(), "event {event}: search index: expected {{'id': {event}"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_each_kind_of_difference_is_found_and_named(platform: RunningPlatform, scene: Scene, what: str) -> None:
    plant, line = PLANTED[what]

    with plant(platform, scene):
        lines = platform.differences(event=scene.event, within=AT_ONCE)

    assert any(line.format(**vars(scene)) in each for each in lines), lines
    assert platform.differences(event=scene.event, within=AT_ONCE) == []


OF_ALL: dict[str, tuple[Plant, str]] = {
    "a changed user": (
        updated("identity.users", "id = {organiser.id}", "name = 'Mallory'", "name = 'Ada'"),
        "user {organiser.id}: identity.users, name: expected 'Ada', found 'Mallory'",
    ),
    "an outdated name in the catalog": (
        updated("catalog.users", "id = {organiser.id}", "name = 'Mallory'", "name = 'Ada'"),
        "user {organiser.id}: catalog.users, name: expected 'Ada', found 'Mallory'",
    ),
    "a document of no event": (
        a_document_of_no_event,
        "event 999999999: search index: expected nothing, found {{'id': 999999999",
    ),
}


@pytest.mark.parametrize("what", OF_ALL)
def test_what_belongs_to_no_event_is_found_among_all(platform: RunningPlatform, scene: Scene, what: str) -> None:
    plant, line = OF_ALL[what]

    with plant(platform, scene):
        lines = platform.differences(within=AT_ONCE)

    assert any(line.format(**vars(scene)) in each for each in lines), lines


# ---------------------------------------------------------------------------------- the command


def test_the_command_prints_each_difference_and_fails(platform: RunningPlatform, scene: Scene) -> None:
    plant, line = PLANTED["a changed event"]
    with plant(platform, scene):
        text = command(platform, "--event", str(scene.event), "--within", "0")
        lines = command(platform, "--event", str(scene.event), "--within", "0", "--json")

    assert (text.returncode, lines.returncode) == (1, 1)
    difference, summary = text.stdout.splitlines()
    assert difference == line.format(**vars(scene))
    assert summary.endswith(": 1 difference.")
    assert json.loads(lines.stdout) == {
        "aggregate": f"event {scene.event}",
        "place": "catalog.events",
        "field": "title",
        "expected": "Jazz by the canal",
        "found": "Forged",
    }


def test_the_command_says_when_there_is_no_platform(tmp_path: Any) -> None:
    program = [sys.executable, "-m", "local", "verify-projections", "--state", str(tmp_path)]

    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert run.returncode == 2
    assert "make dev" in run.stderr
