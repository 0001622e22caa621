"""A delivery for each message that a webhook wants and its owner may know; their log, and sending some again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import orjson
from pydantic import BaseModel

from eventsplatform.clock import Clock, rfc3339
from eventsplatform.errors import ConflictError, NotFoundError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.envelope import SPEC_VERSION, Message
from eventsplatform.messaging.model import Appendable, Work
from eventsplatform.pagination import Page, decode_cursor, encode_cursor, invalid_cursor
from eventsplatform.registrations.model import EventFacts, EventPlaces
from eventsplatform.registrations.webhooks.model import (
    Delivery,
    DeliveryQuery,
    DeliveryRequest,
    DeliveryStatus,
    DeliveryTest,
    ReplayOfRange,
    ReplayOfSome,
    RequestedDeliveries,
    SentEvent,
    SentRegistration,
    Webhook,
    organizers,
)
from eventsplatform.registrations.webhooks.service import found

# For how long a delivery is in the log, and for how long after it happened a message can become one.
KEPT = timedelta(days=30)
# How many deliveries one request has sent again.
REPLAY_MAXIMUM = 1_000

TEST_TYPE = "webhooks.test"


def body_of(message: Message, data: Mapping[str, Any]) -> str:
    """The message with these data for its own, and without the extensions that only the platform's consumers read."""
    envelope = {
        "specversion": SPEC_VERSION,
        "id": message.id,
        "source": message.source,
        "type": message.type,
        "subject": message.subject,
        "time": message.time,
        "datacontenttype": "application/json",
        "sequence": message.sequence,
        "data": data,
    }
    return orjson.dumps(envelope).decode()


@dataclass(frozen=True)
class Notice:
    """A message as it would be delivered, and the people whose webhooks may be sent it.

    `event_version` is the version of the event at which they organised it.
    """

    message_id: str
    type: str
    happened_at: datetime
    event_id: int
    event_version: int
    organizers: Sequence[int]
    body: str


class DeliveryStore(Protocol):
    def find_webhook(self, webhook_id: int, user_id: int, *, for_update: bool = False) -> Webhook | None: ...

    def find_events(self, event_ids: Sequence[int]) -> dict[int, EventPlaces]: ...

    def add_deliveries(self, notices: Sequence[Notice], now: datetime, happened_after: datetime) -> int:
        """A delivery for every enabled webhook that wants it, unless it has one; how many were added.

        What happened before the webhook was enabled, or before a moment, is not for it.
        """

    def add_test(self, webhook_id: int, message_id: str, type: str, body: str, now: datetime) -> None: ...

    def page_of_deliveries(
        self, webhook_id: int, status: DeliveryStatus | None, before_id: int | None, limit: int
    ) -> list[Delivery]:
        """The latest first."""

    def known_deliveries(self, webhook_id: int, delivery_ids: Sequence[int]) -> set[int]: ...

    def end_pause(self, webhook_id: int) -> None:
        """Send to the receiver again, though it was to be left alone."""

    def replay(self, webhook_id: int, delivery_ids: Sequence[int], now: datetime) -> int:
        """Make these due, as if for the first time; how many. Those that are being sent are left alone."""

    def replay_range(
        self, webhook_id: int, status: DeliveryStatus, since: datetime, until: datetime, now: datetime, limit: int
    ) -> int: ...


