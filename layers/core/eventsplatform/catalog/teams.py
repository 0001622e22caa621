"""Who helps with an event: its owner says who, and in which role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eventsplatform.catalog import messages
from eventsplatform.catalog.model import TEAM_MAXIMUM, KnownEvent, Organizer, TeamMember, TeamRole
from eventsplatform.catalog.occurrences import Scope, ahead, naming
from eventsplatform.catalog.service import (
    OWNER,
    TEAM,
    OccurrenceStore,
    UserDirectory,
    addressed_in,
    event_of,
    occurrences_of,
)
from eventsplatform.clock import Clock
from eventsplatform.errors import ConflictError, NotFoundError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.model import Appendable, Work
from eventsplatform.pagination import Page


class UnknownMemberError(Exception):
    """The person is not known here yet, or no more."""


class TeamStore(OccurrenceStore, Protocol):
    def put_user(self, user_id: int, name: str, version: int) -> bool:
        """Keep the projection of a user unless a later version is there."""

    def put_member(self, event_ids: Sequence[int], user_id: int, role: TeamRole) -> bool:
        """Add a member or change their role, in each of the teams; False for a user that is not known."""

    def remove_member(self, event_ids: Sequence[int], user_id: int) -> None: ...

    def renew(self, event_ids: Sequence[int]) -> list[KnownEvent]:
        """The events as they are, with their next versions."""

    def find_users(self, user_ids: Sequence[int]) -> dict[int, Organizer]: ...


class Teams:
    def __init__(self, work: Work[TeamStore], users: UserDirectory, clock: Clock) -> None:
        self._work = work
        self._users = users
        self._clock = clock

    def members(self, event_id: int, caller: Caller) -> Page[TeamMember]:
        """The team, its owner first, for who is in it. Raises NotFoundError."""
        with self._work.statement() as store:
            event = event_of(store.find_event(event_id), event_id, caller, TEAM)
            users = store.find_users([member.user_id for member in event.team])
        team = [TeamMember(user=event.organizer, role="owner")]
        team += [TeamMember(user=users[each.user_id], role=each.role) for each in event.team if each.user_id in users]
        return Page(items=team)

    def put(self, event_id: int, user_id: int, role: TeamRole, caller: Caller, *, scope: Scope = "this") -> TeamMember:
        """Take someone into the team, or give them another role; for what is ahead of a series into all teams or none.

        Raises NotFoundError for an event of others and for a user that does not exist, ForbiddenError for anyone
        but the owner, ConflictError when a team is full, the event over or the owner meant.
        """
        try:
            return self._put(event_id, user_id, role, caller, scope)
        except UnknownMemberError:
            # Identity's message about the person may still be on the way.
            name, version = self._users.describe(user_id)
            with self._work.statement() as store:
                store.put_user(user_id, name, version)
        try:
            return self._put(event_id, user_id, role, caller, scope)
        except UnknownMemberError as error:
            raise NotFoundError(f"There is no user {user_id}.") from error

    def remove(self, event_id: int, user_id: int, caller: Caller, *, scope: Scope = "this") -> None:
        """Take someone out of the team; members may take themselves out. Raises NotFoundError, ForbiddenError."""

        def change(store: TeamStore, outbox: Appendable) -> None:
            roles = TEAM if user_id == caller.user_id else OWNER
            events = occurrences_of(store, event_id, scope, for_update=True)
            event = addressed_in(events, event_id, caller, roles)
            chosen = ahead(event, events, self._clock())
            event_ids = [each.id for each in chosen if each.role_of(user_id) not in (None, "owner")]
            if not event_ids:
                raise NotFoundError(f"There is no user {user_id} in the team of event {event_id}.")
            store.remove_member(event_ids, user_id)
            _tell(store, outbox, event_ids, caller)

        self._work.run(None, change)

    def _put(self, event_id: int, user_id: int, role: TeamRole, caller: Caller, scope: Scope) -> TeamMember:
        def change(store: TeamStore, outbox: Appendable) -> TeamMember:
            events = occurrences_of(store, event_id, scope, for_update=True)
            event = addressed_in(events, event_id, caller, OWNER)
            chosen = ahead(event, events, self._clock())
            for each in chosen:
                with naming(each, event_id):
                    _check_room(each, user_id)
            if not store.put_member([each.id for each in chosen], user_id, role):
                raise UnknownMemberError
            _tell(store, outbox, [each.id for each in chosen if each.role_of(user_id) != role], caller)
            return TeamMember(user=store.find_users([user_id])[user_id], role=role)

        return self._work.run(TeamMember, change)


def _check_room(event: KnownEvent, user_id: int) -> None:
    present = event.role_of(user_id)
    if present == "owner":
        raise ConflictError("The owner of an event has every role in it.")
    if event.status not in ("draft", "published"):
        raise ConflictError(f"The event is {event.status}: its team changes no more.")
    if present is None and len(event.team) >= TEAM_MAXIMUM:
        raise ConflictError(f"A team has at most {TEAM_MAXIMUM} members.")


def _tell(store: TeamStore, outbox: Appendable, event_ids: Sequence[int], caller: Caller) -> None:
    for event in store.renew(event_ids) if event_ids else []:
        outbox.append(messages.event_changed(event, "updated", caller.user_id))
