"""Mails to attendees: who is told what, once, and nothing that is no longer so."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from icalendar import Calendar

from eventsplatform.catalog.model import EventPatch
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.mail import MailRejectedError
from eventsplatform.registrations import attendee_mails, mail_queue
from eventsplatform.registrations.attendee_mails import BATCH, LEASE, AttendeeMails
from eventsplatform.registrations.lifecycle import OFFER_LIFETIME
from eventsplatform.registrations.mail_model import NEWS_LIFETIME, REMINDER_LEAD, ClaimedMail
from eventsplatform.registrations.mail_queue import KEPT, SETTLING
from eventsplatform.registrations.mails_repository import PostgresMails
from tests.support.application import ROOT
from tests.support.attendee_mails import MailWorld, Person, mail_world, replayed
from tests.support.callers import caller
from tests.support.database import WEB_URL, administrator
from tests.support.people import rows
from tests.support.polling import eventually
from tests.support.template_rules.templates import Templates

__all__ = ["mail_world"]

ORGANIZER = 71


@pytest.fixture
def world(mail_world: MailWorld) -> MailWorld:
    return mail_world


@pytest.fixture
def ada(world: MailWorld) -> Person:
    return world.person(name="Ada Lovelace")


@pytest.fixture
def grace(world: MailWorld) -> Person:
    return world.person(name="Grace Hopper")


@pytest.fixture
def alan(world: MailWorld) -> Person:
    return world.person(name="Alan Turing")


def full_event(world: MailWorld, *people: Person) -> int:
    """With one place, for the first of them; the others wait."""
    event_id = world.event(ORGANIZER, capacity=1)
    for person in people:
        person.register(event_id)
    return event_id


def change(world: MailWorld, event_id: int, **fields: Any) -> None:
    world.running.catalog.change(event_id, EventPatch.model_validate(fields), caller(ORGANIZER))
    world.hear()


def call_off(world: MailWorld, event_id: int, reason: str | None = None) -> None:
    world.running.catalog.cancel(event_id, reason, caller(ORGANIZER))


def starts_at(world: MailWorld, event_id: int) -> datetime:
    return world.running.catalog.describe(event_id).starts_at


# What one person is told ------------------------------------------------------------------------------


def test_who_gets_a_place_is_told_when_and_where_and_how_to_get_the_ticket(world: MailWorld, ada: Person) -> None:
    event_id = world.event(ORGANIZER, title="Jazz by the canal", location={"name": "Landwehrkanal"})

    ada.register(event_id)
    world.tell()

    (mail,) = ada.mails
    assert mail.subject == "You have a place: Jazz by the canal"
    assert "Hello Ada Lovelace," in mail.text
    assert "Where: Landwehrkanal" in mail.text
    assert f"{WEB_URL}/registrations/" in mail.text
    assert world.pokes == 1


def test_the_event_comes_along_for_calendars_which_follow_what_becomes_of_it(
    world: MailWorld, ada: Person, grace: Person
) -> None:
    event_id = full_event(world, ada, grace)
    world.tell()
    change(world, event_id, location={"name": "New hall"})
    world.ahead += SETTLING
    world.sweep()
    call_off(world, event_id)
    world.tell()

    files = [mail.attachment for mail in ada.mails]
    calendars = [Calendar.from_ical(file.content) for file in files if file]
    entries = [calendar.walk("VEVENT")[0] for calendar in calendars]
    assert ada.subjects == ["You have a place", "Changed", "Cancelled"]
    assert [calendar["METHOD"] for calendar in calendars] == ["PUBLISH", "PUBLISH", "CANCEL"]
    assert len({str(entry["UID"]) for entry in entries}) == 1
    assert [entry["LOCATION"] for entry in entries] == ["Berlin", "New hall", "New hall"]
    assert sorted(int(entry["SEQUENCE"]) for entry in entries) == [int(entry["SEQUENCE"]) for entry in entries]
    assert grace.mails[0].attachment is None


def test_who_waits_is_told_how_many_are_ahead(world: MailWorld, ada: Person, grace: Person, alan: Person) -> None:
    full_event(world, ada, grace, alan)

    world.tell()

    assert [person.subjects for person in (ada, grace, alan)] == [
        ["You have a place"],
        ["You are in line"],
        ["You are in line"],
    ]
    assert "You are number 1 in line" in grace.mails[0].text
    assert "You are number 2 in line" in alan.mails[0].text


def test_a_freed_place_is_offered_by_mail_and_who_takes_it_has_it_confirmed(
    world: MailWorld, ada: Person, grace: Person
) -> None:
    event_id = full_event(world, ada, grace)

    ada.cancel(event_id)
    world.tell()
    grace.accept(event_id)
    world.tell()

    assert ada.subjects == ["Your registration is cancelled"]
    assert grace.subjects == ["A place for you", "You have a place"]
    assert f"{WEB_URL}/events/{event_id}/offer" in grace.mails[0].text


def test_who_lets_an_offer_expire_is_told_that_the_next_has_it(
    world: MailWorld, ada: Person, grace: Person, alan: Person
) -> None:
    event_id = full_event(world, ada, grace, alan)
    ada.cancel(event_id)
    world.tell()

    world.ahead += OFFER_LIFETIME
    world.running.registrations.expire_offers()
    world.tell()

    assert grace.subjects == ["A place for you", "Your offer has expired"]
    assert alan.subjects == ["You are in line", "A place for you"]


def test_times_are_those_of_the_reader_and_beside_them_those_on_the_clocks_there(world: MailWorld) -> None:
    kyoko = world.person(profile='{"timezone": "Asia/Tokyo"}')
    event_id = world.event(
        ORGANIZER,
        starts_at="2035-06-01T19:00:00+02:00",
        ends_at="2035-06-01T22:00:00+02:00",
        timezone="Europe/Berlin",
    )

    kyoko.register(event_id)
    world.tell()

    (mail,) = kyoko.mails
    assert "When: Saturday, 2 June 2035, 02:00 to 05:00 (Asia/Tokyo, UTC+09:00)" in mail.text
    assert "On the clocks there: Friday, 1 June 2035, 19:00 to 22:00 (Europe/Berlin, UTC+02:00)" in mail.text


@pytest.mark.parametrize(
    "account",
    [
        {"verified_at": None},
        {"status": "suspended"},
        {"status": "erased", "verified_at": None},
    ],
)
def test_whose_address_is_not_confirmed_or_account_not_active_gets_nothing(
    world: MailWorld, account: dict[str, Any]
) -> None:
    event_id = world.event(ORGANIZER)
    person = world.person(**account)

    person.register(event_id)
    world.tell()

    assert person.mails == []
    assert world.outcomes() == {("confirmation", "unreachable"): 1}


# Once -------------------------------------------------------------------------------------------------


def register_and_have_it_told_twice(world: MailWorld, person: Person) -> None:
    person.register(world.event(ORGANIZER))
    told = world.hear()
    world.poke()
    world.consume(*told)
    world.poke()


def test_a_message_that_comes_again_is_mailed_about_once(world: MailWorld, ada: Person) -> None:
    register_and_have_it_told_twice(world, ada)

    assert ada.subjects == ["You have a place"]


def test_without_the_unique_key_it_would_be_mailed_about_again(world: MailWorld, ada: Person) -> None:
    """The control of the one above."""
    with administrator(world.url) as connection:
        connection.execute("ALTER TABLE registrations.attendee_mails DROP CONSTRAINT mailed_once")
        try:
            register_and_have_it_told_twice(world, ada)
        finally:
            connection.execute("DELETE FROM registrations.attendee_mails")
            connection.execute(
                "ALTER TABLE registrations.attendee_mails ADD CONSTRAINT mailed_once UNIQUE (cause, user_id)"
            )

    assert ada.subjects == ["You have a place"] * 2


def test_what_is_replayed_is_not_mailed_about(world: MailWorld, ada: Person) -> None:
    event_id = world.event(ORGANIZER)
    ada.register(event_id)
    call_off(world, event_id)

    world.consume(*map(replayed, world.messages()))

    assert world.outcomes() == Counter()


def test_what_is_older_than_two_days_is_not_mailed_about(world: MailWorld, ada: Person) -> None:
    event_id = world.event(ORGANIZER)
    ada.register(event_id)
    world.ahead += NEWS_LIFETIME + timedelta(minutes=1)

    world.tell()

    assert world.outcomes() == Counter()


def test_what_happened_while_mailing_was_off_is_never_mailed_about(world: MailWorld, ada: Person) -> None:
    """As it is while demo data are loaded."""
    event_id = world.event(ORGANIZER)
    with administrator(world.url) as connection:
        connection.execute("UPDATE registrations.mailing SET since = 'infinity'")
        ada.register(event_id)
        told = world.hear()
        connection.execute("UPDATE registrations.mailing SET since = now()")

    world.consume(*told)
    world.sweep()

    assert world.outcomes() == Counter()


class Unclaimed(PostgresMails):
    """Without a lease."""

    def claim(self, now: datetime, until: datetime, limit: int) -> list[ClaimedMail]:
        return super().claim(now, now, limit)


def mails_by_four_senders_at_once(
    world: MailWorld, monkeypatch: pytest.MonkeyPatch, store: type[PostgresMails]
) -> Counter[str]:
    """How many mails each of forty attendees is sent."""
    monkeypatch.setattr(attendee_mails, "BATCH", 4)
    event_id = world.event(ORGANIZER)
    for _ in range(40):
        world.person(password_hash="x").register(event_id)
    world.hear()
    barrier = threading.Barrier(4)

    def send(mails: AttendeeMails) -> None:
        barrier.wait()
        mails.send(lambda: True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, [world.mails(store) for _ in range(4)]))
    return Counter(mail.to for mail in world.outgoing.sent)


def test_many_senders_at_once_send_each_mail_once(world: MailWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = mails_by_four_senders_at_once(world, monkeypatch, PostgresMails)

    assert list(sent.values()) == [1] * 40


def test_without_a_lease_they_would_send_some_twice(world: MailWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the one above."""
    sent = mails_by_four_senders_at_once(world, monkeypatch, Unclaimed)

    assert max(sent.values()) > 1


