"""The life of an event: written, published, changed, cancelled, completed; and who may do what to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

from eventsplatform.catalog import messages
from eventsplatform.catalog.lowering import Lowering, NotSettledError, Places
from eventsplatform.catalog.model import (
    CategoryItem,
    Event,
    EventIn,
    EventListQuery,
    EventPatch,
    EventRole,
    KnownEvent,
    ToldPart,
    ToldRegistration,
    check_cancellation,
    check_deletion,
    check_publication,
)
from eventsplatform.catalog.occurrences import Scope, affected, naming, wanted_changes
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


class OccurrenceStore(Protocol):
    def find_event(self, event_id: int, *, for_update: bool = False) -> KnownEvent | None: ...

    def find_occurrences(self, event_id: int, *, following: bool, for_update: bool = False) -> list[KnownEvent]:
        """The event and, by their ids, the others of its series; with `following` those of later dates alone.

        For update with the series locked.
        """


class CatalogStore(OccurrenceStore, Protocol):
    def categories(self) -> list[str]: ...

    def put_user(self, user_id: int, name: str, version: int) -> bool:
        """Keep the projection of a user unless a later version is there; whether the name is another than before."""

    def page_of_published(self, after_id: int, limit: int) -> list[KnownEvent]: ...

    def add_event(self, event: EventIn, organizer_id: int) -> KnownEvent:
        """The new draft. Raises UnknownCategoryError or UnknownOrganizerError."""

    def list_events(self, query: EventListQuery, after: tuple[datetime, int], until: datetime) -> list[Event]:
        """Public events behind a start and id, in this order; one more than the page if there are more."""

    def list_own(
        self, user_id: int, query: EventListQuery, after: tuple[datetime, int], until: datetime
    ) -> list[Event]:
        """The same of those that the user organises or helps with."""

    def lock_series(self, event_id: int) -> None:
        """Until the transaction ends nobody else changes which occurrences the event's series has."""

    def change_events(self, wanted: Mapping[int, EventIn]) -> list[KnownEvent]:
        """The events as wanted, with their next versions. Raises UnknownCategoryError."""

    def set_status(self, event_ids: Sequence[int], status: str, *, reason: str | None = None) -> list[KnownEvent]:
        """The events with their new status and their next versions."""

    def renew(self, event_ids: Sequence[int]) -> list[KnownEvent]:
        """The events as they are, with their next versions."""

    def complete_ended(self, now: datetime, limit: int) -> list[KnownEvent]:
        """Published events that are over, completed; those in other hands are left for the next time."""

    def exclude_dates(self, event_ids: Sequence[int]) -> None:
        """Take the dates of occurrences out of the plan of their series."""

    def delete_events(self, event_ids: Sequence[int]) -> None:
        """A series goes with its last occurrence."""

    def put_counts(self, parts: Mapping[tuple[int, int], ToldPart]) -> None:
        """Keep counts by event and part unless those of a later version are there, and each event's sums of them."""


