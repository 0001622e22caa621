"""How many round trips to Postgres the warm path takes: on AWS each costs a millisecond or more."""

from __future__ import annotations

import itertools
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
from tests.support.round_trips import SAMPLES, CountingProxy, counting_proxy

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

    assert proxy.usual(lambda: _register_user(running, f"{uuid.uuid4()}@example.org")) == 2
    assert proxy.usual(lambda: _register_user(running, taken)) == 2


def test_refreshing_takes_two_round_trips(proxied: tuple[CountingProxy, Services]) -> None:
    proxy, running = proxied
    email = f"{uuid.uuid4()}@example.org"
    _register_user(running, email)
    session = running.sessions.login(Credentials(email=email, password=SecretStr(PASSWORD)), CLIENT)
    tokens = [session.refresh_token]

    def refresh() -> None:
        tokens.append(running.sessions.refresh(tokens[-1], CLIENT).refresh_token)

    for _ in range(6):
        refresh()

    assert proxy.usual(refresh) == 2


def test_signing_in_takes_three_round_trips(proxied: tuple[CountingProxy, Services]) -> None:
    proxy, running = proxied
    email = f"{uuid.uuid4()}@example.org"
    _register_user(running, email)
    credentials = Credentials(email=email, password=SecretStr(PASSWORD))
    for _ in range(6):
        running.sessions.login(credentials, CLIENT)

    assert proxy.usual(lambda: running.sessions.login(credentials, CLIENT)) == 3


def test_writing_a_draft_takes_two_round_trips(proxied: tuple[CountingProxy, Services], drafts: list[int]) -> None:
    proxy, running = proxied

    assert proxy.usual(lambda: running.catalog.create(event_in(), caller(ORGANIZER))) == 2


def test_publishing_takes_three_round_trips(proxied: tuple[CountingProxy, Services], drafts: list[int]) -> None:
    proxy, running = proxied
    unpublished = iter(drafts)

    def publish() -> None:
        running.catalog.publish(next(unpublished), caller(ORGANIZER))

    for _ in range(6):
        publish()

    assert proxy.usual(publish) == 3


def test_a_series_takes_five_round_trips_and_changing_all_of_it_four_however_long_it_is(
    proxied: tuple[CountingProxy, Services], drafts: list[int]
) -> None:
    proxy, running = proxied
    organizer, rule = caller(ORGANIZER), SeriesIn(rule="FREQ=DAILY;COUNT=60")
    for _ in range(6):  # until the driver has prepared its statements
        first = running.catalog.create(event_in(), organizer).id
        running.series.plan(first, rule, organizer)
        running.catalog.change(first, EventPatch(title="Choir"), organizer, scope="all")
    firsts = [running.catalog.create(event_in(), organizer).id for _ in range(SAMPLES)]
    unplanned, unchanged = iter(firsts), iter(firsts)

    assert proxy.usual(lambda: running.series.plan(next(unplanned), rule, organizer)) == 5
    patch = EventPatch(title="Choir")
    assert proxy.usual(lambda: running.catalog.change(next(unchanged), patch, organizer, scope="all")) == 4


def test_reading_an_event_takes_one_round_trip(proxied: tuple[CountingProxy, Services], event_id: int) -> None:
    proxy, running = proxied
    for _ in range(6):
        running.catalog.get(event_id, None)

    assert proxy.usual(lambda: running.catalog.get(event_id, None)) == 1


def test_reading_a_calendar_that_is_subscribed_to_takes_one_round_trip(
    proxied: tuple[CountingProxy, Services], event_id: int
) -> None:
    proxy, running = proxied
    person = caller(8_020)
    running.registrations.register(event_id, person)
    token = running.feeds.renew("https://api.example.org", person).url.partition("token=")[2]
    for _ in range(6):
        running.feeds.read(token)

    assert proxy.usual(lambda: running.feeds.read(token)) == 1
    assert len(running.feeds.read(token).attendances) == 1


def test_registering_takes_one_round_trip(proxied: tuple[CountingProxy, Services], event_id: int) -> None:
    proxy, running = proxied
    people = itertools.count(8_000)

    def register() -> None:
        running.registrations.register(event_id, caller(next(people)))

    for _ in range(6):
        register()

    assert proxy.usual(register) == 1


def test_joining_the_line_takes_three_round_trips(proxied: tuple[CountingProxy, Services]) -> None:
    proxy, running = proxied
    event_id = running.published_event(ORGANIZER, capacity=1)
    people = itertools.count(8_100)

    def register() -> None:
        running.registrations.register(event_id, caller(next(people)))

    for _ in range(8):
        register()

    assert proxy.usual(register) == 3


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
