"""Writing, publishing and reading events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eventsplatform.catalog import messages
from eventsplatform.catalog.model import Event, EventIn, ToldRegistration
from eventsplatform.clock import Clock, rfc3339
from eventsplatform.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.model import Appendable, Work


class UnknownCategoryError(Exception):
    """Raised by the store for an event of a category that does not exist."""


class UnknownOrganizerError(Exception):
    """Raised by the store for an event of a user it has not been told about."""


class CatalogStore(Protocol):
    def categories(self) -> list[str]: ...

    def put_user(self, user_id: int, name: str, version: int) -> bool:
        """Keep the projection of a user unless a later version is there; whether the name is another than before."""

    def page_of_published(self, after_id: int, limit: int) -> list[Event]: ...

    def add_event(self, event: EventIn, organizer_id: int) -> Event:
        """The new draft. Raises UnknownCategoryError or UnknownOrganizerError."""

    def find_event(self, event_id: int, *, for_update: bool = False) -> Event | None: ...

    def set_status(self, event_id: int, status: str) -> Event:
        """The event with its new status and its next version."""

    def put_counts(self, told: Sequence[ToldRegistration]) -> None:
        """Keep each event's counts unless those of a later version are there; at most one of each event."""


class UserDirectory(Protocol):
    """Identity, as the catalog asks it for a user it has not been told about yet."""

    def describe(self, user_id: int) -> tuple[str, int]:
        """A user's name and version. Raises NotFoundError."""


class Catalog:
    def __init__(self, work: Work[CatalogStore], users: UserDirectory, clock: Clock) -> None:
        self._work = work
        self._users = users
        self._clock = clock

    def create(self, event: EventIn, caller: Caller) -> Event:
        """A new draft of the caller's. Raises InvalidInputError for a past start or an unknown category."""
        now = self._clock()
        if event.starts_at <= now:
            raise InvalidInputError([FieldError("/starts_at", f"must be in the future; it is now {rfc3339(now)}")])
        try:
            return self._add(event, caller)
        except UnknownOrganizerError:
            # Identity's message about the caller is still on the way.
            name, version = self._users.describe(caller.user_id)
            self.learn_user(caller.user_id, name, version)
            return self._add(event, caller)

    def publish(self, event_id: int, caller: Caller) -> Event:
        """Open a draft to everyone. Raises NotFoundError for another's event, ConflictError unless a draft in time."""

        def change(store: CatalogStore, outbox: Appendable) -> Event:
            event = self._own(store.find_event(event_id, for_update=True), event_id, caller)
            if event.status != "draft":
                raise ConflictError(f"Only a draft can be published; this event is {event.status}.")
            if event.starts_at <= self._clock():
                raise ConflictError("An event that has already started cannot be published.")
            published = store.set_status(event_id, "published")
            outbox.append(messages.event_changed(published, "published", caller.user_id))
            return published

        return self._work.run(Event, change)

    def get(self, event_id: int, caller: Caller | None) -> Event:
        """An event; a draft only for its organiser. Raises NotFoundError."""
        event = self.describe(event_id)
        if event.status == "draft":
            return self._own(event, event_id, caller)
        return event

    def describe(self, event_id: int) -> Event:
        """An event whatever its status, for other services. Raises NotFoundError."""
        with self._work.statement() as store:
            event = store.find_event(event_id)
        if event is None:
            raise _no_such_event(event_id)
        return event

    def page(self, after_id: int, limit: int) -> list[Event]:
        """Events that are no drafts, by id, for services that rebuild a projection."""
        with self._work.statement() as store:
            return store.page_of_published(after_id, limit)

    def learn_user(self, user_id: int, name: str, version: int) -> None:
        """Project a user's name, told by identity."""
        with self._work.statement() as store:
            store.put_user(user_id, name, version)

    def learn_counts(self, told: Sequence[ToldRegistration]) -> None:
        """Project events' registration counts, told by registrations: of each event the latest."""
        latest = {each.event_id: each for each in sorted(told, key=lambda each: each.counts.version)}
        if latest:
            with self._work.statement() as store:
                store.put_counts(list(latest.values()))

    def _add(self, event: EventIn, caller: Caller) -> Event:
        def change(store: CatalogStore, outbox: Appendable) -> Event:
            created = store.add_event(event, caller.user_id)
            outbox.append(messages.event_changed(created, "created", caller.user_id))
            return created

        try:
            return self._work.run(Event, change)
        except UnknownCategoryError as error:
            with self._work.statement() as store:
                allowed = ", ".join(store.categories())
            detail = f"{event.category!r} is not a category; allowed: {allowed}"
            raise InvalidInputError([FieldError("/category", detail)]) from error

    @staticmethod
    def _own(event: Event | None, event_id: int, caller: Caller | None) -> Event:
        if event is None or caller is None or event.organizer.id != caller.user_id:
            raise _no_such_event(event_id)
        return event


def _no_such_event(event_id: int) -> NotFoundError:
    return NotFoundError(f"There is no event {event_id}.")
