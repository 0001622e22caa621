"""The people behind registrations, as identity tells of them: that they are to be forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from eventsplatform.clock import Clock
from eventsplatform.messaging.model import Appendable, Work
from eventsplatform.personal_data import HeldRows, read_held
from eventsplatform.registrations.lifecycle import OFFER_LIFETIME, LockedEvent, PlaceStore


class AttendeeStore(PlaceStore, Protocol):
    def erase_user(self, user_id: int) -> None:
        """Refuse the user's registrations from now on; those that are being made are committed first."""

    def events_ahead(self, user_id: int, now: datetime) -> Sequence[int]:
        """The events that have not started and at which the user has a place, or one in line."""

    def held_registrations(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]: ...

    def held_mails(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]: ...

    def held_check_ins(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]: ...

    def held_feeds(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]: ...

    def delete_feed(self, user_id: int) -> bool: ...


class Attendees:
    def __init__(self, work: Work[AttendeeStore], clock: Clock, offer_lifetime: timedelta = OFFER_LIFETIME) -> None:
        self._work = work
        self._clock = clock
        self._offer_lifetime = offer_lifetime

    def forget(self, user_id: int) -> None:
        """Give back an erased person's places and places in line. Doing it again changes nothing.

        Registrations for what is over stay, under a number that leads to nobody: the attendance was what it was.
        """
        with self._work() as (store, _):
            store.erase_user(user_id)
            store.delete_feed(user_id)
        with self._work.statement() as store:
            events = store.events_ahead(user_id, self._clock())
        for event_id in events:
            # One event at a time: who held two could wait for someone who takes them the other way round.
            with self._work() as (store, outbox):
                self._release(store, outbox, event_id, user_id)

    def held_about(self, user_id: int, after: Mapping[str, int] | None) -> HeldRows:
        with self._work.statement() as store:
            return read_held(
                {
                    "event_registrations": lambda after_id, limit: store.held_registrations(user_id, after_id, limit),
                    "attendee_mails": lambda after_id, limit: store.held_mails(user_id, after_id, limit),
                    "check_ins": lambda after_id, limit: store.held_check_ins(user_id, after_id, limit),
                    "calendar_feeds": lambda after_id, limit: store.held_feeds(user_id, after_id, limit),
                },
                after,
            )

    def _release(self, store: AttendeeStore, outbox: Appendable, event_id: int, user_id: int) -> None:
        event = store.find_event(event_id)
        assert event is not None
        locked = LockedEvent(store, outbox, event, self._clock(), self._offer_lifetime)
        held = store.find_held(event_id, user_id)
        if held is not None and held.registration.status != "checked_in":
            locked.cancel([held], user_id)
            locked.settle()
        locked.finish()
