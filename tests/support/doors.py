"""What the door of an event is asked."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

from eventsplatform.registrations.admission.model import CheckInRequest, OfflineScan
from eventsplatform.registrations.model import EventFacts
from tests.support.database import Services


def ticket(token: str, scan_id: UUID | None = None) -> CheckInRequest:
    return CheckInRequest(token=token, scan_id=scan_id)


def by_list(registration_id: int) -> CheckInRequest:
    return CheckInRequest(registration_id=registration_id)


def offline(token: str, at: datetime, scan_id: UUID | None = None) -> OfflineScan:
    return OfflineScan(token=token, scanned_at=at, scan_id=scan_id or uuid4())


def project(running: Services, event_id: int) -> None:
    """Let registrations know the event as it is, without a wait for the message."""
    running.registrations.learn_events(
        [EventFacts.of_event(running.catalog.describe(event_id).model_dump(mode="json"))]
    )
