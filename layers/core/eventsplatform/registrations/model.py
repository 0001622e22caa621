"""Registrations, and what this service knows of the events they are for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

RegistrationStatus = Literal["active", "waitlisted", "offered", "cancelled", "checked_in"]


class Registration(BaseModel):
    """`position` is the place in the waitlist, from 1; None for everyone else."""

    id: int
    event_id: int
    user_id: int
    status: RegistrationStatus
    position: int | None
    registered_at: datetime
    offer_expires_at: datetime | None


class EventPlaces(BaseModel):
    """The projection of an event: what decides whether a place can be taken, and the counts kept here.

    `version` is the catalog's, `counts_version` grows with each change of the counts.
    """

    event_id: int
    organizer_id: int
    title: str
    status: str
    starts_at: datetime
    capacity: int
    version: int
    registered: int = 0
    waitlisted: int = 0
    counts_version: int = 0

    @property
    def available(self) -> int:
        return max(0, self.capacity - self.registered)

    @classmethod
    def of_event(cls, event: Mapping[str, Any]) -> EventPlaces:
        """The projection of an event as the catalog tells it, in a message or an answer."""
        return cls(
            event_id=event["id"],
            organizer_id=event["organizer"]["id"],
            title=event["title"],
            status=event["status"],
            starts_at=event["starts_at"],
            capacity=event["capacity"],
            version=event["version"],
        )


class CapacityAnswer(BaseModel):
    """How many places of an event are taken, and whether no more than a lower capacity are given out from now on."""

    accepted: bool
    taken: int
