"""A request that carries an Idempotency-Key has its effect once, whatever happens to it and how often it comes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import pytest

from eventsplatform.adapters import breakers
from eventsplatform.adapters.postgres import Database
from eventsplatform.catalog.model import Event
from eventsplatform.catalog.repository import PostgresCatalog
from eventsplatform.catalog.service import Catalog, CatalogStore
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import (
    ConflictError,
    DependencyUnavailableError,
    InvalidInputError,
    MalformedRequestError,
    OutcomeUnknownError,
)
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.messaging.model import Appendable
from eventsplatform.messaging.outbox import UnitOfWork
from tests.support.database import SHARDS, AnyUser, RegistrationsPlaces, administrator, caller, event_in
from tests.support.tcp_proxy import Cuts, committed, cut_off

BODY = b'{"title": "A concert"}'


def request(
    key: str, *, body: bytes = BODY, caller: str = "7", path: str = "/v1/events", secret: bool = False
) -> NamedRequest:
    return NamedRequest.of(caller=caller, method="POST", path=path, key=key, content=body, secret=secret)


@contextmanager
def catalog(url: str) -> Iterator[tuple[Catalog, UnitOfWork[CatalogStore]]]:
    database = Database(DatabaseSettings(url, "catalog", False))
    work: UnitOfWork[CatalogStore] = UnitOfWork(database, PostgresCatalog, lambda _: None, SHARDS)
    try:
        yield Catalog(work, AnyUser(), RegistrationsPlaces(), utc_now), work
    finally:
        database.close()


@pytest.fixture
def key() -> str:
    return str(uuid4())


def create(url: str, named: NamedRequest | None, title: str) -> Event:
    with catalog(url) as (events, _), handling_request(named):
        return events.create(event_in(title=title), caller(7))


def titled(url: str, title: str) -> int:
    """How many events have this title; every one of these tests uses a title of its own."""
    with administrator(url) as connection:
        row = connection.execute("SELECT count(*) AS events FROM catalog.events WHERE title = %s", (title,)).fetchone()
    assert row is not None
    return int(row["events"])


def at_once(count: int, call: Callable[[int], Event]) -> list[Event]:
    barrier = threading.Barrier(count)

    def wait_and_call(number: int) -> Event:
        barrier.wait()
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_call, range(count)))


def test_a_repeat_is_given_the_first_answer_and_has_no_effect(migrated_database: str, key: str) -> None:
    first, second = request(key), request(key)

    answer = create(migrated_database, first, key)
    repeated = create(migrated_database, second, key)

    assert repeated == answer
    assert (first.replayed, second.replayed) == (False, True)
    assert titled(migrated_database, key) == 1


def test_ten_at_once_have_one_effect_and_ten_equal_answers(migrated_database: str, key: str) -> None:
    answers = at_once(10, lambda _: create(migrated_database, request(key), key))

    assert answers == [answers[0]] * 10
    assert titled(migrated_database, key) == 1


def test_without_the_key_ten_at_once_have_ten_effects(migrated_database: str, key: str) -> None:
    """The control: it is the record that the others break on."""
    at_once(10, lambda _: create(migrated_database, None, key))

    assert titled(migrated_database, key) == 10


def test_a_refusal_is_repeated_even_when_the_reason_has_gone(migrated_database: str, key: str) -> None:
    with catalog(migrated_database) as (events, _):
        event = events.create(event_in(title=key), caller(7))
        events.publish(event.id, caller(7))
        with handling_request(request(key)), pytest.raises(ConflictError) as refused:
            events.publish(event.id, caller(7))
        with administrator(migrated_database) as connection:
            connection.execute("UPDATE catalog.events SET status = 'draft' WHERE id = %s", (event.id,))
        again = request(key)

        with handling_request(again), pytest.raises(ConflictError) as repeated:
            events.publish(event.id, caller(7))

    assert repeated.value.as_record() == refused.value.as_record()
    assert again.replayed


def test_a_repeat_that_the_first_one_itself_made_impossible_is_given_the_first_answer(
    migrated_database: str, key: str
) -> None:
    """Publishing twice is a conflict; publishing again with the same key is not."""
    with catalog(migrated_database) as (events, _):
        event = events.create(event_in(title=key), caller(7))
        answers = []
        for _ in range(2):
            with handling_request(request(key)):
                answers.append(events.publish(event.id, caller(7)))

    assert answers[0] == answers[1]
    assert answers[0].status == "published"


def test_the_same_key_for_another_body_is_refused(migrated_database: str, key: str) -> None:
    create(migrated_database, request(key), key)

    with pytest.raises(InvalidInputError, match="another body"):
        create(migrated_database, request(key, body=b"{}"), key)
    assert titled(migrated_database, key) == 1


@pytest.mark.parametrize("changes", [{"caller": "8"}, {"path": "/v1/events/1/publish"}])
def test_a_key_means_nothing_to_another_caller_or_endpoint(
    migrated_database: str, key: str, changes: dict[str, str]
) -> None:
    create(migrated_database, request(key), key)

    other = request(key, **changes)
    create(migrated_database, other, key)

    assert not other.replayed
    assert titled(migrated_database, key) == 2


def test_a_failure_of_ours_is_not_kept(migrated_database: str, key: str) -> None:
    with catalog(migrated_database) as (_, work):
        with handling_request(request(key)), pytest.raises(RuntimeError, match="in the middle"):
            work.run(Event, _fails_in_the_middle)
        with handling_request(request(key)), pytest.raises(DependencyUnavailableError):
            work.run(Event, _finds_the_cache_gone)

        assert create(migrated_database, request(key), key).title == key
    assert titled(migrated_database, key) == 1


def test_a_first_try_that_still_runs_is_a_conflict(migrated_database: str, key: str) -> None:
    """Whatever it holds for longer than rows are waited for."""
    with catalog(migrated_database) as (events, _), administrator(migrated_database) as connection:
        event = events.create(event_in(title=key), caller(7))
        with connection.transaction():
            connection.execute("SELECT FROM catalog.events WHERE id = %s FOR UPDATE", (event.id,))
            with handling_request(request(key)), pytest.raises(ConflictError, match="still running"):
                events.publish(event.id, caller(7))
        with handling_request(request(key)):
            assert events.publish(event.id, caller(7)).status == "published"


# A database that is cut off ----------------------------------------------------------------------


def test_an_answer_lost_after_the_commit_is_found_by_the_repeat(migrated_database: str, key: str) -> None:
    cuts = Cuts(answer=committed)
    with cut_off(migrated_database, cuts) as proxied:
        with pytest.raises(OutcomeUnknownError, match="may or may not have been made"):
            create(proxied, request(key), key)
        assert cuts.made == 1
        cuts.answer = lambda _: False
        again = request(key)

        event = create(proxied, again, key)

    assert (event.title, again.replayed) == (key, True)
    assert titled(migrated_database, key) == 1


def test_without_a_key_the_repeat_of_a_lost_answer_has_another_effect(migrated_database: str, key: str) -> None:
    """The control: the answer was lost indeed, and the effect was there."""
    cuts = Cuts(answer=committed)
    with cut_off(migrated_database, cuts) as proxied:
        with pytest.raises(OutcomeUnknownError):
            create(proxied, None, key)
        cuts.answer = lambda _: False
        create(proxied, None, key)

    assert titled(migrated_database, key) == 2


def test_a_connection_lost_before_the_commit_leaves_nothing_to_replay(migrated_database: str, key: str) -> None:
    cuts = Cuts(request=lambda data: b"COMMIT" in data)
    with cut_off(migrated_database, cuts) as proxied:
        with pytest.raises(DependencyUnavailableError):
            create(proxied, request(key), key)
        assert titled(migrated_database, key) == 0
        cuts.request = lambda _: False
        again = request(key)
        create(proxied, again, key)

    assert not again.replayed
    assert titled(migrated_database, key) == 1


@pytest.mark.parametrize("named", [True, False], ids=["with keys", "the control: without"])
def test_clients_that_repeat_until_answered_have_one_effect_each(migrated_database: str, named: bool) -> None:
    dice = random.Random(7)
    cuts = Cuts(answer=lambda data: committed(data) and dice.random() < 0.25)
    run = str(uuid4())
    with cut_off(migrated_database, cuts) as proxied:
        for number in range(40):
            name = f"{run}-{number}"
            for _ in range(20):
                breakers.forget()  # each try may reach another execution environment
                try:
                    create(proxied, request(name) if named else None, run)
                except DependencyUnavailableError:
                    continue
                break

    assert cuts.made > 5
    assert titled(migrated_database, run) == 40 + (0 if named else cuts.made)


def test_an_answer_with_secrets_is_kept_sealed_and_opens_for_its_own_request_alone(
    migrated_database: str, key: str
) -> None:
    named = request(key, secret=True)
    create(migrated_database, named, key)

    assert create(migrated_database, request(key, secret=True), key).title == key
    with administrator(migrated_database) as connection:
        rows = connection.execute("SELECT outcome FROM catalog.idempotency_keys WHERE id = %s", (named.id,)).fetchall()
    assert len(rows) == 1
    assert key not in str(rows[0]["outcome"])
    assert named.seal is not None
    assert named.seal != request(key, body=b"{}", secret=True).seal


def test_an_answer_without_secrets_is_kept_readable(migrated_database: str, key: str) -> None:
    """The control of the one above."""
    named = request(key)
    create(migrated_database, named, key)

    with administrator(migrated_database) as connection:
        rows = connection.execute("SELECT outcome FROM catalog.idempotency_keys WHERE id = %s", (named.id,)).fetchall()
    assert key in str(rows[0]["outcome"])


def test_records_that_nobody_may_ask_for_any_more_go_with_those_that_come(migrated_database: str, key: str) -> None:
    old, recent = request(f"{key}-old"), request(f"{key}-recent")
    for named in (old, recent):
        create(migrated_database, named, key)
    with administrator(migrated_database) as connection:
        for named, age in ((old, "25 hours"), (recent, "23 hours")):
            connection.execute(
                "UPDATE catalog.idempotency_keys SET created_at = now() - %s::interval WHERE id = %s", (age, named.id)
            )

    create(migrated_database, request(key), key)

    with administrator(migrated_database) as connection:
        rows = connection.execute(
            "SELECT id FROM catalog.idempotency_keys WHERE id = ANY(%s)", ([old.id, recent.id],)
        ).fetchall()
    assert [row["id"] for row in rows] == [recent.id]


def test_a_request_has_one_effect(migrated_database: str, key: str) -> None:
    with catalog(migrated_database) as (events, _), handling_request(request(key)):
        events.create(event_in(title=key), caller(7))
        with pytest.raises(RuntimeError, match="one effect"):
            events.create(event_in(title=key), caller(7))


@pytest.mark.parametrize("bad", ["", "k" * 256, "schlüssel", "a\nb"])
def test_a_key_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(MalformedRequestError, match="Idempotency-Key"):
        request(bad)


def _fails_in_the_middle(store: CatalogStore, _outbox: Appendable) -> Event:
    store.add_event(event_in(), 7)
    raise RuntimeError("in the middle")


def _finds_the_cache_gone(_store: CatalogStore, _outbox: Appendable) -> Event:
    raise DependencyUnavailableError("cache")
