"""Messages sent again: in their order, once, to who is meant, and telling nobody twice."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from eventsplatform.adapters.kafka import DEAD_LETTER_BYTES, KafkaProducer, TopicReader
from eventsplatform.adapters.postgres import Database
from eventsplatform.catalog.repository import PostgresCatalog
from eventsplatform.catalog.service import CatalogStore
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings, KafkaSettings
from eventsplatform.entrypoints.kafka import kafka_consumer
from eventsplatform.errors import DependencyUnavailableError, NotFoundError, PoisonMessageError
from eventsplatform.messaging.dead_letters import DeadLetters, KafkaDeadLetters
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.messaging.replay import PAGE, Replay, ReplayPage, ReplayRequest, Sending
from eventsplatform.messaging.replay_repository import PostgresEventStore
from eventsplatform.registrations.model import EventFacts
from local.engines import Endpoints
from local.openapi import load_function
from local.triggers import ensure_topics
from tests.support.application import template_application
from tests.support.callers import caller
from tests.support.core_environment import core_environment
from tests.support.database import SHARDS, Services, administrator, services
from tests.support.kafka import everything_in
from tests.support.lambda_events import Context, event_data, kafka_event, message

TOPIC = "evp.events.v1"
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = itertools.count(70_000_000)


class Sent:
    """What a replay has sent; `refuse` makes the broker take no more than so many of a page."""

    def __init__(self) -> None:
        self.sendings: list[Sending] = []
        self.refuse_after: int | None = None

    def __call__(self, sendings: Sequence[Sending]) -> list[bool]:
        taken = [self.refuse_after is None or position < self.refuse_after for position in range(len(sendings))]
        self.sendings += [each for each, ok in zip(sendings, taken, strict=True) if ok]
        return taken

    @property
    def messages(self) -> list[Message]:
        return [each.message for each in self.sendings]


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def replay(endpoints: Endpoints, migrated_database: str, sent: Sent) -> Iterator[Replay]:
    database = Database(DatabaseSettings(migrated_database, "messaging", False))
    letters = KafkaDeadLetters(TopicReader(KafkaSettings(endpoints.kafka, iam_authentication=False)))
    yield Replay(PostgresEventStore(database), letters, sent, utc_now)
    database.close()


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


def happen(
    url: str,
    day: datetime,
    *changes: tuple[int, int],
    type: str = "events.updated",
    published: bool = True,
) -> None:
    """Changes of aggregates (id, version) on a day of their own, in the order in which they are given."""
    with administrator(url) as connection:
        for aggregate_id, version in changes:
            connection.execute(
                """
                INSERT INTO messaging.outbox
                       (shard, aggregate_type, aggregate_id, version, type, partition_key, payload, traceparent,
                        occurred_at, published_at)
                VALUES (0, %s, %s, %s, %s, %s, '{}', '', %s, CASE WHEN %s THEN now() END)
                """,
                (f"on {day:%j}", aggregate_id, version, type, str(aggregate_id), day, published),
            )


@pytest.fixture
def day() -> datetime:
    """A day in the past on which nothing happens but what a test lets happen."""
    return datetime(2024, 1, 1, 12, tzinfo=UTC) + timedelta(days=next(_numbers) % 300)


def of(day: datetime, **changes: Any) -> ReplayRequest:
    since = day.replace(hour=0)
    return ReplayRequest.model_validate({"topic": TOPIC, "since": since, "until": since + timedelta(days=1), **changes})


def run_to_the_end(replay: Replay, request: ReplayRequest) -> list[ReplayPage]:
    pages = [replay.run(request)]
    while pages[-1].after is not None:
        page = pages[-1]
        request = request.model_copy(update={"after": page.after, "replay_id": page.replay_id, "until": page.until})
        pages.append(replay.run(request))
    return pages


def versions(messages: Sequence[Message]) -> list[tuple[str, int]]:
    return [(each.subject, each.sequence) for each in messages]


# Of a time or an aggregate -----------------------------------------------------------------------


def test_what_a_topic_was_told_in_a_time_is_sent_again_as_it_was_under_a_replays_id(
    replay: Replay, migrated_database: str, sent: Sent, day: datetime
) -> None:
    happen(migrated_database, day, (1, 1), (2, 1), (1, 2))
    happen(migrated_database, day, (3, 1), type="users.updated")
    happen(migrated_database, day + timedelta(days=1), (4, 1))
    happen(migrated_database, day, (5, 1), published=False)

    (page,) = run_to_the_end(replay, of(day))

    assert versions(sent.messages) == [("1", 1), ("2", 1), ("1", 2)]
    assert {each.topic for each in sent.sendings} == {TOPIC}
    assert [each.key for each in sent.sendings] == ["1", "2", "1"]
    first = sent.messages[0]
    assert (first.id, first.source) == (f"on {day:%j}-1-1", "/events-platform/events")
    assert {each.replay_id for each in sent.messages} == {page.replay_id}
    assert first.to_headers()["ce_replayid"] == page.replay_id
    assert (first.replayed_for, first.notifies_again) == ("", False)
    assert (page.sent, page.types) == (3, {"events.updated": 3})


def test_each_replay_has_another_id_unless_it_goes_on_with_one(
    replay: Replay, migrated_database: str, sent: Sent, day: datetime
) -> None:
    happen(migrated_database, day, (1, 1))

    ids = [replay.run(of(day)).replay_id for _ in range(2)]
    again = replay.run(of(day, replay_id=ids[0])).replay_id

    assert ids[0] != ids[1]
    assert again == ids[0]


def test_versions_follow_each_other_though_the_later_one_may_bear_the_earlier_time(
    replay: Replay, migrated_database: str, sent: Sent, day: datetime
) -> None:
    """The one that waited for the other's lock had begun before it."""
    happen(migrated_database, day + timedelta(seconds=1), (1, 1))
    happen(migrated_database, day, (1, 2))

    run_to_the_end(replay, of(day))

    assert versions(sent.messages) == [("1", 1), ("1", 2)]


