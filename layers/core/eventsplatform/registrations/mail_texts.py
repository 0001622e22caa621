"""What the mails to attendees say. What an organiser wrote stands in them as such, and cannot pass for ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from eventsplatform.mail import subject_line
from eventsplatform.registrations.mail_model import ClaimedMail, MailKind, Recipient, Schedule
from eventsplatform.registrations.model import EventFacts

_SIGNATURE = "-- \nEvents Platform"


@dataclass(frozen=True)
class Letter:
    subject: str
    text: str


@dataclass(frozen=True)
class _Occasion:
    """What a mail is written from."""

    mail: ClaimedMail
    event: EventFacts
    person: Recipient
    web_url: str

    @property
    def title(self) -> str:
        return f"“{self.event.title}”"

    @property
    def own_zone(self) -> tzinfo:
        return _zone(self.person.timezone) or _zone(self.event.timezone) or UTC

    @property
    def event_page(self) -> str:
        return f"{self.web_url}/events/{self.event.id}"

    @property
    def ticket_page(self) -> str:
        return f"{self.web_url}/registrations/{self.mail.registration.id}/ticket"

    def when_and_where(self) -> str:
        now = _when_and_where(Schedule.of(self.event), self.own_zone)
        before = self.mail.schedule
        if self.mail.kind != "event_changed" or before is None:
            return now
        return f"{now}\n\nBefore it was:\n\n{_when_and_where(before, self.own_zone)}"


def write(mail: ClaimedMail, event: EventFacts, person: Recipient, web_url: str) -> Letter:
    """The mail, in the person's own time zone, or the event's if they have told of none."""
    subject, write_paragraphs = _WRITERS[mail.kind]
    occasion = _Occasion(mail, event, person, web_url)
    paragraphs = [f"Hello {person.name},", *write_paragraphs(occasion), _SIGNATURE]
    return Letter(subject_line(f"{subject}: {event.title}"), "\n\n".join(paragraphs))


def _confirmation(occasion: _Occasion) -> list[str]:
    return [
        f"you have a place at {occasion.title}.",
        occasion.when_and_where(),
        f"Your ticket:\n\n{occasion.ticket_page}",
        "The attached file puts the event into your calendar.",
        f"If you can't come, please cancel, so that someone else can:\n\n{occasion.event_page}",
    ]


def _waitlisted(occasion: _Occasion) -> list[str]:
    return [
        f"{occasion.title} is full. You are number {occasion.mail.registration.position} in line. When a place becomes "
        "free and it is your turn, it is offered to you by mail, and kept for you for a while.",
        occasion.when_and_where(),
        f"The event, and your place in line:\n\n{occasion.event_page}",
    ]


def _offer(occasion: _Occasion) -> list[str]:
    expires_at = occasion.mail.registration.offer_expires_at
    assert expires_at is not None
    return [
        f"a place at {occasion.title} has become free, and it is your turn. It is kept for you until:",
        _moment(expires_at, occasion.own_zone),
        f"To take it, or to leave it to the next in line:\n\n{occasion.event_page}/offer",
        occasion.when_and_where(),
    ]


def _offer_expired(occasion: _Occasion) -> list[str]:
    return [
        f"the place at {occasion.title} that was kept for you has gone to the next in line, for the time to take it is "
        "over. You are no longer in line; if you would still like to come, register again:",
        occasion.event_page,
    ]


def _cancellation(occasion: _Occasion) -> list[str]:
    return [
        f"your registration for {occasion.title} is cancelled, as you asked.",
        f"Should you change your mind:\n\n{occasion.event_page}",
    ]


def _event_changed(occasion: _Occasion) -> list[str]:
    return [
        f"the time or the place of {occasion.title} has changed. Now it is:",
        occasion.when_and_where(),
        "The attached file moves it in your calendar.",
        f"You need not do anything else if that suits you. If it does not, please cancel:\n\n{occasion.event_page}",
    ]


def _event_cancelled(occasion: _Occasion) -> list[str]:
    reason = occasion.event.cancellation_reason
    return [
        f"{occasion.title} will not take place: it was cancelled. It would have been:",
        occasion.when_and_where(),
        *([f"The organiser's reason:\n\n{_quoted(reason)}"] if reason else []),
        "The attached file takes it out of your calendar. There is nothing else that you need to do.",
    ]


def _reminder(occasion: _Occasion) -> list[str]:
    return [
        f"{occasion.title} is about to begin, and you have a place.",
        occasion.when_and_where(),
        f"Your ticket:\n\n{occasion.ticket_page}",
        f"If you can't come, please cancel, so that someone else can:\n\n{occasion.event_page}",
        f"You can turn reminders off in your settings:\n\n{occasion.web_url}/settings",
    ]


_WRITERS: dict[MailKind, tuple[str, Callable[[_Occasion], list[str]]]] = {
    "confirmation": ("You have a place", _confirmation),
    "waitlisted": ("You are in line", _waitlisted),
    "offer": ("A place for you", _offer),
    "offer_expired": ("Your offer has expired", _offer_expired),
    "cancellation": ("Your registration is cancelled", _cancellation),
    "event_changed": ("Changed", _event_changed),
    "event_cancelled": ("Cancelled", _event_cancelled),
    "reminder": ("Reminder", _reminder),
}


def _when_and_where(schedule: Schedule, own_zone: tzinfo) -> str:
    """In the reader's zone, and in that of the event where clocks show another time there: they may travel."""
    lines = [f"When: {_span(schedule, own_zone)}"]
    there = _zone(schedule.timezone)
    if there is not None and schedule.starts_at.astimezone(there).utcoffset() != (
        schedule.starts_at.astimezone(own_zone).utcoffset()
    ):
        lines.append(f"On the clocks there: {_span(schedule, there)}")
    return "\n".join([*lines, f"Where: {schedule.location.name}"])


def _span(schedule: Schedule, zone: tzinfo) -> str:
    starts_at, ends_at = schedule.starts_at.astimezone(zone), schedule.ends_at.astimezone(zone)
    end = f"{ends_at:%H:%M}" if starts_at.date() == ends_at.date() else _day_and_time(ends_at)
    return f"{_day_and_time(starts_at)} to {end} ({_zone_name(starts_at)})"


def _moment(moment: datetime, zone: tzinfo) -> str:
    local = moment.astimezone(zone)
    return f"{_day_and_time(local)} ({_zone_name(local)})"


def _day_and_time(local: datetime) -> str:
    return f"{local:%A}, {local.day} {local:%B %Y}, {local:%H:%M}"


def _zone_name(local: datetime) -> str:
    """`Europe/Berlin, UTC+02:00`: the offset also tells apart the hour that comes twice in autumn."""
    offset = f"UTC{local.isoformat()[-6:]}" if local.utcoffset() else "UTC"
    return offset if str(local.tzinfo) == "UTC" else f"{local.tzinfo}, {offset}"


def _zone(name: str | None) -> tzinfo | None:
    """None also for a zone that this system's database does not have, or no more."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):
        return None


def _quoted(text: str) -> str:
    """As mail quotes what another has said (RFC 3676 §4.5)."""
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
