"""The people behind events, as identity tells of them: their names, and that they are to be forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from eventsplatform.catalog import messages
from eventsplatform.catalog.model import KnownEvent
from eventsplatform.clock import Clock
from eventsplatform.messaging.model import Work
from eventsplatform.personal_data import DELETED_NAME, HeldRows, read_held


class OrganizerStore(Protocol):
    def put_user(self, user_id: int, name: str, version: int) -> bool:
        """Keep the user unless a later version is there; whether the name is another one than before."""

    def erase_user(self, user_id: int, name: str, version: int) -> bool:
        """The same for an erased user, who gets no event any more; whether there was anything to do."""

    def renew_published(self, organizer_id: int) -> list[KnownEvent]:
        """The organiser's published events, with their next versions."""

    def delete_drafts(self, organizer_id: int) -> list[KnownEvent]:
        """The organiser's drafts as they last were, and the series that nothing is left of."""

    def cancel_upcoming(self, organizer_id: int, now: datetime) -> list[KnownEvent]:
        """The organiser's published events that have not started, cancelled."""

    def renew_past(self, organizer_id: int, now: datetime) -> list[KnownEvent]:
        """All others but drafts, with their next versions."""

    def leave_teams(self, user_id: int) -> list[KnownEvent]:
        """The events that the user helped with, without them and with their next versions."""

    def held_users(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]: ...

    def held_events(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]: ...

    def held_series(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]: ...

    def held_memberships(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]: ...


class Organizers:
    def __init__(self, work: Work[OrganizerStore], clock: Clock) -> None:
        self._work = work
        self._clock = clock

    def learn(self, users: Iterable[tuple[int, str, int]]) -> None:
        """Project users' names, each with its version, in one transaction.

        A new name goes out with each published event of theirs, for it is part of them.
        """
        with self._work() as (store, outbox):
            for user_id, name, version in users:
                if store.put_user(user_id, name, version):
                    for event in store.renew_published(user_id):
                        outbox.append(messages.event_changed(event, "updated", user_id))

    def forget(self, user_id: int, version: int) -> None:
        """Take an erased person's name from their events.

        What nobody else has seen is deleted. What people plan to attend is cancelled, for nobody is there to hold
        it; they learn of it as of any cancellation. What is over stays, as its attendees' history.
        """
        with self._work() as (store, outbox):
            if not store.erase_user(user_id, DELETED_NAME, version):
                return
            now = self._clock()
            for event in store.leave_teams(user_id):
                outbox.append(messages.event_changed(event, "updated", user_id))
            for draft in store.delete_drafts(user_id):
                outbox.append(messages.draft_erased(draft, user_id))
            for event in store.renew_past(user_id, now):
                outbox.append(messages.event_changed(event, "updated", user_id))
            for event in store.cancel_upcoming(user_id, now):
                outbox.append(messages.event_changed(event, "cancelled", user_id))

    def held_about(self, user_id: int, after: Mapping[str, int] | None) -> HeldRows:
        with self._work.statement() as store:
            return read_held(
                {
                    "users": lambda after_id, limit: store.held_users(user_id, after_id, limit),
                    "events": lambda after_id, limit: store.held_events(user_id, after_id, limit),
                    "series": lambda after_id, limit: store.held_series(user_id, after_id, limit),
                    "team_members": lambda after_id, limit: store.held_memberships(user_id, after_id, limit),
                },
                after,
            )