def test_more_than_a_page_comes_page_by_page(replay: Replay, migrated_database: str, sent: Sent, day: datetime) -> None:
    happen(migrated_database, day, (1, 1))
    many(migrated_database, day, PAGE + 10)

    pages = run_to_the_end(replay, of(day))

    assert [page.sent for page in pages] == [PAGE, 11]
    assert len({page.replay_id for page in pages}) == 1
    assert len({(each.id, each.source) for each in sent.messages}) == PAGE + 11


def many(url: str, day: datetime, count: int) -> None:
    with administrator(url) as connection:
        connection.execute(
            """
            INSERT INTO messaging.outbox (shard, aggregate_type, aggregate_id, version, type, partition_key, payload,
                                          traceparent, occurred_at, published_at)
            SELECT 0, 'many', 7, version, 'events.updated', '1', '{}', '', %s, now()
              FROM generate_series(1, %s) AS version
            """,
            (day, count),
        )


def test_a_dry_run_counts_and_sends_nothing(replay: Replay, migrated_database: str, sent: Sent, day: datetime) -> None:
    happen(migrated_database, day, (1, 1), (1, 2))

    page = replay.run(of(day, dry_run=True))

    assert (page.sent, page.types, sent.sendings) == (2, {"events.updated": 2}, [])


def test_a_time_in_which_nothing_happened_has_nothing(replay: Replay, sent: Sent, day: datetime) -> None:
    page = replay.run(of(day))

    assert (page.sent, page.after, sent.sendings) == (0, None, [])


def test_an_aggregate_is_sent_again_from_its_first_version_on(
    replay: Replay, running: Services, migrated_database: str, sent: Sent
) -> None:
    event_id = running.published_event(11)
    with administrator(migrated_database) as connection:
        connection.execute("UPDATE messaging.outbox SET published_at = now() WHERE aggregate_id = %s", (event_id,))

    run_to_the_end(replay, ReplayRequest.model_validate({"aggregate": {"type": "event", "id": event_id}}))

    assert [each.type for each in sent.messages] == ["events.created", "events.published"]
    assert versions(sent.messages) == [(str(event_id), 1), (str(event_id), 2)]


def test_what_kafka_did_not_take_is_said_and_comes_with_the_repeat(
    replay: Replay, migrated_database: str, sent: Sent, day: datetime
) -> None:
    happen(migrated_database, day, (1, 1), (1, 2), (1, 3))
    sent.refuse_after = 1
    with pytest.raises(DependencyUnavailableError):
        replay.run(of(day, replay_id="r1"))

    sent.refuse_after = None
    replay.run(of(day, replay_id="r1"))

    assert versions(sent.messages) == [("1", 1), ("1", 1), ("1", 2), ("1", 3)]
    assert len({(each.id, each.replay_id) for each in sent.messages}) == 3


