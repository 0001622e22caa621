"""What attendees are to be told by mail, found in messages and in the calendar, and queued once for each person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from eventsplatform.clock import Clock
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import Work
from eventsplatform.registrations.mail_model import (
    NEWS_LIFETIME,
    REMINDER_LEAD,
    Announcement,
    MailKind,
    News,
    Schedule,
    cancellation_of,
)
from eventsplatform.registrations.messages import ToldRegistration
from eventsplatform.registrations.model import EventFacts

# Organisers correct what they have just changed: attendees are told what it comes to.
SETTLING = timedelta(minutes=2)

# Of attendees in one statement, and of events in one run.
PAGE = 5_000
EVENTS_AT_ONCE = 500

# A closed mail keeps its cause from being mailed about again; by then nothing is told anew any more.
KEPT = timedelta(days=30)
FORGOTTEN_AT_ONCE = 5_000

_KINDS: dict[str, MailKind] = {
    "registrations.created": "confirmation",
    "registrations.waitlisted": "waitlisted",
    "registrations.offered": "offer",
    "registrations.cancelled": "cancellation",
}
_EXPECTING = ("active", "waitlisted", "offered")


class MailQueueStore(Protocol):
    def queue(self, news: Sequence[News], oldest: datetime) -> None:
        """Each once by cause and person, unless it is older, or from before there was mail."""

    def queue_for_all(self, announcement: Announcement, oldest: datetime, after_user: int, limit: int) -> int | None:
        """The same for a page of an event's attendees by number; the last one's, None when there is none."""

    def announced(self, event_ids: Sequence[int]) -> dict[int, Schedule]:
        """What attendees of events know of when and where they are."""

    def announce_new(self, events: Sequence[EventFacts]) -> None:
        """What those who register from now on know; nothing changes for events that there are already."""

    def note_change(self, event_id: int, now: datetime, announce_at: datetime) -> None:
        """An event is no longer as announced; when it has been noted before, the time to tell stays."""

    def due_changes(self, now: datetime, limit: int) -> list[tuple[EventFacts, Schedule, datetime]]:
        """Events whose changes are to be told of: as they are, as they were announced, and the last change's time."""

    def change_announced(self, event_id: int, schedule: Schedule, changed_at: datetime) -> None:
        """Attendees know the new schedule. A change that was noted later is still to be told of."""

    def due_reminders(self, now: datetime, until: datetime, limit: int) -> list[EventFacts]:
        """Published events that start by then, and of whose start nobody has been reminded."""

    def reminded(self, event_id: int, starts_at: datetime) -> None: ...

    def forget_closed(self, before: datetime, limit: int) -> None: ...


class EventProjection(Protocol):
    def learn_events(self, events: Sequence[EventFacts]) -> None:
        """Have registrations know an event as it is told of here, before anyone is told."""