# No longer so ----------------------------------------------------------------------------------------


def test_a_registration_that_was_cancelled_meanwhile_is_not_confirmed(world: MailWorld, ada: Person) -> None:
    event_id = world.event(ORGANIZER)
    ada.register(event_id)
    ada.cancel(event_id)

    world.tell()

    assert ada.subjects == ["Your registration is cancelled"]


def test_who_has_registered_again_is_not_told_of_the_cancellation(world: MailWorld, ada: Person) -> None:
    event_id = world.event(ORGANIZER)
    ada.register(event_id)
    ada.cancel(event_id)
    ada.register(event_id)

    world.tell()

    assert ada.subjects == ["You have a place"]


def test_an_offer_that_has_expired_is_not_made_by_mail(world: MailWorld, ada: Person, grace: Person) -> None:
    event_id = full_event(world, ada, grace)
    ada.cancel(event_id)
    world.hear()
    world.ahead += OFFER_LIFETIME

    world.poke()

    assert grace.subjects == []


def test_nobody_is_told_of_a_place_at_what_has_begun(world: MailWorld, ada: Person) -> None:
    soon = world.now() + timedelta(minutes=10)
    event_id = world.event(ORGANIZER, starts_at=soon.isoformat(), ends_at=(soon + timedelta(hours=1)).isoformat())
    ada.register(event_id)
    world.hear()
    world.ahead += timedelta(minutes=11)

    world.poke()

    assert ada.subjects == []
    assert world.outcomes() == {("confirmation", "outdated"): 1}


