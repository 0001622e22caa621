"""A migrated database, and the services on it, for tests that need real state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from eventsplatform.adapters.postgres import Connection, Database
from eventsplatform.catalog.history import EventHistory
from eventsplatform.catalog.messages import facts_of
from eventsplatform.catalog.model import CapacityAnswer, EventIn, KnownEvent
from eventsplatform.catalog.repository import PostgresCatalog
from eventsplatform.catalog.series import EventSeries
from eventsplatform.catalog.service import Catalog
from eventsplatform.catalog.teams import Teams
from eventsplatform.clock import Clock, utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.identity.account_mails import AccountMails, MailRequest
from eventsplatform.identity.housekeeping import Housekeeping
from eventsplatform.identity.housekeeping_repository import PostgresHousekeeping
from eventsplatform.identity.partner_tokens import PartnerTokenIssuer
from eventsplatform.identity.partners import Partners
from eventsplatform.identity.passwords import Argon2Passwords
from eventsplatform.identity.repository import PostgresIdentity
from eventsplatform.identity.service import AccountOpening, Identity, UserDirectory
from eventsplatform.identity.sessions import Passwords, SessionCheck, Sessions, SessionTokens
from eventsplatform.identity.sessions_repository import PostgresSessions
from eventsplatform.identity.sign_in_limits import Attempts, AttemptsInMemory, SignInLimits
from eventsplatform.identity.tokens import AccessTokenIssuer
from eventsplatform.mail import Mail
from eventsplatform.messaging.history import History, HistoryQuestion, RecordedChange, RecordedHistory
from eventsplatform.messaging.history_repository import PostgresHistory
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.operations.migrate import migrate
from eventsplatform.registrations.admission.check_ins import CheckIns
from eventsplatform.registrations.admission.repository import PostgresAdmission
from eventsplatform.registrations.admission.tickets import Tickets
from eventsplatform.registrations.calendar_feeds import CalendarFeeds
from eventsplatform.registrations.calendar_feeds_repository import PostgresCalendarFeeds
from eventsplatform.registrations.model import EventFacts
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations
from eventsplatform.signing_keys import KeySet
from eventsplatform.transactions import require_no_locks
from local.engines import Endpoints
from tests.support.callers import caller

Store = TypeVar("Store")

KEYS = {"active": "k1", "k1": "a key of the tests that is long enough for HS256"}
TICKET_KEYS = {"active": "k1", "k1": "a text of the tests that a key for tickets is derived from"}
ISSUER, AUDIENCE, PARTNER_AUDIENCE = "events-platform", "events-platform-api", "events-platform-inbound"
SHARDS = 4
WEB_URL = "https://events.example.org/app"
# Cheap on purpose: the cost of a hash is not what these tests are about.
PASSWORDS = Argon2Passwords(memory_kib=64, passes=1)


@pytest.fixture(scope="session")
def migrated_database(endpoints: Endpoints) -> str:
    """The address of the session's database, migrated."""
    migrate(endpoints.postgres)
    return endpoints.postgres


