"""A series of events: made of one event by a rule, given another rule, and seen as a whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Protocol

from eventsplatform.catalog import messages
from eventsplatform.catalog.model import Event, KnownEvent
from eventsplatform.catalog.occurrences import (
    Series,
    SeriesIn,
    SeriesMade,
    SeriesPage,
    SeriesQuery,
    Slot,
    planned_dates,
    slots,
    starting_date,
)
from eventsplatform.catalog.service import (
    MANAGERS,
    OWNER,
    OccurrenceStore,
    addressed_in,
    event_of,
    occurrences_of,
    visible,
)
from eventsplatform.clock import Clock
from eventsplatform.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.model import Appendable, Work
from eventsplatform.pagination import decode_cursor, encode_cursor, invalid_cursor


class SeriesStore(OccurrenceStore, Protocol):
    def find_series(self, series_id: int) -> Series | None: ...

    def page_of_series(self, series_id: int, after: date, user_id: int | None, limit: int) -> list[Event]:
        """Occurrences after a date, by their dates; of drafts those alone whose team the user is in."""

    def add_series(self, event_id: int, starts_on: date, plan: SeriesIn) -> KnownEvent:
        """The event as the first of a series, with its next version."""

    def change_series(self, series_id: int, plan: SeriesIn) -> None: ...

    def add_occurrences(self, pattern: KnownEvent, planned: Sequence[Slot]) -> list[KnownEvent]:
        """New drafts that are like the pattern, its team included, in its series."""

    def delete_events(self, event_ids: Sequence[int]) -> None:
        """A series goes with its last occurrence."""


class EventSeries:
    def __init__(self, work: Work[SeriesStore], clock: Clock) -> None:
        self._work = work
        self._clock = clock

    def plan(self, event_id: int, wanted: SeriesIn, caller: Caller) -> SeriesMade:
        """Give an event a rule: it becomes the first of a series, or the series that it is in gets another rule.

        Dates that have no occurrence get a draft like the event. Under another rule what is past or off stays, and
        drafts whose date the rule no longer has are deleted.

        Raises NotFoundError, ForbiddenError, InvalidInputError for a rule that cannot be, ConflictError for an event
        that has begun or is off, and for published occurrences that would go: they are called off first.
        """

        def change(store: SeriesStore, outbox: Appendable) -> SeriesMade:
            now = self._clock()
            events = occurrences_of(store, event_id, "all", for_update=True)
            event = addressed_in(events, event_id, caller, MANAGERS)
            if event.status not in ("draft", "published") or event.starts_at <= now:
                raise ConflictError("Only a draft or published event that is still ahead can be repeated.")
            known = store.find_series(event.series_id) if event.series_id is not None else None
            starts_on = known.starts_on if known else starting_date(event)
            dates = planned_dates(wanted, starts_on, event)
            gone = _leaving(events, dates, now) if known else []
            if known is None:
                event = _begin(store, outbox, event, starts_on, wanted, caller)
                events = [event]
            else:
                store.change_series(known.id, wanted)
            added = _add(store, outbox, event, _missing(event, events, dates, now), caller)
            _delete(store, outbox, event, gone, caller)
            assert event.series_id is not None
            there = sorted(
                (each for each in [*events, *added] if each not in gone), key=lambda each: each.series_date or date.min
            )
            return SeriesMade(
                id=event.series_id,
                starts_on=starts_on,
                event_ids=[each.id for each in there],
                **wanted.model_dump(),
            )

        return self._work.run(SeriesMade, change)

    def page(self, event_id: int, query: SeriesQuery, caller: Caller | None) -> SeriesPage:
        """The plan and the occurrences of the series that an event is in, drafts only for their teams.

        Raises NotFoundError for an event without one, InvalidInputError for a cursor of another list.
        """
        after = _date(query.cursor)
        with self._work.statement() as store:
            event = visible(store.find_event(event_id), event_id, caller)
            series = store.find_series(event.series_id) if event.series_id is not None else None
            if series is None:
                raise NotFoundError(f"Event {event_id} is in no series.")
            found = store.page_of_series(series.id, after, caller.user_id if caller else None, query.limit + 1)
        page = found[: query.limit]
        more = len(found) > query.limit
        return SeriesPage(
            series=series, items=page, next_cursor=encode_cursor([str(page[-1].series_date)]) if more else None
        )


def _begin(
    store: SeriesStore, outbox: Appendable, event: KnownEvent, starts_on: date, plan: SeriesIn, caller: Caller
) -> KnownEvent:
    if starts_on in plan.excluded_dates:
        raise InvalidInputError([FieldError("/excluded_dates", f"{starts_on} is the date of the event itself")])
    first = store.add_series(event.id, starts_on, plan)
    outbox.append(messages.event_changed(first, "updated", caller.user_id))
    return first


def _leaving(events: Sequence[KnownEvent], dates: Collection[date], now: datetime) -> list[KnownEvent]:
    """The drafts that have no place in the plan. Raises ConflictError when people may count on others."""
    gone = [event for event in events if event.series_date not in dates]
    if counted_on := [event for event in gone if event.status == "published" and event.starts_at > now]:
        named = ", ".join(f"{event.series_date} (event {event.id})" for event in counted_on)
        raise ConflictError(
            f"Published occurrences are on dates that the rule does not have; cancel them first: {named}.",
            event_ids=[event.id for event in counted_on],
        )
    return [event for event in gone if event.status == "draft"]


def _missing(pattern: KnownEvent, events: Sequence[KnownEvent], dates: Sequence[date], now: datetime) -> list[Slot]:
    assert pattern.series_date is not None
    there = {event.series_date for event in events}
    planned = slots(pattern, pattern.series_date, [day for day in dates if day not in there])
    return [slot for slot in planned if slot.starts_at > now]


def _add(
    store: SeriesStore, outbox: Appendable, pattern: KnownEvent, planned: Sequence[Slot], caller: Caller
) -> list[KnownEvent]:
    added = store.add_occurrences(pattern, planned) if planned else []
    for event in added:
        outbox.append(messages.event_changed(event, "created", caller.user_id))
    return added


def _delete(
    store: SeriesStore, outbox: Appendable, event: KnownEvent, drafts: Sequence[KnownEvent], caller: Caller
) -> None:
    """Raises ForbiddenError: deleting is the owner's, whichever way it is done."""
    if not drafts:
        return
    event_of(event, event.id, caller, OWNER)
    store.delete_events([draft.id for draft in drafts])
    for draft in drafts:
        outbox.append(messages.draft_deleted(draft, caller.user_id))


def _date(cursor: str | None) -> date:
    """The date of the last occurrence that was seen. Raises InvalidInputError."""
    if cursor is None:
        return date.min
    (day,) = decode_cursor(cursor, length=1)
    try:
        return date.fromisoformat(day)
    except (TypeError, ValueError) as error:
        raise invalid_cursor() from error
