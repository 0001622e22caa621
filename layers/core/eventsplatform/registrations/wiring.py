"""Registrations, connected to Postgres and to the catalog."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from eventsplatform.adapters.aws import FunctionCallError, FunctionClient
from eventsplatform.adapters.partitions import MonthlyTable, PostgresMonths
from eventsplatform.adapters.postgres import database
from eventsplatform.clock import utc_now
from eventsplatform.config import WebClientSettings, read_setting
from eventsplatform.errors import NotFoundError
from eventsplatform.mail import Attachment
from eventsplatform.messaging.outbox import unit_of_work
from eventsplatform.observability import logger
from eventsplatform.registrations.attendee_mails import AttendeeMails
from eventsplatform.registrations.attendees import Attendees
from eventsplatform.registrations.attendees_repository import PostgresAttendees
from eventsplatform.registrations.calendar_feeds import CalendarFeeds
from eventsplatform.registrations.calendar_feeds_repository import PostgresCalendarFeeds
from eventsplatform.registrations.exports import RegistrationExports
from eventsplatform.registrations.exports_repository import PostgresExports
from eventsplatform.registrations.lifecycle import OFFER_LIFETIME
from eventsplatform.registrations.mail_model import Recipient
from eventsplatform.registrations.mail_queue import MailQueue
from eventsplatform.registrations.mails_repository import PostgresMails
from eventsplatform.registrations.model import EventFacts
from eventsplatform.registrations.months import RegistrationMonths
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations

REGISTRATIONS = MonthlyTable("registrations", "event_registrations")


class CatalogFunctions:
    """The catalog's own function, invoked directly."""

    def __init__(self, functions: FunctionClient) -> None:
        self._functions = functions

    def describe(self, event_id: int) -> EventFacts:
        try:
            event = self._functions.invoke(read_setting("DESCRIBE_EVENT_FUNCTION", str), {"event_id": event_id})
        except FunctionCallError as error:
            if error.error_type == NotFoundError.__name__:
                raise NotFoundError(f"There is no event {event_id}.") from error
            raise
        return EventFacts.of_event(event)


class PeopleFunctions:
    """Identity's own functions, invoked directly."""

    def __init__(self, functions: FunctionClient) -> None:
        self._functions = functions

    def recipients(self, user_ids: Sequence[int]) -> Mapping[int, Recipient]:
        function = read_setting("DESCRIBE_RECIPIENTS_FUNCTION", str)
        answer = self._functions.invoke(function, {"user_ids": list(user_ids)})
        recipients = [Recipient.model_validate(each) for each in answer["recipients"]]
        return {recipient.id: recipient for recipient in recipients}

    def names(self, user_ids: Sequence[int]) -> Mapping[int, str]:
        answer = self._functions.invoke(read_setting("DESCRIBE_USERS_FUNCTION", str), {"user_ids": list(user_ids)})
        return {each["id"]: each["name"] for each in answer["users"]}


class SenderPoke:
    """Wakes the function that sends mail. A lost poke costs up to a minute: it also runs by itself."""

    def __init__(self, functions: FunctionClient) -> None:
        self._functions = functions

    def __call__(self) -> None:
        try:
            self._functions.invoke_async(read_setting("SEND_ATTENDEE_MAILS_FUNCTION", str), {"poked": True})
        except Exception:
            logger.warning("the mail sender could not be poked; it will find the mails", exc_info=True)


def calendar_attachment(event: EventFacts) -> Attachment:
    from eventsplatform.calendars import calendar_file

    file = calendar_file(event)
    return Attachment(f"event-{event.id}.ics", file.media_type, file.content)


def _registrations() -> Registrations:
    work = unit_of_work(database(), PostgresRegistrations)
    return Registrations(work, CatalogFunctions(FunctionClient()), utc_now, _offer_lifetime())


def _attendees() -> Attendees:
    return Attendees(unit_of_work(database(), PostgresAttendees), utc_now, _offer_lifetime())


def _calendar_feeds() -> CalendarFeeds:
    return CalendarFeeds(unit_of_work(database(), PostgresCalendarFeeds), utc_now)


def _exports() -> RegistrationExports:
    work = unit_of_work(database(), PostgresExports)
    return RegistrationExports(work, _registrations(), PeopleFunctions(FunctionClient()), utc_now)


def _months() -> RegistrationMonths:
    return RegistrationMonths(PostgresMonths(database(), REGISTRATIONS), utc_now)


def _mail_queue() -> MailQueue:
    work = unit_of_work(database(), PostgresMails)
    return MailQueue(work, _registrations(), SenderPoke(FunctionClient()), utc_now)


def _attendee_mails() -> AttendeeMails:
    from eventsplatform.adapters.mail import mailer

    work = unit_of_work(database(), PostgresMails)
    people, web_url = PeopleFunctions(FunctionClient()), WebClientSettings.from_environment().url
    return AttendeeMails(work, _registrations(), people, mailer().send, calendar_attachment, web_url, utc_now)


def _offer_lifetime() -> timedelta:
    return timedelta(hours=read_setting("OFFER_HOURS", float, default=OFFER_LIFETIME / timedelta(hours=1)))


FACTORIES: dict[type, Callable[[], Any]] = {
    Registrations: _registrations,
    AttendeeMails: _attendee_mails,
    Attendees: _attendees,
    CalendarFeeds: _calendar_feeds,
    MailQueue: _mail_queue,
    RegistrationExports: _exports,
    RegistrationMonths: _months,
}
