"""Carrying out the plan through the services, over several database connections at a time.

Every user, event and registration is one or more transactions of its own, with its outbox rows, exactly as the API
makes them. An interruption therefore leaves less data and no half-made thing: the database is no longer empty, the
next start keeps what is there, and the relay tells everyone of it. To load all of it, start from an empty database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from eventsplatform.adapters.postgres import Connection, Database
from eventsplatform.catalog.messages import facts_of
from eventsplatform.catalog.model import CapacityAnswer, EventIn, KnownEvent
from eventsplatform.catalog.repository import PostgresCatalog
from eventsplatform.catalog.service import Catalog
from eventsplatform.clock import Clock, utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.model import SignUp, User
from eventsplatform.identity.passwords import Argon2Passwords
from eventsplatform.identity.repository import PostgresIdentity
from eventsplatform.identity.service import AccountOpening, UserDirectory
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.registrations.mails_repository import PostgresMails
from eventsplatform.registrations.model import EventFacts, Registration
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations
from eventsplatform.tracing import continue_trace
from local.demo.accounts import PASSWORD
from local.demo.emptiness import is_empty
from local.demo.people import Person
from local.demo.plan import PlannedEvent, draw_up

Progress = Callable[[str, int, int], None]
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Store = TypeVar("Store")

# Hashing passwords and waiting for commits let go of the interpreter: a few threads keep two cores busy.
LANES = 4

_LOADED_WITHIN = timedelta(minutes=15)
_REPORT_SECONDS = 0.1
_PASSWORDS = Argon2Passwords()


class NotEmptyError(RuntimeError):
    """The database already has users; demo data are for an empty one."""


@dataclass(frozen=True)
class DemoReport:
    """What was loaded; `waitlisted` is part of `registrations`."""

    users: int
    events: int
    cities: int
    registrations: int
    waitlisted: int
    seconds: float


def load(
    database_url: str,
    *,
    shards: int,
    now: datetime,
    progress: Progress,
    scale: float = 1.0,
) -> DemoReport:
    """Load `scale` times the full demo data into an empty, migrated database.

    `shards` is the number of outbox shards the functions use. `progress` is called on this thread with what is being
    loaded, how many are done and how many there are; whatever it raises stops the loading and is raised here. The
    relay is not woken: do that once afterwards. Raises NotEmptyError, and DependencyUnavailableError when the
    database goes away; both leave what is already loaded.
    """
    if not is_empty(database_url):
        raise NotEmptyError("The database already has users; demo data are loaded into an empty one only.")
    started = time.monotonic()
    plan = draw_up(now, scale)
    lanes = _Lanes(lambda: _services(database_url, shards, lambda: now), progress)

    with _unmailed(database_url):
        users = lanes.run("users", plan.people, _sign_up)
        callers = [_caller(user) for user in users]
        event_ids = lanes.run(
            "events", plan.events, lambda services, event: _publish(services, event, callers[event.organizer])
        )
        wishes = [
            _Wish(event_id, callers[index])
            for event_id, event in zip(event_ids, plan.events, strict=True)
            for index in event.attendees
        ]
        registrations = lanes.run("registrations", wishes, _register, lane=lambda wish: wish.event_id)
    return DemoReport(
        users=len(users),
        events=len(event_ids),
        cities=len({event.city for event in plan.events}),
        registrations=len(registrations),
        waitlisted=sum(registration.status == "waitlisted" for registration in registrations),
        seconds=time.monotonic() - started,
    )


@contextmanager
def _unmailed(database_url: str) -> Iterator[None]:
    """Nobody is mailed about what happens meanwhile: thousands of places confirmed to people who never asked."""
    database = Database(DatabaseSettings(database_url, "registrations", False))

    def mail_since(moment: datetime) -> None:
        with database.autocommit() as connection:
            PostgresMails(connection).mail_since(moment)

    try:
        # Whoever is killed meanwhile has mail again after a while.
        mail_since(utc_now() + _LOADED_WITHIN)
        yield
        mail_since(utc_now())
    finally:
        database.close()


@dataclass(frozen=True)
class _Wish:
    """Someone who wants to attend an event."""

    event_id: int
    caller: Caller


@dataclass(frozen=True)
class _Services:
    accounts: AccountOpening
    catalog: Catalog
    registrations: Registrations


def _sign_up(services: _Services, person: Person) -> User:
    return services.accounts.open(
        SignUp.model_validate({"email": person.email, "password": PASSWORD, "name": person.name})
    )


def _publish(services: _Services, event: PlannedEvent, organizer: Caller) -> int:
    draft = services.catalog.create(EventIn.model_validate(event.body), organizer)
    return services.catalog.publish(draft.id, organizer).id


def _register(services: _Services, wish: _Wish) -> Registration:
    return services.registrations.register(wish.event_id, wish.caller)


def _caller(user: User) -> Caller:
    """A user as the authorizer would pass them on, were they signed in."""
    return Caller(
        user_id=user.id,
        email=user.email,
        role=user.role,
        permissions=frozenset(user.permissions),
        token_id="demo",  # noqa: S106  no token: nothing is signed with it
        session_id="demo",
        generation=1,
        verified=True,
        expires_at=datetime.max.replace(tzinfo=UTC),
    )


class _Lanes:
    """Work shared out over threads, each with services and database connections of its own."""

    def __init__(self, services: Callable[[], AbstractContextManager[_Services]], progress: Progress) -> None:
        self._services = services
        self._progress = progress

    def run(
        self,
        stage: str,
        items: Sequence[Item],
        do: Callable[[_Services, Item], Outcome],
        *,
        lane: Callable[[Item], int] | None = None,
    ) -> list[Outcome]:
        """`do` each of the items and return the outcomes in their order; the first failure stops all and is raised.

        Items of one `lane`, a number modulo the lanes there are, are done one after another in their order.
        """
        shares: list[list[tuple[int, Item]]] = [[] for _ in range(LANES)]
        for index, item in enumerate(items):
            shares[(lane(item) if lane else index) % LANES].append((index, item))
        outcomes: dict[int, Outcome] = {}
        stop = threading.Event()

        def work_off(share: Sequence[tuple[int, Item]]) -> None:
            with self._services() as services:
                for index, item in share:
                    if stop.is_set():
                        return
                    continue_trace(None)  # each command is a trace of its own, as each request is
                    outcomes[index] = do(services, item)

        with ThreadPoolExecutor(LANES, thread_name_prefix="demo") as pool:
            try:
                running = {pool.submit(work_off, share) for share in shares}
                while running:
                    finished, running = wait(running, _REPORT_SECONDS, FIRST_COMPLETED)
                    for future in finished:
                        future.result()
                    self._progress(stage, len(outcomes), len(items))
            finally:
                stop.set()
        return [outcomes[index] for index in range(len(items))]


@contextmanager
def _services(database_url: str, shards: int, clock: Clock) -> Iterator[_Services]:
    """The services as the functions build them, except that they call each other directly and wake no relay."""
    with ExitStack() as connections:

        def work(role: str, store: Callable[[Connection], Store]) -> UnitOfWork[Store]:
            database = Database(DatabaseSettings(database_url, role, False))
            connections.callback(database.close)
            return UnitOfWork(database, store, lambda _: None, shards)

        identity = work("identity", PostgresIdentity)
        places = _Places()
        catalog = Catalog(work("catalog", PostgresCatalog), _Users(UserDirectory(identity)), places, clock)
        registrations = Registrations(work("registrations", PostgresRegistrations), _Events(catalog), clock)
        places.registrations = registrations
        yield _Services(AccountOpening(identity, _PASSWORDS, clock), catalog, registrations)


class _Places:
    """Registrations as the catalog asks it. Made before it, for each of the two asks the other."""

    registrations: Registrations

    def accept_capacity(self, events: Sequence[KnownEvent], capacity: int) -> dict[int, CapacityAnswer]:
        told = [EventFacts.of_event(facts_of(event)) for event in events]
        answers = self.registrations.accept_capacity(told, capacity)
        return {event_id: CapacityAnswer.model_validate(each.model_dump()) for event_id, each in answers.items()}


@dataclass(frozen=True)
class _Users:
    """Identity as the catalog's directory of users."""

    users: UserDirectory

    def describe(self, user_id: int) -> tuple[str, int]:
        user = self.users.describe(user_id)
        return user.name, user.version


@dataclass(frozen=True)
class _Events:
    """The catalog as the registrations' directory of events."""

    catalog: Catalog

    def describe(self, event_id: int) -> EventFacts:
        return EventFacts.of_event(self.catalog.describe(event_id).model_dump(mode="json"))