class DeliveryLog:
    """`wake` wakes the sender; it raises nothing, for the sender looks each minute anyway."""

    def __init__(self, work: Work[DeliveryStore], wake: Callable[[], None], clock: Clock) -> None:
        self._work = work
        self._wake = wake
        self._clock = clock

    def page(self, webhook_id: int, query: DeliveryQuery, caller: Caller) -> Page[Delivery]:
        """The latest first. Raises NotFoundError, InvalidInputError for a cursor of another list."""
        before_id = None
        if query.cursor:
            (before_id,) = decode_cursor(query.cursor, length=1)
            if not isinstance(before_id, int):
                raise invalid_cursor()
        with self._work.statement() as store:
            found(store.find_webhook(webhook_id, caller.user_id), webhook_id)
            deliveries = store.page_of_deliveries(webhook_id, query.status, before_id, query.limit + 1)
        items = deliveries[: query.limit]
        more = len(deliveries) > query.limit
        return Page(items=items, next_cursor=encode_cursor([items[-1].id]) if more else None)

    def request(self, webhook_id: int, request: DeliveryRequest, caller: Caller) -> RequestedDeliveries:
        """Have something sent, again or as a test.

        Raises NotFoundError for a webhook or a delivery that is not there, ConflictError for one that is disabled.
        """

        def change(store: DeliveryStore, _: Appendable) -> RequestedDeliveries:
            webhook = found(store.find_webhook(webhook_id, caller.user_id), webhook_id)
            if not webhook.enabled:
                raise ConflictError("The webhook is disabled; enable it first.")
            store.end_pause(webhook_id)
            match request:
                case DeliveryTest():
                    self._test(store, webhook_id)
                    return RequestedDeliveries(queued=1)
                case ReplayOfSome(delivery_ids=delivery_ids):
                    return self._replay_some(store, webhook_id, delivery_ids)
                case ReplayOfRange():
                    return self._replay_range(store, webhook_id, request)

        requested = self._work.run(RequestedDeliveries, change)
        self._wake()
        return requested

    def _test(self, store: DeliveryStore, webhook_id: int) -> None:
        now = self._clock()
        test = Message(
            id=f"webhook-test-{uuid4().hex}",
            source="/events-platform/webhooks",
            type=TEST_TYPE,
            subject=str(webhook_id),
            time=rfc3339(now),
            partitionkey="",
            data={"webhook_id": webhook_id},
            sequence=1,
        )
        store.add_test(webhook_id, test.id, test.type, body_of(test, test.data), now)

    def _replay_some(self, store: DeliveryStore, webhook_id: int, delivery_ids: Sequence[int]) -> RequestedDeliveries:
        if missing := set(delivery_ids) - store.known_deliveries(webhook_id, delivery_ids):
            raise NotFoundError(f"There is no delivery {min(missing)} of webhook {webhook_id}.")
        return RequestedDeliveries(queued=store.replay(webhook_id, delivery_ids, self._clock()))

    def _replay_range(self, store: DeliveryStore, webhook_id: int, wanted: ReplayOfRange) -> RequestedDeliveries:
        now = self._clock()
        queued = store.replay_range(webhook_id, wanted.status, wanted.since, wanted.until or now, now, REPLAY_MAXIMUM)
        return RequestedDeliveries(queued=queued, more=queued == REPLAY_MAXIMUM)


class DeliveryQueue:
    """Makes deliveries of the platform's messages."""

    def __init__(self, work: Work[DeliveryStore], wake: Callable[[], None], clock: Clock) -> None:
        self._work = work
        self._wake = wake
        self._clock = clock

    def put(self, messages: Sequence[Message]) -> int:
        """How many deliveries there are more. A message that comes again makes none.

        Raises PoisonMessageError for data that are not what their type promises.
        """
        of_events = [message for message in messages if message.domain == "events"]
        of_registrations = [message for message in messages if message.domain == "registrations"]
        notices = [_event_notice(message) for message in of_events]
        sent = [(message, message.read(SentRegistration.model_validate)) for message in of_registrations]
        with self._work.statement() as store:
            if sent:
                notices += _registration_notices(sent, store.find_events([data.event_id for _, data in sent]))
            now = self._clock()
            added = store.add_deliveries(notices, now, now - KEPT) if notices else 0
        if added:
            self._wake()
        return added


def _event_notice(message: Message) -> Notice:
    """The event itself says who organises it."""
    event = message.read(EventFacts.of_event)
    told = organizers(event.organizer.id, event.team)
    return _notice(message, event.id, event.version, told, message.read(SentEvent.model_validate))


def _registration_notices(
    sent: Sequence[tuple[Message, SentRegistration]], events: Mapping[int, EventPlaces]
) -> list[Notice]:
    """Nobody can have registered for an event that is not known here, and nobody organises it."""
    return [
        _notice(message, event.event_id, event.version, organizers(event.organizer_id, event.team), data)
        for message, data in sent
        if (event := events.get(data.event_id))
    ]


def _notice(message: Message, event_id: int, event_version: int, told: Sequence[int], data: BaseModel) -> Notice:
    if message.replay_id:
        # One that is to be told again, which receivers would leave out if it looked like the first.
        message = replace(message, id=f"{message.id}-{message.replay_id}")
    body = body_of(message, data.model_dump(mode="json"))
    return Notice(message.id, message.type, message.happened_at, event_id, event_version, told, body)
