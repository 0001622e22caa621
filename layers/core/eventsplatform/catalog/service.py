"""The life of an event: written, published, changed, cancelled, completed; and who may do what to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

from eventsplatform.catalog import messages
from eventsplatform.catalog.model import (
    CapacityAnswer,
    CategoryItem,
    Event,
    EventIn,
    EventListQuery,
    EventPatch,
    EventRole,
    KnownEvent,
    ToldPart,
    ToldRegistration,
    check_change,
    patched,
    written,
)
from eventsplatform.clock import Clock, rfc3339
from eventsplatform.errors import (
    ConflictError,
    DependencyUnavailableError,
    FieldError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    OutcomeUnknownError,
    PlatformError,
    UnauthenticatedError,
)
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.model import Appendable, Work
from eventsplatform.pagination import Page, decode_cursor, encode_cursor, invalid_cursor
from eventsplatform.preconditions import require_match

# An event that changes again and again while registrations is asked is told of so late that nobody waits for it.
CAPACITY_ATTEMPTS = 3
COMPLETED_AT_ONCE = 100

OWNER: tuple[EventRole, ...] = ("owner",)
MANAGERS: tuple[EventRole, ...] = ("owner", "manager")
TEAM: tuple[EventRole, ...] = ("owner", "manager", "check_in")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UnknownCategoryError(Exception):
    """Raised by the store for an event of a category that does not exist."""


class UnknownOrganizerError(Exception):
    """Raised by the store for an event of a user it has not been told about."""


class CatalogStore(Protocol):
    def categories(self) -> list[str]: ...

    def put_user(self, user_id: int, name: str, version: int) -> bool:
        """Keep the projection of a user unless a later version is there; whether the name is another than before."""

    def page_of_published(self, after_id: int, limit: int) -> list[KnownEvent]: ...

    def add_event(self, event: EventIn, organizer_id: int) -> KnownEvent:
        """The new draft. Raises UnknownCategoryError or UnknownOrganizerError."""

    def find_event(self, event_id: int, *, for_update: bool = False) -> KnownEvent | None: ...

    def list_events(self, query: EventListQuery, after: tuple[datetime, int], until: datetime) -> list[Event]:
        """Public events behind a start and id, in this order; one more than the page if there are more."""

    def list_own(
        self, user_id: int, query: EventListQuery, after: tuple[datetime, int], until: datetime
    ) -> list[Event]:
        """The same of those that the user organises or helps with."""

    def change_event(self, event_id: int, wanted: EventIn) -> KnownEvent:
        """The event as wanted, with its next version. Raises UnknownCategoryError."""

    def set_status(self, event_id: int, status: str, *, reason: str | None = None) -> KnownEvent:
        """The event with its new status and its next version."""

    def renew(self, event_ids: Sequence[int]) -> list[KnownEvent]:
        """The events as they are, with their next versions."""

    def complete_ended(self, now: datetime, limit: int) -> list[KnownEvent]:
        """Published events that are over, completed; those in other hands are left for the next time."""

    def delete_event(self, event_id: int) -> None: ...

    def put_counts(self, parts: Mapping[tuple[int, int], ToldPart]) -> None:
        """Keep counts by event and part unless those of a later version are there, and each event's sums of them."""


class UserDirectory(Protocol):
    """Identity, as the catalog asks it for a user it has not been told about yet."""

    def describe(self, user_id: int) -> tuple[str, int]:
        """A user's name and version. Raises NotFoundError."""


class Places(Protocol):
    """Registrations, which alone knows how many places are taken."""

    def accept_capacity(self, event: KnownEvent, capacity: int) -> CapacityAnswer:
        """Ask it to give out no more places of this version of the event than `capacity`, if no more are taken."""


class _CapacityNotSettledError(Exception):
    """The event has changed since registrations accepted a capacity for it."""


