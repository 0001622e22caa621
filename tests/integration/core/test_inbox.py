"""A message has its effect once, however often it comes and whatever happens to the connection."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from eventsplatform.adapters.postgres import Database
from eventsplatform.catalog.repository import PostgresCatalog
from eventsplatform.catalog.service import CatalogStore
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import DependencyUnavailableError, OutcomeUnknownError
from eventsplatform.idempotency import KEPT_FOR
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import Appendable
from eventsplatform.messaging.outbox import UnitOfWork
from tests.support.database import SHARDS, administrator, event_in
from tests.support.lambda_events import message
from tests.support.tcp_proxy import Cuts, committed, cut_off

ORGANIZER = 7
CONSUMER = "evp-tests"
KEPT_DAYS = KEPT_FOR["inbox"].days


@pytest.fixture
def title(migrated_database: str) -> str:
    """The title of the event that is the effect: every test has its own."""
    with working(migrated_database) as work, work.statement() as store:
        store.put_user(ORGANIZER, "Ada", 1)
    return str(uuid4())


@pytest.fixture
def told(title: str) -> Message:
    return dataclasses.replace(message(1), id=title)


@contextmanager
def working(url: str, *, consumer: str = CONSUMER) -> Iterator[UnitOfWork[CatalogStore]]:
    database = Database(DatabaseSettings(url, "catalog", False))
    try:
        yield UnitOfWork(database, PostgresCatalog, lambda _: None, SHARDS, consumer)
    finally:
        database.close()


def consume(url: str, told: Message, title: str, *, consumer: str = CONSUMER) -> bool:
    with working(url, consumer=consumer) as work:
        return work.once(told, effect(title))


def effect(title: str) -> Callable[[CatalogStore, Appendable], None]:
    def change(store: CatalogStore, _outbox: Appendable) -> None:
        store.add_event(event_in(title=title), ORGANIZER)

    return change


def effects(url: str, title: str) -> int:
    with administrator(url) as connection:
        row = connection.execute("SELECT count(*) AS events FROM catalog.events WHERE title = %s", (title,)).fetchone()
    assert row is not None
    return int(row["events"])


def test_a_message_that_comes_again_changes_nothing_and_is_counted(
    migrated_database: str, told: Message, title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert consume(migrated_database, told, title)
    assert "messages_duplicate_total" not in capsys.readouterr().out

    assert not consume(migrated_database, told, title)

    assert effects(migrated_database, title) == 1
    assert re.search(r'"consumer":"evp-tests".*"messages_duplicate_total":\[1.0\]', capsys.readouterr().out)


def test_without_the_inbox_it_has_its_effect_again(migrated_database: str, told: Message, title: str) -> None:
    """The control of the one above."""
    for _ in range(2):
        with working(migrated_database) as work, work() as (store, outbox):
            effect(title)(store, outbox)

    assert effects(migrated_database, title) == 2


def test_ten_deliveries_at_once_have_one_effect(migrated_database: str, told: Message, title: str) -> None:
    barrier = threading.Barrier(10)

    def deliver(_: int) -> bool:
        barrier.wait()
        return consume(migrated_database, told, title)

    with ThreadPoolExecutor(10) as pool:
        had_it = list(pool.map(deliver, range(10)))

    assert sorted(had_it) == [False] * 9 + [True]
    assert effects(migrated_database, title) == 1


def test_a_message_whose_effect_failed_is_new_when_it_comes_again(
    migrated_database: str, told: Message, title: str
) -> None:
    """Nothing is marked before it is done: the message would be lost."""

    def fail(store: CatalogStore, outbox: Appendable) -> None:
        effect(title)(store, outbox)
        raise DependencyUnavailableError("cache")

    with working(migrated_database) as work, pytest.raises(DependencyUnavailableError):
        work.once(told, fail)
    assert effects(migrated_database, title) == 0

    assert consume(migrated_database, told, title)
    assert effects(migrated_database, title) == 1


def test_a_message_whose_commit_was_not_confirmed_is_known_when_it_comes_again(
    migrated_database: str, told: Message, title: str
) -> None:
    cuts = Cuts(answer=committed)
    with cut_off(migrated_database, cuts) as proxied, pytest.raises(OutcomeUnknownError):
        consume(proxied, told, title)
    assert cuts.made == 1

    assert not consume(migrated_database, told, title)
    assert effects(migrated_database, title) == 1


def test_messages_are_told_apart_by_source_id_and_replay_and_consumers_by_their_group(
    migrated_database: str, told: Message, title: str
) -> None:
    others = [
        dataclasses.replace(told, id=f"{title}-2"),
        dataclasses.replace(told, source="/partners/acme"),
        dataclasses.replace(told, extensions={"replayid": "r1"}),
        dataclasses.replace(told, extensions={"replayid": "r2"}),
    ]
    assert all(consume(migrated_database, each, title) for each in (told, *others))
    assert consume(migrated_database, told, title, consumer="evp-other-tests")

    assert not any(consume(migrated_database, each, title) for each in (told, *others))
    assert effects(migrated_database, title) == 6


def test_an_id_of_any_length_is_taken(migrated_database: str, told: Message, title: str) -> None:
    """Senders choose it: one that no index holds must not stop a partition."""
    long = dataclasses.replace(told, id=title * 1_000)

    assert [consume(migrated_database, long, title) for _ in range(2)] == [True, False]


def test_an_inbox_without_the_name_of_its_consumer_is_refused(migrated_database: str, told: Message) -> None:
    with pytest.raises(RuntimeError, match="CONSUMER_GROUP"):
        consume(migrated_database, told, "never", consumer="")


def test_rows_are_kept_for_longer_than_kafka_keeps_messages(pytestconfig: pytest.Config) -> None:
    broker = Path(pytestconfig.rootpath, "stacks", "messaging.yaml").read_text()
    hours = re.search(r"log\.retention\.hours=(\d+)", broker)

    assert hours is not None
    assert int(hours[1]) < KEPT_DAYS * 24


def test_rows_that_nobody_may_ask_for_any_more_go_with_those_that_come(
    migrated_database: str, told: Message, title: str
) -> None:
    old, recent = (dataclasses.replace(told, id=f"{title}-{age}") for age in ("old", "recent"))
    for each, age in ((old, KEPT_DAYS + 1), (recent, KEPT_DAYS - 1)):
        consume(migrated_database, each, title)
        with administrator(migrated_database) as connection:
            connection.execute(
                """
                UPDATE catalog.inbox SET created_at = now() - make_interval(days => %s)
                 WHERE created_at = (SELECT max(created_at) FROM catalog.inbox)
                """,
                (age,),
            )

    consume(migrated_database, told, title)

    assert not consume(migrated_database, recent, title)
    assert consume(migrated_database, old, title), "forgotten"