class MailQueue:
    def __init__(
        self, work: Work[MailQueueStore], events: EventProjection, wake_sender: Callable[[], None], clock: Clock
    ) -> None:
        self._work = work
        self._events = events
        self._wake_sender = wake_sender
        self._clock = clock

    def hear(self, messages: Sequence[Message]) -> None:
        """Queue what messages give rise to, once however often they come. Raises PoisonMessageError."""
        news = [_news_of(message) for message in messages if message.type in _KINDS]
        if news:
            with self._work.statement() as store:
                store.queue(news, self._clock() - NEWS_LIFETIME)
        cancelled = self._hear_of_events([message for message in messages if message.domain == "events"])
        if news or cancelled:
            self._wake_sender()

    def sweep(self) -> None:
        """Queue what time brings: changes that have settled, and reminders. Forget what nothing comes of any more."""
        now = self._clock()
        self._announce_changes(now)
        self._remind(now)
        with self._work.statement() as store:
            store.forget_closed(now - KEPT, FORGOTTEN_AT_ONCE)

    def _hear_of_events(self, messages: Sequence[Message]) -> bool:
        """Whether any is about a cancellation, which is told at once."""
        published: dict[int, EventFacts] = {}
        cancelled: dict[int, tuple[EventFacts, datetime]] = {}
        for message in messages:
            event = message.read(EventFacts.of_event)
            if event.status == "published":
                published[event.id] = event
            elif message.type == "events.cancelled":
                published.pop(event.id, None)
                cancelled[event.id] = event, message.happened_at
        if published:
            self._compare_with_announced(list(published.values()))
        for event, happened_at in cancelled.values():
            self._announce_cancellation(event, happened_at)
        return bool(cancelled)

    def _announce_cancellation(self, event: EventFacts, happened_at: datetime) -> None:
        # From here on nobody registers; who is about to is told when the confirmation is looked at.
        self._events.learn_events([event])
        statuses = (*_EXPECTING, "checked_in")
        self._tell_all(Announcement(cancellation_of(event.id), "event_cancelled", event.id, statuses, happened_at))

    def _compare_with_announced(self, events: Sequence[EventFacts]) -> None:
        with self._work.statement() as store:
            announced = store.announced([event.id for event in events])
        if new := [event for event in events if event.id not in announced]:
            with self._work.statement() as store:
                store.announce_new(new)
        for event in events:
            if event.id in announced and announced[event.id] != Schedule.of(event):
                # From here on whoever registers is told of the event as it is.
                self._events.learn_events([event])
                now = self._clock()
                with self._work.statement() as store:
                    store.note_change(event.id, now, now + SETTLING)

    def _announce_changes(self, now: datetime) -> None:
        with self._work.statement() as store:
            due = store.due_changes(now, EVENTS_AT_ONCE)
        for event, told, changed_at in due:
            if event.status == "published" and event.starts_at > now and Schedule.of(event) != told:
                self._announce_change(event, told, changed_at, now)
            with self._work.statement() as store:
                store.change_announced(event.id, Schedule.of(event), changed_at)

    def _announce_change(self, event: EventFacts, told: Schedule, changed_at: datetime, now: datetime) -> None:
        self._tell_all(
            Announcement(
                f"event-{event.id}-{event.version}-changed",
                "event_changed",
                event.id,
                _EXPECTING,
                happened_at=now,
                schedule=told,
                registered_before=changed_at,
            )
        )
        if event.starts_at <= now + REMINDER_LEAD:
            # So close to its start the change itself reminds of it.
            with self._work.statement() as store:
                store.reminded(event.id, event.starts_at)

    def _remind(self, now: datetime) -> None:
        with self._work.statement() as store:
            due = store.due_reminders(now, now + REMINDER_LEAD, EVENTS_AT_ONCE)
        for event in due:
            self._tell_all(
                Announcement(
                    f"event-{event.id}-starts-{event.starts_at.isoformat()}",
                    "reminder",
                    event.id,
                    ("active",),
                    happened_at=now,
                    schedule=Schedule.of(event),
                    # Whoever came later has the confirmation to remind them.
                    registered_before=event.starts_at - REMINDER_LEAD,
                )
            )
            with self._work.statement() as store:
                store.reminded(event.id, event.starts_at)

    def _tell_all(self, announcement: Announcement) -> None:
        """A page at a time, each a statement; a repeat of a page that was queued queues nobody twice."""
        oldest = self._clock() - NEWS_LIFETIME
        last: int | None = 0
        while last is not None:
            with self._work.statement() as store:
                last = store.queue_for_all(announcement, oldest, last, PAGE)


def _news_of(message: Message) -> News:
    told = message.read(ToldRegistration.model_validate)
    kind = _KINDS[message.type]
    return News(
        cause=f"{message.id} {message.replay_id}".rstrip(),
        kind="offer_expired" if kind == "cancellation" and told.actor_id is None else kind,
        user_id=told.user_id,
        event_id=told.event_id,
        registration_id=told.id,
        registered_at=told.registered_at,
        happened_at=message.happened_at,
    )
