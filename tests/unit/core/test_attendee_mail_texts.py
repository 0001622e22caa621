"""What the mails to attendees say, whatever organisers and attendees have written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsplatform.mail import MAXIMUM_SUBJECT, Mail, subject_line
from eventsplatform.registrations.mail_model import ClaimedMail, MailKind, Recipient, Schedule, retry_after
from eventsplatform.registrations.mail_texts import write
from eventsplatform.registrations.model import EventFacts, Registration

WEB_URL = "https://events.example.org/app"
NOW = datetime(2035, 5, 1, 12, tzinfo=UTC)


def event(**changes: Any) -> EventFacts:
    facts = {
        "id": 42,
        "title": "Jazz by the canal",
        "description": "",
        "starts_at": "2035-06-01T17:00:00Z",
        "ends_at": "2035-06-01T20:00:00Z",
        "timezone": "Europe/Berlin",
        "location": {"name": "Landwehrkanal"},
        "capacity": 1,
        "category": "music",
        "tags": [],
        "status": "published",
        "organizer": {"id": 7, "name": "Olga"},
        "version": 2,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return EventFacts.of_event({**facts, **changes})


def mail(kind: MailKind, schedule: Schedule | None = None) -> ClaimedMail:
    registration = Registration(
        id=900,
        event_id=42,
        user_id=8,
        status="offered",
        position=3,
        registered_at=NOW,
        offer_expires_at=NOW + timedelta(hours=24),
    )
    return ClaimedMail(1, kind, 1, NOW, registration, held=True, schedule=schedule)


def person(**changes: Any) -> Recipient:
    fields = {"id": 8, "email": "ada@example.org", "name": "Ada", "timezone": None, "reminders": True}
    return Recipient.model_validate({**fields, **changes})


def when(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("When: "))


@pytest.mark.parametrize("kind", get_args(MailKind))
@given(title=st.text(), place=st.text(), name=st.text(), reason=st.text())
def test_whatever_stands_in_an_event_makes_a_mail_to_one_address_with_one_subject(
    kind: MailKind, title: str, place: str, name: str, reason: str
) -> None:
    about = event(title=title, location={"name": place}, cancellation_reason=reason)

    letter = write(mail(kind), about, person(name=name), WEB_URL)

    assert Mail("ada@example.org", letter.subject, letter.text).subject == letter.subject


def test_a_title_cannot_write_header_fields() -> None:
    letter = write(mail("confirmation"), event(title="Jazz\r\nBcc: eve@example.org"), person(), WEB_URL)

    assert letter.subject == "You have a place: Jazz Bcc: eve@example.org"


def test_without_that_care_it_would_be_no_mail() -> None:
    """The control of the one above."""
    with pytest.raises(ValueError, match="one line"):
        Mail("ada@example.org", "You have a place: Jazz\r\nBcc: eve@example.org", "")


def test_a_subject_that_is_too_long_is_cut() -> None:
    assert subject_line("x" * MAXIMUM_SUBJECT) == "x" * MAXIMUM_SUBJECT
    assert subject_line("x" * MAXIMUM_SUBJECT + "y") == "x" * (MAXIMUM_SUBJECT - 1) + "…"


def test_what_an_organiser_says_is_quoted_line_by_line() -> None:
    reason = "Refunds:\nhttps://phish.example\n\n-- \nEvents Platform"

    text = write(mail("event_cancelled"), event(cancellation_reason=reason), person(), WEB_URL).text

    assert "The organiser's reason:\n\n> Refunds:\n> https://phish.example\n>\n> --\n> Events Platform\n\n" in text


@pytest.mark.parametrize(
    ("timezone", "line"),
    [
        (None, "When: Friday, 1 June 2035, 19:00 to 22:00 (Europe/Berlin, UTC+02:00)"),
        ("America/New_York", "When: Friday, 1 June 2035, 13:00 to 16:00 (America/New_York, UTC-04:00)"),
        ("Asia/Kolkata", "When: Friday, 1 June 2035, 22:30 to Saturday, 2 June 2035, 01:30 (Asia/Kolkata, UTC+05:30)"),
        ("UTC", "When: Friday, 1 June 2035, 17:00 to 20:00 (UTC)"),
        ("No/Longer", "When: Friday, 1 June 2035, 19:00 to 22:00 (Europe/Berlin, UTC+02:00)"),
        ("../etc/passwd", "When: Friday, 1 June 2035, 19:00 to 22:00 (Europe/Berlin, UTC+02:00)"),
    ],
)
def test_times_are_those_of_the_readers_zone_or_else_of_the_events(timezone: str | None, line: str) -> None:
    assert when(write(mail("confirmation"), event(), person(timezone=timezone), WEB_URL).text) == line


def test_the_time_on_the_clocks_there_stands_beside_only_where_it_is_another() -> None:
    def text(timezone: str) -> str:
        return write(mail("confirmation"), event(), person(timezone=timezone), WEB_URL).text

    assert "On the clocks there: Friday, 1 June 2035, 19:00" in text("Europe/London")
    assert "On the clocks there" not in text("Europe/Paris")


def test_the_hour_that_comes_twice_is_told_apart() -> None:
    hour = timedelta(hours=1)
    first = datetime(2035, 10, 28, 0, 30, tzinfo=UTC)

    lines = [
        when(write(mail("confirmation"), event(starts_at=start, ends_at=start + hour), person(), WEB_URL).text)
        for start in (first, first + hour)
    ]

    assert "02:30 to 02:30 (Europe/Berlin, UTC+02:00)" in lines[0]
    assert "02:30 to 03:30 (Europe/Berlin, UTC+01:00)" in lines[1]


def test_an_offer_says_until_when_in_the_readers_zone() -> None:
    text = write(mail("offer"), event(), person(timezone="Asia/Tokyo"), WEB_URL).text

    assert "Wednesday, 2 May 2035, 21:00 (Asia/Tokyo, UTC+09:00)" in text
    assert f"{WEB_URL}/events/42/offer" in text


def test_a_reminder_says_how_to_turn_reminders_off() -> None:
    assert f"{WEB_URL}/settings" in write(mail("reminder"), event(), person(), WEB_URL).text


def test_what_could_not_be_sent_waits_twice_as_long_each_time_up_to_a_quarter_of_an_hour() -> None:
    minutes = [retry_after(attempts) / timedelta(minutes=1) for attempts in (1, 2, 3, 4, 5, 6, 10_000)]

    assert minutes == [1, 2, 4, 8, 15, 15, 15]