# All attendees ---------------------------------------------------------------------------------------


def test_everyone_who_counts_on_an_event_is_told_that_it_is_off(
    world: MailWorld, ada: Person, grace: Person, alan: Person
) -> None:
    event_id = full_event(world, ada, grace, alan)
    barbara = world.person()
    ada.cancel(event_id)
    barbara.register(event_id)
    barbara.cancel(event_id)
    world.tell()
    before = {person.email: len(person.mails) for person in (ada, grace, alan, barbara)}

    call_off(world, event_id, "The band is ill.\nGet well soon!")
    world.tell()

    assert [person.subjects[before[person.email] :] for person in (ada, grace, alan, barbara)] == [
        [],
        ["Cancelled"],
        ["Cancelled"],
        [],
    ]
    assert "> The band is ill.\n> Get well soon!" in grace.mails[-1].text


def test_a_large_event_is_queued_in_pages_and_identity_asked_once_for_a_hundred(
    world: MailWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    attendees = 1_050
    monkeypatch.setattr(mail_queue, "PAGE", 500)
    event_id = world.event(ORGANIZER, capacity=attendees)
    add_attendees(world, event_id, attendees)
    call_off(world, event_id)

    world.hear()

    assert world.outcomes() == {("event_cancelled", None): attendees}
    assert world.poke() == {"sent": attendees}
    assert len(world.questions) == -(-attendees // BATCH)


def add_attendees(world: MailWorld, event_id: int, number: int) -> None:
    """Accounts with registrations, by SQL: many."""
    with administrator(world.url) as connection:
        connection.execute(
            """
            WITH account AS (
                INSERT INTO identity.users (email, name, password_hash, role, permissions, verified_at)
                SELECT 'attendee-' || %(event_id)s || '-' || number || '@example.org', 'Attendee', 'x', 'user', '{}',
                       now()
                  FROM generate_series(1, %(number)s) AS number
                RETURNING id
            ), registration AS (
                INSERT INTO registrations.event_registrations (event_id, user_id, status, part)
                SELECT %(event_id)s, id, 'active', 0 FROM account
                RETURNING event_id, user_id, id, registered_at
            )
            INSERT INTO registrations.holders (event_id, user_id, registration_id, registered_at)
            SELECT * FROM registration
            """,
            {"event_id": event_id, "number": number},
        )


def register_while_it_is_called_off(world: MailWorld, person: Person) -> None:
    """The attendees are listed while the registration is not committed yet, and so not among them."""
    event_id = world.event(ORGANIZER)
    call_off(world, event_id)
    cancelled = world.messages()
    with administrator(world.url) as connection, ThreadPoolExecutor(1) as pool:
        # Who is about to register waits for whether this row stays, and has already seen that the event is published.
        with connection.transaction(force_rollback=True):
            connection.execute(
                """
                INSERT INTO registrations.holders (event_id, user_id, registration_id, registered_at)
                VALUES (%s, %s, 0, now())
                """,
                (event_id, person.id),
            )
            registering = pool.submit(world.registrations().register, event_id, caller(person.id))
            eventually(lambda: rows(world.url, "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
            world.consume(*cancelled)
        registering.result(10)
    assert world.outcomes() == Counter()
    world.tell()
    world.poke()


def test_who_registers_while_an_event_is_called_off_is_told_so_and_not_of_a_place(
    world: MailWorld, ada: Person
) -> None:
    register_while_it_is_called_off(world, ada)

    assert ada.subjects == ["Cancelled"]


def test_without_a_second_look_they_would_be_told_nothing(
    world: MailWorld, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the one above."""
    monkeypatch.setattr(attendee_mails, "tells_of_cancellation", lambda *_: False)

    register_while_it_is_called_off(world, ada)

    assert ada.subjects == []


# Moved events ----------------------------------------------------------------------------------------


def test_attendees_learn_of_a_new_time_and_place_once_it_has_settled(world: MailWorld, ada: Person) -> None:
    event_id = world.event(
        ORGANIZER,
        starts_at="2035-06-01T19:00:00+02:00",
        ends_at="2035-06-01T22:00:00+02:00",
        location={"name": "Old hall"},
    )
    ada.register(event_id)
    world.tell()

    change(world, event_id, starts_at="2035-06-01T20:00:00+02:00")
    change(world, event_id, location={"name": "New hall"})
    assert world.sweep() == {}
    world.ahead += SETTLING
    world.sweep()
    world.sweep()

    assert ada.subjects == ["You have a place", "Changed"]
    now, _, before = ada.mails[1].text.partition("Before it was:")
    assert "1 June 2035, 20:00" in now
    assert "New hall" in now
    assert "1 June 2035, 19:00" in before
    assert "Old hall" in before


def test_a_change_that_is_taken_back_at_once_and_one_of_the_words_are_not_mailed_about(
    world: MailWorld, ada: Person
) -> None:
    event_id = world.event(ORGANIZER, location={"name": "Old hall"})
    ada.register(event_id)
    world.tell()

    change(world, event_id, location={"name": "New hall"})
    change(world, event_id, location={"name": "Old hall"})
    change(world, event_id, title="Another title", description="More of it", capacity=200)
    world.ahead += SETTLING
    world.sweep()

    assert ada.subjects == ["You have a place"]


def test_who_registers_after_a_change_has_it_confirmed_and_is_not_told_again(
    world: MailWorld, ada: Person, grace: Person
) -> None:
    event_id = world.event(ORGANIZER, location={"name": "Old hall"})
    ada.register(event_id)
    world.tell()
    change(world, event_id, location={"name": "New hall"})

    grace.register(event_id)
    world.tell()
    world.ahead += SETTLING
    world.sweep()

    assert ada.subjects == ["You have a place", "Changed"]
    assert grace.subjects == ["You have a place"]
    assert "New hall" in grace.mails[0].text


# Reminders -------------------------------------------------------------------------------------------


def test_attendees_are_reminded_once_a_day_before_the_start(world: MailWorld, ada: Person, grace: Person) -> None:
    event_id = full_event(world, ada, grace)
    world.tell()
    lead = starts_at(world, event_id) - world.now() - REMINDER_LEAD

    world.ahead += lead - timedelta(minutes=1)
    world.sweep()
    assert ada.subjects == ["You have a place"]
    world.ahead += timedelta(minutes=2)
    world.sweep()
    world.sweep()

    assert ada.subjects == ["You have a place", "Reminder"]
    assert grace.subjects == ["You are in line"]


def test_who_registers_within_the_last_day_has_just_been_told(world: MailWorld, ada: Person) -> None:
    soon = world.now() + timedelta(hours=20)
    event_id = world.event(ORGANIZER, starts_at=soon.isoformat(), ends_at=(soon + timedelta(hours=1)).isoformat())
    ada.register(event_id)
    world.hear()

    world.sweep()

    assert ada.subjects == ["You have a place"]


def test_who_wants_no_reminder_gets_none(world: MailWorld) -> None:
    person = world.person(profile='{"event_reminders": false}')
    event_id = world.event(ORGANIZER)
    person.register(event_id)
    world.tell()

    world.ahead += starts_at(world, event_id) - world.now() - timedelta(hours=23)
    world.sweep()

    assert person.subjects == ["You have a place"]
    assert world.outcomes()["reminder", "unwanted"] == 1


def test_of_an_event_that_has_moved_people_are_reminded_anew(world: MailWorld, ada: Person) -> None:
    event_id = world.event(ORGANIZER)
    ada.register(event_id)
    world.tell()
    world.ahead += starts_at(world, event_id) - world.now() - timedelta(hours=23)
    world.sweep()
    later = starts_at(world, event_id) + timedelta(days=7)

    change(world, event_id, starts_at=later.isoformat(), ends_at=(later + timedelta(hours=2)).isoformat())
    world.ahead += SETTLING
    world.sweep()
    world.ahead += timedelta(days=7)
    world.sweep()

    assert ada.subjects == ["You have a place", "Reminder", "Changed", "Reminder"]


def test_an_event_that_moves_into_the_next_day_is_told_of_once(world: MailWorld, ada: Person) -> None:
    event_id = world.event(ORGANIZER)
    ada.register(event_id)
    world.tell()
    soon = world.now() + timedelta(hours=20)

    change(world, event_id, starts_at=soon.isoformat(), ends_at=(soon + timedelta(hours=2)).isoformat())
    world.ahead += SETTLING
    world.sweep()
    world.sweep()

    assert ada.subjects == ["You have a place", "Changed"]


# Failures --------------------------------------------------------------------------------------------


def test_what_could_not_be_sent_is_sent_later(world: MailWorld, ada: Person) -> None:
    ada.register(world.event(ORGANIZER))
    world.hear()
    world.outgoing.failures = [DependencyUnavailableError("mail service"), DependencyUnavailableError("mail service")]

    assert world.poke() == {"postponed": 1}
    assert world.poke() == {}
    world.ahead += timedelta(minutes=1, seconds=5)
    assert world.poke() == {"postponed": 1}
    world.ahead += timedelta(minutes=1, seconds=5)
    assert world.poke() == {}
    world.ahead += timedelta(minutes=1, seconds=5)
    assert world.poke() == {"sent": 1}

    assert ada.subjects == ["You have a place"]


def test_the_alarm_watches_what_a_run_writes_when_mail_has_to_wait(
    world: MailWorld, ada: Person, metrics: Callable[[], list[dict[str, Any]]]
) -> None:
    ada.register(world.event(ORGANIZER))
    world.hear()
    world.outgoing.failures = [DependencyUnavailableError("mail service")]

    world.poke()

    alarm = Templates.load(ROOT).sources["stacks/observability.yaml"]["Resources"]["AttendeeMailsWait"]["Properties"]
    watched = {each["Name"]: each["Value"] for each in alarm["Dimensions"] if each["Name"] != "service"}
    written = [metric for metric in metrics() if alarm["MetricName"] in metric]
    assert [(each[alarm["MetricName"]], each["outcome"]) for each in written] == [([1.0], watched["outcome"])]
    assert written[0]["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0] == ["outcome", "service"]


def test_what_can_not_be_sent_for_two_days_is_given_up(world: MailWorld, ada: Person) -> None:
    ada.register(world.event(ORGANIZER))
    world.hear()
    world.ahead += NEWS_LIFETIME + timedelta(minutes=1)

    assert world.poke() == {"given_up": 1}


def test_a_mail_that_the_service_refuses_is_not_tried_again(world: MailWorld, ada: Person) -> None:
    ada.register(world.event(ORGANIZER))
    world.hear()
    world.outgoing.failures = [MailRejectedError("MessageRejected")]

    assert world.poke() == {"rejected": 1}

    world.ahead += timedelta(hours=1)
    assert world.poke() == {}


def test_a_mail_that_nobody_can_write_does_not_hold_the_others(
    world: MailWorld, ada: Person, grace: Person, alan: Person
) -> None:
    event_id = world.event(ORGANIZER)
    for person in (ada, grace, alan):
        person.register(event_id)
    world.hear()
    world.outgoing.failures = [ZeroDivisionError("a bug")]

    with pytest.raises(ZeroDivisionError):
        world.poke()

    assert world.poke() == {"sent": 2}
    world.ahead += LEASE
    assert world.poke() == {"sent": 1}


def test_what_a_sender_had_claimed_when_it_died_is_sent_after_its_lease(world: MailWorld, ada: Person) -> None:
    ada.register(world.event(ORGANIZER))
    world.hear()
    work = world.work("registrations", PostgresMails)
    with work.statement() as store:
        store.claim(world.now(), world.now() + LEASE, BATCH)

    assert world.poke() == {}
    world.ahead += LEASE
    assert world.poke() == {"sent": 1}


def test_a_sender_whose_lease_is_over_closes_nothing_of_the_next_ones(world: MailWorld, ada: Person) -> None:
    ada.register(world.event(ORGANIZER))
    world.hear()
    work = world.work("registrations", PostgresMails)
    with work.statement() as store:
        (late,) = store.claim(world.now(), world.now(), BATCH)
    with work.statement() as store:
        store.claim(world.now(), world.now() + LEASE, BATCH)

    with work.statement() as store:
        store.close(late, "sent", world.now())
        store.put_back([(late, world.now())])

    assert world.poke() == {}


def test_a_run_that_is_about_to_end_leaves_the_rest_to_the_next(world: MailWorld, ada: Person, grace: Person) -> None:
    event_id = world.event(ORGANIZER)
    ada.register(event_id)
    grace.register(event_id)
    world.hear()

    assert world.sweep(remaining_ms=10_000) == {}
    assert world.sweep() == {"sent": 2}


def test_closed_mails_are_forgotten_after_a_month(world: MailWorld, ada: Person) -> None:
    ada.register(world.event(ORGANIZER))
    world.tell()

    world.ahead += KEPT - timedelta(minutes=1)
    world.queue().sweep()
    assert world.outcomes()["confirmation", "sent"] == 1
    world.ahead += timedelta(minutes=2)
    world.queue().sweep()

    assert ("confirmation", "sent") not in world.outcomes()