def test_a_replay_that_is_interrupted_and_repeated_has_its_effect_once_and_another_one_again(
    replay: Replay, migrated_database: str, sent: Sent, day: datetime
) -> None:
    happen(migrated_database, day, (1, 1), (1, 2))
    effects: list[str] = []

    def consume_all() -> None:
        database = Database(DatabaseSettings(migrated_database, "catalog", False))
        work: UnitOfWork[CatalogStore] = UnitOfWork(
            database, PostgresCatalog, lambda _: None, SHARDS, f"evp-tests-{day:%j}"
        )
        for each in sent.messages:
            work.once(each, lambda _store, _outbox, each=each: effects.append(each.id))  # type: ignore[misc]
        database.close()

    for replay_id in ("r1", "r1", "r2"):
        replay.run(of(day, replay_id=replay_id))
    consume_all()

    assert effects == [f"on {day:%j}-1-1", f"on {day:%j}-1-2"] * 2


def test_every_month_of_the_store_can_be_searched_by_time(migrated_database: str) -> None:
    with administrator(migrated_database) as connection:
        months = connection.execute(
            """
            SELECT month.relname, EXISTS (SELECT FROM pg_indexes
                                           WHERE schemaname = 'messaging' AND tablename = month.relname
                                             AND indexdef LIKE '%USING brin (id, occurred_at)%') AS found
              FROM pg_inherits JOIN pg_class AS month ON month.oid = inhrelid
             WHERE inhparent = 'messaging.outbox'::regclass
            """
        ).fetchall()

    assert months
    assert all(month["found"] for month in months), months


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"topic": TOPIC},
        {"topic": "evp-index-events.dlt", "since": BEGINNING},
        {"topic": "evp.inbound.v1", "since": BEGINNING},
        {"topic": TOPIC, "since": BEGINNING, "dead_letters": "evp-index-events"},
        {"topic": TOPIC, "since": "2026-01-01T00:00:00"},
        {"topic": TOPIC, "since": BEGINNING, "patch": {}},
        {"dead_letters": "evp-index-events", "consumer": "evp-fan-out"},
        {"dead_letters": "../evp"},
        {"dead_letters": "evp-index-events", "letters": ["1"]},
        {"aggregate": {"type": "session", "id": 1}},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReplayRequest.model_validate(request_)


# What they are for -------------------------------------------------------------------------------