class Catalog:
    def __init__(self, work: Work[CatalogStore], users: UserDirectory, places: Places, clock: Clock) -> None:
        self._work = work
        self._users = users
        self._places = places
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

        def change(store: CatalogStore, outbox: Appendable) -> KnownEvent:
            event = event_of(store.find_event(event_id, for_update=True), event_id, caller, MANAGERS)
            if event.status != "draft":
                raise ConflictError(f"Only a draft can be published; this event is {event.status}.")
            if event.starts_at <= self._clock():
                raise ConflictError("An event that has already started cannot be published.")
            published = store.set_status(event_id, "published")
            outbox.append(messages.event_changed(published, "published", caller.user_id))
            return published

        return self._work.run(KnownEvent, change)

    def change(self, event_id: int, patch: EventPatch, caller: Caller, *, if_match: str | None = None) -> Event:
        """The event after a merge patch. One that changes nothing makes no new version.

        Fewer places than are taken are refused. Registrations decides that: it is asked before the transaction to
        give out no more than the lower number, and the transaction then goes through only if the event is still of
        the version that registrations answered for. No lock is held across the call.

        Raises NotFoundError, ForbiddenError, PreconditionFailedError, InvalidInputError or ConflictError.
        """
        for _ in range(CAPACITY_ATTEMPTS):
            asked = self._ask_for_fewer_places(event_id, patch, caller, if_match)
            with suppress(_CapacityNotSettledError):
                return self._change(event_id, patch, caller, if_match, asked)
        raise ConflictError("The event changes too often at the moment; try again.", headers={"Retry-After": "1"})

    def delete(self, event_id: int, caller: Caller, *, if_match: str | None = None) -> None:
        """Take a draft away. Raises NotFoundError, ForbiddenError, PreconditionFailedError or ConflictError."""

        def change(store: CatalogStore, outbox: Appendable) -> None:
            event = event_of(store.find_event(event_id, for_update=True), event_id, caller, OWNER)
            require_match(if_match, event.etag)
            if event.status != "draft":
                raise ConflictError(f"Only a draft can be deleted; this event is {event.status}. Cancel it instead.")
            store.delete_event(event_id)
            outbox.append(messages.draft_deleted(event, caller.user_id))

        self._work.run(None, change)

    def cancel(self, event_id: int, reason: str | None, caller: Caller) -> Event:
        """Call an event off. Raises NotFoundError, ForbiddenError, ConflictError for one that is over or off."""

        def change(store: CatalogStore, outbox: Appendable) -> KnownEvent:
            event = event_of(store.find_event(event_id, for_update=True), event_id, caller, MANAGERS)
            if event.status not in ("draft", "published"):
                raise ConflictError(f"The event is {event.status} already.")
            if event.status == "published" and event.ends_at <= self._clock():
                raise ConflictError("The event is over.")
            cancelled = store.set_status(event_id, "cancelled", reason=reason)
            outbox.append(messages.event_changed(cancelled, "cancelled", caller.user_id))
            return cancelled

        return self._work.run(KnownEvent, change)

    def complete_ended(self) -> int:
        """Complete a batch of the events that are over; how many, COMPLETED_AT_ONCE when there may be more."""
        with self._work() as (store, outbox):
            completed = store.complete_ended(self._clock(), COMPLETED_AT_ONCE)
            for event in completed:
                outbox.append(messages.event_changed(event, "completed", None))
        return len(completed)

    def get(self, event_id: int, caller: Caller | None) -> Event:
        """An event; a draft only for its team. Raises NotFoundError."""
        event = self.describe(event_id)
        if event.status == "draft":
            return event_of(event, event_id, caller, TEAM)
        return event

    def browse(self, query: EventListQuery, caller: Caller | None) -> Page[Event]:
        """A page of published events, or of the caller's own, by their start.

        Raises UnauthenticatedError when nobody is there whose own could be listed, InvalidInputError for a cursor
        of another list.
        """
        after = max(_position(query.cursor), (query.starts_from or _FIRST, 0))
        until = query.starts_to or _LAST
        with self._work.statement() as store:
            if not query.mine:
                found = store.list_events(query, after, until)
            elif caller is None:
                raise UnauthenticatedError("Whose events? Send an access token as 'Authorization: Bearer …'.")
            else:
                found = store.list_own(caller.user_id, query, after, until)
        page = found[: query.limit]
        return Page(items=page, next_cursor=_cursor(page[-1]) if len(found) > query.limit else None)

    def categories(self) -> Page[CategoryItem]:
        with self._work.statement() as store:
            return Page(items=[CategoryItem(slug=slug) for slug in store.categories()])

    def describe(self, event_id: int) -> KnownEvent:
        """An event whatever its status, for other services. Raises NotFoundError."""
        with self._work.statement() as store:
            event = store.find_event(event_id)
        if event is None:
            raise no_such_event(event_id)
        return event

    def page(self, after_id: int, limit: int) -> Sequence[KnownEvent]:
        """Events that are no drafts, by id, for services that rebuild a projection."""
        with self._work.statement() as store:
            return store.page_of_published(after_id, limit)

    def learn_user(self, user_id: int, name: str, version: int) -> None:
        """Project a user's name, told by identity."""
        with self._work.statement() as store:
            store.put_user(user_id, name, version)

    def learn_counts(self, told: Sequence[ToldRegistration]) -> None:
        """Project events' registration counts, told by registrations: of each part of an event's places the latest.

        Registrations of one event are made at the same time, so no single message can know all the others: the sums
        are exact once every message has been read, in whatever order they come.
        """
        latest: dict[tuple[int, int], ToldPart] = {}
        for each in told:
            for part in each.counts.latest_parts:
                known = latest.get((each.event_id, part.number))
                if known is None or known.version < part.version:
                    latest[each.event_id, part.number] = part
        if latest:
            with self._work() as (store, _):
                store.put_counts(latest)

    def _ask_for_fewer_places(
        self, event_id: int, patch: EventPatch, caller: Caller, if_match: str | None
    ) -> tuple[KnownEvent, CapacityAnswer] | None:
        """What registrations says to the lower capacity of a published event, and for which event; None if not asked.

        What refuses the change anyway is left for the transaction to say.
        """
        if "capacity" not in patch.model_fields_set:
            return None
        with self._work.statement() as store:
            event = store.find_event(event_id)
        if event is None or event.status != "published" or patch.capacity >= event.capacity:
            return None
        try:
            event_of(event, event_id, caller, MANAGERS)
            require_match(if_match, event.etag)
            check_change(event, patched(event, patch), self._clock())
        except PlatformError:
            return None
        return event, self._places.accept_capacity(event, patch.capacity)

    def _change(
        self,
        event_id: int,
        patch: EventPatch,
        caller: Caller,
        if_match: str | None,
        asked: tuple[KnownEvent, CapacityAnswer] | None,
    ) -> Event:
        """Raises _CapacityNotSettledError when registrations is still to be asked, or again."""

        def change(store: CatalogStore, outbox: Appendable) -> KnownEvent:
            event = event_of(store.find_event(event_id, for_update=True), event_id, caller, MANAGERS)
            require_match(if_match, event.etag)
            wanted = patched(event, patch)
            check_change(event, wanted, self._clock())
            if wanted == written(event):
                return event
            if event.status == "published" and wanted.capacity < event.capacity:
                if asked is None or asked[0].version != event.version:
                    raise _CapacityNotSettledError
                _require_accepted(asked[1], wanted.capacity)
            changed = store.change_event(event_id, wanted)
            outbox.append(messages.event_changed(changed, "updated", caller.user_id))
            return changed

        try:
            changed = self._work.run(KnownEvent, change)
        except UnknownCategoryError as error:
            raise self._unknown_category(patch.category) from error
        except (OutcomeUnknownError, _CapacityNotSettledError):
            # Committed perhaps, or overtaken by a version that registrations is told of.
            raise
        except PlatformError:
            self._take_back(asked)
            raise
        if asked is not None and changed.version != asked[0].version + 1:
            self._take_back(asked)  # a repeat, which was given what the first one did
        return changed

    def _take_back(self, asked: tuple[KnownEvent, CapacityAnswer] | None) -> None:
        """Tell registrations the event anew when it has accepted a capacity that the event does not have.

        The next version says it, so that whoever else is changing the capacity asks again.
        """
        if asked is None or not asked[1].accepted:
            return
        with suppress(DependencyUnavailableError), self._work() as (store, outbox):
            for event in store.renew([asked[0].id]):
                outbox.append(messages.event_changed(event, "updated", None))

    def _add(self, event: EventIn, caller: Caller) -> Event:
        def change(store: CatalogStore, outbox: Appendable) -> KnownEvent:
            created = store.add_event(event, caller.user_id)
            outbox.append(messages.event_changed(created, "created", caller.user_id))
            return created

        try:
            return self._work.run(KnownEvent, change)
        except UnknownCategoryError as error:
            raise self._unknown_category(event.category) from error

    def _unknown_category(self, category: str) -> InvalidInputError:
        with self._work.statement() as store:
            allowed = ", ".join(store.categories())
        return InvalidInputError([FieldError("/category", f"{category!r} is not a category; allowed: {allowed}")])