@contextmanager
def administrator(url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """A connection that may see everything, to look behind the services."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def database_beside(url: str, name: str) -> str:
    """The address of a database of its own on the same server, empty."""
    with administrator(url) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return f"{url.rpartition('/')[0]}/{name}"


def event_in(**changes: Any) -> EventIn:
    """A valid event, with changes, that starts in a month."""
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    event = {
        "title": "A concert",
        "starts_at": start.isoformat(),
        "ends_at": (start + timedelta(hours=2)).isoformat(),
        "timezone": "Europe/Berlin",
        "location": {"name": "Berlin", "lat": 52.52, "lon": 13.405},
        "capacity": 100,
        "category": "music",
        "tags": ["jazz"],
    }
    return EventIn.model_validate({**event, **changes})


@dataclass(frozen=True)
class Services:
    """The services of one process: they call each other directly, where functions go through Lambda."""

    identity: Identity
    sessions: Sessions
    session_check: SessionCheck
    partners: Partners
    accounts: AccountOpening
    directory: UserDirectory
    mails: AccountMails
    housekeeping: Housekeeping
    catalog: Catalog
    teams: Teams
    series: EventSeries
    history: EventHistory
    registrations: Registrations
    tickets: Tickets
    check_ins: CheckIns
    feeds: CalendarFeeds
    poked: list[set[int]]
    mailbox: Mailbox
    revoked: RecordedRevocations

    def published_event(self, organizer_id: int, **changes: Any) -> int:
        organizer = caller(organizer_id)
        event = self.catalog.create(event_in(**changes), organizer)
        return self.catalog.publish(event.id, organizer).id


class Mailbox:
    """What was asked to be mailed; `deliver` does it, and `sent` is what comes of it."""

    def __init__(self) -> None:
        self.requests: list[MailRequest] = []
        self.sent: list[Mail] = []

    def request(self, mail: MailRequest) -> None:
        self.requests.append(mail)

    def deliver(self, mails: AccountMails) -> list[Mail]:
        """The mails that the requests so far come to."""
        before = len(self.sent)
        while self.requests:
            mails.send(self.requests.pop(0))
        return self.sent[before:]


@dataclass
class RecordedRevocations:
    """What every endpoint was told: sessions, tokens, and the generation of users."""

    sessions: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    users: dict[int, int] = field(default_factory=dict)

    def end_session(self, session_id: str, token_id: str | None = None) -> None:
        self.sessions.append(session_id)
        if token_id is not None:
            self.tokens.append(token_id)

    def end_user(self, user_id: int, generation: int) -> None:
        self.users[user_id] = generation


class AnyUser:
    """A directory in which every user exists."""

    def describe(self, user_id: int) -> tuple[str, int]:
        return f"User {user_id}", 1


class CatalogDirectory:
    """The catalog as registrations asks it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def describe(self, event_id: int) -> EventFacts:
        return EventFacts.of_event(self._catalog.describe(event_id).model_dump(mode="json"))


class RegistrationsPlaces:
    """Registrations as the catalog asks it. Made before it, for each of the two asks the other."""

    registrations: Registrations

    def accept_capacity(self, events: Sequence[KnownEvent], capacity: int) -> dict[int, CapacityAnswer]:
        told = [EventFacts.of_event(facts_of(event)) for event in events]
        answers = self.registrations.accept_capacity(told, capacity)
        return {event_id: CapacityAnswer.model_validate(each.model_dump()) for event_id, each in answers.items()}


class RecordedEvents:
    """Messaging as the catalog asks it for an event's past."""

    def __init__(self, database: Database) -> None:
        self._history = History(PostgresHistory(database))

    def changes(self, event_id: int, before: int | None, limit: int) -> list[RecordedChange]:
        return self._history.answer(HistoryQuestion(event_id=event_id, before=before, limit=limit)).changes

    def at(self, event_id: int, moment: datetime) -> RecordedHistory:
        return self._history.answer(HistoryQuestion(event_id=event_id, as_of=moment))


def _read_keys() -> dict[str, str]:
    """The keys as functions get them: from a store that is asked over the network."""
    require_no_locks("the secret store")
    return KEYS


def read_ticket_keys() -> dict[str, str]:
    require_no_locks("the secret store")
    return TICKET_KEYS


@contextmanager
def services(
    url: str,
    *,
    clock: Clock = utc_now,
    passwords: Passwords = PASSWORDS,
    attempts: Attempts | None = None,
    keys: Callable[[], KeySet] = _read_keys,
) -> Iterator[Services]:
    """The services as the functions build them, each on a connection of its own role.

    Failed sign-ins are counted in memory, by `attempts` if given; mails stay in the mailbox. Access tokens are signed
    with `keys`.
    """
    databases: list[Database] = []
    poked: list[set[int]] = []

    def work(role: str, store: Callable[[Connection], Store]) -> UnitOfWork[Store]:
        databases.append(Database(DatabaseSettings(url, role, False)))
        return UnitOfWork(databases[-1], store, poked.append, SHARDS)

    places = RegistrationsPlaces()
    catalog_work = work("catalog", PostgresCatalog)
    messaging = Database(DatabaseSettings(url, "messaging", False))
    databases.append(messaging)
    catalog = Catalog(catalog_work, AnyUser(), places, clock)
    directory = CatalogDirectory(catalog)
    registrations = Registrations(work("registrations", PostgresRegistrations), directory, clock)
    places.registrations = registrations
    admission = work("registrations", PostgresAdmission)
    issuer = AccessTokenIssuer(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock)
    partner_tokens = PartnerTokenIssuer(keys, issuer=ISSUER, audience=PARTNER_AUDIENCE, clock=clock)
    tokens, mailbox, revoked = SessionTokens(lambda: issuer, clock), Mailbox(), RecordedRevocations()
    accounts = work("identity", PostgresIdentity)
    counting = attempts or AttemptsInMemory(time.monotonic)
    limits = SignInLimits(counting, counting, time.monotonic)
    try:
        yield Services(
            identity=Identity(accounts, passwords, tokens, limits, revoked, mailbox, clock),
            sessions=Sessions(work("identity", PostgresSessions), passwords, tokens, limits, revoked, clock),
            partners=Partners(work("identity", PostgresSessions), lambda: partner_tokens, clock),
            session_check=SessionCheck(work("identity", PostgresSessions), lambda: None),
            accounts=AccountOpening(accounts, passwords, clock),
            directory=UserDirectory(accounts),
            mails=AccountMails(accounts, mailbox.sent.append, WEB_URL, clock),
            housekeeping=Housekeeping(work("identity", PostgresHousekeeping), clock),
            catalog=catalog,
            teams=Teams(catalog_work, AnyUser(), clock),
            series=EventSeries(catalog_work, clock),
            history=EventHistory(catalog_work, RecordedEvents(messaging)),
            registrations=registrations,
            tickets=Tickets(admission, read_ticket_keys, read_ticket_keys, registrations.facts_of, clock),
            check_ins=CheckIns(admission, lambda id_: registrations.learn_events([directory.describe(id_)]), clock),
            feeds=CalendarFeeds(work("registrations", PostgresCalendarFeeds), clock),
            poked=poked,
            mailbox=mailbox,
            revoked=revoked,
        )
    finally:
        for database in databases:
            database.close()
