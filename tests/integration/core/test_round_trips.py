"""How many round trips to Postgres the warm path takes: on AWS each costs a millisecond or more."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from eventsplatform.adapters.postgres import Database
from eventsplatform.catalog.model import EventPatch
from eventsplatform.catalog.occurrences import SeriesIn
from eventsplatform.config import DatabaseSettings
from eventsplatform.identity.caller import Client
from eventsplatform.identity.model import Credentials, SignUp
from tests.support.callers import caller
from tests.support.database import Services, event_in, services
from tests.support.round_trips import CountingProxy, counting_proxy

ORGANIZER = 7_001
PASSWORD = "correct horse battery"
CLIENT = Client("203.0.113.7", "test")


@pytest.fixture(scope="module")
def proxied(migrated_database: str) -> Iterator[tuple[CountingProxy, Services]]:
    with counting_proxy(migrated_database) as (proxy, url), services(url) as running:
        yield proxy, running


def _register_user(running: Services, email: str) -> None:
    running.identity.register(SignUp(email=email, password=SecretStr(PASSWORD), name="Ada"))


@pytest.fixture(scope="module")
def drafts(proxied: tuple[CountingProxy, Services]) -> list[int]:
    _, running = proxied
    return [running.catalog.create(event_in(), caller(ORGANIZER)).id for _ in range(12)]


@pytest.fixture(scope="module")
def event_id(proxied: tuple[CountingProxy, Services]) -> int:
    return proxied[1].published_event(ORGANIZER)


def test_signing_up_takes_two_round_trips_whoever_has_the_address(proxied: tuple[CountingProxy, Services]) -> None:
    proxy, running = proxied
    taken = f"{uuid.uuid4()}@example.org"
    for _ in range(6):
        _register_user(running, f"{uuid.uuid4()}@example.org")
        _register_user(running, taken)

    with proxy.counting() as new:
        _register_user(running, f"{uuid.uuid4()}@example.org")
    with proxy.counting() as known:
        _register_user(running, taken)

    assert new == known == [2]


def test_refreshing_takes_two_round_trips(proxied: tuple[CountingProxy, Services]) -> None:
    proxy, running = proxied
    email = f"{uuid.uuid4()}@example.org"
    _register_user(running, email)
    session = running.sessions.login(Credentials(email=email, password=SecretStr(PASSWORD)), CLIENT)
    for _ in range(6):
        session = running.sessions.refresh(session.refresh_token, CLIENT)

    with proxy.counting() as counted:
        running.sessions.refresh(session.refresh_token, CLIENT)

    assert counted == [2]


def test_signing_in_takes_three_round_trips(proxied: tuple[CountingProxy, Services]) -> None:
    proxy, running = proxied
    email = f"{uuid.uuid4()}@example.org"
    _register_user(running, email)
    credentials = Credentials(email=email, password=SecretStr(PASSWORD))
    for _ in range(6):
        running.sessions.login(credentials, CLIENT)

    with proxy.counting() as counted:
        running.sessions.login(credentials, CLIENT)

    assert counted == [3]


def test_writing_a_draft_takes_two_round_trips(proxied: tuple[CountingProxy, Services], drafts: list[int]) -> None:
    proxy, running = proxied

    with proxy.counting() as counted:
        running.catalog.create(event_in(), caller(ORGANIZER))

    assert counted == [2]


def test_publishing_takes_three_round_trips(proxied: tuple[CountingProxy, Services], drafts: list[int]) -> None:
    proxy, running = proxied
    *others, last = drafts
    for draft in others:
        running.catalog.publish(draft, caller(ORGANIZER))

    with proxy.counting() as counted:
        running.catalog.publish(last, caller(ORGANIZER))

    assert counted == [3]


def test_a_series_takes_five_round_trips_and_changing_all_of_it_four_however_long_it_is(
    proxied: tuple[CountingProxy, Services], drafts: list[int]
) -> None:
    proxy, running = proxied
    organizer, rule = caller(ORGANIZER), SeriesIn(rule="FREQ=DAILY;COUNT=60")
    for _ in range(6):  # until the driver has prepared its statements
        first = running.catalog.create(event_in(), organizer).id
        running.series.plan(first, rule, organizer)
        running.catalog.change(first, EventPatch(title="Choir"), organizer, scope="all")
    planned, changed = [], []
    for _ in range(5):
        first = running.catalog.create(event_in(), organizer).id
        with proxy.counting() as counted:
            running.series.plan(first, rule, organizer)
        planned += counted
        with proxy.counting() as counted:
            running.catalog.change(first, EventPatch(title="Choir"), organizer, scope="all")
        changed += counted

    # What is long may be answered in part before all of it is sent, which then counts as one more.
    assert (min(planned), min(changed)) == (5, 4)


def test_reading_an_event_takes_one_round_trip(proxied: tuple[CountingProxy, Services], event_id: int) -> None:
    proxy, running = proxied
    for _ in range(6):
        running.catalog.get(event_id, None)

    with proxy.counting() as counted:
        running.catalog.get(event_id, None)

    assert counted == [1]


def test_reading_a_calendar_that_is_subscribed_to_takes_one_round_trip(
    proxied: tuple[CountingProxy, Services], event_id: int
) -> None:
    proxy, running = proxied
    person = caller(8_020)
    running.registrations.register(event_id, person)
    token = running.feeds.renew("https://api.example.org", person).url.partition("token=")[2]
    for _ in range(6):
        running.feeds.read(token)

    with proxy.counting() as counted:
        found = running.feeds.read(token)

    assert counted == [1]
    assert len(found.attendances) == 1


def test_registering_takes_one_round_trip(proxied: tuple[CountingProxy, Services], event_id: int) -> None:
    proxy, running = proxied
    for user_id in range(8_000, 8_006):
        running.registrations.register(event_id, caller(user_id))

    with proxy.counting() as counted:
        running.registrations.register(event_id, caller(8_010))

    assert counted == [1]


def test_joining_the_line_takes_three_round_trips(proxied: tuple[CountingProxy, Services]) -> None:
    proxy, running = proxied
    event_id = running.published_event(ORGANIZER, capacity=1)
    for user_id in range(8_100, 8_108):
        running.registrations.register(event_id, caller(user_id))

    with proxy.counting() as counted:
        running.registrations.register(event_id, caller(8_110))

    assert counted == [3]


def test_a_transaction_of_statements_fetched_one_by_one_takes_more(migrated_database: str) -> None:
    """The control: the counter does see what a conversation statement by statement costs."""
    with counting_proxy(migrated_database) as (proxy, url):
        database = Database(DatabaseSettings(url, "catalog", False))
        database.ping()

        with proxy.counting() as counted, database.autocommit() as connection:
            for statement in ("BEGIN", "SELECT 1", "SELECT 2", "COMMIT"):
                connection.execute(statement)

        assert counted == [4]
        database.close()
