"""Mails to attendees on a migrated database: what the outbox tells goes through the functions' own handlers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest

from eventsplatform.adapters.postgres import Connection, Database
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.entrypoints import providers
from eventsplatform.identity.directory import PeopleDirectory
from eventsplatform.identity.people_repository import PostgresPeople
from eventsplatform.mail import Mail
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.messaging.relay import PendingChange
from eventsplatform.registrations import wiring
from eventsplatform.registrations.attendee_mails import AttendeeMails
from eventsplatform.registrations.mail_model import Recipient
from eventsplatform.registrations.mail_queue import MailQueue
from eventsplatform.registrations.mails_repository import PostgresMails
from eventsplatform.registrations.model import EventFacts
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations
from eventsplatform.transactions import require_no_locks
from local.openapi import load_function
from tests.support.application import template_application
from tests.support.callers import caller
from tests.support.database import SHARDS, WEB_URL, CatalogDirectory, Services, administrator, services
from tests.support.lambda_events import Context, kafka_event
from tests.support.people import add_user, rows

Store = TypeVar("Store")
Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

TOPICS = {"event": "evp.events.v1-0", "registration": "evp.registrations.v1-0"}


@dataclass
class AskedPeople:
    """Identity as registrations asks it: about how many people, each time."""

    directory: PeopleDirectory
    questions: list[int]

    def recipients(self, user_ids: Sequence[int]) -> Mapping[int, Recipient]:
        require_no_locks("identity")
        self.questions.append(len(user_ids))
        found = self.directory.recipients_among(user_ids)
        return {each.id: Recipient.model_validate(each.model_dump()) for each in found}


@dataclass
class Outgoing:
    """The mail service: what it took, and what it raises first, once each."""

    sent: list[Mail] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def deliver(self, mail: Mail) -> None:
        require_no_locks("the mail service")
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(mail)


@dataclass
class MailWorld:
    """The services and the mails of one database, at a time that the test moves ahead."""

    url: str
    ahead: timedelta = timedelta()
    outgoing: Outgoing = field(default_factory=Outgoing)
    pokes: int = 0
    running: Services = field(init=False)
    questions: list[int] = field(default_factory=list)
    _told: int = 0
    _handlers: dict[str, Handler] = field(default_factory=dict)
    _databases: list[Database] = field(default_factory=list)

    @contextmanager
    def open(self) -> Iterator[MailWorld]:
        self._told = rows(self.url, "SELECT coalesce(max(id), 0) AS last FROM messaging.outbox")[0]["last"]
        try:
            with services(self.url, clock=self.now) as self.running:
                yield self
        finally:
            for database in self._databases:
                database.close()

    def queue(self, store: Callable[[Connection], Any] = PostgresMails) -> MailQueue:
        return MailQueue(self.work("registrations", store), self.running.registrations, self._poke, self.now)

    def mails(self, store: Callable[[Connection], Any] = PostgresMails) -> AttendeeMails:
        """A sender on connections of its own."""
        people = AskedPeople(PeopleDirectory(self.work("identity", PostgresPeople)), self.questions)
        return AttendeeMails(
            self.work("registrations", store),
            self.registrations(),
            people,
            self.outgoing.deliver,
            wiring.calendar_attachment,
            WEB_URL,
            self.now,
        )

    def registrations(self) -> Registrations:
        """On a connection of its own."""
        catalog = CatalogDirectory(self.running.catalog)
        return Registrations(self.work("registrations", PostgresRegistrations), catalog, self.now)

    def work(self, role: str, store: Callable[[Connection], Store]) -> UnitOfWork[Store]:
        self._databases.append(Database(DatabaseSettings(self.url, role, False)))
        return UnitOfWork(self._databases[-1], store, lambda _: None, SHARDS)

    def _poke(self) -> None:
        self.pokes += 1

    def now(self) -> datetime:
        return utc_now() + self.ahead

    def person(self, **changes: Any) -> Person:
        user_id = add_user(self.url, **changes)
        (row,) = rows(self.url, "SELECT email FROM identity.users WHERE id = %s", user_id)
        return Person(self, user_id, row["email"])

    def event(self, organizer_id: int, **changes: Any) -> int:
        event_id = self.running.published_event(organizer_id, **changes)
        self.hear()
        return event_id

    # What is told

    def messages(self) -> list[Message]:
        """What the outbox has told since it was last asked."""
        columns = (
            "id, shard, aggregate_type, aggregate_id, version, type, partition_key, payload, traceparent, occurred_at"
        )
        found = rows(self.url, f"SELECT {columns} FROM messaging.outbox WHERE id > %s ORDER BY id", self._told)
        self._told = max([self._told, *(row["id"] for row in found)])
        return [PendingChange(**row).to_message() for row in found]

    def consume(self, *messages: Message) -> None:
        """Hand them to the function as Amazon MSK does, by topic."""
        topics = {
            partition: [each for each in messages if each.source.endswith(f"/{kind}s")]
            for kind, partition in TOPICS.items()
        }
        event = kafka_event({partition: listed for partition, listed in topics.items() if listed})
        assert self.handler("QueueAttendeeMails")(event, Context()) == {"batchItemFailures": []}

    def hear(self) -> list[Message]:
        """Have everything consumed that was told, before registrations' projection is; it is returned."""
        told = [each for each in self.messages() if each.domain in ("events", "registrations")]
        if told:
            self.consume(*told)
        events = [EventFacts.of_event(each.data) for each in told if each.domain == "events"]
        self.running.registrations.learn_events(events)
        return told

    def sweep(self, *, remaining_ms: int = 300_000) -> dict[str, int]:
        """The function's run of each minute."""
        return self.handler("SendAttendeeMails")({}, Context(remaining_ms=remaining_ms))

    def poke(self) -> dict[str, int]:
        return self.handler("SendAttendeeMails")({"poked": True}, Context(remaining_ms=300_000))

    def tell(self) -> dict[str, int]:
        """Everything that was told, and the mails that come of it."""
        self.hear()
        return self.poke()

    def handler(self, name: str) -> Handler:
        if name not in self._handlers:
            self._handlers[name] = load_function(template_application().functions[f"{name}Function"]).handler
        return self._handlers[name]

    def outcomes(self) -> Counter[tuple[str, str | None]]:
        found = rows(self.url, "SELECT kind, outcome FROM registrations.attendee_mails")
        return Counter((row["kind"], row["outcome"]) for row in found)


