"""A person's calendar to subscribe to, on a real database: what is in it, for how long, and who can read it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import recurring_ical_events
from icalendar import Calendar

from eventsplatform.adapters.postgres import Database
from eventsplatform.catalog.messages import facts_of
from eventsplatform.catalog.model import EventPatch
from eventsplatform.catalog.occurrences import SeriesIn
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import NotFoundError, UnauthenticatedError
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.calendar_feeds import PAST
from eventsplatform.registrations.calendar_feeds_repository import PostgresCalendarFeeds
from eventsplatform.registrations.calendars import calendar_of
from eventsplatform.registrations.model import EventFacts
from tests.support.callers import caller
from tests.support.database import Services, administrator, services
from tests.support.people import people
from tests.support.polling import eventually

_people = itertools.count(50_000)
ADDRESS = "https://api.example.org/dev/v1/users/me/calendar.ics"


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@pytest.fixture
def ada() -> Caller:
    return caller(next(_people))


@pytest.fixture
def owner() -> Caller:
    return caller(next(_people))


def token_of(running: Services, person: Caller) -> str:
    return running.feeds.renew(ADDRESS, person).url.partition("?token=")[2]


def learnt(running: Services, event_id: int) -> None:
    running.registrations.learn_events([EventFacts.of_event(facts_of(running.catalog.describe(event_id)))])


def entries(running: Services, token: str) -> dict[int, Any]:
    """What a calendar program reads, by the event."""
    calendar = Calendar.from_ical(calendar_of(running.feeds.read(token)))
    return {int(entry["UID"].split("@")[0].removeprefix("event-")): entry for entry in calendar.walk("VEVENT")}


def states(running: Services, token: str) -> dict[int, str]:
    return {event_id: str(entry["STATUS"]) for event_id, entry in entries(running, token).items()}


def ended(url: str, event_id: int, ago: timedelta) -> None:
    """Let an event that registrations knows have ended."""
    with administrator(url) as connection:
        connection.execute(
            "UPDATE registrations.events SET starts_at = now() - %s - interval '2 hours', ends_at = now() - %s "
            "WHERE event_id = %s",
            (ago, ago, event_id),
        )


# What is in it -----------------------------------------------------------------------------------


def test_it_has_what_its_owner_is_registered_for_and_nobody_elses(
    running: Services, owner: Caller, ada: Caller
) -> None:
    mine, others = running.published_event(owner.user_id, title="Jazz"), running.published_event(owner.user_id)
    running.registrations.register(mine, ada)
    running.registrations.register(others, caller(next(_people)))

    found = entries(running, token_of(running, ada))

    assert list(found) == [mine]
    assert (str(found[mine]["SUMMARY"]), str(found[mine]["STATUS"])) == ("Jazz", "CONFIRMED")
    assert entries(running, token_of(running, owner)) == {}


def test_what_is_offered_is_tentative_and_what_is_waited_for_is_not_there(
    running: Services, owner: Caller, ada: Caller
) -> None:
    event_id = running.published_event(owner.user_id, capacity=1)
    first, token = caller(next(_people)), token_of(running, ada)
    running.registrations.register(event_id, first)
    running.registrations.register(event_id, ada)

    assert states(running, token) == {}
    running.registrations.cancel(event_id, first)
    offered = entries(running, token)[event_id]
    running.registrations.accept(event_id, ada)
    accepted = entries(running, token)[event_id]

    assert (offered["STATUS"], accepted["STATUS"]) == ("TENTATIVE", "CONFIRMED")
    assert "A place is offered to you until " in offered["DESCRIPTION"]
    assert accepted["SEQUENCE"] > offered["SEQUENCE"]


def test_who_was_in_line_and_left_it_has_nothing_to_be_told(running: Services, owner: Caller, ada: Caller) -> None:
    event_id = running.published_event(owner.user_id, capacity=1)
    running.registrations.register(event_id, caller(next(_people)))
    running.registrations.register(event_id, ada)
    running.registrations.cancel(event_id, ada)

    assert states(running, token_of(running, ada)) == {}


def test_what_is_called_off_by_either_side_is_cancelled_until_it_would_have_been_over(
    running: Services, migrated_database: str, owner: Caller, ada: Caller
) -> None:
    by_organiser, by_ada = running.published_event(owner.user_id), running.published_event(owner.user_id)
    for event_id in (by_organiser, by_ada):
        running.registrations.register(event_id, ada)
    token = token_of(running, ada)
    running.catalog.cancel(by_organiser, "The singer is ill.", owner)
    learnt(running, by_organiser)
    running.registrations.cancel(by_ada, ada)

    found = entries(running, token)
    assert states(running, token) == {by_organiser: "CANCELLED", by_ada: "CANCELLED"}
    assert found[by_organiser]["DESCRIPTION"] == "The singer is ill."
    assert found[by_ada]["DESCRIPTION"] == "You are not registered any more."
    for event_id in (by_organiser, by_ada):
        ended(migrated_database, event_id, timedelta(minutes=1))
    assert states(running, token) == {}


def test_what_is_over_stays_for_a_year(running: Services, migrated_database: str, owner: Caller, ada: Caller) -> None:
    event_id, token = running.published_event(owner.user_id), token_of(running, ada)
    running.registrations.register(event_id, ada)

    ended(migrated_database, event_id, PAST - timedelta(hours=1))
    assert states(running, token) == {event_id: "CONFIRMED"}
    ended(migrated_database, event_id, PAST + timedelta(hours=1))
    assert states(running, token) == {}


def test_the_sequence_of_an_entry_grows_whatever_happens_and_its_uid_stays(
    running: Services, owner: Caller, ada: Caller
) -> None:
    """Also when a registration is given up and another one is made, whose own versions begin anew."""
    event_id, token = running.published_event(owner.user_id), token_of(running, ada)
    seen: list[tuple[str, int, str]] = []

    def look() -> None:
        entry = entries(running, token)[event_id]
        seen.append((str(entry["UID"]), int(entry["SEQUENCE"]), str(entry["STATUS"])))

    running.registrations.register(event_id, ada)
    look()
    running.registrations.cancel(event_id, ada)
    look()
    running.registrations.register(event_id, ada)
    look()
    running.catalog.change(event_id, EventPatch(title="Another concert"), owner)
    learnt(running, event_id)
    look()

    assert [status for _, _, status in seen] == ["CONFIRMED", "CANCELLED", "CONFIRMED", "CONFIRMED"]
    numbers = [sequence for _, sequence, _ in seen]
    assert numbers == sorted(set(numbers))
    assert {uid for uid, _, _ in seen} == {f"event-{event_id}@events-platform"}


def test_occurrences_of_a_series_are_shown_when_they_are(running: Services, owner: Caller, ada: Caller) -> None:
    event_id = running.published_event(
        owner.user_id, starts_at="2035-03-20T18:00:00Z", ends_at="2035-03-20T20:00:00Z", timezone="Europe/Berlin"
    )
    made = running.series.plan(event_id, SeriesIn(rule="FREQ=WEEKLY;COUNT=3"), owner)
    running.catalog.publish(event_id, owner, scope="all")
    for each in made.event_ids[1:]:
        running.registrations.register(each, ada)

    calendar = Calendar.from_ical(calendar_of(running.feeds.read(token_of(running, ada))))

    shown = recurring_ical_events.of(calendar).between((2035, 3, 1), (2035, 5, 1))
    assert sorted(entry["DTSTART"].dt.isoformat() for entry in shown) == [
        "2035-03-27T19:00:00+02:00",
        "2035-04-03T19:00:00+02:00",
    ]


def test_a_tag_stands_for_all_that_is_shown(running: Services, owner: Caller, ada: Caller) -> None:
    event_id, token = running.published_event(owner.user_id), token_of(running, ada)
    tags = [running.feeds.read(token).etag]
    running.registrations.register(event_id, ada)
    tags += [running.feeds.read(token).etag, running.feeds.read(token).etag]
    running.catalog.change(event_id, EventPatch(title="Another concert"), owner)
    learnt(running, event_id)
    tags.append(running.feeds.read(token).etag)
    running.registrations.cancel(event_id, ada)
    tags.append(running.feeds.read(token).etag)

    assert tags[1] == tags[2]
    assert len(set(tags)) == 4


def test_a_long_text_is_cut_so_that_many_events_fit_into_an_answer(
    running: Services, owner: Caller, ada: Caller
) -> None:
    event_id = running.published_event(owner.user_id, description="x" * 5_000)
    running.registrations.register(event_id, ada)

    text = str(entries(running, token_of(running, ada))[event_id]["DESCRIPTION"])

    assert text == "x" * 999 + "…"


# Who can read it ---------------------------------------------------------------------------------


def test_the_secret_has_256_bits_and_is_kept_as_a_hash(running: Services, migrated_database: str, ada: Caller) -> None:
    token = token_of(running, ada)

    with administrator(migrated_database) as connection:
        row = connection.execute(
            "SELECT token_hash, to_jsonb(held)::text AS text FROM registrations.calendar_feeds AS held "
            "WHERE user_id = %s",
            (ada.user_id,),
        ).fetchone()
    assert row is not None
    assert len(token) == 43
    assert len(row["token_hash"]) == 32
    assert token not in row["text"]


@pytest.mark.parametrize("token", ["", "x" * 43, "ünicode", "\udc80", "' OR true --"])
def test_an_address_that_is_none_is_not_found(running: Services, token: str) -> None:
    with pytest.raises(NotFoundError, match="no such calendar"):
        running.feeds.read(token)


def test_another_address_ends_the_one_before(running: Services, ada: Caller) -> None:
    before, after = token_of(running, ada), token_of(running, ada)

    with pytest.raises(NotFoundError):
        running.feeds.read(before)
    assert running.feeds.read(after).attendances == []


def test_a_revoked_address_is_good_no_more(running: Services, ada: Caller) -> None:
    token = token_of(running, ada)
    assert running.feeds.describe(ada).created_at <= utc_now()

    running.feeds.revoke(ada)

    for act in (
        lambda: running.feeds.read(token),
        lambda: running.feeds.describe(ada),
        lambda: running.feeds.revoke(ada),
    ):
        with pytest.raises(NotFoundError):
            act()


def test_it_is_dead_while_its_owner_is_suspended(running: Services, migrated_database: str, ada: Caller) -> None:
    """Also one that a request makes which was under way."""
    with people(migrated_database) as others:
        others.webhook_owners.set_suspended(ada.user_id, True, 1)
        token = token_of(running, ada)
        with pytest.raises(NotFoundError):
            running.feeds.read(token)
        others.webhook_owners.set_suspended(ada.user_id, False, 2)

    assert running.feeds.read(token).attendances == []


def test_an_erasure_ends_it_and_no_other_is_made(running: Services, migrated_database: str, ada: Caller) -> None:
    token = token_of(running, ada)

    with people(migrated_database) as others:
        others.attendees.forget(ada.user_id)

    with pytest.raises(NotFoundError):
        running.feeds.read(token)
    with pytest.raises(UnauthenticatedError, match="erased"):
        running.feeds.renew(ADDRESS, ada)


class WithoutWaiting(PostgresCalendarFeeds):
    """Asks whether the person has been erased, and lets an erasure go on meanwhile."""

    def put_feed(self, user_id: int, token_hash: bytes) -> datetime | None:
        row = self._connection.execute(
            """
            INSERT INTO registrations.calendar_feeds (user_id, token_hash) SELECT %s, %s
             WHERE NOT EXISTS (SELECT FROM registrations.erased_users WHERE user_id = %s)
            RETURNING created_at
            """,
            (user_id, token_hash, user_id),
        ).fetchone()
        return row["created_at"] if row else None


@pytest.mark.parametrize(("store", "left"), [(PostgresCalendarFeeds, 0), (WithoutWaiting, 1)], ids=["", "control"])
def test_an_erasure_waits_for_an_address_that_is_being_made(
    migrated_database: str, ada: Caller, store: type[PostgresCalendarFeeds], left: int
) -> None:
    """The control: without the lock its row would outlive the person."""
    database = Database(DatabaseSettings(migrated_database, "registrations", False))

    def forget() -> None:
        with people(migrated_database) as others:
            others.attendees.forget(ada.user_id)

    def is_waiting_or_done() -> bool:
        with administrator(migrated_database) as connection:
            row = connection.execute(
                "SELECT FROM pg_stat_activity WHERE usename = 'registrations' AND wait_event_type = 'Lock'"
            ).fetchone()
        return row is not None or not thread.is_alive()

    thread = threading.Thread(target=forget)
    with database.transaction() as connection:
        assert store(connection).put_feed(ada.user_id, bytes(32)) is not None
        thread.start()
        eventually(is_waiting_or_done)
    thread.join()
    database.close()

    with administrator(migrated_database) as connection:
        rows = connection.execute(
            "SELECT FROM registrations.calendar_feeds WHERE user_id = %s", (ada.user_id,)
        ).fetchall()
        connection.execute("DELETE FROM registrations.calendar_feeds WHERE user_id = %s", (ada.user_id,))
    assert len(rows) == left


def test_the_year_is_that_of_the_clock(migrated_database: str, owner: Caller, ada: Caller) -> None:
    with services(migrated_database) as now:
        event_id = now.published_event(owner.user_id)
        now.registrations.register(event_id, ada)
        token = token_of(now, ada)
    with services(migrated_database, clock=lambda: datetime.now(UTC) + timedelta(days=500)) as later:
        assert states(later, token) == {}
