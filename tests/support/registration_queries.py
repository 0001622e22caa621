"""A call of every method of the stores of registrations, for looking at the plans of the statements that it runs.

A method without a call here has no plan that anyone has looked at: add one with it. Its arguments are those of the
largest event, where a plan that reads all of a table would cost most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import import_module
from inspect import isfunction
from pkgutil import walk_packages
from typing import Any
from uuid import UUID

import psycopg

from eventsplatform import registrations
from eventsplatform.clock import utc_now
from eventsplatform.idempotency import NamedRequest
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.idempotency import RequestRecords
from eventsplatform.messaging.inbox import Inbox
from eventsplatform.messaging.recording import Effects, StatementRecording
from eventsplatform.registrations.admission.model import Attendance, CheckIn, RecordedCheckIn, TicketKey
from eventsplatform.registrations.admission.repository import PostgresAdmission
from eventsplatform.registrations.calendar_feeds_repository import PostgresCalendarFeeds
from eventsplatform.registrations.exports import Position
from eventsplatform.registrations.exports_repository import PostgresExports
from eventsplatform.registrations.mail_model import Announcement, ClaimedMail, News, Schedule
from eventsplatform.registrations.mails_repository import PostgresMails
from eventsplatform.registrations.model import EventFacts, HeldRegistration
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.webhooks.deliveries import Notice
from eventsplatform.registrations.webhooks.model import Webhook, WebhookIn
from eventsplatform.registrations.webhooks.notices import DisabledWebhook
from eventsplatform.registrations.webhooks.repository import PostgresWebhooks
from eventsplatform.registrations.webhooks.sender import Claimed, Outcome
from tests.support.many_registrations import CROWDED, HOT, LASTING, OPEN, ORGANIZER, facts

Call = Callable[[Any, "World"], object]

SOMEBODY_NEW = 10_000_000
# Little is older, as where what is old is cleared up again and again.
OLDEST = LASTING - timedelta(hours=6)
FEED = bytes(32)
KIDS = [TicketKey(kid="k1", x="x")]


@dataclass
class World:
    """What calls are made with: registrations in each state, of the largest events."""

    connection: psycopg.Connection[dict[str, Any]]
    active: HeldRegistration
    waiting: HeldRegistration
    offered: HeldRegistration
    now: datetime
    event: EventFacts

    @classmethod
    def of(cls, connection: psycopg.Connection[dict[str, Any]]) -> World:
        store = PostgresRegistrations(connection)

        def one(event_id: int, status: str) -> HeldRegistration:
            row = connection.execute(
                "SELECT user_id FROM registrations.event_registrations WHERE event_id = %s AND status = %s LIMIT 1",
                (event_id, status),
            ).fetchone()
            assert row is not None
            held = store.find_held(event_id, row["user_id"])
            assert held is not None
            return held

        return cls(
            connection, one(HOT, "active"), one(HOT, "waitlisted"), one(CROWDED, "offered"), utc_now(), facts(HOT)
        )

    @property
    def user(self) -> int:
        return self.active.registration.user_id

    @property
    def moment(self) -> datetime:
        return self.active.registration.registered_at

    def request(self, key: str) -> NamedRequest:
        return NamedRequest.of(caller="1", method="POST", path="/", key=key, content=b"", secret=False)

    def recording(self, key: str) -> StatementRecording:
        effects = Effects("registrations", "idempotency_keys")
        return StatementRecording(self.connection, effects, 0, self.request(key))

    @property
    def attendance(self) -> Attendance:
        held = self.active
        check_in = CheckIn(
            registration_id=held.registration.id,
            event_id=HOT,
            user_id=self.user,
            scan_id=UUID(int=1),
            checked_in_at=self.now,
            checked_in_by=ORGANIZER,
        )
        recorded = RecordedCheckIn(check_in, 1)
        return Attendance(held.registration, held.version, held.part, None, [recorded])

    @property
    def mail(self) -> ClaimedMail:
        return ClaimedMail(1, "confirmation", 1, self.now, self.active.registration, held=True, schedule=None)

    @property
    def webhook(self) -> Webhook:
        (webhook, *_) = PostgresWebhooks(self.connection).webhooks_of(ORGANIZER)
        return webhook


def _admit(store: PostgresAdmission, world: World) -> object:
    return store.check_in(HOT, [world.attendance])


def _admit_and_undo(store: PostgresAdmission, world: World) -> object:
    (admitted,), _ = store.check_in(HOT, [world.attendance])
    return store.undo_check_in(HOT, admitted, ORGANIZER, world.now)


def _claimed(world: World) -> Claimed:
    return Claimed(
        webhook_id=world.webhook.id,
        id=1,
        attempt=1,
        url="https://example.org/",
        message_id="registration-1-1",
        body="{}",
        created_at=world.now,
        sealed_secrets=[],
        entitled=True,
        failing_since=None,
    )


def _announcement(world: World) -> Announcement:
    return Announcement("event-1-2", "event_changed", HOT, ("active",), world.now, Schedule.of(world.event), world.now)


def _news(world: World) -> list[News]:
    registered = world.active.registration
    return [News("c", "confirmation", world.user, HOT, registered.id, registered.registered_at, world.now)]


CALLS: Mapping[type, Mapping[str, Call]] = {
    PostgresRegistrations: {
        "find_event": lambda store, _: store.find_event(HOT),
        "facts_of": lambda store, _: store.facts_of([HOT, CROWDED]),
        "put_events": lambda store, world: store.put_events([world.event.model_copy(update={"version": 9})]),
        "set_capacity": lambda store, _: store.set_capacity(HOT, 5),
        "taken_places": lambda store, _: store.taken_places([HOT, CROWDED]),
        "add_places": lambda store, _: store.add_places([HOT, CROWDED]),
        "unsettled": lambda store, _: store.unsettled([HOT, CROWDED]),
        "may_have_room": lambda store, world: store.may_have_room(HOT, world.now),
        "lock_line": lambda store, _: store.lock_line(HOT),
        "lock_places": lambda store, _: store.lock_places(HOT),
        "parts": lambda store, _: store.parts(HOT),
        "put_places": lambda store, _: store.put_places(HOT, store.parts(HOT)),
        "take_place": lambda store, world: [
            store.take_place(world.recording(str(wait)), OPEN, SOMEBODY_NEW + wait, world.now, wait=wait)
            for wait in (False, True)
        ],
        "add_active": lambda store, _: store.add_active(HOT, SOMEBODY_NEW, 3),
        "add_waiting": lambda store, world: store.add_waiting(HOT, SOMEBODY_NEW, world.now),
        "find_held": lambda store, world: store.find_held(HOT, world.user),
        "cancel": lambda store, world: store.cancel([world.active, world.waiting]),
        "revoke_tickets": lambda store, world: store.revoke_tickets(HOT, [world.active.registration.id], world.now),
        "accept": lambda store, world: store.accept(world.offered),
        "offer": lambda store, world: store.offer(HOT, [1, 2, 3], world.now),
        "due_offers": lambda store, world: store.due_offers(CROWDED, world.now, 100),
        "events_with_due_offers": lambda store, world: store.events_with_due_offers(world.now, 1_000),
        "page_of_event": lambda store, world: [
            store.page_of_event(HOT, after, 21)
            for after in (None, (world.moment, 5), (world.waiting.registration.registered_at, 5))
        ],
        "page_of_user": lambda store, world: [
            store.page_of_user(world.user, before, 21) for before in (None, (world.moment, 5))
        ],
        "erase_user": lambda store, world: store.erase_user(world.user),
        "is_erased": lambda store, world: store.is_erased(world.user),
        "events_ahead": lambda store, world: store.events_ahead(world.user, world.now),
        "held_registrations": lambda store, world: store.held_registrations(world.user, 5, 101),
        "held_check_ins": lambda store, world: store.held_check_ins(world.user, 5, 101),
    },
    PostgresAdmission: {
        "find_ticket": lambda store, world: store.find_ticket(world.active.registration.id),
        "lock_registration": lambda store, world: store.lock_registration(world.active.registration.id),
        "ticket_keys": lambda store, _: store.ticket_keys(),
        "add_first_ticket_keys": lambda store, _: store.add_first_ticket_keys(KIDS),
        "put_ticket_keys": lambda store, _: store.put_ticket_keys(KIDS),
        "lock_attendances": lambda store, world: store.lock_attendances(HOT, [world.active.registration.id]),
        "statuses": lambda store, world: store.statuses(HOT, [world.active.registration.id]),
        "check_in": _admit,
        "undo_check_in": _admit_and_undo,
        "page_of_check_ins": lambda store, _: [store.page_of_check_ins(HOT, before, 21) for before in (None, 500)],
        "door_state": lambda store, _: store.door_state(HOT),
        "door_changes": lambda store, _: store.door_changes(HOT, 0, 1_000, 1_000),
    },
    PostgresCalendarFeeds: {
        "put_feed": lambda store, world: store.put_feed(world.user, FEED),
        "find_feed": lambda store, world: store.find_feed(world.user),
        "delete_feed": lambda store, world: store.delete_feed(world.user),
        "read_feed": lambda store, world: [
            store.put_feed(world.user, FEED),
            store.read_feed(FEED, world.now, world.now - OLDEST, world.now + OLDEST, 100),
        ],
        "held_feeds": lambda store, world: store.held_feeds(world.user, 0, 101),
    },
    PostgresExports: {
        "export_chunk": lambda store, world: store.export_chunk(HOT, Position(world.moment, 5, world.now), 500),
    },
    PostgresMails: {
        "queue": lambda store, world: store.queue(_news(world), world.now - timedelta(days=9)),
        "queue_for_all": lambda store, world: store.queue_for_all(_announcement(world), world.moment, 5, 100),
        "announced": lambda store, _: store.announced([HOT]),
        "announce_new": lambda store, world: store.announce_new([world.event]),
        "note_change": lambda store, world: store.note_change(HOT, world.now, world.now),
        "due_changes": lambda store, world: store.due_changes(world.now, 100),
        "change_announced": lambda store, world: store.change_announced(HOT, Schedule.of(world.event), world.now),
        "due_reminders": lambda store, world: store.due_reminders(world.now, world.now + timedelta(days=1), 100),
        "reminded": lambda store, world: store.reminded(HOT, world.now),
        "claim": lambda store, world: store.claim(world.now, world.now, 20),
        "close": lambda store, world: store.close(world.mail, "sent", world.now),
        "put_back": lambda store, world: store.put_back([(world.mail, world.now)]),
        "mail_since": lambda store, world: store.mail_since(world.now),
        "forget_closed": lambda store, world: store.forget_closed(world.now - OLDEST, 100),
        "held_mails": lambda store, world: store.held_mails(world.user, 5, 101),
    },
    PostgresWebhooks: {
        "lock_webhooks": lambda store, world: store.lock_webhooks(world.user),
        "is_erased": lambda store, world: store.is_erased(world.user),
        "webhooks_of": lambda store, _: store.webhooks_of(ORGANIZER),
        "find_webhook": lambda store, world: [
            store.find_webhook(world.webhook.id, ORGANIZER, for_update=each) for each in (False, True)
        ],
        "add_webhook": lambda store, world: store.add_webhook(
            ORGANIZER,
            WebhookIn.model_construct(
                url="https://example.org/", event_types=["registrations.*"], event_ids=None, description=""
            ),
            world.now,
        ),
        "put_webhook": lambda store, world: store.put_webhook(world.webhook, world.now),
        "delete_webhook": lambda store, world: store.delete_webhook(world.webhook.id),
        "live_secrets": lambda store, world: store.live_secrets(world.webhook.id, world.now),
        "replace_secret": lambda store, world: store.replace_secret(world.webhook.id, "sealed", world.now, world.now),
        "find_events": lambda store, _: store.find_events([HOT, CROWDED]),
        "add_deliveries": lambda store, world: store.add_deliveries(
            [Notice("registration-1-9", "registrations.created", world.now, HOT, 1, [ORGANIZER], "{}")],
            world.now,
            world.now - timedelta(days=1),
        ),
        "add_test": lambda store, world: store.add_test(world.webhook.id, "test-1", "webhooks.test", "{}", world.now),
        "claim": lambda store, world: store.claim(world.now, world.now, 20, 2),
        "record": lambda store, world: store.record(_claimed(world), Outcome("delivered", at=world.now)),
        "uncount": lambda store, world: store.uncount(_claimed(world)),
        "disable": lambda store, world: store.disable(world.webhook.id, "gone", world.now, None),
        "page_of_deliveries": lambda store, world: [
            store.page_of_deliveries(world.webhook.id, status, before, 21)
            for status, before in ((None, None), ("delivered", 500))
        ],
        "known_deliveries": lambda store, world: store.known_deliveries(world.webhook.id, [1, 2]),
        "end_pause": lambda store, world: store.end_pause(world.webhook.id),
        "replay": lambda store, world: store.replay(world.webhook.id, [1, 2], world.now),
        "replay_range": lambda store, world: store.replay_range(
            world.webhook.id, "failed", world.moment, world.now, world.now, 1_000
        ),
        "clear_log": lambda store, world: store.clear_log(world.webhook.id, ORGANIZER, 100),
        "clear_old": lambda store, world: store.clear_old(world.now - OLDEST, 100),
        "sealed_otherwise": lambda store, _: store.sealed_otherwise("sealed", 100),
        "reseal": lambda store, _: store.reseal(1, "sealed", "anew"),
        "untold": lambda store, _: store.untold(100),
        "told": lambda store, world: store.told(
            DisabledWebhook(world.webhook.id, ORGANIZER, "https://example.org/", "", "gone", None, world.now)
        ),
        "set_suspended": lambda store, world: [
            store.set_suspended(world.user, suspended, version) for version, suspended in ((1, True), (2, False))
        ],
        "forget_suspension": lambda store, world: store.forget_suspension(world.user),
        "held_webhooks": lambda store, _: store.held_webhooks(ORGANIZER, 0, 101),
    },
}


def _settle(_: object, world: World) -> object:
    records = RequestRecords("registrations", "idempotency_keys")
    records.add(world.connection, world.request("k"), {"result": None})
    return records.settle(world.connection, world.request("k"), {"result": None})


def _receive(_: object, world: World) -> object:
    message = Message(
        id="event-1-1",
        source="/events-platform/events",
        type="events.created",
        subject="1",
        time="2026-05-01T10:00:00Z",
        partitionkey="1",
        data={},
        sequence=1,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    return Inbox("registrations", "evp-tests").add(world.connection, message)


# What messaging keeps in this service's schema, which grows with registrations, too.
KEPT_HERE: Mapping[str, Call] = {"requests": _settle, "messages": _receive}


def stores() -> Iterator[type]:
    """Every class of a module of repositories in the package of registrations."""
    for module in walk_packages(registrations.__path__, f"{registrations.__name__}."):
        if not module.ispkg and module.name.endswith("repository"):
            for each in vars(import_module(module.name)).values():
                if isinstance(each, type) and each.__module__ == module.name:
                    yield each


def queries_of(store: type) -> set[str]:
    """The methods that a store has itself, as anyone may call them."""
    return {name for name, each in vars(store).items() if isfunction(each) and not name.startswith("_")}
