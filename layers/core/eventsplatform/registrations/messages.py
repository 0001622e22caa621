"""The messages that registrations emits on `evp.registrations.v1`, keyed by event so that they arrive in order.

Those of the door are in `admission.messages`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import Change
from eventsplatform.messaging.schemas import Schema, asked, told
from eventsplatform.registrations.model import Counts, Registration

Happening = Literal["created", "waitlisted", "offered", "cancelled"]


class ToldRegistration(Registration):
    """A registration as it is after the change, and what the change makes of its event's counts.

    `actor_id` is who made it: nobody where the platform did, as when an offer is made or has expired.
    """

    counts: Counts
    actor_id: int | None = None


def schemas() -> Mapping[str, Schema]:
    """What the data of each type look like."""
    from eventsplatform.registrations.commands import CreateRegistration  # most functions have none

    return {
        **dict.fromkeys((f"registrations.{what}" for what in get_args(Happening)), told(ToldRegistration)),
        "inbound.registrations.create": asked(CreateRegistration),
    }


def registration_changed(
    registration: Registration, version: int, counts: Counts, what: Happening, actor_id: int | None
) -> Change:
    told_registration = ToldRegistration(**dict(registration), counts=counts, actor_id=actor_id)
    return Change(
        aggregate_type="registration",
        aggregate_id=registration.id,
        version=version,
        type=f"registrations.{what}",
        key=str(registration.event_id),
        data=told_registration.model_dump(mode="json"),
        actor_id=actor_id,
    )


def counted_by_status(messages: Sequence[Message]) -> Counter[str]:
    """What has become of registrations: as the topic tells, where nothing is that was rolled back."""
    return Counter(message.data["status"] for message in messages if message.domain == "registrations")