@dataclass(frozen=True)
class Person:
    world: MailWorld
    id: int
    email: str

    def register(self, event_id: int) -> None:
        self.world.running.registrations.register(event_id, caller(self.id))

    def cancel(self, event_id: int) -> None:
        self.world.running.registrations.cancel(event_id, caller(self.id))

    def accept(self, event_id: int) -> None:
        self.world.running.registrations.accept(event_id, caller(self.id))

    @property
    def mails(self) -> list[Mail]:
        return [mail for mail in self.world.outgoing.sent if mail.to == self.email]

    @property
    def subjects(self) -> list[str]:
        """Up to the event's title."""
        return [mail.subject.partition(":")[0] for mail in self.mails]


@pytest.fixture
def mail_world(migrated_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailWorld]:
    """The functions of the template, with what they are built of in place of what Lambda would give them."""
    with administrator(migrated_database) as connection:
        connection.execute("DELETE FROM registrations.attendee_mails")
        connection.execute("DELETE FROM registrations.announcements")
        connection.execute("UPDATE registrations.mailing SET since = now() - interval '1 hour'")
    with MailWorld(migrated_database).open() as world:
        monkeypatch.setenv("CONSUMER_GROUP", "evp-queue-attendee-mails")
        monkeypatch.setitem(wiring.FACTORIES, MailQueue, world.queue)
        monkeypatch.setitem(wiring.FACTORIES, AttendeeMails, world.mails)
        providers._built.cache_clear()
        yield world
        providers._built.cache_clear()


def replayed(message: Message) -> Message:
    """As it is sent again for consumers that have lost what they made of it."""
    return dataclasses.replace(message, extensions={"replayid": "b1946ac9-2492-4d23-8f0f-7b1c3f2f3a11"})
