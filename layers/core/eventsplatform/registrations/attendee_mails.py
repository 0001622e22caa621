"""Sending the mails that are queued for attendees: each looked at once more, for it may have waited."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Protocol

from eventsplatform.clock import Clock
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.mail import Attachment, Mail, MailRejectedError
from eventsplatform.messaging.model import Work
from eventsplatform.registrations import mail_texts
from eventsplatform.registrations.mail_model import (
    NEWS_LIFETIME,
    WITH_CALENDAR,
    ClaimedMail,
    News,
    Outcome,
    Recipient,
    cancellation_of,
    is_true,
    retry_after,
    tells_of_cancellation,
)
from eventsplatform.registrations.model import EventFacts

# Identity is asked once for each batch.
BATCH = 100

# How long a batch is its sender's, and how much of that must be left for another mail: the mail service answers
# within six seconds. What a sender that died had claimed goes out after the lease; a mail that it had sent and not
# yet closed goes out twice, which only asking SES could prevent, and it can't be asked.
LEASE = timedelta(minutes=2)
ONE_MAIL = timedelta(seconds=15)


class AttendeeMailStore(Protocol):
    def claim(self, now: datetime, until: datetime, limit: int) -> list[ClaimedMail]:
        """Mails that are due, which no other sender gets until then."""

    def close(self, mail: ClaimedMail, outcome: Outcome, now: datetime) -> None:
        """Unless someone else has claimed it since."""

    def put_back(self, mails: Sequence[tuple[ClaimedMail, datetime]]) -> None:
        """Make mails due at a time each, unless someone else has claimed them since."""

    def queue(self, news: Sequence[News], oldest: datetime) -> None: ...


class EventDirectory(Protocol):
    def facts_of(self, event_ids: Sequence[int]) -> Mapping[int, EventFacts]:
        """Raises DependencyUnavailableError."""


class People(Protocol):
    def recipients(self, user_ids: Sequence[int]) -> Mapping[int, Recipient]:
        """Those of the users whom mail can be sent to. Raises DependencyUnavailableError."""


class AttendeeMails:
    def __init__(
        self,
        work: Work[AttendeeMailStore],
        events: EventDirectory,
        people: People,
        deliver: Callable[[Mail], None],
        calendar_of: Callable[[EventFacts], Attachment],
        web_url: str,
        clock: Clock,
    ) -> None:
        self._work = work
        self._events = events
        self._people = people
        self._deliver = deliver
        self._calendar_of = calendar_of
        self._web_url = web_url
        self._clock = clock

    def send(self, may_go_on: Callable[[], bool]) -> Counter[str]:
        """Send what is due for as long as `may_go_on`; how many mails came to which outcome, or were `postponed`."""
        outcomes: Counter[str] = Counter()
        while may_go_on():
            until = self._clock() + LEASE
            with self._work.statement() as store:
                waiting = deque(store.claim(self._clock(), until, BATCH))
            if not waiting:
                break

            def there_is_time(end: datetime = until - ONE_MAIL) -> bool:
                return may_go_on() and self._clock() < end

            self._send_batch(waiting, outcomes, there_is_time)
            if waiting:
                outcomes["postponed"] += len(waiting)
                break
        return outcomes

    def _send_batch(
        self, waiting: deque[ClaimedMail], outcomes: Counter[str], there_is_time: Callable[[], bool]
    ) -> None:
        """Take from those waiting what is done. The rest is put back: for later, when something doesn't answer."""
        try:
            events = self._events.facts_of(sorted({mail.registration.event_id for mail in waiting}))
            people = self._people.recipients(sorted({mail.registration.user_id for mail in waiting}))
            letters = _Letters(events, people, self._calendar_of, self._web_url)
            while waiting and there_is_time():
                outcomes[self._settle(waiting[0], letters)] += 1
                waiting.popleft()
        except DependencyUnavailableError:
            now = self._clock()
            self._put_back((mail, now + retry_after(mail.attempts)) for mail in waiting)
        except Exception:
            # Nobody has thought of what is wrong with this one. It stays claimed for a while; others needn't wait.
            self._put_back((mail, self._clock()) for mail in list(waiting)[1:])
            raise
        else:
            self._put_back((mail, self._clock()) for mail in waiting)

    def _put_back(self, mails: Iterable[tuple[ClaimedMail, datetime]]) -> None:
        if listed := list(mails):
            with self._work.statement() as store:
                store.put_back(listed)

    def _settle(self, mail: ClaimedMail, letters: _Letters) -> Outcome:
        outcome = self._send_if_true(mail, letters)
        with self._work.statement() as store:
            store.close(mail, outcome, self._clock())
        return outcome

    def _send_if_true(self, mail: ClaimedMail, letters: _Letters) -> Outcome:
        now = self._clock()
        if mail.happened_at < now - NEWS_LIFETIME:
            return "given_up"
        event = letters.events[mail.registration.event_id]
        if tells_of_cancellation(mail, event):
            self._queue_cancellation(mail)
        if not is_true(mail, event, now):
            return "outdated"
        person = letters.people.get(mail.registration.user_id)
        if person is None:
            return "unreachable"
        if mail.kind == "reminder" and not person.reminders:
            return "unwanted"
        try:
            self._deliver(letters.write(mail, event, person))
        except MailRejectedError:
            return "rejected"
        return "sent"

    def _queue_cancellation(self, mail: ClaimedMail) -> None:
        news = News(
            cause=cancellation_of(mail.registration.event_id),
            kind="event_cancelled",
            user_id=mail.registration.user_id,
            event_id=mail.registration.event_id,
            registration_id=mail.registration.id,
            registered_at=mail.registration.registered_at,
            happened_at=mail.happened_at,
        )
        with self._work.statement() as store:
            store.queue([news], mail.happened_at)


class _Letters:
    """The mails of one batch, and what they are written from."""

    def __init__(
        self,
        events: Mapping[int, EventFacts],
        people: Mapping[int, Recipient],
        calendar_of: Callable[[EventFacts], Attachment],
        web_url: str,
    ) -> None:
        self.events = events
        self.people = people
        self._web_url = web_url
        # For all attendees of an event it is the same, and takes as long as the rest of a mail.
        self._calendar_of = cache(lambda event_id: calendar_of(events[event_id]))

    def write(self, mail: ClaimedMail, event: EventFacts, person: Recipient) -> Mail:
        """Raises MailRejectedError for an address that is none to us."""
        letter = mail_texts.write(mail, event, person, self._web_url)
        attachment = self._calendar_of(event.id) if mail.kind in WITH_CALENDAR else None
        try:
            return Mail(person.email, letter.subject, letter.text, attachment)
        except ValueError as error:
            raise MailRejectedError("address") from error
