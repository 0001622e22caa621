"""Webhooks, from a change of the platform's state to what a receiver gets: through the functions, over real TLS."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from eventsplatform.adapters import mail, outbound
from eventsplatform.adapters.aws import FunctionClient
from eventsplatform.adapters.sealing import Sealing
from eventsplatform.clock import utc_now
from eventsplatform.errors import (
    ConflictError,
    DependencyUnavailableError,
    InvalidInputError,
    NotFoundError,
    UnauthenticatedError,
)
from eventsplatform.mail import Mail
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.relay import PendingChange
from eventsplatform.registrations.attendees import Attendees
from eventsplatform.registrations.mail_model import Recipient
from eventsplatform.registrations.model import EventFacts
from eventsplatform.registrations.webhooks import repository, sender, wiring
from eventsplatform.registrations.webhooks.deliveries import KEPT, DeliveryLog
from eventsplatform.registrations.webhooks.model import (
    Delivery,
    DeliveryQuery,
    DeliveryRequest,
    DeliveryTest,
    NewWebhook,
    ReplayOfRange,
    ReplayOfSome,
    RequestedDeliveries,
    Webhook,
    WebhookIn,
    WebhookPatch,
)
from eventsplatform.registrations.webhooks.sender import AT_ONCE_EACH, FAILING_MAXIMUM, LEASE
from eventsplatform.registrations.webhooks.service import OVERLAP, SECRETS_MAXIMUM, WEBHOOKS_MAXIMUM, Webhooks
from eventsplatform.registrations.webhooks.signing import RETRY_AFTER
from eventsplatform.registrations.wiring import FACTORIES, CatalogFunctions, PeopleFunctions
from local.engines import Endpoints
from local.openapi import load_function
from tests.support.application import template_application
from tests.support.callers import caller
from tests.support.core_environment import core_environment
from tests.support.database import CatalogDirectory, Services, administrator, event_in, services
from tests.support.https import certificate_for
from tests.support.lambda_events import Context, kafka_event, message
from tests.support.webhooks import (
    HOST,
    KEYS,
    Answering,
    Received,
    Receiver,
    Reply,
    receiver_running,
    send,
    work_of_webhooks,
)

ATTENDEE = 31
organizer_ids = itertools.count(8_100_001)


def answering(*statuses: int, headers: dict[str, str] | None = None) -> Answering:
    """These, one after the other, and the last one for good."""
    left = list(statuses)
    return lambda _: Reply(left.pop(0) if len(left) > 1 else left[0], headers or {})


class World:
    """Organisers and their webhooks, the functions, and a clock that the test moves."""

    def __init__(self, url: str, running: Services, receiver: Receiver) -> None:
        self.url = url
        self.running = running
        self.receiver = receiver
        self.now = utc_now()
        self.organizer = next(organizer_ids)
        self.woken: list[str] = []
        self.mails: list[Mail] = []
        self.people_answer = True
        self.webhooks: Webhooks = wiring.FACTORIES[Webhooks]()
        self.log: DeliveryLog = wiring.FACTORIES[DeliveryLog]()
        self._told_up_to = self._last_change()

    def clock(self) -> datetime:
        return self.now

    # What people do.

    def webhook(
        self, path: str = "/hook", *, owner: int | None = None, event_types: Sequence[str] = ("registrations.*",),
        event_ids: list[int] | None = None,
    ) -> NewWebhook:  # fmt: skip
        wanted = WebhookIn.model_validate(
            {"url": self.receiver.at(path), "event_types": event_types, "event_ids": event_ids}
        )
        return self.webhooks.create(wanted, caller(owner or self.organizer))

    def change(self, webhook: Webhook, **changes: Any) -> Webhook:
        return self.webhooks.change(webhook.id, WebhookPatch.model_validate(changes), caller(self.organizer))

    def get(self, webhook: Webhook) -> Webhook:
        return self.webhooks.get(webhook.id, caller(self.organizer))

    def event(self, **changes: Any) -> int:
        event_id = self.running.published_event(self.organizer, **changes)
        self.learn(event_id)
        return event_id

    def learn(self, event_id: int) -> None:
        """As registrations does with the event's latest message."""
        event = self.running.catalog.describe(event_id).model_dump(mode="json")
        self.running.registrations.learn_events([EventFacts.of_event(event)])

    def register(self, event_id: int, *people: int) -> None:
        for person in people or (ATTENDEE,):
            self.running.registrations.register(event_id, caller(person))

    def registered(self, webhook: Webhook, people: int = 1) -> list[Delivery]:
        """Deliveries to the webhook, of so many people who register."""
        self.register(self.event(), *range(ATTENDEE, ATTENDEE + people))
        self.queue()
        return self.deliveries(webhook)

    # What functions do.

    def told(self) -> list[Message]:
        """The messages of what has changed since they were asked for last, as the relay sends them."""
        with administrator(self.url) as connection:
            rows = connection.execute(
                """
                SELECT *
                  FROM messaging.outbox
                 WHERE id > %s AND aggregate_type IN ('event', 'registration')
                 ORDER BY id
                """,
                (self._told_up_to,),
            ).fetchall()
        self._told_up_to = max([self._told_up_to, *(row["id"] for row in rows)])
        pending = [PendingChange(**{field.name: row[field.name] for field in fields(PendingChange)}) for row in rows]
        return [change.to_message() for change in pending]

    def queue(self, messages: Sequence[Message] | None = None) -> None:
        for each in self.told() if messages is None else messages:
            answer = function("QueueDeliveriesFunction")(kafka_event({f"evp.{each.domain}.v1-0": [each]}), Context())
            assert answer == {"batchItemFailures": []}

    def send(self, *, sweep: bool = False) -> dict[str, Any]:
        """What the run says of itself."""
        event = {"source": "aws.scheduler"} if sweep else {"poked": True}
        result: dict[str, Any] = function("SendDeliveriesFunction")(event, Context(remaining_ms=120_000))
        return result

    def send_elsewhere(self) -> None:
        """In another execution environment: on a connection of its own."""
        send(self.url, self.receiver.port, self.receiver.certificate, self.clock)

    def tell_of_user(self, type: str, **data: Any) -> None:
        told = message(data["id"], type, data=data)
        answer = function("ReleaseRegistrationsFunction")(kafka_event({"evp.users.v1-0": [told]}), Context())
        assert answer == {"batchItemFailures": []}

    def recipients(self, user_ids: Sequence[int]) -> dict[int, Recipient]:
        if not self.people_answer:
            raise DependencyUnavailableError("service behind this one")
        return {
            user_id: Recipient(
                id=user_id, email=f"user{user_id}@example.org", name="Ada", timezone=None, reminders=True
            )
            for user_id in user_ids
        }

    # What there is.

    def deliveries(self, webhook: Webhook, status: Any = None, *, owner: int | None = None) -> list[Delivery]:
        """The oldest first."""
        page = self.log.page(webhook.id, DeliveryQuery(status=status, limit=100), caller(owner or self.organizer))
        return page.items[::-1]

    def request(self, webhook: Webhook, request: DeliveryRequest) -> RequestedDeliveries:
        return self.log.request(webhook.id, request, caller(self.organizer))

    def kept(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with administrator(self.url) as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[call-overload, no-any-return]

    def _last_change(self) -> int:
        return int(self.kept("SELECT coalesce(max(id), 0) AS id FROM messaging.outbox")[0]["id"])


def no_event(event_id: int) -> EventFacts:
    raise NotFoundError(f"There is no event {event_id}.")


def function(name: str) -> Any:
    return load_function(template_application().functions[name]).handler


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_for(HOST, tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def receiver(certificate: Path) -> Iterator[Receiver]:
    with receiver_running(certificate) as running:
        yield running


@pytest.fixture
def world(
    migrated_database: str, endpoints: Endpoints, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """With no other webhooks than its own, and no jitter."""
    with administrator(migrated_database) as connection:
        connection.execute("DELETE FROM registrations.webhooks")
    with core_environment(endpoints, role="registrations"), services(migrated_database) as running:
        built: World
        for name in ("OUTBOX_RELAY_FUNCTION", "SEND_DELIVERIES_FUNCTION"):
            monkeypatch.setenv(name, name)
        monkeypatch.setenv("CONSUMER_GROUP", "evp-queue-deliveries")
        monkeypatch.setattr(FunctionClient, "invoke_async", lambda _, name, __: built.woken.append(name))
        monkeypatch.setattr(
            CatalogFunctions, "describe", lambda _, event_id: CatalogDirectory(running.catalog).describe(event_id)
        )
        monkeypatch.setattr(PeopleFunctions, "recipients", lambda _, user_ids: built.recipients(user_ids))
        monkeypatch.setattr(mail, "mailer", lambda: SimpleNamespace(send=lambda each: built.mails.append(each)))
        monkeypatch.setattr(wiring, "utc_now", lambda: built.now)
        monkeypatch.setattr(wiring, "random", SimpleNamespace(random=lambda: 0.0))
        monkeypatch.setattr(wiring, "_sealing", lambda: Sealing(lambda: KEYS))
        monkeypatch.setattr(outbound, "outbound", receiver.outbound)
        built = World(migrated_database, running, receiver)
        yield built


# What arrives ------------------------------------------------------------------------------------


def test_a_registration_arrives_signed_and_tells_no_more_than_its_organiser_may_know(world: World) -> None:
    webhook = world.webhook("/hook")
    event_id = world.event(capacity=10)
    world.register(event_id, ATTENDEE)

    world.queue()
    assert world.woken[-1] == "SEND_DELIVERIES_FUNCTION"
    assert world.send() == {"sent": {"delivered": 1}}

    (received,) = world.receiver.received
    content = received.verified(webhook.secret)
    assert received.path == "/hook"
    assert received.headers["content-type"] == "application/cloudevents+json"
    assert received.id == content["id"]
    assert content == {
        "specversion": "1.0",
        "id": content["id"],
        "source": "/events-platform/registrations",
        "type": "registrations.created",
        "subject": str(content["data"]["id"]),
        "time": content["time"],
        "datacontenttype": "application/json",
        "sequence": 1,
        "data": {
            "id": content["data"]["id"],
            "event_id": event_id,
            "user_id": ATTENDEE,
            "status": "active",
            "position": None,
            "registered_at": content["data"]["registered_at"],
            "offer_expires_at": None,
            "counts": {"registered": 1, "waitlisted": 0, "available": 9},
        },
    }
    (delivery,) = world.deliveries(webhook)
    assert (delivery.status, delivery.attempts, delivery.next_attempt_at) == ("delivered", 1, None)
    assert (delivery.message_id, delivery.type, delivery.event_id) == (received.id, "registrations.created", event_id)
    assert delivery.body == received.body.decode()
    assert delivery.last_attempt is not None
    assert (delivery.last_attempt.response_status, delivery.last_attempt.response_excerpt) == (200, "taken")
    assert delivery.last_attempt.duration_ms >= 0


def test_a_signature_is_of_this_body_and_this_secret(world: World) -> None:
    """The control of the test before: the reference library refuses anything else."""
    webhook, other = world.webhook("/hook"), world.webhook("/other")
    world.registered(webhook)
    world.send()

    (received,) = world.receiver.by_path("/hook")
    tampered = Received(received.path, received.headers, received.body.replace(b"active", b"cancelled"))
    for secret, what in ((other.secret, received), (webhook.secret, tampered)):
        with pytest.raises(WebhookVerificationError):
            what.verified(secret)


def test_an_event_arrives_without_what_people_wrote(world: World) -> None:
    webhook = world.webhook(event_types=["events.published"])
    event_id = world.event(title="A secret concert", description="Behind the wall")

    world.queue()
    world.send()

    (received,) = world.receiver.received
    content = received.verified(webhook.secret)
    assert (content["type"], content["sequence"]) == ("events.published", 2)
    assert set(content["data"]) == {"id", "status", "starts_at", "ends_at", "timezone", "capacity", "version"}
    assert content["data"]["id"] == event_id


def test_each_is_told_the_types_and_the_events_that_it_asked_for(world: World) -> None:
    first, second = world.event(), world.event()
    everything = world.webhook(event_types=["events.*", "registrations.*"])
    cancellations = world.webhook(event_types=["registrations.cancelled"])
    of_second = world.webhook(event_ids=[second])
    world.told()
    for event_id in (first, second):
        world.register(event_id)
    world.running.registrations.cancel(first, caller(ATTENDEE))
    world.running.catalog.cancel(second, None, caller(world.organizer))

    world.queue()

    def of(webhook: Webhook) -> list[tuple[str, int | None]]:
        return sorted((delivery.type, delivery.event_id) for delivery in world.deliveries(webhook))

    assert of(cancellations) == [("registrations.cancelled", first)]
    assert of(of_second) == [("registrations.created", second)]
    assert of(everything) == [
        ("events.cancelled", second),
        ("registrations.cancelled", first),
        ("registrations.created", first),
        ("registrations.created", second),
    ]


def test_the_owner_and_managers_are_told_and_nobody_else(world: World) -> None:
    manager, doorkeeper, stranger = (next(organizer_ids) for _ in range(3))
    webhooks = {
        person: world.webhook(owner=person, event_types=["events.*", "registrations.*"])
        for person in (world.organizer, manager, doorkeeper, stranger)
    }
    draft = world.running.catalog.create(event_in(), caller(world.organizer)).id
    world.running.teams.put(draft, manager, "manager", caller(world.organizer))
    world.running.teams.put(draft, doorkeeper, "check_in", caller(world.organizer))
    world.running.catalog.publish(draft, caller(world.organizer))
    world.learn(draft)
    world.register(draft)

    world.queue()

    told = {
        person: [delivery.type for delivery in world.deliveries(webhook, owner=person)]
        for person, webhook in webhooks.items()
    }
    assert told == {
        world.organizer: [
            "events.created", "events.updated", "events.updated", "events.published", "registrations.created",
        ],
        manager: ["events.updated", "events.updated", "events.published", "registrations.created"],
        doorkeeper: [],
        stranger: [],
    }  # fmt: skip


def test_who_ceases_to_manage_an_event_is_told_nothing_more_not_even_what_waits(world: World) -> None:
    manager = next(organizer_ids)
    event_id = world.event()
    world.running.teams.put(event_id, manager, "manager", caller(world.organizer))
    world.learn(event_id)
    webhook = world.webhook("/manager", owner=manager)
    world.receiver.answers["/manager"] = answering(500, 200)
    world.told()
    world.register(event_id, 1, 2)
    world.queue()
    # One attempt each: so far they may be told
    world.send()
    assert len(world.receiver.by_path("/manager")) == 2

    world.running.teams.remove(event_id, manager, caller(world.organizer))
    world.learn(event_id)
    world.register(event_id, 3)
    world.queue()
    world.now += timedelta(hours=1)
    world.send()

    assert len(world.receiver.by_path("/manager")) == 2
    statuses = {delivery.status for delivery in world.deliveries(webhook, owner=manager)}
    assert statuses == {"delivered", "withdrawn"}


def test_what_comes_before_its_projection_is_not_withdrawn(world: World) -> None:
    """The event's message makes a delivery for a manager of whom registrations has not been told yet."""
    manager = next(organizer_ids)
    event_id = world.event()
    webhook = world.webhook(owner=manager, event_types=["events.updated"])
    world.told()
    world.running.teams.put(event_id, manager, "manager", caller(world.organizer))

    world.queue()
    world.send()

    assert [delivery.status for delivery in world.deliveries(webhook, owner=manager)] == ["delivered"]


def test_a_message_that_comes_again_is_delivered_once(world: World) -> None:
    webhook = world.webhook()
    world.register(world.event())
    messages = world.told()

    for _ in range(3):
        world.queue(messages)
    world.send()
    world.queue(messages)

    assert world.send() == {"sent": {}}
    assert len(world.receiver.received) == 1
    assert len(world.deliveries(webhook)) == 1


def test_a_replay_reaches_receivers_if_it_is_to_notify_again_and_then_as_another_message(world: World) -> None:
    webhook = world.webhook()
    world.register(world.event())
    (told,) = [each for each in world.told() if each.domain == "registrations"]
    silent = replace(told, extensions={"replayid": "r1"})
    again = replace(told, extensions={"replayid": "r2", "replaynotify": True})

    world.queue([told, silent, again, again])

    ids = [delivery.message_id for delivery in world.deliveries(webhook)]
    assert ids == [told.id, f"{told.id}-r2"]


def test_what_happened_before_a_webhook_was_enabled_is_not_for_it(world: World) -> None:
    """A consumer that starts over, or a broker that is filled again, is no reason to tell of the past."""
    world.register(world.event())
    before = world.told()
    world.now = utc_now()
    webhook = world.webhook()

    world.queue(before)

    assert world.deliveries(webhook) == []


def test_what_nobody_wants_wakes_nobody(world: World) -> None:
    world.register(world.event())
    world.woken.clear()

    world.queue()

    assert "SEND_DELIVERIES_FUNCTION" not in world.woken


# What fails --------------------------------------------------------------------------------------


def test_what_fails_is_tried_again_at_growing_distances_under_the_same_id(world: World) -> None:
    webhook = world.webhook("/down")
    world.receiver.answers["/down"] = answering(500)
    world.registered(webhook)
    tried_at = []

    for wait in (*RETRY_AFTER, None):
        world.send()
        tried_at.append(world.now)
        (delivery,) = world.deliveries(webhook)
        if wait is None:
            break
        assert (delivery.status, delivery.next_attempt_at) == ("pending", world.now + wait)
        # Not a moment sooner
        world.now += wait - timedelta(microseconds=1)
        assert world.send() == {"sent": {}}
        world.now += timedelta(microseconds=1)

    assert (delivery.status, delivery.attempts, delivery.next_attempt_at) == ("failed", 10, None)
    received = world.receiver.received
    assert len(received) == 10
    assert len({each.id for each in received}) == 1
    assert len({each.body for each in received}) == 1
    assert [each.signed_at for each in received] == [moment.replace(microsecond=0) for moment in tried_at]
    assert all(each.is_signed_with(webhook.secret) for each in received)


def test_one_that_answers_again_is_no_failure_any_more(world: World) -> None:
    webhook = world.webhook("/flaky")
    world.receiver.answers["/flaky"] = answering(503, 204)
    world.registered(webhook)

    world.send()
    assert world.get(webhook).failing_since == world.now
    world.now += RETRY_AFTER[0]
    world.send()

    (delivery,) = world.deliveries(webhook)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)
    assert world.get(webhook).failing_since is None


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_receiver_that_asks_for_more_time_gets_it(world: World, form: Literal["seconds", "date"]) -> None:
    webhook = world.webhook("/busy")
    until = (world.now + timedelta(hours=1)).replace(microsecond=0)
    asked = {"seconds": "3600", "date": until.strftime("%a, %d %b %Y %H:%M:%S GMT")}[form]
    world.receiver.answers["/busy"] = answering(429, headers={"Retry-After": asked})
    (delivery,) = world.registered(webhook)

    world.send()

    (delivery,) = world.deliveries(webhook)
    assert delivery.next_attempt_at == {"seconds": world.now + timedelta(hours=1), "date": until}[form]


def test_410_disables_at_once_and_what_waits_is_sent_when_it_is_enabled_again(world: World) -> None:
    webhook = world.webhook("/gone")
    world.receiver.answers["/gone"] = answering(410)
    world.registered(webhook, people=10)

    world.send()

    # Those that were under way had left already, and are not tried again; of the rest nothing is sent
    disabled = world.get(webhook)
    assert (disabled.enabled, disabled.disabled_reason, disabled.disabled_at) == (False, "gone", world.now)
    assert len(world.receiver.received) == AT_ONCE_EACH
    assert [delivery.status for delivery in world.deliveries(webhook)].count("failed") == AT_ONCE_EACH
    world.now += timedelta(days=1)
    assert world.send() == {"sent": {}}

    # And what happens meanwhile is not for it
    world.registered(webhook)
    assert len(world.deliveries(webhook)) == 10

    world.receiver.answers["/gone"] = answering(200)
    enabled = world.change(webhook, enabled=True)
    assert (enabled.enabled, enabled.disabled_reason, enabled.disabled_at) == (True, None, None)
    assert world.send() == {"sent": {"delivered": 10 - AT_ONCE_EACH}}


def test_a_redirect_is_a_failure_and_not_followed(world: World) -> None:
    webhook = world.webhook("/moved")
    elsewhere = f"https://{HOST}:{world.receiver.port}/elsewhere"
    world.receiver.answers["/moved"] = answering(307, headers={"Location": elsewhere})
    world.registered(webhook)

    assert world.send() == {"sent": {"retried": 1}}

    assert [received.path for received in world.receiver.received] == ["/moved"]
    (delivery,) = world.deliveries(webhook)
    assert delivery.last_attempt is not None
    assert delivery.last_attempt.response_status == 307


def test_a_receiver_within_the_network_is_not_called(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its name led to when the webhook was added."""
    webhook = world.webhook("/inside")
    world.registered(webhook)
    as_deployed = world.receiver.outbound(admits=outbound.is_public)
    monkeypatch.setattr(outbound, "outbound", lambda: as_deployed)

    assert world.send() == {"sent": {"retried": 1}}

    assert world.receiver.received == []
    (delivery,) = world.deliveries(webhook)
    assert delivery.last_attempt is not None
    assert delivery.last_attempt.error == "must lead to the public internet"


def test_nobody_waits_for_a_slow_receiver_but_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "ANSWER_WITHIN", timedelta(seconds=2))
    slow, quick = world.webhook("/slow"), world.webhook("/quick")
    release = threading.Event()
    arrived_meanwhile: list[int] = []

    def never(_: Received) -> Reply:
        release.wait(20)
        return Reply()

    def at_once(_: Received) -> Reply:
        arrived_meanwhile.append(len(world.receiver.by_path("/slow")))
        return Reply()

    world.receiver.answers |= {"/slow": never, "/quick": at_once}
    world.registered(slow, people=12)
    try:
        sent = world.send()["sent"]
    finally:
        release.set()

    # All that is quick has arrived while the first of what is slow were waited for
    assert sent == {"delivered": 12, "retried": AT_ONCE_EACH}
    assert max(arrived_meanwhile) <= AT_ONCE_EACH
    assert {delivery.status for delivery in world.deliveries(quick)} == {"delivered"}
    timed_out = [each.last_attempt for each in world.deliveries(slow) if each.last_attempt]
    assert len(timed_out) == AT_ONCE_EACH
    assert all(attempt.error and attempt.error.endswith("timed out") for attempt in timed_out)


def test_only_a_few_deliveries_of_a_webhook_are_under_way_at_once(world: World) -> None:
    """However many senders there are."""
    webhook = world.webhook("/busy")
    world.registered(webhook, people=12)
    full = threading.Event()

    def hold(_: Received) -> Reply:
        if world.receiver.most_at_once >= AT_ONCE_EACH:
            full.set()
        full.wait(5)
        return Reply()

    world.receiver.answers["/busy"] = hold
    with ThreadPoolExecutor(3) as threads:
        for each in [threads.submit(world.send_elsewhere) for _ in range(3)]:
            each.result()
    assert world.receiver.most_at_once == AT_ONCE_EACH
    assert len(world.receiver.received) == 12


def test_several_senders_send_everything_once(world: World) -> None:
    webhooks = [world.webhook(f"/hook-{number}") for number in range(5)]
    world.registered(webhooks[0], people=8)

    with ThreadPoolExecutor(4) as threads:
        for each in [threads.submit(world.send_elsewhere) for _ in range(4)]:
            each.result()

    keys = [(received.path, received.id) for received in world.receiver.received]
    assert len(keys) == len(set(keys)) == 40


@pytest.mark.parametrize("is_guarded", [True, False])
def test_what_is_being_sent_no_other_sender_sends(
    world: World, monkeypatch: pytest.MonkeyPatch, is_guarded: bool
) -> None:
    """And without the lease, which is the control, another one does."""
    if not is_guarded:
        unguarded = repository._CLAIM.replace("AND (leased_until IS NULL OR leased_until <= %(now)s)", "")
        assert unguarded != repository._CLAIM
        monkeypatch.setattr(repository, "_CLAIM", unguarded)
    webhook = world.webhook("/hook")
    world.registered(webhook)

    def while_another_sends(_: Received) -> Reply:
        del world.receiver.answers["/hook"]
        world.send_elsewhere()
        return Reply()

    world.receiver.answers["/hook"] = while_another_sends

    assert world.send() == {"sent": {"delivered" if is_guarded else "superseded": 1}}
    assert len(world.receiver.received) == (1 if is_guarded else 2)
    assert len({received.id for received in world.receiver.received}) == 1


def test_a_sender_that_is_killed_before_it_records_repeats_the_delivery_under_its_id(world: World) -> None:
    webhook = world.webhook("/hook")
    world.registered(webhook)
    killed = threading.Event()

    def kill_it(_: Received) -> Reply:
        process.kill()
        process.wait()
        killed.set()
        return Reply()

    world.receiver.answers["/hook"] = kill_it
    arguments = [world.url, str(world.receiver.port), str(world.receiver.certificate)]
    process = subprocess.Popen([sys.executable, "-m", "tests.support.webhooks", *arguments])
    assert killed.wait(30)
    assert process.wait() != 0

    # The delivery is claimed for a while, and then anybody's
    del world.receiver.answers["/hook"]
    world.now = utc_now()
    assert world.send() == {"sent": {}}
    world.now += LEASE
    assert world.send() == {"sent": {"delivered": 1}}

    first, second = world.receiver.received
    assert first.id == second.id
    assert second.is_signed_with(webhook.secret)
    (delivery,) = world.deliveries(webhook)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)


def test_a_receiver_that_is_down_is_left_alone_until_one_delivery_finds_it_back(world: World) -> None:
    webhook = world.webhook("/down")
    world.receiver.answers["/down"] = answering(500)
    world.registered(webhook, people=20)

    # Those that had left already found it down, and nothing else tries
    world.send()
    assert len(world.receiver.received) == AT_ONCE_EACH
    assert world.get(webhook).paused_until == world.now + RETRY_AFTER[0]
    assert world.send() == {"sent": {}}
    world.now += RETRY_AFTER[0]
    assert world.send() == {"sent": {"retried": 1}}

    world.receiver.answers["/down"] = answering(200)
    world.now += timedelta(minutes=1)
    world.send()
    assert (world.get(webhook).paused_until, world.get(webhook).failing_since) == (None, None)
    world.now += timedelta(hours=1)
    world.send()
    assert {delivery.status for delivery in world.deliveries(webhook)} == {"delivered"}


def test_one_that_refuses_a_delivery_gets_the_others(world: World) -> None:
    webhook = world.webhook("/picky")
    world.receiver.answers["/picky"] = answering(400, 200)
    world.registered(webhook, people=6)

    assert world.send() == {"sent": {"retried": 1, "delivered": 5}}
    assert world.get(webhook).failing_since is None


def test_one_that_refuses_all_gets_them_one_at_a_time(world: World) -> None:
    webhook = world.webhook("/closed")
    world.receiver.answers["/closed"] = answering(403)
    world.registered(webhook, people=1)
    world.send()
    world.receiver.most_at_once = 0
    world.registered(webhook, people=6)

    assert world.send() == {"sent": {"retried": 6}}
    assert world.receiver.most_at_once == 1


def test_days_of_nothing_but_failures_disable_a_webhook(world: World) -> None:
    webhook = world.webhook("/down")
    world.receiver.answers["/down"] = answering(500)
    world.registered(webhook)
    world.send()
    world.now += FAILING_MAXIMUM - timedelta(minutes=1)
    world.send()
    assert world.get(webhook).enabled

    world.now += RETRY_AFTER[1]
    world.send()

    disabled = world.get(webhook)
    assert (disabled.enabled, disabled.disabled_reason) == (False, "failing")


def test_owners_are_told_by_mail_once_and_without_what_may_be_a_secret(world: World) -> None:
    webhook = world.webhook("/a-secret-part")
    world.change(webhook, description="The box office")
    world.receiver.answers["/a-secret-part"] = answering(410)
    world.registered(webhook)
    world.send()

    # Identity does not answer at first
    world.people_answer = False
    assert world.send(sweep=True)["told"] == 0
    world.people_answer = True
    assert world.send(sweep=True)["told"] == 1
    assert world.send(sweep=True)["told"] == 0

    (told,) = world.mails
    assert (told.to, told.subject) == (f"user{world.organizer}@example.org", f"Your webhook {webhook.id} is disabled")
    assert f"{HOST} has answered 410 Gone" in told.text
    assert "The box office" in told.text
    assert "a-secret-part" not in told.text


def test_nobody_is_told_of_what_they_did_themselves_or_have_undone(world: World) -> None:
    off, back = world.webhook("/off"), world.webhook("/back")
    world.receiver.answers["/back"] = answering(410)
    world.registered(back)
    world.send()

    world.change(off, enabled=False)
    world.change(back, enabled=True)

    assert world.send(sweep=True)["told"] == 0
    assert world.mails == []


def test_failures_with_a_success_between_them_do_not(world: World) -> None:
    """The control of the test before."""
    webhook = world.webhook("/flaky")
    world.receiver.answers["/flaky"] = answering(500, 200, 500)
    world.registered(webhook)
    for wait in (RETRY_AFTER[0], FAILING_MAXIMUM):
        world.send()
        world.now += wait
    world.registered(webhook)
    for wait in RETRY_AFTER[:2]:
        world.send()
        world.now += wait

    assert len(world.receiver.received) == 4
    assert world.get(webhook).enabled


def test_what_a_receiver_says_is_kept_as_text_that_can_do_no_harm(world: World) -> None:
    webhook = world.webhook("/hostile")
    body = b"\x00\x1b[31m<script>\xff\xfe" + b"x" * 100_000
    world.receiver.answers["/hostile"] = lambda _: Reply(500, body=body)
    world.registered(webhook)

    world.send()

    (delivery,) = world.deliveries(webhook)
    assert delivery.last_attempt is not None
    excerpt = delivery.last_attempt.response_excerpt
    assert excerpt is not None
    assert excerpt.startswith("[31m<script>\ufffd\ufffdxxx")
    assert len(excerpt) == 500


def test_a_secret_that_cannot_be_opened_keeps_no_other_delivery_waiting_and_costs_no_attempt(world: World) -> None:
    broken, whole = world.webhook("/broken"), world.webhook("/whole")
    secret = "UPDATE registrations.webhook_secrets SET sealed = %s || sealed WHERE webhook_id = %s"
    with administrator(world.url) as connection:
        connection.execute(secret, ("another-", broken.id))
    world.registered(whole)

    for _ in range(3):
        with pytest.raises(ExceptionGroup, match="1 deliveries could not be tried"):
            world.send()
        world.now += LEASE
    assert [received.path for received in world.receiver.received] == ["/whole"]
    assert [(each.status, each.attempts) for each in world.deliveries(broken)] == [("pending", 0)]

    # When the key is there again
    with administrator(world.url) as connection:
        connection.execute(
            "UPDATE registrations.webhook_secrets SET sealed = substr(sealed, 9) WHERE webhook_id = %s", (broken.id,)
        )
    assert world.send() == {"sent": {"delivered": 1}}


def test_when_the_time_is_up_nothing_more_is_begun(world: World) -> None:
    webhook = world.webhook()
    world.registered(webhook)

    result = function("SendDeliveriesFunction")({"poked": True}, Context(remaining_ms=29_999))

    assert result == {"sent": {}}
    assert world.receiver.received == []
    assert world.send() == {"sent": {"delivered": 1}}


# Again -------------------------------------------------------------------------------------------


def test_a_delivery_can_be_sent_again_under_its_id(world: World) -> None:
    webhook = world.webhook()
    first, _ = world.registered(webhook, people=2)
    world.send()
    world.woken.clear()

    assert world.request(webhook, ReplayOfSome(kind="some", delivery_ids=[first.id])).queued == 1
    assert world.woken == ["SEND_DELIVERIES_FUNCTION"]
    world.send()

    assert [received.id for received in world.receiver.received].count(first.message_id) == 2
    assert [delivery.attempts for delivery in world.deliveries(webhook)] == [1, 1]


def test_one_that_waits_for_hours_can_be_sent_now(world: World) -> None:
    webhook = world.webhook("/fixed")
    world.receiver.answers["/fixed"] = answering(500, 500, 200)
    (delivery,) = world.registered(webhook)
    for wait in (RETRY_AFTER[0], timedelta()):
        world.send()
        world.now += wait

    world.request(webhook, ReplayOfSome(kind="some", delivery_ids=[delivery.id]))
    world.send()

    assert [delivery.status for delivery in world.deliveries(webhook)] == ["delivered"]


def test_all_that_failed_in_a_stretch_of_time_can_be_sent_again(world: World) -> None:
    webhook = world.webhook("/down")
    began = world.now
    for _ in range(3):
        world.registered(webhook)
        world.now += timedelta(seconds=1)
    world.receiver.answers["/down"] = answering(410)
    world.send()
    world.change(webhook, enabled=True)
    world.send()
    world.change(webhook, enabled=True)
    world.send()
    world.change(webhook, enabled=True)
    assert [delivery.status for delivery in world.deliveries(webhook)] == ["failed"] * 3

    wanted = ReplayOfRange(kind="range", since=began + timedelta(seconds=1), until=began + timedelta(seconds=1))
    assert world.request(webhook, wanted).queued == 1
    assert world.request(webhook, ReplayOfRange(kind="range", since=began)) == RequestedDeliveries(queued=2)
    assert world.request(webhook, ReplayOfRange(kind="range", since=began)).queued == 0
    del world.receiver.answers["/down"]
    world.send()

    assert [delivery.status for delivery in world.deliveries(webhook)] == ["delivered"] * 3


def test_a_test_is_sent_signed_like_everything(world: World) -> None:
    webhook = world.webhook()

    assert world.request(webhook, DeliveryTest(kind="test")).queued == 1
    world.send()

    (received,) = world.receiver.received
    content = received.verified(webhook.secret)
    assert (content["type"], content["data"]) == ("webhooks.test", {"webhook_id": webhook.id})


def test_a_disabled_webhook_is_sent_nothing_again(world: World) -> None:
    webhook = world.webhook()
    world.change(webhook, enabled=False)

    with pytest.raises(ConflictError, match="enable it first"):
        world.request(webhook, DeliveryTest(kind="test"))


def test_the_log_is_read_page_by_page_and_by_status(world: World) -> None:
    webhook = world.webhook("/hook")
    world.receiver.answers["/hook"] = answering(410, 200)
    deliveries = world.registered(webhook, people=5)
    with administrator(world.url) as connection:
        connection.execute(
            """
            UPDATE registrations.webhook_deliveries
               SET status = 'failed', next_attempt_at = NULL
             WHERE webhook_id = %s AND id = ANY(%s)
            """,
            (webhook.id, [deliveries[0].id, deliveries[3].id]),
        )

    pages, cursor = [], None
    while True:
        query = DeliveryQuery(limit=2, cursor=cursor)
        page = world.log.page(webhook.id, query, caller(world.organizer))
        pages.append([delivery.id for delivery in page.items])
        if (cursor := page.next_cursor) is None:
            break

    ids = [delivery.id for delivery in deliveries]
    assert pages == [ids[4:2:-1], ids[2:0:-1], ids[:1]]
    assert [delivery.id for delivery in world.deliveries(webhook, "failed")] == [ids[0], ids[3]]
    with pytest.raises(InvalidInputError):
        world.log.page(webhook.id, DeliveryQuery(cursor="WyJ4Il0"), caller(world.organizer))


# Secrets -----------------------------------------------------------------------------------------


def test_for_a_day_after_a_rotation_both_secrets_verify(world: World) -> None:
    webhook = world.webhook()
    issued = world.webhooks.rotate_secret(webhook.id, caller(world.organizer))
    assert issued.previous_expires_at == world.now + OVERLAP

    world.registered(webhook)
    world.send()
    world.now += OVERLAP - timedelta(seconds=1)
    world.request(webhook, DeliveryTest(kind="test"))
    world.send()
    world.now += timedelta(seconds=1)
    world.request(webhook, DeliveryTest(kind="test"))
    world.send()

    assert issued.secret != webhook.secret
    during, at_the_end, after = world.receiver.received
    assert during.verified(issued.secret) == during.verified(webhook.secret)
    assert [
        (received.is_signed_with(issued.secret), received.is_signed_with(webhook.secret))
        for received in (during, at_the_end, after)
    ] == [(True, True), (True, True), (True, False)]


def test_a_rotation_whose_answer_was_lost_takes_no_secret_from_the_receiver(world: World) -> None:
    webhook = world.webhook()
    for _ in range(2):
        world.webhooks.rotate_secret(webhook.id, caller(world.organizer))
    world.request(webhook, DeliveryTest(kind="test"))
    world.send()

    assert world.receiver.received[0].is_signed_with(webhook.secret)
    for _ in range(SECRETS_MAXIMUM - 3):
        world.webhooks.rotate_secret(webhook.id, caller(world.organizer))
    with pytest.raises(ConflictError, match="wait until an old one expires"):
        world.webhooks.rotate_secret(webhook.id, caller(world.organizer))


def test_secrets_are_told_once_and_kept_sealed(world: World) -> None:
    webhook = world.webhook()
    issued = world.webhooks.rotate_secret(webhook.id, caller(world.organizer))

    kept = str(
        world.kept("SELECT * FROM registrations.webhook_secrets")
        + world.kept("SELECT * FROM registrations.idempotency_keys")
        + world.kept("SELECT * FROM messaging.audit_log WHERE subject_type = 'webhook'")
    )
    for secret in (webhook.secret, issued.secret):
        assert secret.removeprefix("whsec_") not in kept
    assert "secret" not in world.get(webhook).model_dump()
    assert Sealing(lambda: KEYS).open(
        world.kept("SELECT sealed FROM registrations.webhook_secrets WHERE expires_at IS NULL")[0]["sealed"]
    ) == issued.secret  # fmt: skip


def test_secrets_move_to_the_key_that_is_active(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook = world.webhook()
    later = {**KEYS, "active": "k2", "k2": "the key that has come after it"}
    monkeypatch.setattr(wiring, "_sealing", lambda: Sealing(lambda: later))

    assert world.send(sweep=True) == {"sent": {}, "told": 0, "cleared": 0, "resealed": 1}

    # Then nothing needs the first one any more
    del later["k1"]
    world.request(webhook, DeliveryTest(kind="test"))
    assert world.send(sweep=True) == {"sent": {"delivered": 1}, "told": 0, "cleared": 0, "resealed": 0}
    assert world.receiver.received[0].is_signed_with(webhook.secret)


# Whose they are ----------------------------------------------------------------------------------


def test_a_webhook_is_its_owners_alone(world: World) -> None:
    webhook = world.webhook()
    other = caller(next(organizer_ids))

    for attempt in (
        lambda: world.webhooks.get(webhook.id, other),
        lambda: world.webhooks.change(webhook.id, WebhookPatch(enabled=False), other),
        lambda: world.webhooks.delete(webhook.id, other),
        lambda: world.webhooks.rotate_secret(webhook.id, other),
        lambda: world.log.page(webhook.id, DeliveryQuery(), other),
        lambda: world.log.request(webhook.id, DeliveryTest(kind="test"), other),
    ):
        with pytest.raises(NotFoundError, match=f"There is no webhook {webhook.id}"):
            attempt()
    assert world.webhooks.own(other).items == []
    assert [each.id for each in world.webhooks.own(caller(world.organizer)).items] == [webhook.id]


def test_a_delivery_of_another_webhook_is_not_there(world: World) -> None:
    webhook, other = world.webhook("/hook"), world.webhook("/other")
    (delivery,) = world.registered(other)

    with pytest.raises(NotFoundError, match=f"There is no delivery {delivery.id}"):
        world.request(webhook, ReplayOfSome(kind="some", delivery_ids=[delivery.id]))


def test_only_events_of_ones_own_can_be_chosen_and_others_look_like_none(world: World) -> None:
    own = world.event()
    others = world.running.published_event(next(organizer_ids))
    world.learn(others)

    with pytest.raises(InvalidInputError) as refused:
        world.webhook(event_ids=[own, others, 2**62])

    assert [error.pointer for error in refused.value.errors] == ["/event_ids/1", "/event_ids/2"]
    assert len({error.detail for error in refused.value.errors}) == 1


def test_a_url_that_leads_into_a_network_is_refused_when_it_is_given(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = world.webhook()

    def refuse(_: str) -> None:
        raise outbound.NotPublicError("must lead to the public internet")

    world.webhooks._refuse_private = refuse  # type: ignore[method-assign]
    for attempt in (world.webhook, lambda: world.change(webhook, url="https://inside.example.org/")):
        with pytest.raises(InvalidInputError) as refused:
            attempt()
        assert [error.pointer for error in refused.value.errors] == ["/url"]


def test_a_person_has_so_many_webhooks_and_no_more(world: World) -> None:
    for _ in range(WEBHOOKS_MAXIMUM - 1):
        world.webhook()
    wanted = WebhookIn.model_validate({"url": world.receiver.at("/"), "event_types": ["events.*"]})

    def add(_: int) -> bool:
        with work_of_webhooks(world.url) as work:
            webhooks = Webhooks(work, no_event, lambda _: None, Sealing(lambda: KEYS), world.clock)
            try:
                webhooks.create(wanted, caller(world.organizer))
            except ConflictError:
                return False
            return True

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(add, range(4))) == [False, False, False, True]
    assert len(world.webhooks.own(caller(world.organizer)).items) == WEBHOOKS_MAXIMUM


def test_a_change_is_a_merge_patch(world: World) -> None:
    event_id = world.event()
    webhook = world.webhook(event_ids=[event_id])

    changed = world.change(webhook, description="For the box office", event_ids=None, event_types=["events.*"])

    assert changed.model_dump() == {
        **webhook.model_dump(exclude={"secret"}),
        "description": "For the box office",
        "event_ids": None,
        "event_types": ["events.*"],
        "updated_at": world.now,
    }
    assert world.get(webhook) == changed
    assert world.change(webhook) == changed
    disabled = world.change(webhook, enabled=False)
    assert (disabled.disabled_reason, disabled.disabled_at) == ("owner", world.now)


def test_what_is_done_to_webhooks_is_in_the_audit_log_without_their_urls(world: World) -> None:
    webhook = world.webhook("/a-secret-part")
    world.change(webhook, description="x")
    world.webhooks.rotate_secret(webhook.id, caller(world.organizer))
    world.webhooks.delete(webhook.id, caller(world.organizer))

    records = world.kept(
        "SELECT * FROM messaging.audit_log WHERE subject_type = 'webhook' AND subject_id = %s ORDER BY id", webhook.id
    )

    acts = ["webhook.created", "webhook.changed", "webhook.secret_rotated", "webhook.deleted"]
    assert [record["action"] for record in records] == acts
    assert {record["actor_id"] for record in records} == {world.organizer}
    assert "a-secret-part" not in str(records)


def test_a_deleted_webhook_leaves_nothing(world: World) -> None:
    webhook = world.webhook()
    world.registered(webhook, people=3)

    world.webhooks.delete(webhook.id, caller(world.organizer))

    assert world.send() == {"sent": {}}
    for table in ("webhooks", "webhook_secrets", "webhook_deliveries"):
        assert world.kept(f"SELECT * FROM registrations.{table}") == [], table
    with pytest.raises(NotFoundError):
        world.webhooks.delete(webhook.id, caller(world.organizer))


def test_who_is_suspended_is_told_nothing_meanwhile(world: World) -> None:
    webhook = world.webhook()
    world.registered(webhook)

    world.tell_of_user("users.updated", id=world.organizer, name="Ada", version=2, suspended=True)
    world.registered(webhook)
    assert world.send() == {"sent": {}}
    assert len(world.deliveries(webhook)) == 1, "what happens meanwhile is not for it"

    world.tell_of_user("users.updated", id=world.organizer, name="Ada", version=3, suspended=False)
    assert world.send() == {"sent": {"delivered": 1}}


def test_a_late_message_about_a_person_changes_nothing(world: World) -> None:
    webhook = world.webhook()
    for version, suspended in ((2, True), (3, False), (2, True)):
        world.tell_of_user("users.updated", id=world.organizer, name="Ada", version=version, suspended=suspended)
    world.registered(webhook)
    assert len(world.deliveries(webhook)) == 1

    for version, suspended in ((5, True), (4, False)):
        world.tell_of_user("users.updated", id=world.organizer, name="Ada", version=version, suspended=suspended)
    world.registered(webhook)
    assert len(world.deliveries(webhook)) == 1


def test_who_is_erased_has_no_webhooks_and_gets_none(world: World) -> None:
    webhook = world.webhook()
    world.registered(webhook, people=2)
    FACTORIES[Attendees]()

    for _ in range(2):
        world.tell_of_user("users.deleted", id=world.organizer, version=2)

    assert world.send() == {"sent": {}}
    for table in ("webhooks", "webhook_secrets", "webhook_deliveries"):
        assert world.kept(f"SELECT * FROM registrations.{table}") == [], table
    with pytest.raises(UnauthenticatedError):
        world.webhook()


def test_deliveries_are_kept_for_thirty_days(world: World) -> None:
    webhook = world.webhook()
    world.registered(webhook)
    world.send()
    messages = world.told()

    world.now += KEPT
    assert world.send(sweep=True)["cleared"] == 0
    world.now += timedelta(seconds=1)
    assert world.send(sweep=True)["cleared"] == 1

    # And what is as old does not come again, though nobody remembers it
    world.queue(messages)
    assert world.deliveries(webhook) == []