def event_of(
    event: KnownEvent | None, event_id: int, caller: Caller | None, roles: tuple[EventRole, ...]
) -> KnownEvent:
    """The event, for a caller in one of these roles.

    Raises NotFoundError when the caller has nothing to do with it, ForbiddenError for a role that is too small.
    """
    role = event.role_of(caller.user_id) if event is not None and caller is not None else None
    if event is None or role is None:
        raise no_such_event(event_id)
    if role not in roles:
        raise ForbiddenError(f"This needs another role in the event's team than {role!r}.")
    return event


def no_such_event(event_id: int) -> NotFoundError:
    return NotFoundError(f"There is no event {event_id}.")


def _require_accepted(answer: CapacityAnswer, capacity: int) -> None:
    if not answer.accepted:
        raise ConflictError(
            f"{answer.taken} places are taken: the capacity cannot be lowered to {capacity}.", taken=answer.taken
        )


def _cursor(event: Event) -> str:
    return encode_cursor([(event.starts_at - _EPOCH) // _MICROSECOND, event.id])


def _position(cursor: str | None) -> tuple[datetime, int]:
    """The start and id of the last event that was seen. Raises InvalidInputError."""
    if cursor is None:
        return _FIRST, 0
    start, event_id = decode_cursor(cursor, length=2)
    if not isinstance(start, int) or not isinstance(event_id, int):
        raise invalid_cursor()
    try:
        return _EPOCH + start * _MICROSECOND, event_id
    except OverflowError as error:
        raise invalid_cursor() from error