class Functions:
    """Functions as Lambda calls them, with the services of the test."""

    def __init__(self, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
        self._endpoints = endpoints
        self._monkeypatch = monkeypatch

    def provide(self, wiring: Any, service: type, instance: Any) -> None:
        self._monkeypatch.setitem(wiring.FACTORIES, service, lambda: instance)

    def deliver(self, name: str, role: str, topic: str, messages: Sequence[Message]) -> None:
        function = template_application().functions[name]
        self._monkeypatch.setenv("CONSUMER_GROUP", function.environment["CONSUMER_GROUP"])
        with core_environment(self._endpoints, role=role):
            answer = load_function(function).handler(kafka_event({f"{topic}-0": messages}), Context())
        assert answer == {"batchItemFailures": []}


@pytest.fixture
def functions(endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch) -> Functions:
    return Functions(endpoints, monkeypatch)


def test_a_projection_that_was_lost_is_restored(
    replay: Replay, functions: Functions, running: Services, migrated_database: str, sent: Sent
) -> None:
    from eventsplatform.catalog import wiring
    from eventsplatform.catalog.service import Catalog

    # Given an event whose counts the catalog has of registrations' messages
    event_id = running.published_event(11, capacity=2)
    for person in (21, 22, 23):
        running.registrations.register(event_id, caller(person))
    since = utc_now() - timedelta(minutes=5)
    with administrator(migrated_database) as connection:
        connection.execute("UPDATE messaging.outbox SET published_at = now() WHERE published_at IS NULL")
        connection.execute("DELETE FROM catalog.event_counts WHERE event_id = %s", (event_id,))
    assert counts(running, event_id) == (0, 0)

    # When what registrations told is replayed
    functions.provide(wiring, Catalog, running.catalog)
    topic = "evp.registrations.v1"
    run_to_the_end(
        replay,
        ReplayRequest.model_validate({"topic": topic, "since": since, "consumer": "evp-project-messages"}),
    )
    ours = [each for each in sent.messages if each.data.get("event_id") == event_id]
    functions.deliver("ProjectMessagesFunction", "catalog", topic, ours)

    # Then it has them again, and had they been there, they would be as they were
    assert counts(running, event_id) == (2, 1)
    functions.deliver("ProjectMessagesFunction", "catalog", topic, ours)
    assert counts(running, event_id) == (2, 1)


def counts(running: Services, event_id: int) -> tuple[int, int]:
    event = running.catalog.get(event_id, None)
    return event.registered, event.waitlisted


class Heard:
    """A service that notes what it is asked to do."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def fan_out(self, told: Message) -> None:
        self.messages.append(told)

    def hear(self, told: Sequence[Message]) -> None:
        self.messages += told


NOTIFYING = {"FanOutFunction": "realtime", "QueueAttendeeMailsFunction": "registrations"}


@pytest.mark.parametrize("name", NOTIFYING)
def test_nobody_is_notified_again_unless_that_is_what_is_wanted(functions: Functions, name: str) -> None:
    from eventsplatform.realtime import wiring as realtime
    from eventsplatform.realtime.service import Rooms
    from eventsplatform.registrations import wiring as registrations
    from eventsplatform.registrations.mail_queue import MailQueue

    heard = Heard()
    functions.provide(realtime, Rooms, heard)
    functions.provide(registrations, MailQueue, heard)
    replayed = message(1, extensions={"replayid": "r1"})

    functions.deliver(name, NOTIFYING[name], TOPIC, [replayed])
    assert heard.messages == []

    # The control: it is the replay's id that keeps them from it
    wanted = message(3, extensions={"replayid": "r1", "replaynotify": True})
    functions.deliver(name, NOTIFYING[name], TOPIC, [message(2), wanted])
    assert [each.subject for each in heard.messages] == ["2", "3"]


def test_every_function_that_notifies_is_known_here() -> None:
    functions = template_application().functions.values()
    notifying = {each.name for each in functions if "notifies=True" in (each.code / "app.py").read_text()}

    assert notifying >= set(NOTIFYING)


# Dead letters ------------------------------------------------------------------------------------


@pytest.fixture
def group(endpoints: Endpoints) -> str:
    name = f"evp-{uuid4().hex[:8]}"
    ensure_topics(endpoints.kafka, [f"{name}.dlt", TOPIC])
    return name


def put_aside(endpoints: Endpoints, group: str, *values: bytes, topic: str = TOPIC) -> None:
    """As a consumer does that refuses everything."""
    producer = KafkaProducer(KafkaSettings(endpoints.kafka, iam_authentication=False), message_bytes=DEAD_LETTER_BYTES)

    def refuse(_: Message) -> None:
        raise PoisonMessageError("refused")

    handler = kafka_consumer(refuse, dead_letters=lambda: DeadLetters(producer, group))
    assert handler(kafka_event({f"{topic}-0": values}, first_offset=100), Context()) == {"batchItemFailures": []}


def letters_of(group: str, **changes: Any) -> ReplayRequest:
    return ReplayRequest.model_validate({"dead_letters": group, **changes})


def test_a_dead_letter_that_was_repaired_is_consumed_by_the_group_that_put_it_aside(
    replay: Replay, endpoints: Endpoints, running: Services, sent: Sent, group: str
) -> None:
    """From the poison to the projection, over the broker, with the handlers that are deployed."""
    number = next(_numbers)
    broken = message(number, data=event_data(number, capacity="many"))
    consumed: list[EventFacts] = []
    producer = KafkaProducer(KafkaSettings(endpoints.kafka, iam_authentication=False), message_bytes=DEAD_LETTER_BYTES)
    handler = kafka_consumer(
        lambda told: consumed.append(told.read(EventFacts.of_event)),
        dead_letters=lambda: DeadLetters(producer, group),
        group=lambda: group,
        notifies=True,
    )
    others: list[Message] = []
    other = kafka_consumer(others.append, dead_letters=lambda: DeadLetters(producer, group), group=lambda: "evp-other")

    # Given a message that is put aside
    handler(kafka_event({f"{TOPIC}-0": [broken]}), Context())
    assert consumed == []

    # When it is replayed as it is, it is left, for it would only be put aside again
    page = replay.run(letters_of(group))
    assert (page.sent, [each.reason.partition(":")[0] for each in page.unfit]) == (0, ["events.created v1"])

    # When it is repaired, it goes to its topic under its key
    page = replay.run(letters_of(group, letters=[page.unfit[0].letter], patch={"data": {"capacity": 80}}))
    assert (page.sent, page.unfit) == (1, [])
    (sending,) = sent.sendings
    assert (sending.topic, sending.key) == (TOPIC, b"42")
    assert (sending.message.id, sending.message.source) == (broken.id, broken.source)

    # Then the group consumes it, though it notifies, for it never has; and no other group does
    event = kafka_event({f"{TOPIC}-0": [sending.message]})
    handler(event, Context())
    other(event, Context())
    assert [each.capacity for each in consumed] == [80]
    assert others == []


def test_letters_that_are_sound_by_now_go_back_to_their_topic(
    replay: Replay, endpoints: Endpoints, sent: Sent, group: str
) -> None:
    """Most are put aside for a fault of the consumer's, which has been repaired."""
    told = [message(next(_numbers)) for _ in range(3)]
    put_aside(endpoints, group, told[0].to_json(), b"not JSON", told[1].to_json(), told[2].to_json())

    pages = run_to_the_end(replay, letters_of(group))

    assert [dataclasses.replace(each, extensions={}) for each in sent.messages] == told
    assert {(each.replayed_for, each.notifies_again) for each in sent.messages} == {(group, True)}
    (unfit,) = [each for page in pages for each in page.unfit]
    assert unfit.origin == f"{TOPIC}-0@101"
    assert unfit.reason.startswith("not JSON")


def test_letters_of_a_time_and_letters_that_are_named(
    replay: Replay, endpoints: Endpoints, sent: Sent, group: str
) -> None:
    told = [message(next(_numbers)) for _ in range(3)]
    put_aside(endpoints, group, *[each.to_json() for each in told])
    second = everything_in(endpoints.kafka, f"{group}.dlt")[1]

    assert replay.run(letters_of(group, since=utc_now() + timedelta(minutes=1), until=None, dry_run=True)).sent == 0
    assert replay.run(letters_of(group, until=utc_now() - timedelta(minutes=1), dry_run=True)).sent == 0
    assert replay.run(letters_of(group, dry_run=True)).sent == 3
    replay.run(letters_of(group, letters=[f"{second.partition()}@{second.offset()}"]))

    assert [each.id for each in sent.messages] == [told[1].id]


def test_reading_goes_on_behind_what_was_read(endpoints: Endpoints, group: str) -> None:
    put_aside(endpoints, group, *[message(next(_numbers)).to_json() for _ in range(5)])
    letters = KafkaDeadLetters(TopicReader(KafkaSettings(endpoints.kafka, iam_authentication=False)))

    places, after, is_end = [], dict[int, int](), False
    while not is_end:
        found, after, is_end = letters.read(group, after, 2)
        places += [each.place for each in found]

    assert len(places) == len(set(places)) == 5


@pytest.mark.parametrize(
    ("value", "topic", "reason"),
    [
        (json.dumps({"data": {"token": "eyJhbGciOiJIUzI1NiJ9.e30.x"}}).encode(), "evp.inbound.v1", "its token"),
        (message(1).to_json(), "evp.unheard.v1", "no topic"),
        (message(1, version=9).to_json(), TOPIC, "has no version 9"),
    ],
)
def test_letters_that_cannot_go_back_say_why(
    replay: Replay, endpoints: Endpoints, sent: Sent, group: str, value: bytes, topic: str, reason: str
) -> None:
    put_aside(endpoints, group, value, topic=topic)

    page = replay.run(letters_of(group))

    assert (page.sent, sent.sendings) == (0, [])
    assert reason in page.unfit[0].reason


def test_a_group_that_is_none_is_not_there(replay: Replay) -> None:
    with pytest.raises(NotFoundError):
        replay.run(letters_of("evp-nobody"))