class UserDirectory(Protocol):
    """Identity, as the catalog asks it for a user it has not been told about yet."""

    def describe(self, user_id: int) -> tuple[str, int]:
        """A user's name and version. Raises NotFoundError."""


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

    def publish(self, event_id: int, caller: Caller, *, scope: Scope = "this") -> Event:
        """Open a draft to everyone, or the drafts of a series that are ahead.

        Raises NotFoundError for another's event, ForbiddenError, ConflictError when there is no draft in time.
        """

        def change(store: CatalogStore, outbox: Appendable) -> KnownEvent:
            now = self._clock()
            event, chosen = _chosen(store, event_id, scope, caller, MANAGERS, now, partial(check_publication, now=now))
            published = store.set_status([each.id for each in chosen], "published")
            return _told(outbox, published, "published", event, caller)

        return self._work.run(KnownEvent, change)

    def change(
        self, event_id: int, patch: EventPatch, caller: Caller, *, scope: Scope = "this", if_match: str | None = None
    ) -> Event:
        """The event after a merge patch, which other occurrences of its series are given, too: all or none.

        One that changes nothing makes no new version. Fewer places than are taken are refused (`lowering`).

        Raises NotFoundError, ForbiddenError, PreconditionFailedError, InvalidInputError or ConflictError.
        """
        lowering = Lowering(self._places, patch.capacity)
        try:
            for _ in range(CAPACITY_ATTEMPTS):
                lowering.ask(self._with_fewer_places(event_id, patch, scope, caller, if_match))
                with suppress(NotSettledError):
                    return self._change(event_id, patch, scope, caller, if_match, lowering)
            raise ConflictError("The event changes too often at the moment; try again.", headers={"Retry-After": "1"})
        except OutcomeUnknownError:
            raise  # committed perhaps
        except PlatformError:
            self._take_back(lowering)
            raise

    def delete(self, event_id: int, caller: Caller, *, scope: Scope = "this", if_match: str | None = None) -> None:
        """Take a draft away, or the drafts of a series that are ahead.

        Raises NotFoundError, ForbiddenError, PreconditionFailedError or ConflictError.
        """

        def change(store: CatalogStore, outbox: Appendable) -> None:
            store.lock_series(event_id)  # whose plan will say that there is none on these dates
            _, chosen = _chosen(store, event_id, scope, caller, OWNER, self._clock(), check_deletion, if_match=if_match)
            store.exclude_dates([each.id for each in chosen])
            store.delete_events([each.id for each in chosen])
            for draft in chosen:
                outbox.append(messages.draft_deleted(draft, caller.user_id))

        self._work.run(None, change)

    def cancel(self, event_id: int, reason: str | None, caller: Caller, *, scope: Scope = "this") -> Event:
        """Call an event off, or those of a series that are ahead.

        Raises NotFoundError, ForbiddenError, ConflictError for one that is over or off.
        """

        def change(store: CatalogStore, outbox: Appendable) -> KnownEvent:
            now = self._clock()
            event, chosen = _chosen(store, event_id, scope, caller, MANAGERS, now, partial(check_cancellation, now=now))
            cancelled = store.set_status([each.id for each in chosen], "cancelled", reason=reason)
            return _told(outbox, cancelled, "cancelled", event, caller)

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
        return visible(self.describe(event_id), event_id, caller)

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

    def _with_fewer_places(
        self, event_id: int, patch: EventPatch, scope: Scope, caller: Caller, if_match: str | None
    ) -> list[KnownEvent]:
        """The published events that a change would give fewer places.

        None when it is refused anyway: that is left for the transaction to say.
        """
        if "capacity" not in patch.model_fields_set:
            return []
        with self._work.statement() as store:
            events = occurrences_of(store, event_id, scope)
        with suppress(PlatformError):
            event = addressed_in(events, event_id, caller, MANAGERS)
            require_match(if_match, event.etag)
            return _lowered(events, wanted_changes(event, events, patch, self._clock()))
        return []

    def _change(
        self,
        event_id: int,
        patch: EventPatch,
        scope: Scope,
        caller: Caller,
        if_match: str | None,
        lowering: Lowering,
    ) -> Event:
        """Raises NotSettledError when registrations is still to be asked, or again."""
        lowered: list[KnownEvent] = []
        committed: list[KnownEvent] = []

        def change(store: CatalogStore, outbox: Appendable) -> KnownEvent:
            events = occurrences_of(store, event_id, scope, for_update=True)
            event = addressed_in(events, event_id, caller, MANAGERS)
            require_match(if_match, event.etag)
            wanted = wanted_changes(event, events, patch, self._clock())
            _require_role([each for each in events if each.id in wanted], caller, MANAGERS)
            lowered[:] = _lowered(events, wanted)
            for each in lowered:
                with naming(each, event_id):
                    lowering.refuse(each)
            lowering.require(lowered)
            changed = store.change_events(wanted) if wanted else []
            committed[:] = [_told(outbox, changed, "updated", event, caller)]
            return committed[0]

        try:
            changed = self._work.run(KnownEvent, change)
        except UnknownCategoryError as error:
            raise self._unknown_category(patch.category) from error
        # A repeat was given what the first one did, and has changed nothing itself.
        if committed and changed is committed[0]:
            lowering.asked -= {each.id for each in lowered}
        self._take_back(lowering)
        return changed

    def _take_back(self, lowering: Lowering) -> None:
        """Tell registrations the events anew that it may be holding to a capacity which they do not have.

        The next version says it, so that whoever else is changing the capacity asks again.
        """
        if not lowering.asked:
            return
        with suppress(DependencyUnavailableError), self._work() as (store, outbox):
            for event in store.renew(sorted(lowering.asked)):
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


def visible(event: KnownEvent | None, event_id: int, caller: Caller | None) -> KnownEvent:
    """The event, if it is no draft or the caller's team's. Raises NotFoundError."""
    if event is not None and event.status != "draft":
        return event
    return event_of(event, event_id, caller, TEAM)


def no_such_event(event_id: int) -> NotFoundError:
    return NotFoundError(f"There is no event {event_id}.")


def occurrences_of(
    store: OccurrenceStore, event_id: int, scope: Scope, *, for_update: bool = False
) -> list[KnownEvent]:
    """The event, and those of its series that the scope has."""
    if scope == "this":
        event = store.find_event(event_id, for_update=for_update)
        return [event] if event else []
    return store.find_occurrences(event_id, following=scope == "following", for_update=for_update)


def addressed_in(
    events: Sequence[KnownEvent], event_id: int, caller: Caller, roles: tuple[EventRole, ...]
) -> KnownEvent:
    return event_of(next((each for each in events if each.id == event_id), None), event_id, caller, roles)


def _chosen(
    store: CatalogStore,
    event_id: int,
    scope: Scope,
    caller: Caller,
    roles: tuple[EventRole, ...],
    now: datetime,
    check: Callable[[KnownEvent], None],
    *,
    if_match: str | None = None,
) -> tuple[KnownEvent, list[KnownEvent]]:
    """The addressed event, and the occurrences that `check` lets through, locked."""
    events = occurrences_of(store, event_id, scope, for_update=True)
    event = addressed_in(events, event_id, caller, roles)
    require_match(if_match, event.etag)
    chosen = affected(event, events, now, check)
    _require_role(chosen, caller, roles)
    return event, chosen


def _require_role(events: Sequence[KnownEvent], caller: Caller, roles: tuple[EventRole, ...]) -> None:
    """Raises ForbiddenError. Each occurrence has a team of its own, whose drafts are nobody else's business."""
    if any(event.role_of(caller.user_id) not in roles for event in events):
        raise ForbiddenError("This needs the same role in the team of every occurrence that it is about.")


def _lowered(events: Sequence[KnownEvent], wanted: Mapping[int, EventIn]) -> list[KnownEvent]:
    """The published ones that would have fewer places."""
    return [
        event
        for event in events
        if event.id in wanted and event.status == "published" and wanted[event.id].capacity < event.capacity
    ]


def _told(
    outbox: Appendable,
    events: Sequence[KnownEvent],
    what: messages.Happening,
    addressed: KnownEvent,
    caller: Caller,
) -> KnownEvent:
    """Tell of each of the events; the addressed one as it is now."""
    for event in events:
        outbox.append(messages.event_changed(event, what, caller.user_id))
    return next((event for event in events if event.id == addressed.id), addressed)


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
